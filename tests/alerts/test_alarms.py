"""The life of an alarm: ISA-18.2 as a table, every state × every happening, and as a machine run at random."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from alerts.alarms import (
    MAX_SHELVED,
    MOVES,
    RANK,
    RETURNS,
    STANDING,
    SUPPRESSED,
    AlarmState,
    Happening,
    check_shelving,
    settle,
)
from alerts.refusals import Conflict, Invalid
from devices.instants import HOUR
from rules.rule import Priority

# The standard's table turned on its side: rows are happenings, columns states, "." is refused. `/` parts the condition
# being normal from its standing when a suppression ends.
TABLE = """
             NORM  UNACK ACKED RTNUN SHLVD      DSUPR      OOSRV
raised       UNACK UNACK UNACK UNACK SHLVD      DSUPR      OOSRV
cleared      NORM  RTNUN NORM  RTNUN SHLVD      DSUPR      OOSRV
worsened     .     UNACK UNACK .     SHLVD      DSUPR      OOSRV
eased        .     UNACK ACKED .     SHLVD      DSUPR      OOSRV
acknowledged .     ACKED .     NORM  .          .          .
shelved      SHLVD SHLVD SHLVD SHLVD SHLVD      .          .
unshelved    .     .     .     .     NORM/UNACK .          .
expired      .     .     .     .     NORM/UNACK .          .
suppressed   DSUPR DSUPR DSUPR DSUPR DSUPR      .          .
unsuppressed .     .     .     .     .          NORM/UNACK .
removed      OOSRV OOSRV OOSRV OOSRV OOSRV      OOSRV      .
restored     .     .     .     .     .          .          NORM/UNACK
commented    NORM  UNACK ACKED RTNUN SHLVD      DSUPR      OOSRV
"""


def expectations() -> list[tuple[str, str, str]]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [(state, happening, to) for happening, *cells in rows for state, to in zip(head, cells, strict=True)]


def test_the_table_above_speaks_of_every_state_and_every_happening() -> None:
    assert {(s, h) for s, h, _ in expectations()} == {(s, h) for s in AlarmState for h in Happening}


@pytest.mark.parametrize(("state", "happening", "to"), expectations())
def test_every_state_times_every_happening(state: str, happening: str, to: str) -> None:
    for standing in (False, True):
        before, what = AlarmState(state), Happening(happening)
        if to == ".":
            with pytest.raises(Conflict, match=state):
                settle(before, what, standing=standing, priority=Priority.HIGH)
            continue
        expected = to.split("/")[-1 if standing else 0]
        assert settle(before, what, standing=standing, priority=Priority.HIGH) == expected


def test_what_returned_to_normal_can_be_acknowledged_by_hand() -> None:
    assert settle(AlarmState.RTNUN, Happening.ACKNOWLEDGED, standing=False, priority=Priority.LOW) is AlarmState.NORM


def test_acknowledged_before_shelving_is_asked_again_after_it() -> None:
    state = settle(AlarmState.ACKED, Happening.SHELVED, standing=True, priority=Priority.HIGH)
    assert settle(state, Happening.EXPIRED, standing=True, priority=Priority.HIGH) is AlarmState.UNACK


def test_a_notice_never_waits_for_anyone() -> None:
    for (state, happening), to in MOVES.items():
        if state in {AlarmState.NORM, AlarmState.ACKED} | SUPPRESSED:
            for standing in (False, True):
                after = settle(state, happening, standing=standing, priority=Priority.NOTICE)
                assert after not in {AlarmState.UNACK, AlarmState.RTNUN}, (state, happening, to)
    assert settle(AlarmState.NORM, Happening.RAISED, standing=True, priority=Priority.NOTICE) is AlarmState.ACKED


def test_every_state_can_be_reached_and_left() -> None:
    reached = {AlarmState.NORM}
    while more := {to for (state, _), to in MOVES.items() if state in reached} - reached:
        reached |= more
    back = {AlarmState.NORM}
    while more := {state for (state, _), to in MOVES.items() if to in back} - back:
        back |= more
    assert reached == back == set(AlarmState)


def test_states_that_are_shown_suppressed_or_neither() -> None:
    assert not STANDING & SUPPRESSED
    assert set(AlarmState) - STANDING - SUPPRESSED == {AlarmState.NORM}


def test_priorities_rank_from_critical_to_notice() -> None:
    assert sorted(Priority, key=RANK.__getitem__) == ["critical", "high", "medium", "low", "notice"]


@pytest.mark.parametrize("until", [-1, 0, MAX_SHELVED + 1])
def test_shelving_ends_by_itself_and_not_too_late(until: int) -> None:
    with pytest.raises(Invalid, match="bad_expiry"):
        check_shelving(1000, 1000 + until, "maintenance")


def test_shelving_needs_a_reason() -> None:
    with pytest.raises(Invalid, match="reason_required"):
        check_shelving(0, HOUR, "  ")
    check_shelving(0, HOUR, "maintenance")


def test_a_rise_of_severity_is_announced_anew_and_a_fall_is_not() -> None:
    """ISA-18.2: who acknowledged it acknowledged less than there is now."""
    for happening, to in ((Happening.WORSENED, AlarmState.UNACK), (Happening.EASED, AlarmState.ACKED)):
        assert settle(AlarmState.ACKED, happening, standing=True, priority=Priority.HIGH) is to
    assert settle(AlarmState.UNACK, Happening.EASED, standing=True, priority=Priority.LOW) is AlarmState.UNACK


class AlarmMachine(RuleBasedStateMachine):
    """The engine raises and clears in turn; people and clocks do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.state = AlarmState.NORM
        self.standing = False
        self.seen_since_raised = True
        self.history: list[tuple[AlarmState, Happening, AlarmState]] = []

    def happen(self, happening: Happening) -> None:
        before = self.state
        self.state = settle(before, happening, standing=self.standing, priority=Priority.HIGH)
        self.history.append((before, happening, self.state))

    @precondition(lambda self: not self.standing)
    @rule()
    def raise_(self) -> None:
        self.standing = True
        self.happen(Happening.RAISED)

    @precondition(lambda self: self.standing)
    @rule()
    def clear(self) -> None:
        self.standing = False
        self.happen(Happening.CLEARED)

    @rule(happening=st.sampled_from([h for h in Happening if h not in {Happening.RAISED, Happening.CLEARED}]))
    def someone_does(self, happening: Happening) -> None:
        length, before = len(self.history), self.state
        try:
            self.happen(happening)
        except Conflict:
            assert (before, happening) not in MOVES
            assert (self.state, len(self.history)) == (before, length)

    @invariant()
    def the_state_never_contradicts_the_condition(self) -> None:
        if self.state in {AlarmState.UNACK, AlarmState.ACKED}:
            assert self.standing
        if self.state in {AlarmState.NORM, AlarmState.RTNUN}:
            assert not self.standing

    @invariant()
    def nothing_is_seen_that_nobody_acknowledged(self) -> None:
        """ACKED is only ever entered by an acknowledgement, and left by everything that makes it untrue."""
        for before, happening, after in self.history[-1:]:
            if after is AlarmState.ACKED and happening not in {Happening.COMMENTED, Happening.EASED}:
                assert (before, happening) == (AlarmState.UNACK, Happening.ACKNOWLEDGED)

    @invariant()
    def suppression_ends_only_by_its_own_happening(self) -> None:
        for before, happening, after in self.history[-1:]:
            if before in SUPPRESSED and after not in SUPPRESSED:
                assert happening in RETURNS


TestAlarmMachine = AlarmMachine.TestCase
TestAlarmMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
