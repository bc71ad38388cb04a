// Sends files to /v1 as they are, one after the other, and shows how far each one is. What the fields beside a file say
// is looked at by the server first, so that nobody waits for a large file to hear of a wrong tag.

const list = document.querySelector("#sending .files");
const said = document.getElementById("sent");
const waiting = [];
const sent = []; // {kind, id, refused}
let entries = 0;
let busy = false;

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];
function bytes(value) {
  let place = 0;
  while (value >= 999.5 && place < UNITS.length - 1) {
    value /= 1000;
    place += 1;
  }
  return `${place ? value.toPrecision(3) : Math.round(value)} ${UNITS[place]}`;
}

function seconds(value) {
  return value < 90 ? `${Math.ceil(value)} s` : `${Math.round(value / 60)} min`;
}

// --- The fields beside a file

/** Puts the server's view of the fields in their place; null: something is wrong with them, and is shown. */
async function lookAt(form) {
  const kind = form.dataset.kind;
  const filled = new FormData(form);
  filled.delete("file");
  const answer = await fetch(`/upload?${new URLSearchParams(filled)}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const mine = document.getElementById(`${kind}-beside`);
  const theirs = page.getElementById(`${kind}-beside`);
  if (!theirs) throw new Error("no fields came");
  const focused = mine.contains(document.activeElement) ? document.activeElement.id : "";
  mine.replaceWith(theirs);
  listen(form);
  const wrong = theirs.dataset.query === undefined;
  const first = wrong ? theirs.querySelector("[aria-invalid=true]") : focused && document.getElementById(focused);
  if (first) first.focus();
  return wrong ? null : theirs.dataset.query;
}

function listen(form) {
  const choice = form.querySelector("select[name=architecture]");
  if (!choice) return;
  form.querySelector(".choose").hidden = true;
  choice.addEventListener("change", () => lookAt(form).catch(() => tell(form, "The service can't be reached; try again.")));
}

/** What is wrong with the file, beside its field; "" takes it away. */
function tell(form, text) {
  const input = form.elements.file;
  const place = document.getElementById(`${input.id}-fault`);
  place.textContent = text;
  place.hidden = !text;
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
  input.setAttribute("aria-describedby", `${text ? `${input.id}-fault ` : ""}${input.id}-help`);
}

// --- The files

function enter(form, file, query) {
  document.getElementById("sending").hidden = false;
  const entry = document.getElementById("one-file").content.firstElementChild.cloneNode(true);
  entry.querySelector(".filename").textContent = file.name;
  entry.querySelector(".kind").textContent = `${form.dataset.kind === "model" ? "model" : "data"}, ${bytes(file.size)}`;
  entry.querySelector("progress").setAttribute("aria-label", file.name);
  list.append(entry);
  const upload = { form, file, query, entry, kind: form.dataset.kind, over: false };
  entry.querySelector(".cancel").addEventListener("click", () => cancel(upload));
  entries += 1;
  waiting.push(upload);
}

function mark(upload, state, kind = "busy") {
  const place = upload.entry.querySelector(".state");
  place.textContent = state;
  place.className = `state ${kind}`;
}

function finish(upload, text) {
  upload.over = true;
  upload.entry.querySelector(".cancel").hidden = true;
  said.textContent = `${upload.file.name}: ${text}`;
}

function cancel(upload) {
  if (upload.over) return;
  const place = waiting.indexOf(upload);
  if (place >= 0) {
    waiting.splice(place, 1);
    stopped(upload);
  } else upload.request?.abort();
}

function stopped(upload) {
  mark(upload, "canceled", "canceled");
  upload.entry.querySelector("progress").hidden = true;
  upload.entry.querySelector(".rate").textContent = "Nothing was kept.";
  finish(upload, "canceled");
}

function failed(upload, text) {
  mark(upload, "failed", "failed");
  const place = upload.entry.querySelector(".fault");
  place.textContent = text;
  place.hidden = false;
  tell(upload.form, `${upload.file.name}: ${text}`);
  finish(upload, text);
}

function progress(upload, loaded, total) {
  upload.entry.querySelector("progress").value = loaded / total;
  const passed = (performance.now() - upload.began) / 1000;
  const rate = loaded / passed;
  const left = passed > 1 && rate > 0 ? `, ${seconds((total - loaded) / rate)} left` : "";
  upload.entry.querySelector(".rate").textContent = `${bytes(loaded)} of ${bytes(total)}, ${bytes(rate)}/s${left}`;
}

function send(upload) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    upload.request = request;
    upload.began = performance.now();
    mark(upload, "uploading");
    request.open("POST", `/v1/${upload.kind}s?${upload.query}`);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => progress(upload, event.loaded, event.total));
    request.addEventListener("load", () => {
      if (request.status === 201) arrived(upload, request.response);
      else failed(upload, request.response?.detail ?? `The service answered ${request.status}.`);
    });
    request.addEventListener("error", () => failed(upload, "The connection broke; nothing was kept. Try again."));
    request.addEventListener("abort", () => stopped(upload));
    request.addEventListener("loadend", resolve);
    request.send(upload.file);
  });
}

function arrived(upload, row) {
  mark(upload, "uploaded", "ready");
  upload.entry.querySelector("progress").value = 1;
  const look = upload.entry.querySelector(".look");
  look.href = `/${upload.kind}s/${row.id}`;
  look.hidden = false;
  upload.sent = { kind: upload.kind, id: row.id, refused: false };
  sent.push(upload.sent);
  finish(upload, "uploaded");
  follow(upload, `/v1/${upload.kind}s/${row.id}`);
}

/** Shows what became of it once it is inspected. */
async function follow(upload, address) {
  try {
    const { state } = await (await fetch(address, { cache: "no-store" })).json();
    mark(upload, state, state);
    if (state !== "inspecting") {
      said.textContent = `${upload.file.name}: ${state}`;
      upload.sent.refused = state === "rejected";
      offer();
      return;
    }
  } catch {
    // The row's own page tells more; here it is only asked again.
  }
  setTimeout(() => follow(upload, address), 1000);
}

async function work() {
  if (busy) return;
  busy = true;
  while (waiting.length) await send(waiting.shift());
  busy = false;
  if (entries === 1 && sent.length === 1) {
    location.assign(`/${sent[0].kind}s/${sent[0].id}`);
    return;
  }
  offer();
}

/** Leads to a job with what was sent last, once nothing waits any more. */
function offer() {
  const last = (kind) => sent.findLast((row) => row.kind === kind && !row.refused);
  const model = busy ? undefined : last("model");
  const data = last("dataset");
  const next = document.querySelector("#sending .next");
  next.hidden = !model;
  if (model) next.querySelector("a").href = `/jobs/new?model=${model.id}${data ? `&dataset=${data.id}` : ""}`;
}

window.addEventListener("beforeunload", (event) => {
  if (busy) event.preventDefault();
});

// --- The forms

async function submit(form) {
  const input = form.elements.file;
  const files = [...input.files];
  const limit = Number(form.dataset.limit);
  const wrong = files.find((file) => file.size === 0 || file.size > limit);
  tell(form, !wrong ? "" : wrong.size ? `${wrong.name} has ${bytes(wrong.size)}; ${bytes(limit)} are allowed.` : `${wrong.name} is empty.`);
  if (wrong || !files.length) {
    input.focus();
    return;
  }
  let query;
  try {
    query = await lookAt(form);
  } catch {
    tell(form, "The service can't be reached; try again.");
    return;
  }
  if (query === null) return;
  for (const file of files) {
    const parameters = new URLSearchParams(query);
    if (files.length > 1) parameters.delete("name");
    parameters.set("filename", file.name.slice(-200));
    enter(form, file, parameters);
  }
  input.value = "";
  form.querySelector("input[name=name]").value = "";
  document.getElementById("sending").scrollIntoView({ block: "nearest" });
  work();
}

function takeDrops(form) {
  const zone = form.querySelector(".drop");
  const over = (on) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", on);
  };
  const section = form.closest("section");
  section.addEventListener("dragover", over(true));
  section.addEventListener("dragleave", over(false));
  section.addEventListener("drop", (event) => {
    over(false)(event);
    if (!event.dataTransfer.files.length) return;
    form.elements.file.files = event.dataTransfer.files;
    form.elements.file.dispatchEvent(new Event("change"));
  });
}

for (const form of document.querySelectorAll("form[data-kind]")) {
  const input = form.elements.file;
  input.multiple = true;
  form.noValidate = true;
  form.querySelector(".dropping").hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.files.length) submit(form);
    else {
      tell(form, "Choose a file first.");
      input.focus();
    }
  });
  input.addEventListener("change", () => {
    tell(form, "");
    const weights = document.getElementById("weights");
    const alone = [...input.files].some((file) => file.name.endsWith(".safetensors"));
    if (form.dataset.kind === "model" && alone) weights.open = true;
  });
  listen(form);
  takeDrops(form);
}
// A file dropped beside the forms would be opened in place of the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
