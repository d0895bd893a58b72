"""What `backtest` and `suggest` say, from plain data: made here from a file, or sent by a running service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridwhistle.console_io import answer_table

if TYPE_CHECKING:
    from rules.backtest import Finding
    from rules.review import Review

Json = Mapping[str, Any]
_ALARM = {
    "规则 rule": "rule", "设备 device": "device", "触发 raised": "raised_at", "解除 cleared": "cleared_at",
    "起始 since": "since", "首值 first": "first_value", "极值 peak": "peak_value", "级别 severity": "severities",
}  # fmt: skip
_SHOWN = 3
_WHAT = {"since": "起始 since", "raised_at": "触发 raised", "cleared_at": "解除 cleared", "severities": "级别 severity"}


def answer_of(
    readings: int, found: Sequence[Finding], reviewed: Review, before: tuple[Sequence[Finding], Review] | None
) -> dict[str, Any]:
    """The answer as JSON: `before` is the run of the other rules."""
    from rules.comparison import compare
    from rules.review import as_json

    return {
        "readings": readings,
        "alarms": [as_json(finding) for finding in found],
        "review": reviewed.as_json(),
        "against_review": None if before is None else before[1].as_json(),
        "comparison": None if before is None else compare(before[0], found).as_json(),
    }


def print_answer(answer: Json) -> None:
    """Every alarm, the review, and what changed against the other rules."""
    alarms = answer["alarms"]
    count = answer.get("alarms_count", len(alarms))
    title = f"{answer['readings']} 个读数 readings, {count} 次告警 alarms"
    answer_table(title, tuple(_ALARM), [_row(alarm) for alarm in alarms])
    print_review(answer["review"], answer.get("against_review"))
    if answer.get("comparison") is not None:
        print_comparison(answer["comparison"])


def _row(alarm: Json) -> list[object]:
    return [_severities(alarm[name]) if name == "severities" else alarm[name] for name in _ALARM.values()]


def _severities(found: Sequence[Json]) -> str:
    """`high`, or of a rule with levels one after the other, as far as a person reads."""
    names = [str(each["priority"]) for each in found]
    return " → ".join([*names[:_SHOWN], f"…（共变级 changed {len(names) - 1} 次）"] if len(names) > _SHOWN else names)


def print_review(review: Json, before: Json | None) -> None:
    """The measures of EEMUA 191 and ISA-18.2 beside what is acceptable for one desk."""
    columns = ["指标 measure", "结果 found", "可接受 acceptable", "说明 about"]
    rows = [list(row) for row in _measures(review)]
    if before is not None:
        columns.insert(1, "原规则 against")
        for row, old in zip(rows, _measures(before), strict=True):
            row.insert(1, old[1])
    answer_table(f"评审 Review  {review['from']} … {review['to']}", columns, rows)
    worst = [[w["rule"], w["alarms"], f"{w['share']:.1%}"] for w in review["worst_rules"]]
    if worst:
        answer_table("告警最多的规则 Worst rules", ("规则 rule", "告警 alarms", "占比 share"), worst)


def _measures(review: Json) -> list[tuple[str, str, str, str]]:
    target, busiest, most = review["targets"], review["busiest_day"], review["worst_ten_minutes"]
    chattering = [f"{c['rule']} {c['device']} ×{c['activations']}" for c in review["chattering"]]
    share = sum(worst["share"] for worst in review["worst_rules"])
    return [
        ("告警 alarms", str(review["alarms"]), "", _notices(review)),
        (
            "每日 per day", f"{review['per_day']:.2f}", f"≤ {target['per_day']:g}",
            f"最多 busiest {busiest['date']}: {busiest['alarms']}" if busiest else "",
        ),
        ("十分钟最多 in 10 min", str(most["alarms"]), f"≤ {target['worst_ten_minutes']:g}", most["at"] or ""),
        ("抖动 chattering (≥ 3 / 1 min)", str(len(chattering)), f"{target['chattering']:g}", _few(chattering)),
        ("短促 fleeting (< 1 min)", str(review["fleeting"]), f"{target['fleeting']:g}", ""),
        ("长期 stale (> 24 h)", str(review["stale"]), f"< {target['stale']:g}", ""),
        ("最多十条占比 ten worst rules", f"{share:.0%}", f"≤ {target['worst_rules']:.0%}", ""),
    ]  # fmt: skip


def _notices(review: Json) -> str:
    count = review["notices"]
    return f"另有提示 and notices: {count}" if count else ""


def _few(names: Sequence[str]) -> str:
    more = f" …（共 {len(names)} 个 in all）" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def print_comparison(comparison: Json) -> None:
    """Gained (+), lost (−) and moved (~), in order of time; of moved ones what differs, before and after."""
    counts = {name: comparison.get(f"{name}_count", len(comparison[name])) for name in ("gained", "lost", "moved")}
    rows: list[tuple[str, list[object]]] = [
        *((alarm["raised_at"], ["+ 新增 gained", *_short(alarm), ""]) for alarm in comparison["gained"]),
        *((alarm["raised_at"], ["− 消失 lost", *_short(alarm), ""]) for alarm in comparison["lost"]),
        *(
            (moved["before"]["raised_at"], ["~ 移动 moved", *_short(moved["after"]), _moved(moved)])
            for moved in comparison["moved"]
        ),
    ]
    title = (
        f"与原规则相比 Against: 不变 same {comparison['same']}，新增 gained {counts['gained']}，"
        f"消失 lost {counts['lost']}，移动 moved {counts['moved']}"
    )
    columns = ("", "规则 rule", "设备 device", "触发 raised", "解除 cleared", "原为 before")
    answer_table(title, columns, [row for _, row in sorted(rows, key=lambda each: each[0])])


def _short(alarm: Json) -> list[object]:
    return [alarm[name] for name in ("rule", "device", "raised_at", "cleared_at")]


def _moved(moved: Json) -> str:
    before = moved["before"]
    shown = {
        name: _severities(before[name]) if name == "severities" else before[name] or "未解除 stands"
        for name in moved["what"]
    }
    return ", ".join(f"{_WHAT[name]} {value}" for name, value in shown.items())


def print_suggestion(suggestion: Json) -> None:
    """What quietens the rule, its cost, and the YAML to write, which is also valid for pasting."""
    burst = f"{suggestion['times']} 次 / {suggestion['within']}"
    if not suggestion["chattering"]:
        print(f"{suggestion['rule']}：{suggestion['alarms']} 次告警 alarms，无抖动 no chattering (≥ {burst})")
        return
    rows = [[c["device"], c["activations"]] for c in suggestion["chattering"]]
    title = f"{suggestion['rule']}：{suggestion['alarms']} 次告警 alarms，抖动 chattering (≥ {burst})"
    answer_table(title, ("设备 device", "抖动次数 activations"), rows)
    for proposal in suggestion["proposals"]:
        _print_proposal(proposal)
    for key, why in suggestion["why_not"].items():
        print(f"{key}: 无建议 no proposal：{why}")


def _print_proposal(proposal: Json) -> None:
    cost = proposal["cost"]
    longest = cost["lost_longest"] or "仍未解除 still stands"
    lost = f"，其中最长 the longest of {longest}" if cost["lost"] else ""
    print(
        f"\n{proposal['key']}: {proposal['value']}\n"
        f"  告警 alarms {cost['alarms']}；不再触发 not raised any more {cost['lost']}{lost}\n"
        f"  触发推迟 raised later by：中位 median {cost['median_delay']}，最多 at most {cost['max_delay']}\n"
    )
    print("\n".join(f"    {line}" for line in proposal["yaml"].splitlines()))
