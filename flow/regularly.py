"""A thread that looks again and again, whatever happens to the stores, and stops when it is asked to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from store.readings import StoreUnavailable


class Regularly:
    """`look` says how many seconds to rest until the next; after an error it is `every_s`, as before the first."""

    def __init__(self, name: str, look: Callable[[], float], every_s: float) -> None:
        self._look = look
        self._every_s = every_s
        self._log = logging.getLogger(f"gridwhistle.{name}")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        pause = self._every_s
        while not self._stopping.wait(pause):
            pause = self._every_s
            try:
                pause = self._look()
            except (SQLAlchemyError, StoreUnavailable) as error:
                self._log.warning("the stores are away, it is tried again: %s", error)
            except Exception:  # noqa: BLE001 - told, and the thread lives on
                self._log.exception("it is tried again")
