"""Levels and groups among other rules, through reloads, changes of devices and restarts, and told a second time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from devices.instants import MINUTE
from devices.registry import DeviceStatus
from rules.combining import Combiner, Saved
from rules.language import parse
from rules.outcome import FAR, Edge, Peak, Transition
from rules.parts import parts_of
from rules.rule import AppliesTo, Level, Priority, Rule
from tests.rules.desk import START, at, put, rows
from tests.rules.room import OUTSIDE, Room, members, of_group, stations, tell


def test_rules_of_one_part_pass_as_they_are() -> None:
    plain = Rule("plain", parse("level_outside > 3"), applies_to=AppliesTo(kind="pump_station"))
    told = [Transition("plain", "ps-1", None, Edge.RAISED, START, START, None, None, {}, 0)]
    for rules in ({"plain": plain}, {"plain": plain, "outside": OUTSIDE}):
        peaks = (Peak("plain", "ps-1", START, 4.0),)
        found = Combiner(parts_of(rules), stations(), {}).judge(told, peaks, None)
        assert found.transitions[0] is told[0]
        assert found.peaks == peaks
    room = Room([plain, OUTSIDE])
    room.outside(("0s", 4.5))
    assert [t.rule for t in room.said] == ["plain", "outside"]


def test_judging_changes_nothing_until_it_is_adopted() -> None:
    groups = [of_group("level_outside > 3", ">=", 1, share=False, hold_us=hold) for hold in (0, MINUTE)]
    room = Room([OUTSIDE, groups[0], replace(groups[1], id="later")])
    elements = rows(room.registry, [("ps-1", "0s", {"level_outside": 4.5})])
    once, again = (room.engine.evaluate(elements) for _ in range(2))
    assert (once.transitions, once.peaks) == (again.transitions, again.peaks)
    assert len(once.transitions) == 2
    assert room.combiner.due() == FAR
    room.take(once)
    assert room.combiner.due() == at("1m")
    assert room.engine.tick(at("2m")).transitions == room.engine.tick(at("2m")).transitions != ()


# -- other rules, other devices, another start

MANY = of_group("level_inside > 3", ">=", 0.5, hold_us=5 * MINUTE)


def test_a_reload_keeps_what_an_unchanged_rule_has_learned() -> None:
    room = Room([OUTSIDE, MANY])
    room.outside(("0s", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    assert room.reloads([replace(OUTSIDE, name_zh="外河"), MANY], "1m") == []
    assert room.combiner.due() == at("5m")
    assert room.outside(("2m", 2)) == ["cleared critical 2 of ps-1"]
    assert room.ticks("6m") == ["raised 5 of group:g7"]


def test_what_stands_of_a_rule_that_is_gone_is_cleared() -> None:
    room = Room([OUTSIDE, replace(MANY, hold_us=0)])
    room.outside(("0s", 4.2), ("1m", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    assert sorted(room.reloads([], "3m")) == ["cleared 3 of group:g7", "cleared critical 3 of ps-1"]
    assert all(t.reason["cleared_by"] == "rule_removed_or_changed" for t in room.said[-2:])
    assert room.reloads([OUTSIDE], "4m") == []
    assert room.outside(("5m", 4.2)) == ["raised critical 5 of ps-1"]


def test_a_rule_whose_meaning_changed_starts_afresh() -> None:
    room = Room([OUTSIDE, replace(MANY, hold_us=0)])
    room.outside(("0s", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    levels = (replace(OUTSIDE.levels[0], hold_us=0), OUTSIDE.levels[1])
    few = of_group("level_inside > 3", ">", 0.5)
    assert sorted(room.reloads([replace(OUTSIDE, levels=levels), few], "3m")) == [
        "cleared 3 of group:g7", "cleared critical 3 of ps-1",
    ]  # fmt: skip
    assert room.outside(("4m", 4.2)) == ["raised critical 4 of ps-1"]
    assert room.inside("4m", ps_1=3.1, ps_2=3.1, ps_3=3.1) == ["raised 4 of group:g7"]


def test_a_level_of_a_rule_that_is_gone_ends_though_no_part_said_so() -> None:
    before = Combiner(parts_of({"outside": OUTSIDE}), stations(), {})
    up = Transition("outside#1", "ps-1", "level_outside", Edge.RAISED, START, START, 4.2, 4.2, {}, 0)
    before.adopt(before.judge([up], (), None).changes)
    found = Combiner({}, stations(), {}).take_over(before, (), at("1m"), "gone")
    assert [tell(t) for t in found.transitions] == ["cleared critical 1 of ps-1"]
    level = {"priority": "critical", "zh": "保证"}
    assert found.transitions[0].reason == {"when": "level_outside > 4", "cleared_by": "gone", "level": level}


def test_a_member_that_leaves_counts_no_more_and_the_rest_are_fewer() -> None:
    room = Room([replace(MANY, hold_us=0)])
    assert room.inside("0s", ps_1=3.1, ps_2=3.1) == ["raised 0 of group:g7"]
    assert room.loses("ps-4") == []
    assert room.loses("ps-1") == []  # one of two is still half
    put(room.registry, "ps-4", status=DeviceStatus.ACTIVE)
    assert room.devices_change() == []  # who joins is no turn
    assert room.inside("4m", ps_3=1.0, ps_4=1.0) == []
    assert room.loses("ps-2") == ["cleared 0 of group:g7"]
    assert room.said[-1].reason["of"] == 2


def test_a_group_whose_members_are_all_gone_is_cleared() -> None:
    room = Room([replace(MANY, hold_us=0)], stations(2))
    room.inside("0s", ps_1=3.1)
    room.inside("1m", ps_2=3.1)
    put(room.registry, "ps-1", status=DeviceStatus.REJECTED)
    assert room.loses("ps-2") == ["cleared 1 of group:g7"]
    assert room.said[-1].reason == {"when": "many", "cleared_by": "device_not_judged"}


def test_a_device_that_is_gone_ends_its_levels_with_one_edge() -> None:
    room = Room([OUTSIDE])
    room.outside(("0s", 4.2), ("2m", 4.2))
    assert room.loses("ps-1") == ["cleared critical 2 of ps-1"]
    assert room.said[-1].reason["cleared_by"] == "device_not_judged"


def test_a_member_that_moves_counts_where_it_is_now() -> None:
    room = Room([of_group("level_inside > 3", ">=", 2, share=False, tag=None)])
    room.inside("0s", ps_1=3.1, ps_3=3.1)
    put(room.registry, "ps-1", grid="east")
    assert room.devices_change() == ["raised 0 of grid:east"]


def test_a_restart_goes_on_where_it_was() -> None:
    room = Room([OUTSIDE, MANY])
    room.outside(("0s", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    again = Room([OUTSIDE, MANY], room.registry)
    again.engine.restore(room.engine.snapshot())
    assert again.combiner.snapshot() == room.combiner.snapshot()
    assert again.outside(("1m", 3.5)) == ["changed medium 1 of ps-1"]
    assert again.ticks("6m") == ["raised 5 of group:g7"]
    assert again.inside("7m", ps_1=1.0) == ["cleared 7 of group:g7"]


def test_a_snapshot_is_plain_and_survives_bytes_and_what_has_gone_since() -> None:
    room = Room([OUTSIDE, MANY])
    room.outside(("0s", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(room.combiner.snapshot()), type=Saved)
    assert saved == room.combiner.snapshot()
    parts, everyone = parts_of({r.id: r for r in room.rules}), members(room.rules, room.registry)
    full = Combiner(parts, room.registry, everyone)
    full.restore(saved, {"outside#1": frozenset({0}), "many#member": frozenset({0, 1})})
    assert (full.snapshot(), full.due()) == (saved, at("5m"))
    less = Combiner(parts, room.registry, {"many": {"group:other": (0, 1)}})
    less.restore(saved, {})
    assert less.due() == FAR
    assert not less.snapshot().rules["outside"].standings["ps-1"].levels
    other = Combiner(parts_of({"outside": replace(OUTSIDE, keep_us=1)}), room.registry, {})
    other.restore(saved, {"outside#1": frozenset({0})})
    assert not other.snapshot().rules["outside"].standings


# -- against a plain second telling

LADDER = Rule("ladder", parse("level_inside > 1"),
              levels=tuple(Level(p, parse(f"level_inside > {k}")) for k, p in
                           enumerate([Priority.LOW, Priority.HIGH, Priority.CRITICAL])))  # fmt: skip
CROWD = of_group("level_inside > 3", ">=", 2, share=False, hold_us=2 * MINUTE, keep_us=3 * MINUTE)
BOOK = {"ladder": LADDER, "many": CROWD}
SHARES = {"many": {"group:a": (0, 1, 4, 5), "group:b": (0, 1, 4)}}
DEVICES = {0: "ps-1", 1: "ps-2", 4: "ps-3", 5: "ps-4"}
Cause = tuple[bool, int, tuple[tuple[str, int], ...]]  # by the clock, minute, parts that turn on devices


@st.composite
def stories(draw: st.DrawFn) -> list[Cause]:
    clock, found = 0, []
    parts = ["ladder#0", "ladder#1", "ladder#2", "many#member"]
    for _ in range(draw(st.integers(1, 25))):
        clock += draw(st.sampled_from([0, 0, 1, 1, 2, 5]))
        by_clock = draw(st.booleans())
        minute = clock - (0 if by_clock else draw(st.sampled_from([0, 0, 2, 4])))
        devices = draw(st.sets(st.sampled_from(sorted(DEVICES)), max_size=4 if by_clock else 1))
        turning = draw(st.sets(st.sampled_from(parts), min_size=1))
        found.append(
            (by_clock, minute, tuple((part, device) for part in parts if part in turning for device in devices))
        )
    return found


def transitions(story: Sequence[Cause]) -> list[tuple[int | None, list[Transition]]]:
    """Each cause as the engine would tell it: (now, transitions); a part rises and falls in turn."""
    up: set[tuple[str, int]] = set()
    found: list[tuple[int | None, list[Transition]]] = []
    for number, (by_clock, minute, turns) in enumerate(story):
        instant = START + minute * MINUTE
        said = []
        for part, device in turns:
            edge = Edge.CLEARED if (part, device) in up else Edge.RAISED
            up ^= {(part, device)}
            value = float(number)
            said.append(Transition(part, DEVICES[device], "level_inside", edge, instant, instant, value, value,
                                   {"when": part}, -1 if by_clock else number))  # fmt: skip
        found.append((instant if by_clock else None, said))
    return found


class Plain:
    """Levels and groups a second time, one cause after the other, from sets alone."""

    def __init__(self) -> None:
        self.up: set[tuple[str, int]] = set()
        self.last: dict[str, int] = {}
        self.since: dict[str, int] = {}
        self.raised: dict[str, int] = {}
        self.said: list[tuple[str, str, str, int]] = []

    def tick(self, now: int) -> None:
        while ripe := sorted((due, s) for s in SHARES["many"] if (due := self._due(s)) is not None and due <= now):
            self._judge(ripe[0][1], ripe[0][0])

    def _due(self, subject: str) -> int | None:
        if subject in self.raised:
            return self.raised[subject] + CROWD.keep_us if self._many(subject) < 2 else None
        return self.since[subject] + CROWD.hold_us if subject in self.since else None

    def _many(self, subject: str) -> int:
        return sum(("many#member", device) in self.up for device in SHARES["many"][subject])

    def cause(self, instant: int, turns: Sequence[tuple[str, int]]) -> None:
        before = {device: self._worst(device) for _, device in turns}
        self.up ^= set(turns)
        for device in dict.fromkeys(device for part, device in turns if part.startswith("ladder")):
            self._climb(DEVICES[device], before[device], self._worst(device), instant)
        moved = {device for part, device in turns if part == "many#member"}
        for subject, inside in SHARES["many"].items():
            if moved & set(inside):
                self._judge(subject, instant)

    def _worst(self, device: int) -> int:
        return max((k for k in range(3) if (f"ladder#{k}", device) in self.up), default=-1)

    def _climb(self, device: str, was: int, now: int, instant: int) -> None:
        self.last[device] = max(self.last.get(device, instant), instant)
        if was != now:
            edge = "raised" if was < 0 else "cleared" if now < 0 else "changed"
            priority = LADDER.levels[was if now < 0 else now].priority
            self.said.append((edge, device, priority, self.last[device]))

    def _judge(self, subject: str, instant: int) -> None:
        instant = self.last[subject] = max(self.last.get(subject, instant), instant)
        many = self._many(subject) >= 2
        if subject in self.raised:
            if not many and instant >= self.raised[subject] + CROWD.keep_us:
                del self.raised[subject], self.since[subject]
                self.said.append(("cleared", subject, "", instant))
        elif not many:
            self.since.pop(subject, None)
        elif instant >= self.since.setdefault(subject, instant) + CROWD.hold_us:
            self.raised[subject] = instant
            self.said.append(("raised", subject, "", instant))


Told = Sequence[tuple[int | None, list[Transition]]]


def play(story: Told, cuts: Sequence[bool], restarts: Sequence[bool]) -> list[Transition]:
    """Elements up to the next cut are one batch; a restart goes through the bytes of a snapshot."""
    hall = Hall()
    batch: list[Transition] = []
    for (now, told), cut, restart in zip(story, cuts, restarts, strict=True):
        if cut or now is not None:
            hall.judge(batch, None)
            batch = []
        if restart and not batch:
            hall.restart()
        if now is not None:
            hall.judge(told, now)
        else:
            batch += told
    hall.judge(batch, None)
    return hall.said


class Hall:
    """A combiner that may be restarted; `up` are the parts that stand."""

    def __init__(self) -> None:
        self.said: list[Transition] = []
        self.up: dict[str, frozenset[int]] = {}
        self.combiner = Combiner(parts_of(BOOK), stations(), SHARES)

    def judge(self, told: Sequence[Transition], now: int | None) -> None:
        found = self.combiner.judge(told, (), now)
        self.combiner.adopt(found.changes)
        self.said += found.transitions
        numbers = {name: number for number, name in DEVICES.items()}
        for t in told:
            self.up[t.rule] = self.up.get(t.rule, frozenset()) ^ {numbers[t.device]}

    def restart(self) -> None:
        blob = msgspec.msgpack.encode(self.combiner.snapshot())
        self.combiner = Combiner(parts_of(BOOK), stations(), SHARES)
        self.combiner.restore(msgspec.msgpack.decode(blob, type=Saved), self.up)


@given(stories(), st.data())
def test_any_cut_and_any_restart_give_what_the_plain_telling_gives(story: list[Cause], data: st.DataObject) -> None:
    told = transitions(story)
    plain = Plain()
    for (by_clock, minute, turns), (now, _) in zip(story, told, strict=True):
        instant = START + minute * MINUTE
        if by_clock:
            plain.tick(instant - 1)
        plain.cause(instant, turns)
        if now is not None:
            plain.tick(now)
    flags = st.lists(st.booleans(), min_size=len(story), max_size=len(story))
    whole = play(told, [True] * len(story), [False] * len(story))
    assert [(t.edge, t.device, t.priority or "", t.at) for t in whole] == plain.said
    assert play(told, data.draw(flags), data.draw(flags)) == whole
