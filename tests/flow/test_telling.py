"""However the transitions of a stream are cut into tellings, and however often they are told, the same is on record."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.instants import HOUR, MINUTE
from flow.desk import acknowledge_many
from rules.outcome import Edge, Transition
from store.records.tables import alarm_history, alarms, occurrences, order_history, order_occurrences, orders, outbox
from tests.flow.town import ELDER, LEVEL, NOW, OFFICER, PUMP, Town, down, up

SUBJECTS = ((LEVEL, "ps-01"), (LEVEL, "ps-02"), (PUMP, "ps-01"), (ELDER, "door-07"))


@st.composite
def stories(draw: st.DrawFn) -> list[Transition]:
    """As the engine tells: each alarm in turn raised and cleared, its instants never going back, some of them equal."""
    at = dict.fromkeys(range(len(SUBJECTS)), NOW - 3 * HOUR)
    standing = dict.fromkeys(range(len(SUBJECTS)), False)
    story = []
    for who in draw(st.lists(st.integers(0, len(SUBJECTS) - 1), min_size=1, max_size=14)):
        rule, device = SUBJECTS[who]
        at[who] += draw(st.sampled_from([0, 0, 1, MINUTE, HOUR // 4]))
        story.append(up(rule, device, at[who]) if not standing[who] else down(rule, device, at[who]))
        standing[who] = not standing[who]
    return story


def cut(story: Sequence[Transition], places: Sequence[int]) -> list[Sequence[Transition]]:
    edges = [0, *sorted({p % (len(story) + 1) for p in places}), len(story)]
    return [story[a:b] for a, b in pairwise(edges) if a != b]


def record(town: Town) -> list[Any]:
    """What must not depend on the cut: all but numbers in order of writing, marks of lateness, messages."""
    names = {row["id"]: (row["rule"], row["device"]) for row in town.rows(alarms)}
    instants = {row["id"]: (row["rule"], row["device"], row["raised_at"]) for row in town.rows(occurrences)}
    held = {row["id"]: names[row["alarm"]] for row in town.rows(orders)}
    return [
        sorted((r["rule"], r["device"], r["state"], r["active"], r["raised_count"]) for r in town.rows(alarms)),
        sorted((*instants[r["id"]], r["since"], str(r["cleared_at"])) for r in town.rows(occurrences)),
        sorted((names[r["alarm"]], r["state"], r["version"], r["category"]) for r in town.rows(orders)),
        sorted((held[r["order"]], instants[r["occurrence"]]) for r in town.rows(order_occurrences)),
    ]


def tables(town: Town) -> list[Any]:
    return [
        town.rows(t) for t in (alarms, occurrences, alarm_history, orders, order_occurrences, order_history, outbox)
    ]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=stories(), places=st.lists(st.integers(0, 20), max_size=6))
def test_any_cut_and_any_repetition_leaves_the_same_record(story: list[Transition], places: list[int]) -> None:
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        whole, parts = Town(Path(one)), Town(Path(other))
        whole.tell(*story)
        for part in cut(story, places):
            parts.tell(*part)
        assert record(whole) == record(parts)

        raises = [(t.rule, t.device, t.at) for t in story if t.edge is Edge.RAISED]
        if len(raises) > len(set(raises)):
            return  # flickering within one instant: a repetition of it looks like more of it
        numbers = [row["id"] for row in whole.rows(alarms)]
        acknowledge_many(whole.records, whole.now, OFFICER, alarms=numbers[::2])
        before = tables(whole)
        whole.tell(*story)
        assert tables(whole) == before


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=stories())
def test_every_move_on_record_follows_from_the_one_before(story: list[Transition]) -> None:
    with TemporaryDirectory() as folder:
        town = Town(Path(folder))
        for transition in story:
            town.tell(transition)
        for history, owner in ((alarm_history, "alarm"), (order_history, "order")):
            state: dict[int, str | None] = {}
            for row in town.rows(history):
                if owner == "order":
                    assert row["from_state"] == state.get(row[owner])
                elif row[owner] in state:
                    assert row["from_state"] == state[row[owner]]
                state[row[owner]] = row["to_state"]
            table = alarms if owner == "alarm" else orders
            assert state == {row["id"]: row["state"] for row in town.rows(table)}
