"""The values of a scenario: series and single ones, each checked against what its kind of device measures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from devices.documents import nearest
from devices.kinds import KINDS, Metric

MAX_VALUES = 200_000
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_RUN = re.compile(rf"(?P<first>null|true|false|{_NUMBER})(?:\s*\.\.\s*(?P<last>{_NUMBER}))?\s*[x×]\s*(?P<times>[0-9]+)")
_WORDS: Mapping[str, bool | None] = {"null": None, "true": True, "false": False}


def metric_of(kind: str, name: str) -> Metric:
    """Raises ValueError with the nearest name for what the kind does not measure."""
    known = KINDS[kind]
    if name in known.metrics:
        return known.metrics[name]
    if name in known.events:
        raise ValueError(f"{name!r} is an event of {kind}: it belongs under events")
    raise ValueError(f"{kind} has no metric {name!r}{nearest(name, known.metrics)}; it has {', '.join(known.metrics)}")


def value_of(metric: Metric, value: Any) -> float | None:
    """None for no value. Raises ValueError for what the metric cannot be."""
    if value is None:
        return None
    if metric.boolean:
        if not isinstance(value, bool):
            raise ValueError(f"{metric.name} is true or false, found {value!r}")
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{metric.name} is a number, found {value!r}")
    return float(value)


def spread(values: Any) -> Iterator[tuple[int, Any]]:
    """The values of a series one by one, each with the place in the list it was written at.

    `3.5 x 20` is twenty times 3.5, `3.0 .. 3.6 x 7` seven values from 3.0 to 3.6. Raises ValueError for more than
    MAX_VALUES, or where there is no list.
    """
    if not isinstance(values, list):
        raise ValueError(f"expected a list of values such as [3.49, 3.51, null], found {values!r}")
    count = 0
    for place, value in enumerate(values):
        for each in _run(value) if isinstance(value, str) else (value,):
            count += 1
            if count > MAX_VALUES:
                raise ValueError(f"a series has at most {MAX_VALUES:,} values")
            yield place, each


def _run(text: str) -> Iterator[Any]:
    found = _RUN.fullmatch(text.strip())
    if found is None:
        yield text
        return
    times = int(found["times"])
    if found["last"] is None:
        value = _WORDS[found["first"]] if found["first"] in _WORDS else float(found["first"])
        for _ in range(times):
            yield value
        return
    if found["first"] in _WORDS or times < 2:
        yield text
        return
    first, last = float(found["first"]), float(found["last"])
    for n in range(times):
        # Rounded, so that the seventh of 3.0 .. 3.6 is 3.6 and not a little more.
        yield round(first + (last - first) * n / (times - 1), 9)
