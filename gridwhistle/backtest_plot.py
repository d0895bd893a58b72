"""A run of the rules as one HTML file to open anywhere: the series, the limits of the rules, every alarm shaded.

The page is made of plain data (`Page`) and needs no network: the chart library of the console stands in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import console
from console.words import unit
from devices.instants import HOUR, MILLISECOND, to_datetime
from devices.kinds import KINDS
from devices.registry import Device, Registry
from gridwhistle.backtest_sketch import NONE, Points, Sketch, thin
from rules.backtest import Finding
from rules.binding import columns, matching
from rules.book import RuleBook
from rules.parts import parts_of
from rules.review import severity
from rules.rule import Rule

Json = dict[str, Any]
# Subjects on the page, the most alarmed first, and what is drawn of one.
MOST_SUBJECTS, MOST_PANELS, MOST_LINES = 60, 8, 12
MOST_SHADED, MOST_LISTED = 1_500, 500
# Points of all lines of a page, and the least of one: a page of a few megabytes.
PAGE_POINTS, LINE_POINTS = 150_000, 2_000
_HERE = Path(__file__).parent
_LIBRARY = Path(console.__file__).parent / "static" / "vendor" / "echarts-6.1.0" / "echarts.min.js"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a page is made of; `against` the findings of the other rules, None where there are none."""

    title: str
    book: RuleBook
    registry: Registry
    grid_tree: Mapping[str, frozenset[str]]
    sketch: Sketch
    findings: Sequence[Finding]
    against: Sequence[Finding] | None
    start: int
    end: int
    zone: str


def write_plot(path: Path, drawn: Drawn) -> int:
    """Returns how many devices and groups are on the page. Raises OSError."""
    page = page_of(drawn)
    path.write_text(html(page), encoding="utf-8")
    return len(page["subjects"])


def html(page: Json) -> str:
    """The page as a text that names nothing outside itself."""
    text = (_HERE / "backtest_chart.html").read_text(encoding="utf-8")
    script = (_HERE / "backtest_chart.js").read_text(encoding="utf-8")
    data = json.dumps(page, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    for mark, put in (
        ("@@LIBRARY@@", _LIBRARY.read_text(encoding="utf-8")),
        ("@@SCRIPT@@", script),
        ("@@DATA@@", data),
    ):
        before, _, after = text.partition(mark)
        text = before + put + after
    return text


def page_of(drawn: Drawn) -> Json:
    """JSON: devices and groups are `subjects` with panels, limits and alarms; instants are ms of the site's time."""
    artist = _Artist(drawn)
    count = Counter(finding.device for finding in drawn.findings)
    others = {d.id for d in drawn.registry.devices if d.number in artist.rules} | {
        f.device for f in drawn.against or ()
    }
    chosen = sorted({*count, *others}, key=lambda name: (-count[name], name))
    subjects = [artist.subject(name) for name in chosen[:MOST_SUBJECTS]]
    return {
        "title": drawn.title,
        "zone": drawn.zone,
        "from": artist.ms(drawn.start),
        "to": artist.ms(drawn.end),
        "alarms": len(drawn.findings),
        "against": None if drawn.against is None else len(drawn.against),
        "left_out": max(0, len(chosen) - MOST_SUBJECTS),
        "subjects": [subject for subject in subjects if subject["panels"] or subject["areas"]],
    }


class _Artist:
    """`rules` of each device that has any, by its number."""

    def __init__(self, drawn: Drawn) -> None:
        self._drawn = drawn
        self._zone, self._offsets = ZoneInfo(drawn.zone), dict[int, int]()
        table = columns(drawn.registry)
        self._devices = {
            rule.id: sorted({n for part in parts_of({rule.id: rule}).values()
                             for n in matching(part.rule, table, drawn.grid_tree).tolist()})
            for rule in drawn.book.rules.values()
        }  # fmt: skip
        self.rules: dict[int, list[Rule]] = {}
        for rule in drawn.book.rules.values():
            for number in self._devices[rule.id]:
                self.rules.setdefault(number, []).append(rule)
        lines = sum(len({name for rule in rules for name in rule.series}) for rules in self.rules.values())
        each = PAGE_POINTS // max(1, min(lines, MOST_SUBJECTS * MOST_PANELS))
        self._stretches = max(each, LINE_POINTS) // 2

    def ms(self, at: int) -> int:
        """Milliseconds of the site's own time, as if it were UTC: a browser only knows its own zone."""
        hour = at // HOUR
        if hour not in self._offsets:
            offset = to_datetime(max(0, at)).astimezone(self._zone).utcoffset()
            self._offsets[hour] = 0 if offset is None else round(offset.total_seconds() * 1000)
        return at // MILLISECOND + self._offsets[hour]

    def subject(self, name: str) -> Json:
        drawn, device = self._drawn, self._drawn.registry.get(name)
        findings = [finding for finding in drawn.findings if finding.device == name]
        before = [finding for finding in drawn.against or () if finding.device == name]
        kind = KINDS[device.kind] if device else None
        return {
            "id": name,
            "name": device.name if device else "",
            "kind": f"{kind.zh} {kind.en}" if kind else "成组 group",
            "alarms_count": len(findings),
            "panels": self._panels(device) if device else self._group_panels([*findings, *before]),
            "areas": [*self._areas(findings, False), *self._areas(before, True)],
            "alarms": [self._alarm(finding) for finding in findings[:MOST_LISTED]],
        }

    def _panels(self, device: Device) -> list[Json]:
        """One a metric that a rule of the device reads and that has values."""
        drawn, rules = self._drawn, self.rules.get(device.number, [])
        found: list[Json] = []
        for name in dict.fromkeys(name for rule in rules for name in rule.series):
            series = drawn.registry.find_series(device.number, name)
            points = NONE if series is None else drawn.sketch.points(series)
            if len(points) and len(found) < MOST_PANELS:
                found.append(self._panel(device, name, [(device.id, points)], list(self._limits(device, name, rules))))
        return found

    def _group_panels(self, findings: Sequence[Finding]) -> list[Json]:
        """The first metric of each of its rules, a line for each device that has it."""
        drawn, found = self._drawn, list[Json]()
        for rule_id in dict.fromkeys(finding.rule for finding in findings):
            rule = drawn.book.rules.get(rule_id)
            metric = rule.metric if rule else None
            if metric is None:
                continue
            devices = [drawn.registry.devices[number] for number in self._devices[rule_id]]
            series = [(device, drawn.registry.find_series(device.number, metric)) for device in devices]
            lines = [(device.id, drawn.sketch.points(number)) for device, number in series if number is not None]
            if lines:
                found.append(self._panel(devices[0], metric, lines[:MOST_LINES], []))
        return found[:MOST_PANELS]

    def _panel(self, device: Device, metric: str, lines: Sequence[tuple[str, Points]], limits: Sequence[Json]) -> Json:
        known = KINDS[device.kind].metrics[metric]
        return {
            "metric": metric,
            "name": known.zh,
            "unit": unit(known.unit),
            "boolean": known.boolean,
            "limits": limits,
            "lines": [{"name": name, "points": self._line(thin(points, self._stretches))} for name, points in lines],
        }

    def _line(self, points: Points) -> list[list[float | None]]:
        found: list[list[float | None]] = []
        for at, value, broken in zip(points.at.tolist(), points.value.tolist(), points.broken.tolist(), strict=True):
            if broken:
                found.append([self.ms(at), None])
            found.append([self.ms(at), float(f"{value:.6g}")])
        return found

    def _limits(self, device: Device, metric: str, rules: Sequence[Rule]) -> Iterator[Json]:
        """Each from one change of a threshold to the next."""
        start, end = self._drawn.start, self._drawn.end
        dated = {d.valid_from for value in device.attributes.values() if isinstance(value, tuple) for d in value}
        cuts = [start, *sorted(at for at in dated if start < at < end), end]
        for priority, name, form in (form for rule in rules for form in _forms(rule)):
            values = [{limit.value for limit in form.limits(device, at) if limit.metric == metric} for at in cuts[:-1]]
            for value in sorted(set().union(*values)):
                for begin, stop in _stretches([value in each for each in values]):
                    yield {"value": value, "name": name, "priority": priority,
                           "from": self.ms(cuts[begin]), "to": self.ms(cuts[stop])}  # fmt: skip

    def _areas(self, findings: Sequence[Finding], against: bool) -> list[Json]:
        """What to shade; where there are more than can be told apart, those of a rule that nearly touch are one."""
        drawn, found = self._drawn, list[Json]()
        near = (drawn.end - drawn.start) // MOST_SHADED if len(findings) > MOST_SHADED else -1
        last: dict[tuple[str, str], tuple[int, Json]] = {}
        for finding in findings:
            for begin, end, priority in _severities(finding, drawn.end):
                before, area = last.get((finding.rule, priority), (0, None))
                if area is None or begin - before > near:
                    rule = drawn.book.rules.get(finding.rule)
                    area = {"from": self.ms(begin), "metric": finding.metric, "priority": priority, "against": against,
                            "name": rule.name_zh if rule else finding.rule}  # fmt: skip
                    found.append(area)
                area["to"] = self.ms(end)
                last[finding.rule, priority] = end, area
        return found

    def _alarm(self, finding: Finding) -> Json:
        return {
            "rule": finding.rule,
            "name": self._drawn.book.rules[finding.rule].name_zh,
            "priority": [str(priority) for _, priority in finding.priority],
            "from": self.ms(finding.raised_at),
            "to": None if finding.cleared_at is None else self.ms(finding.cleared_at),
            "first": finding.first_value,
            "peak": finding.peak_value,
        }


def _forms(rule: Rule) -> list[tuple[str, str, Rule]]:
    """Severity, name and rule of every level; of a group the condition of a member."""
    if rule.levels:
        return [(str(level.priority), level.name_zh or rule.name_zh, replace(rule, levels=(), when=level.when))
                for level in rule.levels]  # fmt: skip
    when = rule.when if rule.group is None else rule.group.condition
    return [(str(rule.priority), rule.name_zh, replace(rule, when=when))]


def _severities(finding: Finding, standing: int) -> Iterator[tuple[int, int, str]]:
    """From when to when it was how severe; what stands ends at `standing`."""
    end = standing if finding.cleared_at is None else finding.cleared_at
    turns = [*finding.priority, (end, severity(finding))]
    for (begin, priority), (following, _) in pairwise(turns):
        yield begin, following, str(priority)


def _stretches(held: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """First and one past the last of each run that holds."""
    begin: int | None = None
    for place, holds in enumerate([*held, False]):
        if holds and begin is None:
            begin = place
        elif not holds and begin is not None:
            yield begin, place
            begin = None
