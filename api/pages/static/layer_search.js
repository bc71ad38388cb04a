"use strict";
// Shows only the layers whose name or type holds what was typed.
const box = document.getElementById("filter");
const wanted = document.getElementById("wanted");
const found = document.getElementById("found");
const rows = [...document.querySelectorAll("#layers tbody tr")];
const texts = rows.map((row) => [...row.cells].slice(0, 2).map((cell) => cell.textContent).join(" ").toLowerCase());

function search() {
  const text = wanted.value.trim().toLowerCase();
  let count = 0;
  rows.forEach((row, place) => {
    row.hidden = !texts[place].includes(text);
    count += row.hidden ? 0 : 1;
  });
  found.textContent = text ? `${count} of ${rows.length} layers` : `${rows.length} layers`;
}

box.hidden = false;
wanted.addEventListener("input", search);
search();
