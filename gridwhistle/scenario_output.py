"""What `test-rules` says: each scenario by name, and where one differs, what was expected beside what happened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from devices.instants import format_duration, from_iso, to_iso
from gridwhistle.console_io import console

if TYPE_CHECKING:
    from rules.outcome import Transition
    from rules.scenario import Expected, Line, Played, Scenario

_SIGNS = {"matched": " ", "missing": "−", "unexpected": "+"}
_WORDS = {"missing": "缺：未发生 missing: it did not happen", "unexpected": "多：未预期 unexpected: nobody expected it"}
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


def as_json(played: Sequence[Played]) -> dict[str, object]:
    failed = sum(not each.ok for each in played)
    return {
        "ok": failed == 0,
        "passed": len(played) - failed,
        "failed": failed,
        "scenarios": [_scenario_json(each) for each in played],
    }


def _scenario_json(played: Played) -> dict[str, object]:
    scenario = played.scenario
    return {
        "name": scenario.name,
        "file": scenario.file,
        "line": scenario.line,
        "ok": played.ok,
        "start": to_iso(scenario.start),
        "end": to_iso(scenario.end),
        "edges": [_line_json(scenario, line) for line in played.lines],
        "impossible": played.impossible,
        "stale": played.stale,
    }


def _line_json(scenario: Scenario, line: Line) -> dict[str, object]:
    from rules.scenario import priority_of, why_missing

    expected, happened = line.expected, line.happened
    edge = happened or expected
    assert edge is not None
    priority = priority_of(scenario, happened) if happened else expected.priority if expected else None
    return {
        "status": str(line.status),
        "rule": edge.rule,
        "edge": str(edge.edge),
        "device": edge.device,
        "priority": None if priority is None else str(priority),
        "at": to_iso(line.at),
        "after": format_duration(line.at - scenario.start),
        "line": None if expected is None else expected.line,
        "reason": None if happened is None else dict(happened.reason),
        "why": [{"zh": zh, "en": en} for zh, en in why_missing(scenario, line)] if happened is None else [],
    }


def print_played(played: Sequence[Played]) -> None:
    """One line a scenario that passed; one that did not is shown edge by edge in order of time."""
    out = console()
    for each in played:
        scenario = each.scenario
        sign = "[green]✓[/green]" if each.ok else "[bold red]✗[/bold red]"
        out.print(f"{sign} {_plain(scenario.name)}  [dim]{_plain(scenario.file)}:{scenario.line}[/dim]")
        if not each.ok:
            for line in _difference(each):
                out.print(line)
    failed = sum(not each.ok for each in played)
    out.print(f"{len(played)} 个场景 scenarios：{len(played) - failed} 通过 passed，{failed} 不符 failed")


def _difference(played: Played) -> Iterator[str]:
    """Expected beside happened; what is wrong with a line stands below it."""
    from rich.cells import cell_len

    scenario = played.scenario
    rows = [("", "时刻 at", "应有 expected", "实际 happened")]
    rows += [
        (
            _SIGNS[str(line.status)],
            format_duration(line.at - scenario.start),
            _expected(line.expected) if line.expected else "",
            _happened(scenario, line.happened) if line.happened else "",
        )
        for line in played.lines
    ]
    widths = [max(cell_len(row[k]) for row in rows) for k in range(4)]
    for place, row in enumerate(rows):
        cells = "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        wrong = place > 0 and played.lines[place - 1].status != "matched"
        text = f"  {_plain(cells.rstrip())}"
        yield f"[red]{text}[/red]" if wrong else f"[dim]{text}[/dim]" if place == 0 else text
        if wrong:
            line = played.lines[place - 1]
            for told in (_WORDS[str(line.status)], *_why(line, scenario)):
                yield _plain(" " * (widths[0] + widths[1] + 6) + told)
    if played.impossible or played.stale:
        yield (
            f"  与运行时一样未计入 left out, as the service does: {played.impossible} 个超出量程 beyond its sensor, "
            f"{played.stale} 个不新于已有 not newer than what was known"
        )


def _expected(edge: Expected) -> str:
    return _edge(str(edge.edge), edge.rule, edge.device, edge.priority)


def _happened(scenario: Scenario, edge: Transition) -> str:
    from rules.scenario import priority_of

    priority = None if edge.edge == "cleared" else priority_of(scenario, edge)
    return _edge(str(edge.edge), edge.rule, edge.device, priority)


def _edge(edge: str, rule: str, device: str | None, priority: object) -> str:
    words = {"raised": "触发 raised", "cleared": "解除 cleared", "changed": "变级 changed"}
    return " ".join(str(part) for part in (words[edge], rule, device, priority) if part is not None)


def _why(line: Line, scenario: Scenario) -> list[str]:
    """Of the unexpected what the rule saw, of the missing why it did not, by the scenario's own time."""
    from rules.scenario import why_missing

    if line.happened is None:
        return [_INSTANT.sub(partial(_after, scenario), f"{zh} {en}") for zh, en in why_missing(scenario, line)]
    values = line.happened.reason.get("values")
    if line.expected is not None or not isinstance(values, Mapping):
        return []
    return [", ".join(f"{name} = {'未知 unknown' if value is None else value}" for name, value in values.items())]


def _after(scenario: Scenario, found: re.Match[str]) -> str:
    after = from_iso(found[0]) - scenario.start
    return format_duration(after) if after >= 0 else found[0]


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
