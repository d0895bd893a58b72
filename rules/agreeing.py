"""Whether the parts of a rule, each good by itself, go together: its conditions, levels, hold, repeat and priority."""

from __future__ import annotations

from collections.abc import Iterator

from devices.documents import Path
from rules.checking import kinds_with
from rules.expression import Event, Expression, Forecast, Group, first_metric, leaves
from rules.placing import uncountable
from rules.rule import Priority, Rule
from rules.text import text_of

# From the mildest to the worst.
SEVERITY = (Priority.NOTICE, Priority.LOW, Priority.MEDIUM, Priority.HIGH, Priority.CRITICAL)
_EVENT_HOLDS = 'event(…) lasts no time, so it cannot hold: leave `for` out, or use count(event("x"), 10m)'


def disagreements(rule: Rule) -> Iterator[tuple[Path, str]]:
    """What is wrong between the parts of the rule, each with the key it is told at."""
    where: Path = ("levels",) if rule.levels else ("when",)
    if not kinds_with(rule.series):
        yield where, f"no kind of device has all of {', '.join(rule.series)}"
    if rule.hold_us and _has(rule.when, Event):
        yield ("for",), _EVENT_HOLDS
    yield from _forecasts(rule)
    yield from _groups(rule)
    yield from _levels(rule)
    if rule.repeat is not None:
        yield from _repeats(rule)


def _has(tree: Expression | None, kind: type[Event] | type[Forecast]) -> bool:
    return tree is not None and any(isinstance(leaf, kind) for leaf in leaves(tree))


def _forecasts(rule: Rule) -> Iterator[tuple[Path, str]]:
    pairs = [(level.when, level.clear) for level in rule.levels] or [(rule.when, rule.clear)]
    whens = [_has(when, Forecast) for when, _ in pairs]
    for k, (_, clear) in enumerate(pairs):
        if _has(clear, Forecast) and not whens[k]:
            path: Path = ("levels", k, "clear") if rule.levels else ("clear",)
            yield path, "what has come true is not cleared by a forecast: it stands here only if `when` has one too"
    if any(whens) and not all(whens):
        yield ("levels",), "a forecast is an early notice of its own: either every level has one, or none"
    for k, priority in enumerate([level.priority for level in rule.levels] or [rule.priority]):
        if whens[k] and priority is Priority.CRITICAL:
            at: Path = ("levels", k, "priority") if rule.levels else ("priority",)
            yield at, "a forecast is an early notice, never critical: high at most"


def _groups(rule: Rule) -> Iterator[tuple[Path, str]]:
    group, clear = rule.group, rule.clear
    if group is None:
        if isinstance(clear, Group):
            yield ("clear",), "in_grid(…) and of_group(…) clear only what `when` has raised in the same way"
        if rule.suppresses is not None:
            yield ("suppresses",), "only a rule of several devices, in_grid(…) or of_group(…), suppresses others"
        return
    if rule.levels:
        yield ("levels",), "in_grid(…) and of_group(…) have no levels: write a rule for each"
    if clear is None:
        return
    if not isinstance(clear, Group) or (clear.tag, clear.condition, clear.share) != (
        group.tag, group.condition, group.share,
    ):  # fmt: skip
        yield ("clear",), f"counts what `when` counts, {text_of(group)}, with another limit"


def _levels(rule: Rule) -> Iterator[tuple[Path, str]]:
    first = first_metric(rule.when)
    for k, level in enumerate(rule.levels):
        milder = rule.levels[k - 1].priority
        if k and SEVERITY.index(level.priority) <= SEVERITY.index(milder):
            yield (
                ("levels", k, "priority"),
                f"levels go from the mildest to the worst: {level.priority} is not above {milder}",
            )
        if first_metric(level.when) != first:
            yield ("levels", k, "when"), f"every level looks first at the same metric, here {first}"
        if isinstance(level.when, Group) and k:
            yield ("levels", k, "when"), "in_grid(…) and of_group(…) have no levels: write a rule for each"
        if isinstance(level.clear, Group):
            yield ("levels", k, "clear"), "in_grid(…) and of_group(…) have no levels: write a rule for each"
        if _has(level.when, Event):
            yield ("levels", k, "when"), 'event(…) lasts no time, so it is no level: use count(event("x"), 10m)'


def _repeats(rule: Rule) -> Iterator[tuple[Path, str]]:
    if rule.group is not None:
        yield ("repeat",), "repeat counts the readings of one device, so it stands with no in_grid(…) or of_group(…)"
        return
    whens = [level.when for level in rule.levels] or [rule.when]
    found = list(dict.fromkeys(text_of(leaf) for when in whens for leaf in uncountable(when)))
    if found:
        yield (
            ("repeat",),
            f"repeat counts readings, and no reading decides {', '.join(found)}: the clock does, or one instant",
        )
