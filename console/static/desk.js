// What the desk does in the browser: selecting alarms, sound and title for those nobody has acknowledged, messages.

const words = JSON.parse(document.body.dataset.words);
const standing = () => document.getElementById("standing");

// --- many alarms in two presses ---------------------------------------------------------------------------------------
function boxes(checked) {
  return [...document.querySelectorAll(`input[name="alarm"]${checked ? ":checked" : ""}`)];
}

function countSelected() {
  const button = document.getElementById("acknowledge-selected");
  if (!button) return;
  const selected = boxes(true).length;
  button.disabled = selected === 0;
  button.querySelector(".n").textContent = selected;
}

document.addEventListener("click", event => {
  if (!event.target.closest("#select-all")) return;
  const all = boxes(false);
  const every = all.every(box => box.checked);
  for (const box of all) box.checked = !every;
  countSelected();
});
document.addEventListener("change", event => {
  if (event.target.matches?.('input[name="alarm"]')) countSelected();
  // Filters apply as soon as they are chosen.
  if (event.target.closest?.("form[data-filter]")) event.target.form.requestSubmit();
});

// --- sound ------------------------------------------------------------------------------------------------------------
const REMIND = 30_000;
const soundButton = document.getElementById("sound");
let audio = null;
let heard = new Set((sessionStorage.getItem("gw-heard") ?? "").split(" ").filter(Boolean));
let lastBeep = 0;

const wanted = () => localStorage.getItem("gw-sound") === "on";
const loud = () => (standing()?.dataset.loud ?? "").split(" ").filter(Boolean);

function tone(frequency, from, seconds) {
  const oscillator = audio.createOscillator();
  const volume = audio.createGain();
  oscillator.type = "triangle";
  oscillator.frequency.value = frequency;
  volume.gain.setValueAtTime(0, from);
  volume.gain.linearRampToValueAtTime(0.35, from + 0.015);
  volume.gain.exponentialRampToValueAtTime(0.001, from + seconds);
  oscillator.connect(volume).connect(audio.destination);
  oscillator.start(from);
  oscillator.stop(from + seconds);
}

function beep() {
  lastBeep = Date.now();
  document.body.dataset.beeps = Number(document.body.dataset.beeps ?? 0) + 1;
  for (const [i, frequency] of [880, 660, 880].entries()) tone(frequency, audio.currentTime + i * 0.24, 0.22);
}

async function resumeSound() {
  if (!wanted()) return;
  audio ??= new AudioContext();
  // Stays pending until the browser has seen a press on this page; never wait for it.
  audio.resume().then(showSound, () => {});
  showSound();
}

function showSound() {
  if (!soundButton) return;
  const on = wanted() && audio?.state === "running";
  soundButton.setAttribute("aria-pressed", String(on));
  const label = soundButton.querySelector("span");
  label.textContent = on ? label.dataset.on : label.dataset.off;
}

soundButton?.addEventListener("click", () => {
  const on = soundButton.getAttribute("aria-pressed") === "true";
  localStorage.setItem("gw-sound", on ? "off" : "on");
  if (on) {
    audio?.suspend().then(showSound);
    showSound();
    return;
  }
  audio ??= new AudioContext();
  audio.resume().then(() => {
    showSound();
    beep();
  });
});
// A new page needs a press before it may sound: any press will do.
document.addEventListener("pointerdown", event => { if (!event.target.closest("#sound")) resumeSound(); });
document.addEventListener("keydown", resumeSound);

function attend() {
  const now = loud();
  const fresh = now.some(each => !heard.has(each));
  heard = new Set(now);
  sessionStorage.setItem("gw-heard", now.join(" "));
  if (audio?.state === "running" && wanted() && (fresh || (now.length && Date.now() - lastBeep > REMIND))) beep();
}

// --- title ------------------------------------------------------------------------------------------------------------
const title = document.title;
function flashTitle() {
  const count = Number(standing()?.dataset.unacknowledged ?? 0);
  const flashed = words["title.unacknowledged"]?.replace("{n}", count);
  document.title = count && document.title === title ? flashed : title;
}

// --- messages and menus -----------------------------------------------------------------------------------------------
document.addEventListener("click", event => {
  event.target.closest(".notice button")?.closest(".notice").remove();
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", event => {
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details[data-menu][open]")) menu.open = false;
});

function saying(text) {
  const notice = document.createElement("div");
  notice.className = "notice";
  const line = document.createElement("p");
  line.textContent = text;
  notice.append(line);
  document.getElementById("notices").prepend(notice);
  setTimeout(() => notice.remove(), 8000);
}

// An act that did not reach the service must not look like one that did; a background refresh may fail quietly, the
// banner tells of the line.
for (const name of ["htmx:error", "htmx:response:error"]) {
  document.addEventListener(name, ({ detail }) => {
    const { ctx } = detail;
    if (!ctx || ctx.request.method === "GET" || (ctx.response && ctx.response.status < 500)) return;
    saying(words["act.not_sent"]);
  });
}

// What was typed into a form stays through every refresh of the page (its fields and open folds are left alone), and goes
// when the act is done; a form that is worked on again and again keeps what it holds (data-keep).
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  if (ctx.request.method === "GET" || !ctx.response || ctx.response.status >= 400) return;
  const form = ctx.sourceElement.closest?.("form");
  if (form?.hasAttribute("data-keep")) return;
  form?.reset();
  const fold = form?.closest("details");
  if (fold) fold.open = false;
});

function clearDone() {
  for (const done of document.querySelectorAll(".notice.done:not([data-leaving])")) {
    done.dataset.leaving = "";
    setTimeout(() => done.remove(), 6000);
  }
}

document.addEventListener("htmx:after:swap", () => {
  countSelected();
  attend();
  clearDone();
});
countSelected();
resumeSound();
attend();
clearDone();
if (standing()) {
  setInterval(flashTitle, 1000);
  setInterval(attend, 5000);
}
