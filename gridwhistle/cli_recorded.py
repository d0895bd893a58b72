"""`replay` and `backtest`: recorded files, over the wire or straight through the rules."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridwhistle.cli_options import LOCAL_BROKER, AsJson, BrokerUrl, instant, pace_of, read_town_and_site
from gridwhistle.console_io import NO, OK, answer_json, answer_table, give_up, progress, say

if TYPE_CHECKING:
    from rules.backtest import Finding
    from rules.book import RuleBook
    from simulator.mapping import FileMapping
    from simulator.recorded import Counts
    from simulator.replay import ReplayReport

Mapping = Annotated[
    Path,
    typer.Option("--mapping", metavar="FILE.yaml", exists=True, dir_okay=False,
                 help="映射文件\n\nWhich columns are time, device and metrics."),
]  # fmt: skip
LISTED = 20


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", exists=True, dir_okay=False, help="历史数据\n\nRecorded data.")
    ],
    *,
    mapping: Mapping,
    broker: BrokerUrl = LOCAL_BROKER,
    speed: Annotated[str, typer.Option(metavar="X|max", help="几倍速\n\nData time over wall time.")] = "max",
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="从此刻起\n\nFrom this instant on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="T", help="到此刻前\n\nBefore this instant.")] = None,
    as_json: AsJson = False,
) -> None:
    """把历史文件当作设备重新发布。

    Publish a recorded file over MQTT as the devices it describes. Says
    how many rows it sent, skipped (missing value) and could not read,
    with line numbers. A service that is to judge old readings by their
    own time runs with [bold]--set clock.source=data --set
    clock.max_behind=none[/bold].

    [bold]gridwhistle replay levels.csv --mapping levels.yaml --broker mqtt://127.0.0.1:1883[/bold]

    [bold]gridwhistle replay levels.csv --mapping levels.yaml --speed 60 --from 2025-09-12T00:00:00Z[/bold]
    """
    pace, first, last = pace_of(speed), instant(start), instant(end)
    columns = _read_mapping(mapping)
    import aiomqtt

    from simulator.recorded import RecordedError
    from simulator.replay import replay as publish

    try:
        with progress(f"重放 replaying {file.name}") as done:
            report = asyncio.run(
                publish(broker, columns, file, speed=pace, start=first, end=last, progress=lambda r: done(r.progress))
            )
    except (RecordedError, ValueError, OSError) as error:
        give_up(str(error))
    except aiomqtt.MqttError as error:
        give_up(f"{broker}: 无法连接或连接中断 cannot connect, or the connection was lost: {error}", NO)
    _tell(report, as_json=as_json)
    raise typer.Exit(OK if report.sent else NO)


def _tell(report: ReplayReport, *, as_json: bool) -> None:
    counted: dict[str, Any] = {
        "sent": report.sent, "values": report.values, "skipped": report.skipped, "unreadable": report.unreadable,
        "outside": report.outside, "ambiguous": report.ambiguous, "devices": len(report.devices),
    }  # fmt: skip
    if as_json:
        answer_json(counted | {"problems": [{"line": p.line, "reason": p.reason} for p in report.problems]})
        return
    print(
        f"已发送 sent {report.sent} 行 rows ({report.values} 个读数 values, {len(report.devices)} 台设备 devices)；"
        f"缺值跳过 skipped {report.skipped}；无法读取 unreadable {report.unreadable}；时段外 outside {report.outside}；"
        f"时刻不明确 ambiguous {report.ambiguous}"
    )
    for problem in report.problems[:LISTED]:
        say(f"  第 {problem.line} 行 line {problem.line}: {problem.reason}")
    if report.unreadable > LISTED:
        say(f"  …… 另有 and {report.unreadable - LISTED} 行 more")


def _read_mapping(path: Path) -> FileMapping:
    from devices.documents import DocumentError
    from simulator.mapping import read_mapping

    try:
        return read_mapping(path.read_text(encoding="utf-8"), str(path))
    except DocumentError as error:
        give_up(f"映射文件有误 The mapping file is wrong:\n{error}")
    except (OSError, UnicodeDecodeError) as error:
        give_up(f"{path}: 无法读取 cannot be read: {error}")


def backtest(
    *,
    rules: Annotated[
        Path, typer.Option("--rules", metavar="FILE|DIR", exists=True, help="规则文件或目录\n\nA file or a folder.")
    ],
    csv: Annotated[
        Path, typer.Option("--csv", metavar="FILE.csv", exists=True, dir_okay=False, help="历史数据\n\nRecorded data.")
    ],
    mapping: Mapping,
    town: Annotated[
        Path | None,
        typer.Option(
            "--town", metavar="DIR", exists=True, file_okay=False,
            help="乡镇目录：设备的网格、属性\n\nTown: grids and attributes of the devices.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """用历史数据试规则：当时会告哪些警。

    Which alarms would these rules have raised on this file? The same
    engine as the running service, without a broker. Old readings are
    judged by their own time.

    [bold]gridwhistle backtest --rules rules --csv levels.csv --mapping levels.yaml[/bold]

    [bold]gridwhistle backtest --rules rules --csv levels.csv --mapping levels.yaml --json | jq .alarms[/bold]
    """
    columns, book = _read_mapping(mapping), _read_rules(rules)
    place, site = read_town_and_site(town) if town else (None, None)
    from gridwhistle.recorded_rows import Counted, first_instants, registry_of, rows_of
    from rules.backtest import backtest as judge
    from rules.calendar import Site
    from simulator.recorded import RecordedError, RecordedFile, devices_of

    counted, recorded = Counted(), RecordedFile(columns, csv)
    grids = {grid: place.under(grid) for grid in place.grids} if place else {}
    try:
        first = first_instants(columns, csv) if book.timed else {}
        registry = registry_of(columns, devices_of(columns, csv), place, first)
        with progress(f"回测 backtesting {csv.name}") as done:
            rows = rows_of(recorded, registry, counted, done)
            findings = judge(book, registry, rows, grid_tree=grids, site=site or Site())
    except (RecordedError, OSError) as error:
        give_up(str(error))
    _remark(recorded.counts, counted.impossible)
    alarms = [_alarm(finding) for finding in findings]
    if as_json:
        answer_json({"readings": counted.readings, "alarms": alarms})
        return
    title = f"{counted.readings} 个读数 readings, {len(alarms)} 次告警 alarms"
    answer_table(title, tuple(_COLUMNS), [[alarm[name] for name in _COLUMNS.values()] for alarm in alarms])


_COLUMNS = {
    "规则 rule": "rule", "设备 device": "device", "触发 raised": "raised_at", "解除 cleared": "cleared_at",
    "起始 since": "since", "首值 first": "first_value", "极值 peak": "peak_value",
}  # fmt: skip


def _alarm(finding: Finding) -> dict[str, object]:
    from devices.instants import to_iso

    return {
        "rule": finding.rule,
        "device": finding.device,
        "metric": finding.metric,
        "since": to_iso(finding.since),
        "raised_at": to_iso(finding.raised_at),
        "cleared_at": None if finding.cleared_at is None else to_iso(finding.cleared_at),
        "first_value": finding.first_value,
        "peak_value": finding.peak_value,
    }


def _remark(counts: Counts, impossible: int) -> None:
    if counts.skipped or counts.unreadable or impossible:
        say(
            f"缺值跳过 skipped {counts.skipped} 行 rows；无法读取 unreadable {counts.unreadable}；"
            f"超出传感器量程 beyond what the sensor can measure {impossible} 个 values"
        )
    for problem in counts.problems[:LISTED]:
        say(f"  第 {problem.line} 行 line {problem.line}: {problem.reason}")


def _read_rules(place: Path) -> RuleBook:
    from devices.documents import DocumentError
    from gridwhistle.folders import read_rule_files
    from rules.book import load

    try:
        return load(read_rule_files(place))
    except DocumentError as error:
        give_up(f"规则有误 The rules are wrong:\n{error}")
    except (OSError, UnicodeDecodeError) as error:
        give_up(f"{place}: 无法读取 cannot be read: {error}")
