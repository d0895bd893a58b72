// One connection to /events for all open pages of this browser. A browser opens six HTTP/1.1 connections to a server and
// no more: with one stream for each page, the seventh tab of a flood night would wait for ever.
// Loaded as a shared worker; where there are none (some phones) live.js runs the same code inside the page.
"use strict";

// The server says something at least every 10 s (`event: beat`); three times that without a word is a dead line.
const SILENCE = 30_000;
const RETRY = 2_000;
const KINDS = ["alarm", "order", "presence", "command", "latest", "reset"];

function listen(url, tell) {
  let source = null;
  let watchdog = 0;
  let state = "connecting";

  function become(next) {
    if (next === state) return;
    state = next;
    tell({ state });
  }

  function heard() {
    clearTimeout(watchdog);
    watchdog = setTimeout(again, SILENCE);
  }

  function again() {
    become("lost");
    source?.close();
    clearTimeout(watchdog);
    watchdog = setTimeout(open, RETRY);
  }

  function open() {
    source = new EventSource(url);
    source.onopen = () => { heard(); become("live"); };
    source.onerror = () => {
      become("lost");
      // The browser tries again by itself, except after an answer that is no stream (a restarting server, no session).
      if (source.readyState === EventSource.CLOSED) again();
    };
    source.addEventListener("beat", heard);
    for (const kind of KINDS) source.addEventListener(kind, () => { heard(); tell({ kind }); });
  }

  open();
  return { state: () => state, close: () => { source?.close(); clearTimeout(watchdog); } };
}

if (typeof SharedWorkerGlobalScope !== "undefined" && self instanceof SharedWorkerGlobalScope) {
  const ports = new Set();
  let stream = null;
  self.onconnect = ({ ports: [port] }) => {
    port.onmessage = ({ data }) => {
      if (data.leave) {
        ports.delete(port);
        return;
      }
      ports.add(port);
      stream ??= listen(data.url, message => ports.forEach(each => each.postMessage(message)));
      port.postMessage({ state: stream.state() });
    };
  };
} else {
  self.gridwhistleListen = listen;
}
