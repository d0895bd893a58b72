"""What a rule speaks of: each device it applies to, or each group with its members."""

from __future__ import annotations

from collections.abc import Iterable

from devices.registry import Device, Registry
from flow.installation import Installation
from flow.trying import grid_tree
from rules.binding import columns, matching
from rules.groups import members_of
from rules.parts import parts_of
from rules.rule import Rule


def subjects(here: Installation, rule: Rule) -> dict[str, tuple[int, ...]]:
    """By name (a device id, `grid:…`, `group:…`) the numbers of its devices."""
    tree, table = grid_tree(here), columns(here.registry)
    numbers = sorted({n for p in parts_of({rule.id: rule}).values() for n in matching(p.rule, table, tree).tolist()})
    if rule.group is not None:
        return members_of(rule, numbers, here.registry, tree)
    return {here.registry.devices[number].id: (number,) for number in numbers}


def applied(here: Installation, rules: Iterable[Rule]) -> dict[str, int]:
    """To how many devices each rule applies."""
    tree, table = grid_tree(here), columns(here.registry)
    found: dict[str, int] = {}
    for part in parts_of({rule.id: rule for rule in rules}).values():
        found[part.owner.id] = max(found.get(part.owner.id, 0), len(matching(part.rule, table, tree)))
    return found


def _applies(here: Installation, rule: Rule, device: Device) -> bool:
    """Asked of a town of this one device, so that it costs the same however many there are."""
    alone = Registry()
    alone.add(device)
    table, tree = columns(alone), grid_tree(here)
    return any(len(matching(part.rule, table, tree)) for part in parts_of({rule.id: rule}).values())


def subject_of(here: Installation, rule: Rule, name: str) -> tuple[str, tuple[Device, ...]] | None:
    """What the rule speaks of when it is asked about `name` (a device, or a group by its name), and the devices; of a
    rule about groups that is the group the device is in. None: it says nothing of it."""
    device = here.registry.get(name)
    if rule.group is None:
        return (name, (device,)) if device is not None and _applies(here, rule, device) else None
    for subject, numbers in subjects(here, rule).items():
        if subject == name or (device is not None and device.number in numbers):
            return subject, tuple(here.registry.devices[number] for number in numbers)
    return None
