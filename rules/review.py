"""What a run of the rules would have meant for the duty desk: how many alarms, how fast, which of them are nuisance.

Definitions and targets are those of EEMUA 191 and ISA-18.2, for one desk. A *notice* asks nobody to do anything: it is
counted apart and takes no part in any rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from devices.instants import DAY, HOUR, MINUTE, from_iso, to_datetime, to_iso
from rules.backtest import Finding
from rules.rule import Priority

RATE_WINDOW = 10 * MINUTE
CHATTER_TIMES, CHATTER_WITHIN = 3, MINUTE
FLEETING_BELOW = MINUTE
STALE_ABOVE = 24 * HOUR
WORST_RULES = 10
# Very likely acceptable for one operator: EEMUA 191, ISA-18.2 table of performance metrics. `worst_rules` is the share
# of the ten, the others are numbers.
TARGETS: Mapping[str, float] = {
    "per_day": 150, "worst_ten_minutes": 10, "chattering": 0, "fleeting": 0, "stale": 5, "worst_rules": 0.05,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chattering:
    """One alarm that was raised at least CHATTER_TIMES within CHATTER_WITHIN, both ends included: `activations` of
    such bursts, the first of them at `first_at`."""

    rule: str
    device: str
    activations: int
    first_at: int


@dataclass(frozen=True, slots=True)
class Share:
    """A rule and what part of all alarms is its (0 to 1)."""

    rule: str
    alarms: int
    share: float


@dataclass(frozen=True, slots=True)
class Review:
    """Of the time from `start` to `end`. `per_day` is the mean, a part of a day counted as one; `days` are local dates
    with at least one alarm. `worst_ten_minutes` is the most in any (t − 10 min, t], first at `worst_ten_minutes_at`.
    `fleeting`: cleared in less than a minute. `stale`: stood for more than 24 h, those that stand at `end` too."""

    start: int
    end: int
    alarms: int
    notices: int
    per_day: float
    days: Mapping[str, int]
    worst_ten_minutes: int
    worst_ten_minutes_at: int | None
    chattering: tuple[Chattering, ...]
    fleeting: int
    stale: int
    worst_rules: tuple[Share, ...]

    def as_json(self) -> dict[str, object]:
        at = self.worst_ten_minutes_at
        busiest = max(self.days, key=lambda day: self.days[day], default=None)
        return {
            "from": to_iso(self.start),
            "to": to_iso(self.end),
            "alarms": self.alarms,
            "notices": self.notices,
            "per_day": round(self.per_day, 3),
            "busiest_day": None if busiest is None else {"date": busiest, "alarms": self.days[busiest]},
            "days": dict(self.days),
            "worst_ten_minutes": {"alarms": self.worst_ten_minutes, "at": None if at is None else to_iso(at)},
            "chattering": [
                {"rule": c.rule, "device": c.device, "activations": c.activations, "first_at": to_iso(c.first_at)}
                for c in self.chattering
            ],
            "fleeting": self.fleeting,
            "stale": self.stale,
            "worst_rules": [{"rule": w.rule, "alarms": w.alarms, "share": round(w.share, 4)} for w in self.worst_rules],
            "targets": dict(TARGETS),
        }


def review(findings: Sequence[Finding], start: int, end: int, *, zone: str = "Asia/Shanghai") -> Review:
    """Of all findings of the time from `start` to `end`; `zone` says when a day begins."""
    alarms = [finding for finding in findings if severity(finding) is not Priority.NOTICE]
    raised = sorted(finding.raised_at for finding in alarms)
    most, most_at = _busiest(raised)
    local = ZoneInfo(zone)
    days = Counter(to_datetime(at).astimezone(local).date().isoformat() for at in raised)
    by_rule = Counter(finding.rule for finding in alarms)
    return Review(
        start=start,
        end=end,
        alarms=len(alarms),
        notices=len(findings) - len(alarms),
        per_day=len(alarms) / max(1.0, (end - start) / DAY),
        days=dict(sorted(days.items())),
        worst_ten_minutes=most,
        worst_ten_minutes_at=most_at,
        chattering=tuple(chattering(alarms)),
        fleeting=sum(f.cleared_at is not None and f.cleared_at - f.raised_at < FLEETING_BELOW for f in alarms),
        stale=sum((end if f.cleared_at is None else f.cleared_at) - f.raised_at > STALE_ABOVE for f in alarms),
        worst_rules=tuple(
            Share(rule, count, count / len(alarms))
            for rule, count in sorted(by_rule.items(), key=lambda each: (-each[1], each[0]))[:WORST_RULES]
        ),
    )


def severity(finding: Finding) -> Priority:
    """How severe it was when it was raised; medium, the default of a rule, where that is not told."""
    return finding.priority[0][1] if finding.priority else Priority.MEDIUM


def chattering(
    findings: Iterable[Finding], *, times: int = CHATTER_TIMES, within: int = CHATTER_WITHIN
) -> list[Chattering]:
    """Every alarm raised at least `times` within `within` µs, most activations first."""
    found = []
    for (rule, device), occurrences in by_alarm(findings).items():
        at = [finding.raised_at for finding in occurrences]
        burst = [False] * len(at)
        for last in range(times - 1, len(at)):
            if at[last] - at[last - times + 1] <= within:
                burst[last - times + 1 : last + 1] = [True] * times
        if any(burst):
            found.append(Chattering(rule, device, sum(burst), at[burst.index(True)]))
    return sorted(found, key=lambda c: (-c.activations, c.rule, c.device))


def _busiest(raised: Sequence[int]) -> tuple[int, int | None]:
    """The most of these, rising, in any (t − RATE_WINDOW, t], and the first such t."""
    most, most_at, first = 0, None, 0
    for last, at in enumerate(raised):
        while raised[first] <= at - RATE_WINDOW:
            first += 1
        if last - first + 1 > most:
            most, most_at = last - first + 1, at
    return most, most_at


def by_alarm(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Occurrences of each alarm in order of raising."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(findings, key=lambda f: f.raised_at):
        found.setdefault((finding.rule, finding.device), []).append(finding)
    return found


def as_json(finding: Finding) -> dict[str, object]:
    """An occurrence as the API gives it, with `severities`: how severe it was from which instant on."""
    return {
        "rule": finding.rule,
        "device": finding.device,
        "metric": finding.metric,
        "since": to_iso(finding.since),
        "raised_at": to_iso(finding.raised_at),
        "cleared_at": None if finding.cleared_at is None else to_iso(finding.cleared_at),
        "first_value": finding.first_value,
        "peak_value": finding.peak_value,
        "severities": [{"at": to_iso(at), "priority": str(priority)} for at, priority in finding.priority],
    }


def finding_of(told: Mapping[str, Any]) -> Finding:
    """What `as_json` made."""
    cleared = told["cleared_at"]
    return Finding(
        told["rule"], told["device"], told["metric"], from_iso(told["since"]), from_iso(told["raised_at"]),
        None if cleared is None else from_iso(cleared), told["first_value"], told["peak_value"],
        tuple((from_iso(each["at"]), Priority(each["priority"])) for each in told["severities"]),
    )  # fmt: skip
