// A button that copies, wherever `data-copy` names what; the page works without.
document.documentElement.classList.add("scripted");

function addButtons(root) {
  for (const place of root.querySelectorAll("[data-copy]:empty")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "small copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${place.dataset.what}`);
    place.append(button);
  }
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea"); // plain http has no clipboard of its own
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("not copied");
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy] > button");
  if (!button) return;
  const text = document.getElementById(button.parentElement.dataset.copy).textContent;
  const said = await copy(text).then(() => "Copied", () => "Select it and press Ctrl C");
  button.textContent = said;
  document.getElementById("said").textContent = said;
  button.focus();
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

document.addEventListener("niwaki:replaced", () => addButtons(document));
addButtons(document);
