"""The functions of the rule language in words: `avg(level_inside, 10m)` is 圩内水位 10 分钟平均.

Read loosely, like every condition here: what is not understood stays as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from console.texts import Language, say, say_or
from console.words import length, metric_name, metric_of, quantity, span
from devices.instants import parse_duration
from rules.expression import MODES

WINDOWS = ("avg", "min", "max", "sum", "stddev", "median", "delta", "rate", "increase")
FUNCTIONS = (
    *WINDOWS, "event", "since", "count", "absent", "flat", "spike", "out_of_range", "forecast", "between", "weekday",
    "holiday", "mode", "in_grid", "share", "of_group", "by_response",
)  # fmt: skip
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Caller:
    """One call being put into words: `read` puts what stands inside it into words, `saw` what it was worth."""

    kind: str
    language: Language
    read: Callable[[str], str]
    saw: Callable[[str], object]

    def say(self, function: str, inside: str) -> str:
        write = _WRITERS.get(function)
        if write is None and function in WINDOWS:
            write = Caller._window
        return inside if write is None else write(self, function, inside)

    def _event(self, _function: str, inside: str) -> str:
        name = inside.strip().strip("\"'")
        return say(self.language, "reason.event", what=say_or(self.language, f"event.{name}", name))

    def _since(self, _function: str, inside: str) -> str:
        text = say(self.language, "reason.since", what=self.read(inside))
        seen = span_of(self.saw(f"since({inside})"))
        return text if seen is None else f"{text} {span(seen, self.language)}"

    def _count(self, _function: str, inside: str) -> str:
        subject, _, window = inside.rpartition(",")
        if not subject or span_of(window) is None:
            # Inside in_grid(…): how many devices.
            return say(self.language, "reason.devices", what=self.read(inside))
        what = self.read(subject) if "(" in subject else self._metric(subject)
        text = say(self.language, "reason.count", what=what, span=self._length(window))
        return self._with(text, self.saw(f"count({inside})"), "1")

    def _window(self, function: str, inside: str) -> str:
        metric, _, window = inside.rpartition(",")
        text = say(self.language, f"reason.{function}", what=self._metric(metric), span=self._length(window))
        known = metric_of(self.kind, metric.strip())
        code = known.unit if known else ""
        seen = self.saw(f"{function}({inside})")
        if function == "rate" and isinstance(seen, float):
            return f"{text} {seen:.3g} {quantity(0, code, self.language).partition(' ')[2]}/s"
        return self._with(text, seen, code)

    def _forecast(self, _function: str, inside: str) -> str:
        metric, *spans = (part.strip() for part in inside.split(","))
        known = metric_of(self.kind, metric)
        text = say(
            self.language, "reason.forecast", what=self._metric(metric), span=self._length(spans[0] if spans else "")
        )
        return self._with(text, self.saw(f"forecast({inside})"), known.unit if known else "")

    def _absent(self, _function: str, inside: str) -> str:
        # How long it has been silent is the alarm's own age; the metric's last value would be read as current.
        metric, _, window = inside.rpartition(",")
        return say(self.language, "reason.absent", what=self._metric(metric), span=self._length(window))

    def _flat(self, _function: str, inside: str) -> str:
        metric, window, tolerance = (*(part.strip() for part in inside.split(",")), "", "")[:3]
        what = self._metric(metric)
        return say(self.language, "reason.flat", what=what, span=self._length(window), by=self._size(metric, tolerance))

    def _spike(self, _function: str, inside: str) -> str:
        metric, _, size = inside.partition(",")
        return say(self.language, "reason.spike", what=self._metric(metric), by=self._size(metric, size))

    def _out_of_range(self, _function: str, inside: str) -> str:
        return say(self.language, "reason.out_of_range", what=self._metric(inside))

    def _between(self, _function: str, inside: str) -> str:
        start, _, end = inside.partition(",")
        return say(self.language, "reason.between", start=start.strip(" \"'"), end=end.strip(" \"'"))

    def _weekday(self, _function: str, inside: str) -> str:
        days = [say_or(self.language, f"day.{day}", day) for day in (part.strip(" \"'") for part in inside.split(","))]
        return say(self.language, "reason.weekday", days=("、" if self.language is Language.ZH else ", ").join(days))

    def _holiday(self, _function: str, _inside: str) -> str:
        return say(self.language, "reason.holiday")

    def _mode(self, _function: str, inside: str) -> str:
        name = inside.strip(" \"'")
        return say(self.language, f"reason.mode.{name}") if name in MODES else name

    def _in_grid(self, _function: str, inside: str) -> str:
        return say(self.language, "reason.in_grid", what=self.read(inside))

    def _share(self, _function: str, inside: str) -> str:
        return say(self.language, "reason.share", what=self.read(inside))

    def _of_group(self, _function: str, inside: str) -> str:
        tag, _, condition = inside.partition(",")
        return say(self.language, "reason.of_group", tag=tag.strip(" \"'"), what=self.read(condition))

    def _by_response(self, _function: str, inside: str) -> str:
        return say(self.language, "reason.by_response", values=self.read(inside))

    def _metric(self, name: str) -> str:
        return metric_name(self.kind, name.strip(), self.language)

    def _length(self, text: str) -> str:
        return length(span_of(text) or 0, self.language)

    def _size(self, metric: str, text: str) -> str:
        known = metric_of(self.kind, metric.strip())
        try:
            return quantity(float(text), known.unit if known else "", self.language, 3)
        except ValueError:
            return text.strip()

    def _with(self, text: str, seen: object, code: str) -> str:
        return f"{text} {quantity(float(seen), code, self.language)}" if isinstance(seen, (int, float)) else text


_WRITERS: Mapping[str, Callable[[Caller, str, str], str]] = {
    "event": Caller._event, "since": Caller._since, "count": Caller._count, "forecast": Caller._forecast,
    "absent": Caller._absent, "flat": Caller._flat, "spike": Caller._spike, "out_of_range": Caller._out_of_range,
    "between": Caller._between, "weekday": Caller._weekday, "holiday": Caller._holiday, "mode": Caller._mode,
    "in_grid": Caller._in_grid, "share": Caller._share, "of_group": Caller._of_group,
    "by_response": Caller._by_response,
}  # fmt: skip


def span_of(text: object) -> int | None:
    """Microseconds of a duration such as 1h30m; None for nothing of the kind."""
    try:
        return parse_duration(str(text)) if text else None
    except ValueError:
        return None
