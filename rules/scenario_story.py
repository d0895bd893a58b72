"""One scenario as written to one that can be played: times, devices, values, declarations and what is expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from devices.documents import Document, Mistake, Path, nearest
from devices.instants import SECOND
from devices.kinds import KINDS
from devices.registry import EVENT, Device
from devices.town import wrong_source
from rules.book import RuleBook
from rules.calendar import Calendar, Site
from rules.declared import Declared, Pause, Response, Span
from rules.expression import Attribute, leaves
from rules.scenario import Expected, Sample, Scenario
from rules.scenario_models import DeviceEntry, ScenarioEntry, SpanEntry, When
from rules.scenario_values import MAX_VALUES, metric_of, spread, value_of

ZONE = "Asia/Shanghai"
# Midnight of an ordinary Wednesday, so that 22h after the start is ten in the evening.
START = When(moment=datetime(2026, 7, 1))  # noqa: DTZ001 - local wherever the site is
_RESERVED = ("at", "arrives", "device")


class Story:
    """`book` None where its rules have a mistake: what depends on them is then not checked."""

    def __init__(
        self, document: Document, place: Path, entry: ScenarioEntry, *, book: RuleBook | None, zone: str | None
    ) -> None:
        self.mistakes: list[Mistake] = []
        self._document, self._place, self._entry, self._book = document, place, entry, book
        self._zone = ZoneInfo(zone or ZONE)
        self._start = 0
        self._start = self._instant(entry.start or START, "start")
        self._devices: dict[str, Device] = {}
        self._count = 0

    def scenario(self, calendar: Calendar) -> Scenario | None:
        entry = self._entry
        grid_tree = self._grids()
        self._read_devices(grid_tree)
        samples = sorted([*self._series(), *self._values(), *self._events()], key=lambda sample: sample.arrives)
        expect = tuple(self._expected())
        declared = self._declared()
        until = self._start if entry.until is None else self._instant(entry.until, "until")
        line, _ = self._document.places.get((*self._place, "name"), (0, 0))
        if self._book is None:
            return None
        return Scenario(
            name=entry.name,
            file=self._document.file,
            line=line,
            start=self._start,
            end=max([until, *(sample.arrives for sample in samples), *(each.at for each in expect)]),
            book=self._book,
            devices=tuple(self._devices.values()),
            samples=tuple(samples),
            expect=expect,
            grid_tree=grid_tree,
            site=Site(self._zone.key, calendar),
            declared=declared,
        )

    def _say(self, message: str, *path: str | int) -> None:
        self.mistakes.append(self._document.mistake((*self._place, *path), message))

    def _instant(self, when: When, *path: str | int) -> int:
        try:
            found = when.instant(self._start, self._zone)
        except (ValueError, OverflowError) as error:
            self._say(f"{path[-1]}: {error}", *path)
            return self._start
        if found < self._start:
            self._say(f"{path[-1]}: before the start of the scenario", *path)
        return found

    def _read_devices(self, grid_tree: Mapping[str, frozenset[str]]) -> None:
        entry = self._entry
        written: list[tuple[tuple[str | int, ...], DeviceEntry]] = [
            *([(("device",), entry.device)] if entry.device is not None else []),
            *((("devices", index), each) for index, each in enumerate(entry.devices)),
        ]
        if len(written) == 0 or (entry.device is not None and entry.devices):
            self._say("expected device: {kind: …}, or devices: a list of them", "devices")
            return
        known = {each.id or each.kind: each for _, each in written}
        for path, each in written:
            name = each.id or each.kind
            if (said := wrong_source(name, each, known)) is not None:
                self._say(f"second_of: {said}", *path, "second_of")
            if name in self._devices:
                self._say(f"device {name!r} stands twice: give each an id", *path)
            if each.grid is not None and grid_tree and each.grid not in grid_tree:
                self._say(f"there is no grid {each.grid!r} in grids{nearest(each.grid, grid_tree)}", *path, "grid")
            self._check_attributes(each, path)
            interval = each.interval or max(round(KINDS[each.kind].interval_s * SECOND), entry.every or 0)
            self._devices[name] = Device(
                number=len(self._devices),
                id=name,
                site="scenario",
                kind=each.kind,
                name=each.name,
                grid=each.grid,
                attributes=each.attributes,
                tags=each.tags,
                interval_s=interval / SECOND,
                first_seen=self._start,
                second_of=each.second_of,
            )

    def _check_attributes(self, device: DeviceEntry, path: tuple[str | int, ...]) -> None:
        """One that no rule reads is most likely misspelt; a datum is read with the levels it belongs to."""
        if self._book is None:
            return
        trees = (tree for rule in self._book.rules.values() for tree in rule.trees)
        read = {leaf.name for tree in trees for leaf in leaves(tree) if isinstance(leaf, Attribute)}
        known = read | set(KINDS[device.kind].attributes) | {"datum"}
        for name in device.attributes:
            if name not in known and not name.endswith("_datum"):
                self._say(f"no rule reads attribute {name!r}{nearest(name, known)}", *path, "attributes", name)

    def _grids(self) -> dict[str, frozenset[str]]:
        below = {grid: set(children) for grid, children in self._entry.grids.items()}
        for grid in {child for children in below.values() for child in children} - below.keys():
            below[grid] = set()
        found = {}
        for grid in below:
            reached, open_ = {grid}, [grid]
            while open_:
                new = below[open_.pop()] - reached
                reached |= new
                open_ += new
            found[grid] = frozenset(reached)
        return found

    def _device(self, name: object, *path: str | int) -> Device | None:
        """The device of that name, or the only one; None with a mistake told."""
        if name is None and len(self._devices) == 1:
            return next(iter(self._devices.values()))
        found = self._devices.get(name) if isinstance(name, str) else None
        if found is not None or not self._devices:
            return found
        if name is None:
            self._say(f"of which device? one of {', '.join(self._devices)}", *path)
        else:
            self._say(f"there is no device {name!r}{nearest(str(name), self._devices)}", *path)
        return found

    def _series(self) -> Iterator[Sample]:
        """`series` is metric: values of the only device, or device: metric: values."""
        series, every = self._entry.series, self._entry.every
        if not series:
            return
        if every is None:
            self._say("every: is required with series, such as every: 30s", "series")
        named = any(isinstance(value, dict) for value in series.values())
        for name, columns in series.items() if named else [(None, series)]:
            path = ("series", name) if name is not None else ("series",)
            device = self._device(name, *path)
            if not isinstance(columns, dict):
                self._say("expected metrics with their values: with several devices, series go by device", *path)
            elif device is not None and every is not None:
                yield from self._columns(device, columns, every, path)

    def _columns(
        self, device: Device, columns: Mapping[Any, object], every: int, path: tuple[str | int, ...]
    ) -> Iterator[Sample]:
        rows: dict[int, dict[str, float]] = {}
        for name, values in columns.items():
            place: int | None = None
            try:
                metric = metric_of(device.kind, str(name))
                for row, (at, value) in enumerate(spread(values)):
                    place = at
                    number = value_of(metric, value)
                    if number is not None:
                        rows.setdefault(row, {})[metric.name] = number
            except ValueError as error:
                self._say(str(error), *path, str(name), *(() if place is None else (place,)))
        self._count += sum(map(len, rows.values()))
        if self._count > MAX_VALUES:
            self._say(f"a scenario has at most {MAX_VALUES:,} values", *path)
        for row in sorted(rows):
            at = self._start + row * every
            yield Sample(device.id, at, at, rows[row])

    def _values(self) -> Iterator[Sample]:
        for index, written in enumerate(self._entry.values):
            path = ("values", index)
            device = self._device(written.get("device"), *path)
            if "at" not in written:
                self._say("at: is required", *path)
                continue
            values = {}
            for name in written if device is not None else ():
                if name in _RESERVED or device is None:
                    continue
                try:
                    number = value_of(metric_of(device.kind, name), written[name])
                except ValueError as error:
                    self._say(str(error), *path, name)
                    continue
                if number is not None:
                    values[name] = number
            at, arrives = self._times(written["at"], written.get("arrives"), path)
            if device is not None and values:
                yield Sample(device.id, at, arrives, values)

    def _times(self, at: object, arrives: object, path: tuple[str | int, ...]) -> tuple[int, int]:
        measured = self._read_time(at, *path, "at")
        come = measured if arrives is None else self._read_time(arrives, *path, "arrives")
        if come < measured:
            self._say("arrives: before it is measured", *path, "arrives")
        return measured, come

    def _read_time(self, value: object, *path: str | int) -> int:
        try:
            return self._instant(value if isinstance(value, When) else When.read(value), *path)
        except ValueError as error:
            self._say(f"{path[-1]}: {error}", *path)
            return self._start

    def _events(self) -> Iterator[Sample]:
        for index, written in enumerate(self._entry.events):
            path = ("events", index)
            device = self._device(written.device, *path, "device")
            at, arrives = self._times(written.at, written.arrives, path)
            if device is None:
                continue
            known = KINDS[device.kind].events
            if written.event in known:
                yield Sample(device.id, at, arrives, {EVENT + written.event: 1.0})
            else:
                has = f"it has {', '.join(sorted(known))}" if known else "it has no events"
                said = f"{device.kind} has no event {written.event!r}{nearest(written.event, known)}; {has}"
                self._say(said, *path, "event")

    def _span(self, span: SpanEntry, *path: str | int) -> tuple[int, int | None]:
        first = self._instant(span.first, *path, "from")
        last = None if span.last is None else self._instant(span.last, *path, "to")
        if last is not None and last <= first:
            self._say("to: not after from", *path, "to")
        return first, last

    def _declared(self) -> Declared:
        written = self._entry.declared
        responses = [Response(each.level, *self._span(each, "declared", "response", k))
                     for k, each in enumerate(written.response)]  # fmt: skip
        drills = [Span(*self._span(each, "declared", "drill", k)) for k, each in enumerate(written.drill)]
        pauses = []
        for k, each in enumerate(written.pauses):
            path = ("declared", "pauses", k)
            first, last = self._span(SpanEntry.model_construct(first=each.first, last=each.last), *path)
            self._device(each.device, *path, "device")
            self._check_rules(each.rules or (), *path, "rules")
            pauses.append(
                Pause(
                    each.device, first, last or first, each.why, None if each.rules is None else frozenset(each.rules)
                )
            )
        return Declared(tuple(responses), tuple(drills), tuple(pauses))

    def _check_rules(self, names: Sequence[str], *path: str | int) -> None:
        for name in names:
            if self._book is not None and name not in self._book.rules:
                self._say(f"there is no rule {name!r}{nearest(name, self._book.rules)}", *path)

    def _expected(self) -> Iterator[Expected]:
        for index, each in enumerate(self._entry.expect):
            path = ("expect", index)
            self._check_rules((each.rule,), *path, "rule")
            if each.device is not None and not each.device.startswith(("grid:", "group:")):
                self._device(each.device, *path, "device")
            line, _ = self._document.places.get((*self._place, *path), (0, 0))
            yield Expected(each.rule, each.edge, self._instant(each.at, *path, "at"), each.device, each.priority, line)
