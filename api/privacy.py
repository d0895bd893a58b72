"""What of a personal device (an elder's door sensor) is shown to whom.

Its person, address, position and name are never in a list or a device view: they have a route of their own that is
recorded.
Below handler there are no values, no events and no device either, because when a door opens tells who is at home: an
alarm or order of it is then one more in its grid.
"""

from __future__ import annotations

from alerts.categories import is_personal_category
from alerts.refusals import NotAllowed
from alerts.roles import Actor
from devices.kinds import KINDS
from devices.registry import Device, Registry
from rules.rule import Priority

_PERSONAL_KINDS = frozenset(name for name, kind in KINDS.items() if kind.personal)


def is_personal(device: Device | None) -> bool:
    return device is not None and KINDS[device.kind].personal


def sees_personal(actor: Actor) -> bool:
    return actor.allows("person.see")


def hides(actor: Actor, registry: Registry, device_id: str | None) -> bool:
    """Whether values and device of this must be kept from the actor."""
    return device_id is not None and not sees_personal(actor) and is_personal(registry.get(device_id))


def hidden_kinds(actor: Actor) -> frozenset[str]:
    """The kinds of device of which the actor may see nothing that tells when: for the query, never for its answer."""
    return frozenset() if sees_personal(actor) else _PERSONAL_KINDS


def kind_is_personal(kind: str) -> bool:
    """Of a row that names its kind; empty where it is about no device."""
    return kind != "" and KINDS[kind].personal


def hides_kind(actor: Actor, kind: str) -> bool:
    """`hides` for a row that names its kind."""
    return kind_is_personal(kind) and not sees_personal(actor)


def hides_order(actor: Actor, *, kind: str, category: str) -> bool:
    """An order of a personal device, or of elder care filed by hand without any device."""
    return (kind_is_personal(kind) or is_personal_category(category)) and not sees_personal(actor)


def is_private_notice(actor: Actor, kind: str, priority: str) -> bool:
    """A notice of a personal device says that a door opened: not even a count in its grid."""
    return priority == Priority.NOTICE and hides_kind(actor, kind)


def refuse_hidden(actor: Actor, device: Device | None) -> None:
    """Raises NotAllowed for what `hides` would hide."""
    if is_personal(device) and not sees_personal(actor):
        raise NotAllowed(
            "personal_device",
            "涉及个人的设备数据仅处置员及以上可见",
            "what a personal device reports is for handlers and above",
        )
