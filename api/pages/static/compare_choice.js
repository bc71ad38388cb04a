"use strict";
// Of the jobs that succeeded, two to four can be compared.
const form = document.getElementById("compare");
const said = document.getElementById("chosen");
if (form && said) {
  const button = form.querySelector("button");
  const boxes = [...form.querySelectorAll("input[name=job]")];
  const update = () => {
    const count = boxes.filter((box) => box.checked).length;
    button.disabled = count < 2;
    for (const box of boxes) box.disabled = count >= 4 && !box.checked;
    said.textContent = count === 4 ? "Four are chosen: as many as can be compared."
      : count ? `${count} chosen, of two to four.` : "Choose two to four that succeeded.";
  };
  form.addEventListener("change", update);
  // After "back", the browser puts the ticks in again.
  window.addEventListener("pageshow", update);
}
