"""A stretch of network between service and broker that a test can cut: bytes vanish, and nobody is told."""

from __future__ import annotations

import select
import socket
import threading
from typing import Self

from tests.crash.load import Endpoint


class Network:
    """Stands at `host`:`port` before the broker. While it is `cut` nothing passes; what was connected before the cut is
    never connected again (a router that has forgotten it), and the broker goes on believing in it."""

    def __init__(self, broker: Endpoint) -> None:
        self.host = "127.0.0.1"
        self._broker = broker
        self._listening = socket.create_server((self.host, 0))
        self.port = int(self._listening.getsockname()[1])
        self._cut = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    def cut(self) -> None:
        self._cut.set()

    def mend(self) -> None:
        self._cut.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(5)
        self._listening.close()

    def _run(self) -> None:
        other: dict[socket.socket, socket.socket] = {}
        dead: list[socket.socket] = []
        while not self._done.is_set():
            if self._cut.is_set():
                dead += other
                other.clear()
                self._done.wait(0.05)
                continue
            for ready in select.select([self._listening, *other], [], [], 0.05)[0]:
                if ready is self._listening:
                    client, _ = self._listening.accept()
                    server = socket.create_connection((self._broker.host, self._broker.port), 5)
                    other |= {client: server, server: client}
                elif ready in other:
                    self._pass_on(ready, other)
        for end in [*other, *dead]:
            end.close()

    @staticmethod
    def _pass_on(ready: socket.socket, other: dict[socket.socket, socket.socket]) -> None:
        try:
            heard = ready.recv(65_536)
            other[ready].sendall(heard)
        except OSError:
            heard = b""
        if not heard:
            peer = other.pop(ready)
            other.pop(peer, None)
            ready.close()
            peer.close()
