"""The person behind a personal device, such as an elder's door sensor: seen on its own page only, and recorded."""

from __future__ import annotations

from sqlalchemy import Engine

from alerts.refusals import NotFound
from alerts.roles import Actor
from devices.kinds import KINDS
from devices.registry import Device
from store.records.access import write_audit
from store.records.database import write
from store.records.devices import get_device


def see_person(records: Engine, now: int, actor: Actor, *, device: str) -> Device:
    """The device with person, address and position; that `actor` saw it is an audit row in the same commit."""
    actor.require("person.see")
    with write(records) as tx:
        found = get_device(tx, device)
        if found is None or not KINDS[found.device.kind].personal:
            raise NotFound("no_person", "这个设备不涉及个人", "there is no person behind this device")
        write_audit(tx, now, actor.name, "person_seen", subject=device)
    return found.device
