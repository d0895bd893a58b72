// Turns the event stream into events on <body> (gw:alarm, gw:order, gw:presence, gw:command …) that htmx waits for: an event
// says only that something changed, the pages fetch what it became. So after a lost connection nothing is missed: the
// page fetches everything once.

const { live, worker } = document.body.dataset;
const banner = document.getElementById("connection");
let bannerDue = 0;

function say(kind) {
  document.body.dispatchEvent(new CustomEvent(`gw:${kind}`));
}

function refresh() {
  for (const kind of ["alarm", "order", "presence", "command", "latest"]) say(kind);
}

function onMessage(message) {
  if (message.state === "live") {
    clearTimeout(bannerDue);
    banner.hidden = true;
    document.body.dataset.connection = "live";
    // What happened between the server's rendering of this page and now, or while the line was down.
    refresh();
  } else if (message.state === "lost") {
    document.body.dataset.connection = "lost";
    // A reload of the service takes a moment; a banner that flickers is one nobody believes.
    clearTimeout(bannerDue);
    bannerDue = setTimeout(() => {
      banner.hidden = false;
      say("alarm"); // where it is the session that has ended, the answer leads to the sign-in
    }, 1500);
  } else if (message.kind === "reset") {
    refresh();
  } else if (message.kind) {
    say(message.kind);
  }
}

function inThisPage() {
  const script = document.createElement("script");
  script.src = worker;
  script.onload = () => window.gridwhistleListen(live, onMessage);
  document.head.append(script);
}

if (live) {
  if ("SharedWorker" in window) {
    const shared = new SharedWorker(worker, { name: `gridwhistle ${worker}` });
    shared.onerror = inThisPage;
    shared.port.onmessage = ({ data }) => onMessage(data);
    shared.port.postMessage({ url: live });
    window.addEventListener("pagehide", () => shared.port.postMessage({ leave: true }));
    window.addEventListener("pageshow", event => {
      if (event.persisted) shared.port.postMessage({ url: live });
    });
  } else {
    inThisPage();
  }
}
