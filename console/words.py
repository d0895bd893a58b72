"""Numbers with units, site-zone times, ages and reasons in words: what a page says about a value.

Pure. Instants and spans are int64 microseconds; the site's zone is applied here and nowhere deeper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from alerts.ends import say_end
from console.texts import Language, say, say_or
from devices.instants import DAY, HOUR, MINUTE, SECOND, to_datetime
from devices.kinds import KINDS, Metric

# How a UCUM code is written for people; codes not listed are written as they are.
_UNITS = {
    "1": "", "[pH]": "", "bool": "", "Cel": "°C", "deg": "°", "m3/s": "m³/s", "ug/m3": "µg/m³", "ug/L": "µg/L",
    "uS/cm": "µS/cm", "1/L": "/L",
}  # fmt: skip
# Decimals that the instruments of a township actually deliver; a centimetre of level is what decides about pumps.
_DECIMALS = {
    "m": 2, "m3/s": 2, "mg/L": 2, "[pH]": 2, "Cel": 1, "mm": 1, "m/s": 1, "mm/s": 2, "A": 1, "ug/m3": 0, "%": 0,
    "deg": 0, "dBm": 0, "V": 0, "1": 0,
}  # fmt: skip
NOTHING = "—"


def unit(code: str) -> str:
    return _UNITS.get(code, code)


def decimals_of(code: str) -> int:
    return _DECIMALS.get(code, 2)


def number(value: float | None, code: str = "", decimals: int | None = None) -> str:
    """The value without its unit; an em dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    fixed = decimals is not None or code in _DECIMALS
    places = decimals_of(code) if decimals is None else decimals
    if abs(value) >= 100_000:
        return f"{value:.3g}"
    text = f"{value:,.{places}f}"
    # A whole number in a column without a fixed scale needs no zeros; -0.00 is 0.00.
    if not fixed and "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" + text[2:] if text.startswith("-0") and float(text.replace(",", "")) == 0 else text


def quantity(value: float | None, code: str, language: Language, decimals: int | None = None) -> str:
    """The value with its unit: 3.52 m, 是, —."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if code == "bool":
        return say(language, "value.yes" if value else "value.no")
    shown = unit(code)
    said = number(value, code, decimals)
    return f"{said} {shown}" if shown else said


def metric_of(kind: str, name: str) -> Metric | None:
    known = KINDS.get(kind)
    return known.metrics.get(name) if known else None


def metric_name(kind: str, name: str, language: Language) -> str:
    """What a metric is called; the wire's name where the kind does not know it."""
    known = metric_of(kind, name)
    if known and language is Language.ZH:
        return known.zh
    return say_or(language, f"metric.{name}", name)


def kind_name(kind: str, language: Language) -> str:
    known = KINDS.get(kind)
    if not known:
        return kind
    return known.zh if language is Language.ZH else known.en


def clock(instant: int | None, zone: ZoneInfo) -> str:
    """05:12:30 in the site's zone."""
    return NOTHING if instant is None else to_datetime(instant).astimezone(zone).strftime("%H:%M:%S")


def moment(instant: int | None, zone: ZoneInfo, now: int) -> str:
    """05:12:30 of today, 11-20 05:12 of this year, 2025-11-20 05:12 of another, in the site's zone."""
    if instant is None:
        return NOTHING
    then, today = to_datetime(instant).astimezone(zone), to_datetime(now).astimezone(zone)
    if then.date() == today.date():
        return then.strftime("%H:%M:%S")
    return then.strftime("%m-%d %H:%M" if then.year == today.year else "%Y-%m-%d %H:%M")


def full_moment(instant: int | None, zone: ZoneInfo) -> str:
    """2025-11-20 05:12:30 +08:00, for titles and the printed history."""
    if instant is None:
        return NOTHING
    then = to_datetime(instant).astimezone(zone)
    return f"{then:%Y-%m-%d %H:%M:%S} {then:%z}"[:-2] + ":" + f"{then:%z}"[-2:]


def span(length: int, language: Language) -> str:
    """The two largest units of a length of time: 3 分 12 秒, 2 h 05 min. The page's clock.js says the same."""
    seconds = max(0, length) // SECOND
    days, hours = seconds // 86400, seconds // 3600 % 24
    minutes, rest = seconds // 60 % 60, seconds % 60
    if days:
        return say(language, "span.days", days=days, hours=hours)
    if hours:
        return say(language, "span.hours", hours=hours, minutes=minutes)
    if minutes:
        return say(language, "span.minutes", minutes=minutes, seconds=rest)
    return say(language, "span.seconds", seconds=rest)


def left(until: int, now: int, language: Language) -> str:
    """How long a limit has still to run, or by how much it has run out."""
    key = "left.in" if until > now else "left.over"
    return say(language, key, span=span(abs(until - now), language))


def length(exact: int, language: Language) -> str:
    """A round length as a rule or a limit gives it: 1 分钟, 24 小时, 2 days."""
    for size, key in ((DAY, "length.days"), (HOUR, "length.hours"), (MINUTE, "length.minutes")):
        if exact >= size and exact % size == 0:
            # 24 h and 48 h are how people of a duty desk say it.
            if size == DAY and exact < 3 * DAY:
                continue
            return say(language, key, n=exact // size)
        if size == HOUR and exact > size:
            return span(exact, language)
    return say(language, "length.seconds", n=f"{exact / SECOND:g}")


@dataclass(frozen=True, slots=True)
class Level:
    """Where a value stands between the bottom of its scale and its limit, for a bar: all in percent of the scale."""

    fill: int
    line: int


def level(value: float, limit: float, low: float, high: float) -> Level:
    """Whole percents: the bars are drawn by classes-free attributes (`value` of a meter), never by inline style."""
    scale = max(high - low, 1e-9)
    return Level(_percent((value - low) / scale), _percent((limit - low) / scale))


def _percent(part: float) -> int:
    return max(0, min(100, round(part * 100)))


def end_of(why: str, language: Language) -> str:
    """What cleared an alarm, as the service noted it, in the language of the page; other words stay as they are."""
    words = say_end(why)
    return why if words is None else words[language is Language.EN]


def severities(why: str, language: Language) -> str:
    """`medium → critical` in the language of the page; what is not made of priorities stays as it is."""
    return " → ".join(say_or(language, f"priority.{word}", word) for word in why.split(" → "))
