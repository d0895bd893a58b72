"""Commands to devices over the running service's API, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import sleep
from typing import Any
from urllib.parse import quote

import httpx

from devices.instants import SECOND, from_iso
from gridwhistle.clock import wall
from gridwhistle.reach import NotDone, ask

POLL_S = 0.2
# The service ends a command within a second or two of its time, unless answers may wait unread at the broker.
GRACE = 30 * SECOND
_OPEN = ("pending", "sent")


def send_command(client: httpx.Client, device: str, body: Mapping[str, object]) -> dict[str, Any]:
    """The command as the API gives it. Raises NotDone, WrongRequest."""
    return ask(client, "POST", f"/api/v1/devices/{quote(device, safe='')}/commands", body=body)


def until_ended(client: httpx.Client, found: dict[str, Any], *, told: Callable[[str], None]) -> dict[str, Any]:
    """The command once it has ended. Raises NotDone where the service cannot end it because it has no link."""
    until = from_iso(found["expires_at"]) + GRACE
    while found["state"] in _OPEN:
        if wall() > until:
            raise NotDone(
                f"{found['id']}: 与消息服务器的连接中断，应答未知 no link to the broker, the answer is not known yet"
            )
        told(found["state"])
        sleep(POLL_S)
        found = ask(client, "GET", f"/api/v1/devices/{found['device']}/commands/{found['id']}")
    return found
