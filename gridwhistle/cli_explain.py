"""`explain`: why a rule fired or stayed silent, asked of the running installation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gridwhistle.cli_options import AsJson, Config, Overrides, instant, read_settings
from gridwhistle.console_io import NO, answer_json, answer_table, give_up

Json = Mapping[str, Any]
_MARKS = {True: "✓", False: "✗", None: "?"}
_STATES = {
    "firing": "已触发 firing", "pending": "等待持续 pending", "normal": "未触发 normal",
    "not_judged": "未判断 not judged",
}  # fmt: skip
_SOURCES = {
    "live": "运行中的引擎 the engine that runs",
    "history": "按已存读数重算 judged again from stored readings",
    "none": "仅有记录 records only",
}


def explain(
    alarm: Annotated[
        int | None, typer.Argument(metavar="ALARM", min=1, help="告警编号\n\nNumber of the alarm.", show_default=False)
    ] = None,
    *,
    rule: Annotated[str | None, typer.Option("--rule", metavar="R", help="规则\n\nId of the rule.")] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="D", help="设备或组\n\nA device, or a group such as grid:east.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="T", help="时刻，默认现在\n\nInstant; default: now.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """为何告警，或为何没有告警。

    Why did a rule fire, or why did it stay silent? The readings it used
    and how old they were, the value of every part of its condition, what
    it waited for, and what stood in the records. For an alarm: when it
    was raised, and now. The past is judged again from stored readings.

    [bold]gridwhistle explain 17 --config gridwhistle.toml[/bold]

    [bold]gridwhistle explain --rule polder-inside-high --device ps-1 --at 2025-07-01T05:00:00+08:00[/bold]
    """
    by_rule = rule is not None or device is not None
    if (alarm is None) != by_rule or (by_rule and (rule is None or device is None)) or (alarm and at is not None):
        give_up("请给出告警编号，或 --rule 与 --device give the number of an alarm, or --rule and --device")
    when, settings = instant(at), read_settings(config, overrides)
    from gridwhistle.reach import NotDone, WrongRequest
    from gridwhistle.remote_rules import explain_alarm, explain_rule

    try:
        if alarm is not None:
            found = explain_alarm(settings.data_dir, alarm)
        else:
            found = explain_rule(settings.data_dir, rule=rule or "", device=device or "", at=when)
    except WrongRequest as error:
        give_up(str(error))
    except NotDone as error:
        give_up(str(error), NO)
    if as_json:
        answer_json(found)
    elif alarm is None:
        _print(found)
    else:
        if found["raised"] is not None:
            print("触发时 When it was raised")
            _print(found["raised"])
            print()
        print("现在 Now")
        _print(found["now"])


def _print(found: Json) -> None:
    state = _STATES.get(found["state"] or "", "")
    print(f"{found['rule']} · {found['device']} · {found['at']} · {_SOURCES[found['source']]}")
    print(f"状态 state: {state}".rstrip(": "))
    for why in found["why"]:
        print(f"  - {why['zh']}")
        print(f"    {why['en']}")
    if found["parts"]:
        print("条件 condition")
    for part in found["parts"]:
        print(f"  {'  ' * part['depth']}{_value(part)}")
    if found["since"] is not None:
        print(f"自 since {found['since']}，已持续 held {found['held'] or '—'}，须持续 for {found['for']}")
    if found["readings"]:
        answer_table(
            "读数 readings", tuple(_READING), [[_cell(r[n]) for n in _READING.values()] for r in found["readings"]]
        )
    if found["left_out"]:
        rows = [[_cell(one[name]) for name in _LEFT_OUT.values()] for one in found["left_out"]]
        answer_table("未参与判断 not judged", tuple(_LEFT_OUT), rows)


_READING = {
    "指标 metric": "metric", "值 value": "value", "测量于 measured": "measured_at", "已过 age": "age",
    "最久 max age": "max_age", "质量 quality": "quality", "有效 counts": "known",
}  # fmt: skip
_LEFT_OUT = {"指标 metric": "metric", "值 value": "value", "测量于 measured": "measured_at", "质量 quality": "quality"}


def _value(part: Json) -> str:
    value = part["value"]
    if value is None or isinstance(value, bool):
        return f"{_MARKS[value]} {part['text']}"
    return f"{part['text']} = {value:g}" if isinstance(value, (int, float)) else f"{part['text']} = {value}"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "是 yes" if value else "否 no"
    return "—" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
