"""Backups of the installation that runs: one at a time, in a thread of its own, the last one kept to be looked at."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Engine

from alerts.refusals import Conflict, NotFound
from alerts.roles import Actor
from flow.backup import Manifest, NotCopied, Stopping, Told
from store.readings import StoreUnavailable
from store.records.access import write_audit
from store.records.database import write

log = logging.getLogger("gridwhistle.backup")

Make = Callable[[Path, Told, Stopping], Manifest]
_WITHIN_S = 10.0
_NICE = 10


class BackupState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class Backup:
    """`step` is what is being done, `progress` 0 to 1; `problem` why it failed, Chinese and English."""

    folder: str
    by: str
    began_at: int
    state: BackupState = BackupState.RUNNING
    step: str = "readings"
    progress: float = 0.0
    manifest: Manifest | None = None
    problem: tuple[str, str] | None = None


class Backups:
    """`make` does the work; `wall` is microseconds."""

    def __init__(self, make: Make, records: Engine, wall: Callable[[], int]) -> None:
        self._make = make
        self._records = records
        self._wall = wall
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: Backup | None = None

    def start(self, actor: Actor, folder: str) -> Backup:
        """Raises NotAllowed, or Conflict while another is made."""
        actor.require("backup.make")
        with self._lock:
            if self._last is not None and self._last.state is BackupState.RUNNING:
                zh, en = f"正在备份到 {self._last.folder}", f"a backup to {self._last.folder} is being made"
                raise Conflict("backup_running", zh, en)
            with write(self._records) as tx:
                write_audit(tx, self._wall(), actor.name, "backup_started", subject="backup", why=folder)
            backup = self._last = Backup(folder, actor.name, self._wall())
            self._thread = threading.Thread(target=self._run, args=(backup,), name="backup")
            self._thread.start()
        return backup

    def last(self) -> Backup:
        """The one that is being made, or the last one since the service started. Raises NotFound."""
        if self._last is None:
            raise NotFound("no_backup", "启动以来还没有备份", "no backup has been made since the service started")
        return self._last

    def close(self) -> None:
        """End what is being made and wait for it; nothing of it is left."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_WITHIN_S)

    def _run(self, backup: Backup) -> None:
        def told(step: str, progress: float) -> None:
            backup.step, backup.progress = step, progress

        # On Linux a thread has a niceness of its own, and DuckDB works in the thread that asks it: what arrives goes
        # first.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            backup.manifest = self._make(Path(backup.folder), told, self._stopping.is_set)
        except NotCopied as error:
            backup.problem = (error.zh, error.en)
        except (StoreUnavailable, OSError, sqlite3.Error) as error:
            log.warning("the backup to %s failed: %s", backup.folder, error)
            backup.problem = (f"备份失败：{error}", f"the backup failed: {error}")
        except Exception:
            # The outermost loop of this thread: whoever asked is told.
            log.exception("the backup to %s failed", backup.folder)
            backup.problem = ("备份出错，已记录", "the backup failed here; it has been recorded")
        backup.state = BackupState.DONE if backup.problem is None else BackupState.FAILED
        log.info("backup to %s: %s", backup.folder, backup.state)
