"""What the alarm of several devices holds back while it stands: alarms of its members that only follow from it.

A gateway that is down makes every device behind it silent: one alarm, not a hundred. Pure: who asks decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from devices.kinds import KINDS
from devices.registry import Device, DeviceStatus, Registry
from devices.subjects import grid_of, tag_of
from rules.book import SILENCE
from rules.expression import Absent, DeviceAbsent, leaves
from rules.parts import parts_of
from rules.rule import Rule
from rules.vocabulary import kinds_with

# A grid → itself and every grid below it.
Under = Callable[[str], frozenset[str]]


def suppressed_rules(rules: Mapping[str, Rule], rule: Rule) -> frozenset[str]:
    """The rules whose alarms about its members the group rule holds back: those it names. Without a word, one that is
    itself about absence holds back the service's own alarm about a silent device and every rule about one device that
    asks for an absence; any other none, for a station that falls silent in a flood does not follow from the flood."""
    if rule.group is None:
        return frozenset()
    if rule.suppresses is not None:
        return rule.suppresses
    if not asks_absence(rule):
        return frozenset()
    return frozenset({SILENCE}) | {other.id for other in rules.values() if other.group is None and asks_absence(other)}


def membership(rule: Rule, subject: str, under: Under) -> Callable[[Device], bool]:
    """Whether a device belongs to this group of the group rule: an active one that the rule applies to, of the grid or
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
            device.status is DeviceStatus.ACTIVE
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
    """`absent`, or `absent(…)` of any metric."""
    return any(isinstance(leaf, (Absent, DeviceAbsent)) for tree in rule.trees for leaf in leaves(tree))
