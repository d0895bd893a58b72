"""A stub receiver on a free port that answers as it is told and remembers everything unwanted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Got:
    key: str
    body: dict[str, Any]
    raw: bytes


@dataclass
class Receiver:
    """`answers` are the statuses of the next requests, in order; when they run out it is 204. `unwanted` must stay
    empty: a method or path nobody agreed on, a body that is not the agreed JSON, a key that comes with another body,
    a key that comes again after it was taken (unless `twice_allowed`)."""

    path: str = "/hook"
    answers: list[int] = field(default_factory=list)
    delay_s: float = 0.0
    twice_allowed: bool = False
    got: list[Got] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    port: int = 0
    _bodies: dict[str, bytes] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def wait_for(self, count: int, within_s: float = 10.0) -> list[Got]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= count, within_s), self.got
            return list(self.got)

    def take(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> int:
        if self.delay_s:
            time.sleep(self.delay_s)
        with self._changed:
            if method != "POST" or path != self.path:
                self.unwanted.append(f"{method} {path}")
                return 404
            key, body = headers.get("idempotency-key", ""), _json(raw)
            if body is None or headers.get("content-type") != "application/json":
                self.unwanted.append(f"not JSON: {raw[:100]!r}")
                return 400
            if not key or body.get("key") != key or set(body) != {"key", "channel", "created_at", "message"}:
                self.unwanted.append(f"not as agreed: {key!r} {body}")
                return 400
            if self._bodies.setdefault(key, raw) != raw:
                self.unwanted.append(f"{key} with another body")
            if key in self._taken and not self.twice_allowed:
                self.unwanted.append(f"{key} again")
            status = self.answers.pop(0) if self.answers else 204
            if 200 <= status < 300:
                self._taken.add(key)
            self.got.append(Got(key, body, raw))
            self._changed.notify_all()
            return status


def _json(raw: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    """Runs it for the block, and fails the test if anything unwanted came."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = receiver.take(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, raw)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _any

        def log_message(self, format: str, *args: object) -> None:  # noqa: ARG002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert receiver.unwanted == []
