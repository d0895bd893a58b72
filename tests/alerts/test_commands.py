"""The life of a command to a device: every state × everything that can happen to it."""

from __future__ import annotations

import pytest

from alerts.commands import MOVES, OPEN, CommandState, CommandStep, step
from alerts.refusals import Conflict

# Rows are what happens, columns states, "." is refused.
TABLE = """
          pending sent    replied failed expired
sent      sent    .       .       .      .
confirmed replied replied .       .      expired
declined  failed  failed  .       .      expired
lapsed    expired expired .       .      .
"""


def expectations() -> list[tuple[str, str, str]]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [(state, happened, to) for happened, *cells in rows for state, to in zip(head, cells, strict=True)]


def test_the_table_above_speaks_of_every_state_and_every_step() -> None:
    assert {(state, happened) for state, happened, _ in expectations()} == {
        (state, happened) for state in CommandState for happened in CommandStep
    }


@pytest.mark.parametrize(("state", "happened", "to"), expectations())
def test_every_state_times_every_step(state: str, happened: str, to: str) -> None:
    before, what = CommandState(state), CommandStep(happened)
    if to == ".":
        with pytest.raises(Conflict, match=state):
            step(before, what)
    else:
        assert step(before, what) == to


def test_what_has_ended_never_opens_again_and_everything_open_can_end() -> None:
    assert all(to not in OPEN for (state, _), to in MOVES.items() if state not in OPEN)
    for state in OPEN:
        ends = {to for (before, _), to in MOVES.items() if before is state} - OPEN
        assert ends == set(CommandState) - OPEN
