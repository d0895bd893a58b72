// Ages, remaining times and the site's clock tick here between two answers of the server.
// "Now" is the installation's: in a demonstration its clock runs sixty times faster than the wall's, so the rate is
// learnt from the instants the server gives.

const words = JSON.parse(document.body.dataset.words);
const clock = document.getElementById("site-clock");
let first = null;
let last = null;

function learn() {
  const given = [...document.querySelectorAll("[data-now]")].map(each => Number(each.dataset.now));
  const now = Math.max(...given);
  if (!given.length || (last && now <= last.now)) return;
  last = { now, at: performance.now() };
  first ??= last;
}

function siteNow() {
  if (!last) return null;
  const seen = last.at - first.at;
  let rate = seen > 4000 ? (last.now - first.now) / seen : 1;
  if (rate < 1.15) rate = 1;
  // Never run ahead of what a late answer could contradict by much.
  return last.now + Math.min(performance.now() - last.at, 60_000) * rate;
}

function fill(key, values) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function span(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const values = {
    days: Math.floor(seconds / 86400), hours: Math.floor(seconds / 3600) % 24,
    minutes: Math.floor(seconds / 60) % 60, seconds: seconds % 60,
  };
  const key = ["days", "hours", "minutes"].find(unit => values[unit]) ?? "seconds";
  return fill(`span.${key}`, values);
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tick() {
  const now = siteNow();
  if (now === null) return;
  for (const each of document.querySelectorAll("[data-since]")) put(each, span(now - Number(each.dataset.since)));
  for (const each of document.querySelectorAll("[data-until]")) {
    const rest = Number(each.dataset.until) - now;
    each.classList.toggle("over", rest <= 0);
    put(each, fill(rest > 0 ? "left.in" : "left.over", { span: span(Math.abs(rest)) }));
  }
  if (clock) put(clock, new Date(now + Number(clock.dataset.offset) * 60_000).toISOString().slice(11, 19));
}

learn();
document.addEventListener("htmx:after:swap", () => { learn(); tick(); });
setInterval(tick, 1000);
