"""An explanation as a value: what was read, what it came to, what stood in the records, and the reasons in words.

Instants and spans are int64 microseconds; `as_json` writes them as ISO 8601 and as durations such as 15m.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from devices.batch import Quality
from devices.instants import format_duration, from_iso, parse_duration, to_iso

QUALITY = {quality: quality.name.lower() for quality in Quality}


@dataclass(frozen=True, slots=True)
class Reason:
    """`code` stays the same; `zh` and `en` are for people."""

    code: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One value the rule read. `age` at the instant; `max_age` None: never too old; `known` False: it did not count."""

    metric: str
    value: float | bool | None
    measured_at: int | None
    age: int | None
    max_age: int | None
    known: bool
    quality: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A sub-condition as written, what it came to there (None: unknown), and how deep it lies in the condition."""

    text: str
    value: bool | float | str | None
    depth: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A stored value near the instant that was not judged, and its quality."""

    metric: str
    value: float
    measured_at: int
    quality: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the records say of the alarm at the instant. `state` None: there was none yet. `act`, `by`, `at` and `why`
    are of the last thing done to it; the occurrence is the latest raised until then: `cleared_at` None where it stood,
    `condition` what the rule said when it was raised."""

    alarm: int
    state: str | None
    act: str | None = None
    by: str | None = None
    at: int | None = None
    why: str | None = None
    since: int | None = None
    raised_at: int | None = None
    cleared_at: int | None = None
    condition: str | None = None

    @property
    def stands(self) -> bool:
        return self.raised_at is not None and self.cleared_at is None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of the rule for the device (or `grid:…`, `group:…`) at the instant.

    `source`: `live`, the engine that runs; `history`, stored readings judged again by the rule as it is now; `none`,
    the rule does not run. `state` normal, pending, firing or not_judged; `when` and `clear` None: unknown; `hold` what
    it must hold for, `held` how long it has. `levels` of a rule with several: the same of each, as JSON.
    """

    rule: str
    device: str
    at: int
    source: str = "none"
    state: str | None = None
    when: bool | None = None
    clear: bool | None = None
    since: int | None = None
    raised_at: int | None = None
    hold: int | None = None
    held: int | None = None
    parts: tuple[Part, ...] = ()
    readings: tuple[Reading, ...] = ()
    levels: tuple[Mapping[str, Any], ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    recorded: Recorded | None = None
    why: tuple[Reason, ...] = ()

    def with_quality(self, quality: Mapping[tuple[str, int], int]) -> Explanation:
        """Quality by (metric, measured_at), where it is known."""

        def told(reading: Reading) -> Reading:
            found = None if reading.measured_at is None else quality.get((reading.metric, reading.measured_at))
            return reading if found is None else replace(reading, quality=QUALITY[Quality(found)])

        return replace(self, readings=tuple(map(told, self.readings)))

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "device": self.device,
            "at": to_iso(self.at),
            "source": self.source,
            "state": self.state,
            "when": self.when,
            "clear": self.clear,
            "since": _iso(self.since),
            "raised_at": _iso(self.raised_at),
            "for": _span(self.hold),
            "held": _span(self.held),
            "parts": [{"text": p.text, "value": p.value, "depth": p.depth} for p in self.parts],
            "readings": [
                {"metric": r.metric, "value": r.value, "measured_at": _iso(r.measured_at), "age": _span(r.age),
                 "max_age": _span(r.max_age), "known": r.known, "quality": r.quality} for r in self.readings
            ],
            "levels": [dict(level) for level in self.levels],
            "left_out": [
                {"metric": o.metric, "value": o.value, "measured_at": to_iso(o.measured_at), "quality": o.quality}
                for o in self.left_out
            ],
            "recorded": None if self.recorded is None else _recorded(self.recorded),
            "why": [{"code": w.code, "zh": w.zh, "en": w.en} for w in self.why],
        }  # fmt: skip


def seen(found: Mapping[str, Any], source: str) -> Explanation:
    """What `rules.explain.examine` tells."""
    return Explanation(
        rule=found["rule"],
        device=found["device"],
        at=from_iso(found["at"]),
        source=source,
        state=found["state"],
        when=found["when"],
        clear=found["clear"],
        since=_instant(found["since"]),
        raised_at=_instant(found["raised_at"]),
        hold=_length(found["for"]),
        held=_length(found["held"]),
        parts=tuple(Part(p["text"], p["value"], p["depth"]) for p in found["parts"]),
        readings=tuple(map(_reading, found["readings"])),
        levels=tuple(found.get("levels", ())),
        why=tuple(Reason(w["code"], w["zh"], w["en"]) for w in found["why"]),
    )


def _reading(found: Mapping[str, Any]) -> Reading:
    ages = (_length(found["age"]), _length(found["max_age"]))
    return Reading(found["metric"], found["value"], _instant(found["measured_at"]), *ages, found["known"])


def _instant(text: str | None) -> int | None:
    return None if text is None else from_iso(text)


def _length(text: str | None) -> int | None:
    return None if text is None else parse_duration(text)


def _recorded(found: Recorded) -> dict[str, Any]:
    return {
        "alarm": found.alarm,
        "state": found.state,
        "act": found.act,
        "by": found.by,
        "at": _iso(found.at),
        "why": found.why,
        "since": _iso(found.since),
        "raised_at": _iso(found.raised_at),
        "cleared_at": _iso(found.cleared_at),
    }


def _iso(at: int | None) -> str | None:
    return None if at is None else to_iso(at)


def _span(us: int | None) -> str | None:
    return None if us is None else format_duration(us)
