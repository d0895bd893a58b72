"""`test-rules`, `backtest` and `suggest`: rules tried before they run, on stories and on recorded data."""

from __future__ import annotations

from collections.abc import Mapping as Files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from gridwhistle.cli_options import AsJson, Config, Overrides, instant, read_settings
from gridwhistle.console_io import NO, OK, WRONG_USE, answer_json, give_up, progress, say

if TYPE_CHECKING:
    from gridwhistle.backtest_plot import Drawn
    from rules.book import RuleBook

Rules = Annotated[
    Path | None,
    typer.Option("--rules", metavar="FILE|DIR", exists=True,
                 help="规则文件或目录；省略则用运行中的规则\n\nA file or a folder; without it the rules that run."),
]  # fmt: skip
Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE.csv", exists=True, dir_okay=False, help="历史数据\n\nRecorded data."),
]  # fmt: skip
Mapping = Annotated[
    Path | None,
    typer.Option("--mapping", metavar="FILE.yaml", exists=True, dir_okay=False,
                 help="映射文件\n\nWhich columns are time, device and metrics."),
]  # fmt: skip
Town = Annotated[
    Path | None,
    typer.Option("--town", metavar="DIR", exists=True, file_okay=False,
                 help="乡镇目录：设备的网格、属性、时区、日历\n\nTown: grids, attributes, zone and calendar."),
]  # fmt: skip
Start = Annotated[
    str | None, typer.Option("--from", metavar="T", help="运行中的系统：从此刻起\n\nOf the running service, from here.")
]
End = Annotated[str | None, typer.Option("--to", metavar="T", help="到此刻前\n\nBefore this instant.")]
Devices = Annotated[
    list[str] | None, typer.Option("--device", metavar="D", help="仅这些设备，可重复\n\nThese alone; repeatable.")
]


def check_scenarios(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|DIR", exists=True, help="场景文件或目录\n\nScenario files, or folders of them."),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """用场景测试规则：该告的告了，不该告的没告。

    Run scenario files through the engine that runs live. Everything
    expected must happen at its instant and nothing else may: exit
    status 1 on any difference. What may stand in a scenario is in
    docs/trying-rules.md.

    [bold]gridwhistle test-rules scenarios/high-water.yaml[/bold]

    [bold]gridwhistle test-rules scenarios --json | jq .failed[/bold]
    """
    from gridwhistle.scenario_files import read_scenarios
    from gridwhistle.scenario_output import as_json as to_json
    from gridwhistle.scenario_output import print_played
    from rules.scenario import play

    try:
        scenarios, mistakes = read_scenarios(places)
    except OSError as error:
        give_up(str(error))
    if mistakes:
        give_up("场景有误 The scenarios are wrong:\n" + "\n".join(map(str, mistakes)), WRONG_USE)
    if not scenarios:
        give_up("没有找到场景 no scenario found", WRONG_USE)
    played = []
    with progress("测试 testing") as done:
        for scenario in scenarios:
            played.append(play(scenario))
            done(len(played) / len(scenarios))
    if as_json:
        answer_json(to_json(played))
    else:
        print_played(played)
    raise typer.Exit(OK if all(each.ok for each in played) else NO)


def backtest(  # noqa: PLR0913 - its options
    *,
    rules: Rules = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="FILE|DIR|running",
                     help="与之比较的规则\n\nRules to compare with; running: those of the service."),
    ] = None,
    csv: Csv = None,
    mapping: Mapping = None,
    town: Town = None,
    start: Start = None,
    end: End = None,
    devices: Devices = None,
    config: Config = None,
    overrides: Overrides = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.html", dir_okay=False, help="画成图表\n\nDraw it: one page, no network."),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """用历史数据试规则：当时会告哪些警，值班是否受得了。

    Which alarms would these rules have raised on a recorded file, or on
    the history of the running service? Every alarm, and a review by
    EEMUA 191 and ISA-18.2: alarms per day and in ten minutes, chattering,
    fleeting and stale ones, the ten worst rules. With [bold]--against[/bold], what
    a change gains, loses and moves. The engine is the one that runs; old
    readings are judged by their own time.

    [bold]gridwhistle backtest --rules rules --csv levels.csv --mapping levels.yaml[/bold]

    [bold]gridwhistle backtest --rules rules --csv levels.csv --mapping levels.yaml --json | jq .review[/bold]

    [bold]gridwhistle backtest --rules rules --against rules --csv levels.csv --mapping levels.yaml --plot a.html[/bold]

    [bold]gridwhistle backtest --rules new --against running --from 2025-06-01T00:00Z --to 2025-07-01T00:00Z[/bold]
    """
    if csv is None:
        span = _span(mapping, town, start, end)
        from gridwhistle.trying_running import RUNNING, backtest_served

        answer, drawn = backtest_served(
            read_settings(config, overrides), _files(rules) if rules else None,
            RUNNING if against == RUNNING else _files(Path(against)) if against else None,
            span=span, devices=devices, draw=plot is not None,
        )  # fmt: skip
    else:
        if rules is None or mapping is None or start or end or devices or against == "running":
            _wrong_options()
        books = [_read_rules(place) for place in (rules, Path(against) if against else None) if place is not None]
        from gridwhistle.trying_recorded import backtest_recorded, open_recorded

        answer, drawn = backtest_recorded(open_recorded(csv, mapping, town), books, draw=plot is not None)
    if plot is not None and drawn is not None:
        _draw(plot, drawn)
    _tell_backtest(answer, as_json=as_json)


def suggest(  # noqa: PLR0913 - its options
    *,
    rule: Annotated[str, typer.Option("--rule", metavar="R", help="规则的 id\n\nThe rule's id.")],
    rules: Rules = None,
    csv: Csv = None,
    mapping: Mapping = None,
    town: Town = None,
    start: Start = None,
    end: End = None,
    devices: Devices = None,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """规则抖动时：持续时间或回差至少多大才安静，代价几何。

    The smallest [bold]for[/bold] and the smallest band (in [bold]clear[/bold]) that remove the
    chattering of a rule: three times within a minute, or within ten
    reports where they come more rarely. With what it would have cost in
    delay and in alarms, and the YAML to write. On a recorded file, or on
    the history of the running service, whose rule it is then.

    [bold]gridwhistle suggest --rules rules --rule polder-inside-high --csv levels.csv --mapping levels.yaml[/bold]

    [bold]gridwhistle suggest --rule polder-inside-high --from 2025-06-01T00:00Z --to 2025-07-01T00:00Z[/bold]
    """
    if csv is None:
        if rules is not None:
            _wrong_options()
        span = _span(mapping, town, start, end)
        from gridwhistle.trying_running import suggest_served

        found = suggest_served(read_settings(config, overrides), rule, span=span, devices=devices)
    else:
        if rules is None or mapping is None or start or end or devices:
            _wrong_options()
        from gridwhistle.trying_recorded import suggest_recorded

        found = suggest_recorded(_read_rules(rules), rule, csv, mapping, town)
    if as_json:
        answer_json(found)
    else:
        from gridwhistle.backtest_output import print_suggestion

        print_suggestion(found)


def _span(mapping: Path | None, town: Path | None, start: str | None, end: str | None) -> tuple[int, int]:
    first, last = instant(start), instant(end)
    if mapping is not None or town is not None or first is None or last is None:
        _wrong_options()
    return first, last


def _wrong_options() -> NoReturn:
    give_up(
        "请二选一：--rules、--csv 与 --mapping（历史文件），或 --from 与 --to（运行中的系统）\n"
        "either --rules, --csv and --mapping (a recorded file), or --from and --to (the running service)"
    )


def _tell_backtest(answer: Files[str, Any], *, as_json: bool) -> None:
    if as_json:
        answer_json(answer)
        return
    from gridwhistle.backtest_output import print_answer

    for note in answer.get("notes") or ():
        say(f"{note['zh']} {note['en']}")
    print_answer(answer)


def _draw(plot: Path, drawn: Drawn) -> None:
    from gridwhistle.backtest_plot import write_plot

    try:
        say(f"图表 chart: {plot}，{write_plot(plot, drawn)} 个设备或成组 devices and groups")
    except OSError as error:
        give_up(f"{plot}: 无法写入 cannot be written: {error}")


def _files(place: Path) -> Files[str, str]:
    from devices.documents import DocumentError
    from gridwhistle.folders import read_rule_files

    if not place.exists():
        give_up(f"{place}: 没有这个文件或目录 no such file or folder")
    try:
        return read_rule_files(place)
    except DocumentError as error:
        give_up(f"规则有误 The rules are wrong:\n{error}")
    except OSError as error:
        give_up(f"{place}: 无法读取 cannot be read: {error}")


def _read_rules(place: Path) -> RuleBook:
    from devices.documents import DocumentError
    from rules.book import load

    try:
        return load(_files(place))
    except DocumentError as error:
        give_up(f"规则有误 The rules are wrong:\n{error}")
