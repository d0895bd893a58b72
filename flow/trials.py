"""Long work that people ask for, such as trying rules on history: one piece a person, its result kept for an hour.

All of it runs in one thread of its own, so that at most one core is taken from settling; who comes second waits.
Results are in memory only: after a restart one asks again.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from alerts.refusals import Conflict, NotFound, Refusal
from alerts.roles import Actor
from devices.instants import HOUR
from store.readings import StoreUnavailable

log = logging.getLogger("gridwhistle.trials")

KEPT = HOUR
# Results of one person that are kept; a page that is tried again and again must not fill the memory.
MOST_KEPT = 3
Told = Callable[[float], None]


class TrialState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = frozenset({TrialState.WAITING, TrialState.RUNNING})


class _Stopped(Exception):
    """Raised inside the work where its owner has cancelled it."""


@dataclass
class Trial:
    """`asked` what its owner wants to know; `progress` 0 to 1; `result` of the work once DONE; `refusal` why it FAILED;
    `finished_at` on the wall."""

    id: str
    owner: str
    kind: str
    asked: Any
    asked_at: int
    state: TrialState = TrialState.WAITING
    progress: float = 0.0
    finished_at: int | None = None
    result: Any = None
    refusal: Refusal | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def told(self, part: float) -> None:
        """For the work to call now and then: how much is done. Ends it where it was cancelled."""
        if self.stopping.is_set():
            raise _Stopped
        self.progress = part


class Trials:
    """Makes its thread when first asked; `close` ends what is running."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "trial")
        self._lock = threading.Lock()
        self._trials: dict[str, Trial] = {}

    def start(
        self, actor: Actor, wall: Callable[[], int], kind: str, work: Callable[[Told], Any], *, asked: Any = None
    ) -> Trial:
        """Raises Conflict while another of this person's is unfinished."""
        with self._lock:
            self._forget(wall())
            mine = [trial for trial in self._trials.values() if trial.owner == actor.name]
            if running := next((trial for trial in mine if trial.state in UNFINISHED), None):
                zh = f"您的上一次试算（{running.id}）尚未结束，请等待或取消"
                en = f"your trial {running.id} has not finished: wait for it or cancel it"
                raise Conflict("trial_unfinished", zh, en)
            for old in mine[: max(0, len(mine) - MOST_KEPT + 1)]:
                del self._trials[old.id]
            trial = Trial(secrets.token_hex(8), actor.name, kind, asked, wall())
            self._trials[trial.id] = trial
        self._pool.submit(self._run, trial, wall, work)
        return trial

    def find(self, kind: str, trial_id: str, now: int) -> Trial:
        """Of whomever: its address may be sent to a colleague. Raises NotFound."""
        with self._lock:
            self._forget(now)
            trial = self._trials.get(trial_id)
        if trial is None or trial.kind != kind:
            raise NotFound(
                "no_such_trial", "没有这次试算，或结果已过期", "there is no such trial, or its result is no longer kept"
            )
        return trial

    def cancel(self, kind: str, trial_id: str, now: int) -> Trial:
        """It ends at the next chunk; one that waits never begins. What is finished stays. Raises NotFound."""
        trial = self.find(kind, trial_id, now)
        with self._lock:
            trial.stopping.set()
            if trial.state is TrialState.WAITING:
                trial.state, trial.finished_at = TrialState.CANCELLED, now
        return trial

    def close(self) -> None:
        """End whatever runs and wait for it."""
        with self._lock:
            for trial in self._trials.values():
                trial.stopping.set()
        self._pool.shutdown(cancel_futures=True)

    def _forget(self, now: int) -> None:
        over = [t.id for t in self._trials.values() if t.finished_at is not None and t.finished_at + KEPT < now]
        for trial_id in over:
            del self._trials[trial_id]

    def _run(self, trial: Trial, wall: Callable[[], int], work: Callable[[Told], Any]) -> None:
        with self._lock:
            if trial.state is not TrialState.WAITING:
                return
            trial.state = TrialState.RUNNING
        state, result = TrialState.FAILED, None
        refusal: Refusal | None = _BROKEN
        try:
            result = work(trial.told)
            state, refusal = TrialState.DONE, None
        except _Stopped:
            state, refusal = TrialState.CANCELLED, None
        except Refusal as error:
            refusal = error
        except StoreUnavailable:
            log.warning("trial %s: the readings store does not answer", trial.id)
            refusal = _NO_STORE
        except Exception:
            # The outermost loop of this thread: whoever asked is told, the next trial must run.
            log.exception("trial %s of %s failed", trial.id, trial.owner)
        with self._lock:
            trial.result, trial.refusal, trial.finished_at = result, refusal, wall()
            trial.progress = 1.0 if state is TrialState.DONE else trial.progress
            trial.state = state


class TrialFailed(Refusal):
    """Nobody's mistake: the work could not be done."""


_BROKEN = TrialFailed("trial_failed", "试算出错，已记录", "the trial failed here; it has been recorded")
_NO_STORE = TrialFailed("store_unavailable", "存储暂不可用，请稍后再试", "a store does not answer now: try again later")
