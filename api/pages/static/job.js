// Keeps a job's page up to date. The event stream is only a doorbell: at each ring, and at most once a second, the
// fragment is fetched and what differs is put in place. Without a stream it looks every few seconds.
const TOGETHER_MS = 1000;
const POLL_MS = 3000;
const SLOW_POLL_MS = 5000; // beside a stream: the clock goes on where nothing rings
const KINDS = ["state", "started", "loading", "step_started", "progress", "metric", "checkpoint", "step_finished",
  "exporting", "exported", "measuring", "cancel_requested"];

const live = () => document.getElementById("live");
const address = `/jobs/${live().dataset.job}`;
let source = null;
let timer = null;
let fetching = false;
let rung = false;
let began = 0;
let told = live().dataset.said;
const seen = new Map([...live().children].map((part) => [part.id, part.outerHTML]));

// Heard, and in trouble seen too.
function say(text, trouble = false) {
  const line = document.getElementById("said");
  line.className = trouble ? "toast" : "spoken";
  if (text !== told) line.textContent = text;
  told = text;
}

function wait(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(refresh, milliseconds);
}

// What a reader has opened, scrolled or focused stays so.
function replace(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...old.querySelectorAll("details[id]")].map((item) => [item.id, item.open]);
  const scrolled = [...old.querySelectorAll("[tabindex='0']")].map((item) => [item.scrollTop, item.scrollLeft]);
  old.replaceWith(fresh);
  for (const [id, was] of open) {
    const item = document.getElementById(id);
    if (item) item.open = was;
  }
  [...fresh.querySelectorAll("[tabindex='0']")].forEach((item, place) => {
    if (scrolled[place]) [item.scrollTop, item.scrollLeft] = scrolled[place];
  });
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function page(path) {
  const answer = await fetch(path, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(answer.statusText, { cause: answer.status });
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function show(found) {
  for (const part of [...found.children]) {
    const text = part.outerHTML;
    if (seen.get(part.id) === text) continue;
    seen.set(part.id, text);
    replace(document.getElementById(part.id), part);
  }
}

// The end changes the whole page: the report, other buttons.
async function finish() {
  stop();
  const whole = await page(address);
  const kept = document.activeElement?.id;
  document.querySelector("main").replaceChildren(...whole.querySelector("main").childNodes);
  (kept && document.getElementById(kept) || document.querySelector("main")).focus({ preventScroll: true });
  document.dispatchEvent(new Event("niwaki:replaced"));
}

async function refresh() {
  if (fetching || document.hidden) return; // a page in the background catches up when it is looked at
  fetching = true;
  rung = false;
  began = Date.now();
  try {
    const found = (await page(`${address}/live`)).getElementById("live");
    say(found.dataset.said);
    if (found.dataset.finished) return await finish();
    if (found.dataset.state !== live().dataset.state) document.querySelector("h1 .state").replaceWith(pill(found.dataset.state));
    live().dataset.state = found.dataset.state;
    show(found);
  } catch (error) {
    if (error.cause === 404) {
      live().dataset.finished = "yes";
      stop();
      say("The job isn't there any more: it was deleted.", true);
    } else say("The service can't be reached; trying again.", true);
  } finally {
    fetching = false;
    if (!live().dataset.finished) next();
  }
}

function next() {
  if (rung) return ring();
  wait(source && source.readyState !== EventSource.CLOSED ? SLOW_POLL_MS : POLL_MS);
}

function pill(state) {
  const item = document.createElement("span");
  item.className = `state ${state}`;
  item.textContent = state;
  return item;
}

function ring() {
  if (fetching) rung = true;
  else wait(Math.max(0, began + TOGETHER_MS - Date.now()));
}

function listen() {
  if (!window.EventSource) return;
  source = new EventSource(`/v1${address}/events?after=${live().dataset.last}`);
  for (const kind of KINDS) source.addEventListener(kind, ring);
  source.addEventListener("open", ring);
  source.addEventListener("error", () => wait(POLL_MS)); // it opens again by itself, unless it is closed for good
}

function stop() {
  source?.close();
  clearTimeout(timer);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && !live().dataset.finished) ring(); });
addEventListener("pagehide", stop);
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
listen();
wait(POLL_MS);
