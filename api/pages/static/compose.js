"use strict";
// Posts the form as its buttons do, and takes over what the answer has changed: focus, scroll and open folds stay.
const PAUSE = 350;
const page = document.getElementById("compose");
const form = () => document.getElementById("f");
let timer = 0;
let asking = null;

document.documentElement.classList.add("scripted");

async function post(button) {
  clearTimeout(timer);
  asking?.abort();
  asking = new AbortController();
  const mine = asking;
  const body = new URLSearchParams(new FormData(form()));
  body.set("do", button ? button.value : "live");
  form().setAttribute("aria-busy", "true");
  try {
    const answer = await fetch("/jobs/new", { method: "POST", body, signal: mine.signal, headers: { Accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("compose");
    if (mine !== asking) return;
    if (!fresh) throw new Error(`the service answered ${answer.status}`);
    morph(page, fresh);
    started();
    if (button) lookOn(button);
  } catch (error) {
    if (error.name === "AbortError") return;
    form().removeAttribute("aria-busy");
    document.getElementById("said").textContent = "The service can’t be reached. What you filled in is still here.";
  }
}

// Where the server says, else at what is wrong.
function lookOn(button) {
  const target = document.getElementById(form().dataset.focus) ?? (button.value === "check" ? page.querySelector(".faults") : null);
  if (!target) return;
  target.closest("details:not([open])")?.setAttribute("open", "");
  target.focus();
  target.scrollIntoView({ block: "nearest" });
}

function morph(old, fresh) {
  if (old.dataset.keep !== undefined) return;
  // A fold that the server opens or closes anew; any other stays as it was left.
  if (old.dataset.start !== fresh.dataset.start) old.open = fresh.open;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old instanceof HTMLTextAreaElement) {
    if (old !== document.activeElement) old.value = fresh.value;
    return;
  }
  children(old, fresh);
  if (old instanceof HTMLInputElement) {
    if (old.type === "checkbox") old.checked = fresh.hasAttribute("checked");
    else if (old !== document.activeElement) old.value = fresh.getAttribute("value") ?? "";
  } else if (old instanceof HTMLSelectElement) {
    old.value = fresh.value;
  }
}

function children(old, fresh) {
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const found = match(old, place, wanted);
    if (!found) {
      old.insertBefore(document.importNode(wanted, true), place);
      continue;
    }
    if (found === place) place = place.nextSibling;
    else old.insertBefore(found, place);
    if (found.nodeType === Node.ELEMENT_NODE) morph(found, wanted);
    else if (found.data !== wanted.data) found.data = wanted.data;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

// The node that a wanted one was before: of its id, or the next one of its kind without an id.
function match(parent, place, wanted) {
  if (wanted.id) {
    const same = [...parent.children].find((child) => child.id === wanted.id);
    return same?.nodeName === wanted.nodeName && same.type === wanted.type ? same : null;
  }
  return place && place.nodeName === wanted.nodeName && !place.id && place.type === wanted.type ? place : null;
}

// Long lists can be searched.
const MANY = 8;
function started() {
  for (const search of page.querySelectorAll("input[data-for]")) {
    const select = document.getElementById(search.dataset.for);
    search.hidden = select.options.length <= MANY;
    const text = search.value.trim().toLowerCase();
    for (const option of select.options) option.hidden = Boolean(text) && Boolean(option.value) && !option.text.toLowerCase().includes(text);
  }
}

function waits(event) {
  if (event.target.dataset.for) started();
  else if (event.target.id !== "json") {
    asking?.abort();
    clearTimeout(timer);
    timer = setTimeout(post, PAUSE);
  }
}

if (page && form()) {
  page.addEventListener("input", waits);
  page.addEventListener("submit", (event) => {
    if (event.submitter?.value === "submit") {
      clearTimeout(timer);
      return;
    }
    event.preventDefault();
    post(event.submitter);
  });
  started();
}
