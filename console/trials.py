"""What a trial found, as a page shows it: numbers beside each other, what is gained, lost and moved, a chart."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alerts.refusals import NotFound
from console.charts import MOST_POINTS, charted
from console.places import device_name
from console.review import Measure, measures
from console.visits import SignedVisit
from console.why import name_of
from console.words import metric_name, metric_of, quantity, unit
from devices.instants import MINUTE
from devices.kinds import KINDS
from flow.trying import Trial, Tried
from rules.backtest import Finding
from store.readings import Fn

MOST_LISTED = 200
_MOST_CHARTED = 100


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One alarm; `before` is the same one by the rules that run, where it was moved. `ended` None: it stands."""

    what: str
    rule: str
    name: str
    device: str
    device_name: str
    at: int
    ended: int | None
    peak: str
    before_at: int | None = None
    before_ended: int | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """The text of one rule for its file; `difference` against the one that runs, empty where it is new."""

    rule: str
    file: str
    text: str
    difference: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`rows` are at most MOST_LISTED of what differs, `listed` of all alarms of the tried rules; `charts` are (device,
    name, metrics) to draw, those with a difference first."""

    start: int
    end: int
    readings: int
    measures: Sequence[Measure]
    same: int
    gained: int
    lost: int
    moved: int
    rows: Sequence[FoundRow]
    alarms: int
    listed: Sequence[FoundRow]
    charts: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]
    changed: Sequence[Changed]
    notes: Sequence[str]


def outcome_of(visit: SignedVisit, trial: Trial, tried: Tried) -> Outcome:
    found = tried.comparison
    assert found is not None, "the page always compares"
    rows = [
        *(_row(visit, trial, "gained", f) for f in found.gained),
        *(_row(visit, trial, "lost", f) for f in found.lost),
        *(_row(visit, trial, "moved", m.after, m.before) for m in found.moved),
    ]
    rows.sort(key=lambda row: row.at)
    zh, (gained, lost, moved) = visit.language == "zh", tried.differences
    return Outcome(
        start=tried.start,
        end=tried.end,
        readings=tried.readings,
        measures=measures(visit, tried.review, tried.against),
        same=found.same,
        gained=gained,
        lost=lost,
        moved=moved,
        rows=rows[:MOST_LISTED],
        alarms=tried.alarms_count,
        listed=[_row(visit, trial, "", f) for f in tried.alarms[:MOST_LISTED]],
        charts=_charts(visit, trial, [row.device for row in rows]),
        changed=list(_changed(visit, trial)),
        notes=[chinese if zh else english for chinese, english in tried.notes],
    )


def shaded(visit: SignedVisit, trial: Trial, tried: Tried, device_id: str, metric: str) -> dict[str, object]:
    """JSON for trial.js: points [ms, value], limits of both, spans of the alarms of both [start ms, end ms]. Raises
    NotFound for what was not tried or may not be drawn."""
    here = visit.installation
    device = here.registry.get(device_id)
    number = None if device is None else here.registry.find_series(device.number, metric)
    if device is None or number is None or device_id not in tried.devices or not charted(device, [metric]):
        raise NotFound("no_such_series", "没有这条曲线", "there is no such series")
    known = metric_of(device.kind, metric)
    limits = [
        {"value": limit.value, "which": which}
        for which, book in zip(("new", "old"), trial.books, strict=True)
        for rule in book.rules.values()
        for limit in rule.limits(device, tried.end)
        if limit.metric == metric
    ]
    old = [] if tried.comparison is None else _before(tried)
    return {
        "name": metric_name(device.kind, metric, visit.language),
        "unit": unit(known.unit) if known else "",
        "boolean": bool(known and known.boolean),
        "start": tried.start // 1000,
        "end": tried.end // 1000,
        "points": _points(visit, trial, tried, number, metric),
        "limits": limits,
        "new": _spans(tried, tried.alarms, device_id),
        "old": _spans(tried, old, device_id),
    }


def _before(tried: Tried) -> list[Finding]:
    """Alarms of the rules that run: those lost, those moved as they were, and those that stay the same."""
    found = tried.comparison
    assert found is not None
    differ = {id(f) for f in found.gained} | {id(m.after) for m in found.moved}
    same = [f for f in tried.alarms if id(f) not in differ]
    return [*same, *found.lost, *(m.before for m in found.moved)]


def _spans(tried: Tried, found: Iterable[Finding], device: str) -> list[tuple[int, int]]:
    ends = ((f.raised_at, tried.end if f.cleared_at is None else f.cleared_at) for f in found if f.device == device)
    return sorted((max(start, tried.start) // 1000, end // 1000) for start, end in ends)


def _points(visit: SignedVisit, trial: Trial, tried: Tried, number: int, metric: str) -> list[tuple[int, float]]:
    readings = visit.installation.readings
    found = readings.range(number, tried.start, tried.end, MOST_POINTS)
    at, value = found.measured_at, found.value
    if len(at) == MOST_POINTS:
        # The worse of each bucket: a peak must not be averaged away.
        rises = all(r.peak_is_maximum for r in trial.books[0].rules.values() if r.metric == metric)
        every = max(MINUTE, (tried.end - tried.start) // 1000)
        at, value = readings.aggregate(number, tried.start, tried.end, every, Fn.MAX if rises else Fn.MIN)
    return [(int(a) // 1000, float(v)) for a, v in zip(at, value, strict=True)]


def _row(visit: SignedVisit, trial: Trial, what: str, found: Finding, before: Finding | None = None) -> FoundRow:
    device = visit.installation.registry.get(found.device)
    rule = next((book.rules[found.rule] for book in trial.books if found.rule in book.rules), None)
    known = metric_of(device.kind, found.metric) if device is not None and found.metric is not None else None
    peak = "" if found.peak_value is None or (known and known.boolean) else quantity(
        found.peak_value, known.unit if known else "", visit.language
    )  # fmt: skip
    name = found.device if device is None else device_name(visit, device.id, device.name, device.kind)
    return FoundRow(
        what, found.rule, found.rule if rule is None else name_of(visit, rule), found.device, name, found.raised_at,
        found.cleared_at, peak, None if before is None else before.raised_at,
        None if before is None else before.cleared_at,
    )  # fmt: skip


def _charts(
    visit: SignedVisit, trial: Trial, differing: Sequence[str]
) -> list[tuple[str, str, Sequence[tuple[str, str]]]]:  # fmt: skip
    """Devices with metrics that the rules read and that may be drawn."""
    read = {name for book in trial.books for rule in book.rules.values() for name in rule.series}
    first = dict.fromkeys(differing)
    devices = sorted(trial.history.registry.devices, key=lambda device: (device.id not in first, device.id))
    found: list[tuple[str, str, Sequence[tuple[str, str]]]] = []
    for device in devices[:_MOST_CHARTED]:
        metrics = [name for name in charted(device, list(KINDS[device.kind].metrics)) if name in read]
        if metrics:
            shown = device_name(visit, device.id, device.name, device.kind)
            found.append((device.id, shown, [(m, metric_name(device.kind, m, visit.language)) for m in metrics]))
    return found


def _changed(visit: SignedVisit, trial: Trial) -> Iterable[Changed]:
    running = visit.installation.rulebook()
    for rule in trial.books[0].rules.values():
        old = running.rules.get(rule.id)
        file = "" if old is None else next((name for name, text in running.files.items() if old.text in text), "")
        lines = difflib.unified_diff(
            [] if old is None else _lines(old.text), _lines(rule.text), lineterm="", n=99
        )  # fmt: skip
        yield Changed(rule.id, file, rule.text, "" if old is None else "\n".join(list(lines)[3:]))


def _lines(text: str) -> list[str]:
    """Without the indent of the list it stands in: that is the file's business."""
    lines = text.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[indent:] for line in lines]
