"""What the alarm of several devices holds back while it stands: alarms of its members that only follow from it.

A gateway that is down makes every device behind it silent: one alarm, not a hundred. The surprise: that a rule asks
`absent(…)` says nothing; a guard, `not absent(…)`, makes it true of the living alone. Pure: who asks decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from devices.kinds import KINDS
from devices.registry import Device, Registry
from devices.subjects import grid_of, tag_of
from rules.book import SILENCE
from rules.expression import Absent, And, DeviceAbsent, Expression, Group, Or, leaves, series_names
from rules.parts import parts_of
from rules.rule import Rule
from rules.vocabulary import kinds_with

# A grid → itself and every grid below it.
Under = Callable[[str], frozenset[str]]


def suppressed_rules(rules: Mapping[str, Rule], rule: Rule) -> frozenset[str]:
    """The rules whose alarms about its members the group rule holds back: those it names, of every member. Without a
    word, one whose members count because they are absent holds back, of those that count, the service's own alarm about
    a silent device and the rules about one device that follow from the same absence; any other none, for a station that
    falls silent in a flood does not follow from the flood."""
    group = rule.group
    if group is None:
        return frozenset()
    if rule.suppresses is not None:
        return rule.suppresses
    if group.op not in (">", ">=") or not _is_absence(group.condition):
        return frozenset()
    return frozenset({SILENCE}) | {o.id for o in rules.values() if o.group is None and _follows(o, group)}


def covers_every_member(rule: Rule) -> bool:
    """Whether the group rule holds back alarms of all its members, not only of those that count at the time."""
    return rule.suppresses is not None


def _follows(rule: Rule, group: Group) -> bool:
    """The absence of a member explains every alarm of the rule. A member whose metric is missing may be alive in its
    others: it explains what reads that metric alone."""
    conditions = [level.when for level in rule.levels] or [rule.when]
    if not all(_is_absence(condition) for condition in conditions):
        return False
    missing = set(series_names(group.condition))
    return _is_absence(group.condition, DeviceAbsent) or all(set(series_names(c)) <= missing for c in conditions)


def _is_absence(node: Expression, *leaf: type[Absent] | type[DeviceAbsent]) -> bool:
    """Never true without an absence. What stands below a `not` is the opposite."""
    if isinstance(node, And):
        return _is_absence(node.left, *leaf) or _is_absence(node.right, *leaf)
    if isinstance(node, Or):
        return _is_absence(node.left, *leaf) and _is_absence(node.right, *leaf)
    return isinstance(node, leaf or (Absent, DeviceAbsent))


def membership(rule: Rule, subject: str, under: Under) -> Callable[[Device], bool]:
    """Whether a device belongs to this group of the group rule: a judged one that the rule applies to, of the grid or
    with the tag. As the engine counts (rules.groups.members_of), asked of one device at a time."""
    (part,) = parts_of({rule.id: rule}).values()
    to, grid, tag = part.rule.applies_to, grid_of(subject), tag_of(subject)
    kinds = {kind for kind in kinds_with(part.rule.series) if to.kind in {None, kind}}
    tags = (to.tags or frozenset()) | ({tag} if tag is not None else frozenset())
    within: list[frozenset[str]] = []
    if to.grids is not None:
        within.append(frozenset().union(*(under(named) for named in to.grids)))
    if grid is not None:
        within.append(under(grid) if to.grids is not None else frozenset({grid}))

    def belongs(device: Device) -> bool:
        return (
            device.judged
            and device.kind in kinds
            and tags <= device.tags
            and (to.devices is None or device.id in to.devices)
            and all(device.grid in grids for grids in within)
        )

    return belongs


def kind_of_members(belongs: Callable[[Device], bool], registry: Registry) -> str:
    """The kind of a group's members; a personal one where any is, empty where they are of several."""
    kinds = sorted({device.kind for device in registry.devices if belongs(device)})
    personal = next((kind for kind in kinds if KINDS[kind].personal), None)
    return personal or (kinds[0] if len(kinds) == 1 else "")


def asks_absence(rule: Rule) -> bool:
    """`absent`, or `absent(…)` of any metric, anywhere, also below a `not`."""
    return any(isinstance(leaf, (Absent, DeviceAbsent)) for tree in rule.trees for leaf in leaves(tree))
