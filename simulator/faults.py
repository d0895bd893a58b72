"""What goes wrong with sensors and their links: each a change to one device's stream of messages.

Within one device messages keep the order they go out in (`sent_at` never falls).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from simulator.reports import payload
from simulator.world import Fault, Sample, Span, Value


def silent(*spans: Span) -> Fault:
    """Nothing goes out."""
    return lambda stream: (s for s in stream if not any(s.sent_at in span for span in spans))


def stuck(span: Span) -> Fault:
    """The first reading within the span is repeated through it."""

    def apply(stream: Iterator[Sample]) -> Iterator[Sample]:
        held: dict[str, Value] | None = None
        for s in stream:
            if s.sent_at in span and s.channel == "readings":
                held = held or s.body
                yield replace(s, body=held)
            else:
                yield s

    return apply


def spike(at: int, metric: str, value: float) -> Fault:
    """One reading, the first from `at` on, shows this value."""

    def apply(stream: Iterator[Sample]) -> Iterator[Sample]:
        done = False
        for s in stream:
            if not done and s.sent_at >= at and metric in s.body:
                done = True
                yield replace(s, body={**s.body, metric: value})
            else:
                yield s

    return apply


def duplicated(span: Span) -> Fault:
    """Every message goes out twice."""
    return lambda stream: (s for s in stream for _ in range(2 if s.sent_at in span else 1))


def swapped(span: Span) -> Fault:
    """Messages go out in pairs, the later one first."""

    def apply(stream: Iterator[Sample]) -> Iterator[Sample]:
        waiting: Sample | None = None
        for s in stream:
            if waiting is not None:
                yield s
                yield replace(waiting, sent_at=s.sent_at)
                waiting = None
            elif s.sent_at in span:
                waiting = s
            else:
                yield s

    return apply


def held_back(span: Span) -> Fault:
    """What was measured within the span goes out at its end, in order."""

    def apply(stream: Iterator[Sample]) -> Iterator[Sample]:
        kept: list[Sample] = []
        for s in stream:
            if s.sent_at in span:
                kept.append(replace(s, sent_at=span.end))
                continue
            yield from kept
            kept.clear()
            yield s

    return apply


def clock_off(span: Span, by: int) -> Fault:
    """The device's clock is wrong by so many microseconds, ahead if positive."""
    return lambda stream: (replace(s, at=s.at + by) if s.sent_at in span else s for s in stream)


def malformed(*instants: int) -> Fault:
    """The first message from each instant on is cut off in the middle of a character."""
    return _garbled(instants, lambda s: payload(s)[:-4] + b"\xe6\xb0")


def not_a_number(*instants: int) -> Fault:
    """The first message from each instant on says NaN, which is no JSON."""

    def nan(s: Sample) -> bytes:
        metric = next(iter(s.body))
        return payload(replace(s, body={**s.body, metric: "@"})).replace(b'"@"', b"NaN")

    return _garbled(instants, nan)


def _garbled(instants: tuple[int, ...], make: Callable[[Sample], bytes]) -> Fault:
    def apply(stream: Iterator[Sample]) -> Iterator[Sample]:
        waiting = sorted(instants)
        for s in stream:
            if waiting and s.sent_at >= waiting[0]:
                waiting.pop(0)
                yield replace(s, garbled=make(s))
            else:
                yield s

    return apply
