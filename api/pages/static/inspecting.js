"use strict";
// Looks whether the inspection is done, and then at the page anew.
const waiting = document.getElementById("waiting");
const PAUSE = 1000;

async function look() {
  try {
    const answer = await fetch(waiting.dataset.address, { cache: "no-store" });
    if (answer.status === 404 || (answer.ok && (await answer.json()).state !== "inspecting")) {
      location.reload();
      return;
    }
  } catch {
    document.getElementById("waiting-text").textContent = "The service can't be reached; trying again.";
  }
  setTimeout(look, PAUSE);
}

document.getElementById("reload").hidden = true;
setTimeout(look, PAUSE);
