"""`replay`: recorded files over the wire; and reading a recorded file for the commands that try rules on it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridwhistle.cli_options import LOCAL_BROKER, AsJson, BrokerUrl, instant, pace_of
from gridwhistle.console_io import NO, OK, answer_json, give_up, progress, say

if TYPE_CHECKING:
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
    columns = read_mapping_file(mapping)
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


def read_mapping_file(path: Path) -> FileMapping:
    """Ends the command with status 2 and every mistake where it cannot be used."""
    from devices.documents import DocumentError
    from simulator.mapping import read_mapping

    try:
        return read_mapping(path.read_text(encoding="utf-8"), str(path))
    except DocumentError as error:
        give_up(f"映射文件有误 The mapping file is wrong:\n{error}")
    except (OSError, UnicodeDecodeError) as error:
        give_up(f"{path}: 无法读取 cannot be read: {error}")


def remark(counts: Counts, impossible: int) -> None:
    """What of the file was left out."""
    if counts.skipped or counts.unreadable or impossible:
        say(
            f"缺值跳过 skipped {counts.skipped} 行 rows；无法读取 unreadable {counts.unreadable}；"
            f"超出传感器量程 beyond what the sensor can measure {impossible} 个 values"
        )
    for problem in counts.problems[:LISTED]:
        say(f"  第 {problem.line} 行 line {problem.line}: {problem.reason}")
