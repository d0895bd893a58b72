"""Why an alarm was raised, in words: `level_inside > attr.inside_limit_level` with the values it saw when it fired.

The condition's text is read loosely, token by token, and never evaluated: a rule that has changed or gone since still
explains the alarms it raised, and whatever is not understood is shown as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from zoneinfo import ZoneInfo

from console.calls import FUNCTIONS, Caller, span_of
from console.texts import Language, say, say_or
from console.words import length, metric_name, metric_of, moment, number, quantity, span
from devices.instants import MINUTE, SECOND, from_iso, parse_duration

_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<call>{"|".join(FUNCTIONS)})\s*\(
    | (?P<duration>\d+(?:\.\d+)?(?:ms|s|m|h|d)(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))*)\b
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<quoted>"[^"]*"|'[^']*')
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)
    | (?P<sign><=|>=|==|!=|.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠", "==": "=", "*": "×", "-": "−"}
# Values of another source that a line has room for, those its kind is about first.
_FEW = 3
_WORDS = frozenset({"and", "or", "not", "true", "false"})


def explain(kind: str, rule: str, reason: Mapping[str, object], language: Language, *, zone: ZoneInfo, now: int) -> str:
    """圩内水位 3.52 m > 最高控制水位 3.50 m 已 1 分钟. The service's own alarms (`gw-…`) have reasons of their own."""
    raw = reason.get("values")
    values: Mapping[str, object] = raw if isinstance(raw, Mapping) else {}
    if rule.startswith("gw-"):
        return _service(kind, rule, reason, values, language=language, zone=zone, now=now)
    words = Reader(kind, values, language).read(str(reason.get("when", "")))
    held = span_of(reason.get("for"))
    return say(language, "reason.held", what=words, span=length(held, language)) if held and words else words


def _service(
    kind: str,
    rule: str,
    reason: Mapping[str, object],
    values: Mapping[str, object],
    *,
    language: Language,
    zone: ZoneInfo,
    now: int,
) -> str:
    match rule:
        case "gw-silence" if "last_seen" in reason:
            at = moment(from_iso(str(reason["last_seen"])), zone, now)
            words = say(language, "reason.silent", limit=length(span_of(reason.get("limit")) or 0, language), at=at)
            return _sources(kind, reason, words, language)
        case "gw-clock":
            off = _number(reason.get("seconds_off")) or 0.0
            key = "reason.clock_ahead" if off > 0 else "reason.clock_behind"
            return say(language, key, span=span(round(abs(off) * SECOND), language))
        case "gw-range":
            what = Reader(kind, values, language).read(" ".join(values))
            return say(language, "reason.range", what=what)
        case "gw-link" | "gw-backlog" | "gw-storage":
            # What the network or the system said of it is for the alarm's own page.
            minutes = _number(reason.get("minutes")) or 0.0
            words = say(language, f"reason.{rule.removeprefix('gw-')}")
            return (
                say(language, "reason.held", what=words, span=span(round(minutes * MINUTE), language))
                if minutes
                else words
            )
    return str(reason.get("why", ""))


def _sources(kind: str, reason: Mapping[str, object], words: str, language: Language) -> str:
    """What the other sources of the station still tell, or whose second source it is that is silent."""
    if "second_of" in reason:
        return say(language, "reason.second_of", what=words, device=reason["second_of"])
    seconds = reason.get("second_sources")
    for second in seconds if isinstance(seconds, list) else ():
        reader = Reader(kind, second["values"], language)
        told = [reader.value(metric) for metric in list(second["values"])[:_FEW]]
        values = ("、" if language is Language.ZH else ", ").join(told)
        key = "reason.second_tells" if told else "reason.second_reports"
        words = say(language, key, what=words, device=second["device"], values=values)
    return words


def raw_cause(rule: str, reason: Mapping[str, object]) -> str:
    """What the network or the system itself said, as it said it; empty for alarms that have their reason in words."""
    return str(reason.get("why", "")) if rule in {"gw-link", "gw-backlog", "gw-storage"} else ""


class Reader:
    """One condition being put into words."""

    def __init__(self, kind: str, values: Mapping[str, object], language: Language) -> None:
        self.kind = kind
        self.values = {key.replace(" ", ""): value for key, value in values.items()}
        self.language = language

    def read(self, text: str) -> str:
        parts: list[str] = []
        at = 0
        text = text.strip()
        while at < len(text) and (token := _TOKEN.match(text, at)):
            at = token.end()
            if token["call"]:
                inside, at = _inside(text, at)
                parts.append(self._call(token["call"], inside))
            else:
                parts.append(self._plain(token))
        return _join(parts)

    def value(self, metric: str) -> str:
        """The metric with its value, also of a yes or no."""
        known, value = metric_of(self.kind, metric), _number(self.values.get(metric))
        said = quantity(value, known.unit if known else "", self.language)
        return f"{metric_name(self.kind, metric, self.language)} {said}"

    def _plain(self, token: re.Match[str]) -> str:
        if token["duration"]:
            return length(parse_duration(token["duration"]), self.language)
        if token["number"]:
            return number(float(token["number"]))
        if token["quoted"]:
            return self._event(token["quoted"])
        if token["name"]:
            return self._name(token["name"])
        return _SIGNS.get(token["sign"], token["sign"])

    def _name(self, name: str) -> str:
        if name == "absent":
            return say(self.language, "reason.absent.device")
        if name in _WORDS:
            return say(self.language, f"reason.{name}")
        if name.startswith("attr."):
            label = say_or(self.language, f"attribute.{name[5:]}", name[5:])
            code = "m" if name.endswith("_level") else ""
        else:
            known = metric_of(self.kind, name)
            label, code = metric_name(self.kind, name, self.language), known.unit if known else ""
            if known and known.boolean:
                return label  # "mains ok no = no" is nobody's way of saying it
        value = _number(self.values.get(name))
        # A reason compares: 3.503 m over 3.50 m must not read "3.50 m > 3.50 m".
        close = code == "m" and value is not None and abs(value * 100 - round(value * 100)) > 1e-6
        decimals = 3 if close else None
        return label if value is None else f"{label} {quantity(value, code, self.language, decimals)}"

    def _call(self, function: str, inside: str) -> str:
        return Caller(self.kind, self.language, self.read, self._saw).say(function, inside)

    def _event(self, quoted: str) -> str:
        return self._call("event", quoted)

    def _saw(self, call: str) -> object:
        return self.values.get(call.replace(" ", "").replace("'", '"'))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (bool, int, float)) else None


def _inside(text: str, at: int) -> tuple[str, int]:
    """What stands between the bracket just opened and its partner, and where reading goes on."""
    depth, end = 1, at
    while end < len(text) and depth:
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    return text[at : end - 1 if depth == 0 else end], end


def _join(parts: list[str]) -> str:
    return re.sub(r"\( ", "(", re.sub(r" ([),])", r"\1", " ".join(part for part in parts if part.strip())))
