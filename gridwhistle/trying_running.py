"""Rules tried on the running installation, and its series drawn: all of it asked of the service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from textwrap import dedent, indent
from typing import Any, Literal

import httpx
import numpy as np

from devices.attributes import from_json
from devices.documents import DocumentError
from devices.instants import SECOND, format_duration, from_iso, to_iso
from devices.kinds import KINDS
from devices.registry import Device, Registry
from gridwhistle.backtest_plot import LINE_POINTS, Drawn
from gridwhistle.backtest_sketch import Sketch
from gridwhistle.cli_options import read_town_folder
from gridwhistle.console_io import NO, give_up, progress
from gridwhistle.reach import NotDone, WrongRules, ask, open_running
from gridwhistle.remote_rules import backtest_running, suggest_running
from gridwhistle.settings import DEFAULT_ZONE, Settings
from rules.backtest import Finding
from rules.book import RuleBook, load
from rules.outcome import Rows
from rules.review import finding_of
from rules.rule import Rule

Json = dict[str, Any]
Running = Literal["running"]
RUNNING: Running = "running"
# Devices whose series are fetched for a chart, the most alarmed first: each metric is two questions to the service.
MOST_DRAWN = 20


def backtest_served(
    settings: Settings,
    rules: Mapping[str, str] | None,
    against: Mapping[str, str] | Running | None,
    *,
    span: tuple[int, int],
    devices: Sequence[str] | None,
    draw: bool,
) -> tuple[Json, Drawn | None]:
    """The answer as the service gives it, and what a chart is drawn of. Ends the command where there is none."""
    start, end = span
    try:
        with progress("回测 backtesting") as done:
            answer = backtest_running(
                settings.data_dir, rules=rules, against=against, start=start, end=end, devices=devices, told=done
            )
        if not draw:
            return answer, None
        with open_running(settings.data_dir) as client:
            return answer, _drawn(client, answer, rules, _zone(settings))
    except WrongRules as error:
        give_up(f"规则有误 The rules are wrong:\n{error}")
    except NotDone as error:
        give_up(str(error), NO)


def suggest_served(
    settings: Settings, rule: str, *, span: tuple[int, int], devices: Sequence[str] | None
) -> Json:  # fmt: skip
    try:
        with progress(f"比较 comparing {rule}") as done:
            return suggest_running(settings.data_dir, rule=rule, start=span[0], end=span[1], devices=devices, told=done)
    except NotDone as error:
        give_up(str(error), NO)


def _zone(settings: Settings) -> str:
    if settings.site.zone or settings.town is None:
        return settings.site.zone or DEFAULT_ZONE
    return read_town_folder(settings.town).zone


def _drawn(client: httpx.Client, answer: Json, rules: Mapping[str, str] | None, zone: str) -> Drawn:
    book = load(rules) if rules is not None else _running_book(client)
    registry = _registry(client, answer)
    names = list(dict.fromkeys(name for rule in book.rules.values() for name in rule.series))
    for device in registry.devices:
        for name in names:
            if name in KINDS[device.kind].metrics:
                registry.series(device.number, name)
    start, end = from_iso(answer["from"]), from_iso(answer["to"])
    sketch = Sketch(registry, frozenset(names))
    with progress("取数 fetching series") as done:
        for number in range(len(registry.series_metric)):
            sketch.take(_fetched(client, registry, number, (start, end)))
            done((number + 1) / len(registry.series_metric))
    return Drawn(
        f"{answer['from']} … {answer['to']}", book, registry, _grid_tree(client), sketch,
        [finding_of(alarm) for alarm in answer["alarms"]], _against(answer), start, end, zone,
    )  # fmt: skip


def _registry(client: httpx.Client, answer: Json) -> Registry:
    """The most alarmed devices of the answer."""
    count = Counter(alarm["device"] for alarm in answer["alarms"])
    registry = Registry()
    for name in sorted(answer["devices"], key=lambda name: (-count[name], name))[:MOST_DRAWN]:
        told = ask(client, "GET", f"/api/v1/devices/{name}")
        known = {key: value for key, value in told["attributes"].items() if value is not None}
        registry.add(
            Device(
                number=0, id=told["id"], site=told["site"], kind=told["kind"], name=told["name"], grid=told["grid"],
                attributes=from_json(known | told["dated"]), tags=frozenset(told["tags"]),
                interval_s=told["interval_s"],
            )
        )  # fmt: skip
    return registry


def _fetched(client: httpx.Client, registry: Registry, series: int, span: tuple[int, int]) -> Rows:
    """The least and the most of every bucket, in order of time; nothing of a series that may not be seen."""
    start, end = span
    device = registry.devices[registry.series_device[series]]
    width = max(SECOND, (end - start) // (LINE_POINTS // 2) // SECOND * SECOND)
    found: dict[tuple[int, float], None] = {}
    for fold in ("min", "max"):
        query = {"device": device.id, "metric": registry.series_metric[series], "from": to_iso(start),
                 "to": to_iso(end), "every": format_duration(width), "fn": fold}  # fmt: skip
        try:
            for page in _pages(client, "/api/v1/readings", query):
                found.update({(from_iso(point["at"]), point["value"]): None for point in page})
        except NotDone:
            return _rows(series, device.number, [])
    return _rows(series, device.number, _apart(sorted(found), width))


def _apart(points: Sequence[tuple[int, float]], width: int) -> list[tuple[int, float]]:
    """Of a bucket the least stands at its beginning, the most in its middle: no two at one instant."""
    return [
        (at + (width // 2 if place and points[place - 1][0] == at else 0), value)
        for place, (at, value) in enumerate(points)
    ]


def _rows(series: int, device: int, points: Sequence[tuple[int, float]]) -> Rows:
    size = len(points)
    return Rows(
        np.full(size, series, np.int32),
        np.array([at for at, _ in points], np.int64),
        np.array([value for _, value in points], np.float64),
        np.arange(size, dtype=np.int32),
        np.full(size, device, np.int32),
    )


def _pages(client: httpx.Client, path: str, query: Mapping[str, str]) -> Iterator[list[Json]]:
    asked = dict(query)
    while True:
        page = ask(client, "GET", path, query=asked)
        yield page["items"]
        if page["next"] is None:
            return
        asked["cursor"] = page["next"]


def _against(answer: Json) -> list[Finding] | None:
    """The alarms of the other rules: those of these that are the same in both, and what the comparison names."""
    told = answer["comparison"]
    if told is None:
        return None
    new = {_key(each) for each in [*told["gained"], *(moved["after"] for moved in told["moved"])]}
    same = [alarm for alarm in answer["alarms"] if _key(alarm) not in new]
    before = [*same, *told["lost"], *(moved["before"] for moved in told["moved"])]
    return sorted((finding_of(alarm) for alarm in before), key=lambda f: (f.raised_at, f.rule, f.device))


def _key(alarm: Json) -> tuple[str, str, str]:
    return alarm["rule"], alarm["device"], alarm["raised_at"]


def _running_book(client: httpx.Client) -> RuleBook:
    """What the service says of its rules; one that cannot be read apart from its file has no limits on the chart."""
    found: dict[str, Rule] = {}
    for page in _pages(client, "/api/v1/rules", {}):
        for view in page:
            with suppress(DocumentError):
                found |= load({view["id"]: "rules:\n" + indent(dedent(view["text"]), "  ") + "\n"}).rules
    return RuleBook(found, {})


def _grid_tree(client: httpx.Client) -> dict[str, frozenset[str]]:
    parents = {grid["id"]: grid["parent"] for page in _pages(client, "/api/v1/grids", {}) for grid in page}
    tree: dict[str, set[str]] = {grid: {grid} for grid in parents}
    for grid, parent in parents.items():
        above = parent
        while above is not None:
            tree[above].add(grid)
            above = parents[above]
    return {grid: frozenset(below) for grid, below in tree.items()}
