"""A rule as the engine judges it: one machine for most, one for each level, one for the members of a group.

A part is a rule itself, with the modes it is only in written into its conditions. The parts of a rule with levels or of
a group have ids of their own (`#` stands in no id of a book); rules.combining makes the rule's own alarms of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rules.expression import And, Expression, Group, Mode, Not, Or
from rules.rule import Rule


@dataclass(frozen=True, slots=True)
class Part:
    """`rule` is what is judged, `owner` the rule of the book, `level` its place among the levels, if there are any."""

    rule: Rule
    owner: Rule
    level: int = 0

    @property
    def meaning(self) -> str:
        """A part that is not the whole rule begins afresh with it: what it counts for may have changed."""
        return self.rule.fingerprint if self.whole else f"{self.rule.fingerprint} {self.owner.fingerprint}"

    @property
    def whole(self) -> bool:
        """It speaks for its owner alone."""
        return not self.owner.levels and self.owner.group is None


def parts_of(rules: Mapping[str, Rule]) -> dict[str, Part]:
    """Every part by its own id, in the order of the rules."""
    found: dict[str, Part] = {}
    for rule in rules.values():
        for part in _parts(rule):
            found[part.rule.id] = part
    return found


def _parts(rule: Rule) -> list[Part]:
    if rule.levels:
        return [
            Part(_in_modes(replace(rule, id=f"{rule.id}#{k}", levels=(), when=level.when, clear=level.clear,
                                   hold_us=level.hold_us, when_text=level.when_text, clear_text=level.clear_text)),
                 rule, k)
            for k, level in enumerate(rule.levels)
        ]  # fmt: skip
    if rule.group is not None:
        return [Part(_in_modes(_member(rule, rule.group)), rule)]
    return [Part(_in_modes(rule), rule)]


def _member(rule: Rule, group: Group) -> Rule:
    """The condition of one member, which neither holds nor repeats: that is the group's."""
    applies_to = rule.applies_to
    if group.tag is not None:
        applies_to = replace(applies_to, tags=(applies_to.tags or frozenset()) | {group.tag})
    return replace(rule, id=f"{rule.id}#member", when=group.condition, clear=None, hold_us=0, keep_us=0, repeat=None,
                   applies_to=applies_to, suppresses=None)  # fmt: skip


def _in_modes(rule: Rule) -> Rule:
    if not rule.only_in:
        return rule
    when, clear = rule.when, rule.clear
    for name in reversed(rule.only_in):
        mode: Expression = Mode(name)
        when = And(mode, when)
        clear = None if clear is None else Or(Not(mode), clear)
    return replace(rule, when=when, clear=clear, only_in=())
