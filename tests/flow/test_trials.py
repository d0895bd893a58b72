"""Work that people ask for: one piece a person, one at a time, cancellable, its result kept for an hour."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from alerts.refusals import Conflict, Invalid, NotFound
from devices.instants import HOUR
from flow.trials import MOST_KEPT, Told, Trial, Trials, TrialState
from tests.flow.town import ADMIN, NOW, OFFICER


class Desk:
    """`now` is its clock; `wait` until a trial has ended."""

    def __init__(self) -> None:
        self.trials = Trials()
        self.now = NOW
        self.go = threading.Event()

    def start(self, work: Callable[[Told], object], actor: object = OFFICER) -> Trial:
        return self.trials.start(actor, lambda: self.now, "test", work)  # type: ignore[arg-type]

    def slow(self, told: Told) -> str:
        for part in range(1000):
            told(part / 1000)
            self.go.wait(0.01)
        return "done"

    def wait(self, trial: Trial) -> Trial:
        for _ in range(1000):
            if trial.finished_at is not None:
                return trial
            threading.Event().wait(0.01)
        raise AssertionError(f"still {trial.state}")


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.trials.close()


def test_a_result_is_kept_for_an_hour(desk: Desk) -> None:
    trial = desk.wait(desk.start(lambda _: {"n": 3}))
    assert (trial.state, trial.progress, trial.result) == (TrialState.DONE, 1.0, {"n": 3})
    assert desk.trials.find("test", trial.id, NOW + HOUR) is trial
    with pytest.raises(NotFound):
        desk.trials.find("another kind", trial.id, NOW)
    with pytest.raises(NotFound):
        desk.trials.find("test", trial.id, NOW + HOUR + 1)


def test_a_person_has_one_unfinished_and_others_wait_their_turn(desk: Desk) -> None:
    first = desk.start(desk.slow)
    with pytest.raises(Conflict) as refused:
        desk.start(lambda _: None)
    assert first.id in refused.value.en
    second = desk.start(lambda _: None, ADMIN)
    assert second.state is TrialState.WAITING
    desk.trials.cancel("test", first.id, NOW)
    assert desk.wait(first).state is TrialState.CANCELLED
    assert desk.wait(second).state is TrialState.DONE
    assert desk.wait(desk.start(lambda _: None)).state is TrialState.DONE


def test_one_that_waits_and_is_cancelled_never_begins(desk: Desk) -> None:
    begun: list[int] = []
    first, second = desk.start(desk.slow), desk.start(lambda _: begun.append(1), ADMIN)
    assert desk.trials.cancel("test", second.id, NOW).state is TrialState.CANCELLED
    desk.trials.cancel("test", first.id, NOW)
    desk.wait(first)
    assert desk.wait(desk.start(lambda _: None)).state is TrialState.DONE
    assert begun == []


def test_why_it_failed_is_told_and_the_next_one_runs(desk: Desk) -> None:
    def refuse(told: Told) -> None:
        raise Invalid("too_much", "太多", "too much")

    def break_(told: Told) -> None:
        raise ZeroDivisionError

    for work, code in ((refuse, "too_much"), (break_, "trial_failed")):
        trial = desk.wait(desk.start(work))
        assert trial.state is TrialState.FAILED
        assert trial.refusal is not None
        assert trial.refusal.code == code


def test_only_the_last_results_of_a_person_are_kept(desk: Desk) -> None:
    made = [desk.wait(desk.start(lambda _: None)) for _ in range(MOST_KEPT + 2)]
    assert [_kept(desk, trial) for trial in made] == [False] * 2 + [True] * MOST_KEPT


def _kept(desk: Desk, trial: Trial) -> bool:
    try:
        return desk.trials.find("test", trial.id, NOW) is trial
    except NotFound:
        return False


def test_closing_ends_what_runs(desk: Desk) -> None:
    running, waiting = desk.start(desk.slow), desk.start(desk.slow, ADMIN)
    desk.trials.close()
    assert running.state is TrialState.CANCELLED
    assert waiting.finished_at is None
