"""Refused packets for the command line: through the running service, or in the files where none runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
from sqlalchemy import Engine

from alerts.refusals import NotFound, Refusal
from alerts.roles import SERVICE, Actor, Role
from devices.instants import to_iso
from flow.redriving import purge
from gridwhistle.clock import wall
from gridwhistle.reach import NotDone, ask, reach
from store.records.devices import read_registry
from store.records.refused import RefusedRow, Wanted, get_refused, list_refused

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which packets: all of these that are given must hold. `since` and `before` in microseconds."""

    reason: str | None = None
    device: str | None = None
    since: int | None = None
    before: int | None = None

    def as_json(self) -> dict[str, str]:
        times = {"since": self.since, "before": self.before}
        said = {"reason": self.reason, "device": self.device}
        said |= {name: None if at is None else to_iso(at) for name, at in times.items()}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(slots=True)
class Redriven:
    """What became of packets that were read again: taken, refused again and left as they are, these by reason."""

    taken: int = 0
    again: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> Json:
        return {"taken": self.taken, "refused_again": dict(self.again), "left": dict(self.left)}

    def add(self, found: Json) -> None:
        self.taken += found["taken"]
        self.again.update({one["reason"]: one["count"] for one in found["refused_again"]})
        self.left.update({one["reason"]: one["count"] for one in found["left"]})


def read_again(client: httpx.Client, bodies: Iterable[Mapping[str, Any]], told: Callable[[int, int], None]) -> Redriven:
    """The packets of each body, page by page; `told` how many are done and how many of this body wait. Raises
    WrongRequest, NotDone."""
    total = Redriven()
    for body in bodies:
        found: Json = {"next": None}
        while True:
            found = ask(client, "POST", "/api/v1/refused/retry", body={**body, "cursor": found["next"]})
            total.add(found)
            told(total.taken + total.again.total() + total.left.total(), found["waiting"])
            if found["next"] is None:
                break
    return total


class Packets(Protocol):
    """What raises does so with NotDone."""

    reached: httpx.Client | Engine

    def page(self, chosen: Chosen, *, limit: int, cursor: str | None) -> Json:
        """Newest first: items and next."""

    def one(self, number: int) -> Json: ...

    def purge(self, chosen: Chosen) -> int:
        """How many went. Nothing chosen: all."""


@contextmanager
def open_packets(data_dir: Path) -> Iterator[Packets]:
    """Raises NotDone where neither service nor files can be reached."""
    with reach(data_dir) as reached:
        yield OverApi(reached) if isinstance(reached, httpx.Client) else InFiles(reached)


class OverApi:
    def __init__(self, client: httpx.Client) -> None:
        self.reached: httpx.Client | Engine = client
        self._client = client

    def page(self, chosen: Chosen, *, limit: int, cursor: str | None) -> Json:
        query = chosen.as_json() | {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
        return ask(self._client, "GET", "/api/v1/refused", query=query)

    def one(self, number: int) -> Json:
        return ask(self._client, "GET", f"/api/v1/refused/{number}")

    def purge(self, chosen: Chosen) -> int:
        body: Json = {**chosen.as_json()} or {"all": True}
        return int(ask(self._client, "POST", "/api/v1/refused/purge", body=body)["purged"])


class InFiles:
    def __init__(self, records: Engine) -> None:
        self.reached: httpx.Client | Engine = records
        self._records = records
        with records.connect() as tx:
            self._registry = read_registry(tx)

    def page(self, chosen: Chosen, *, limit: int, cursor: str | None) -> Json:
        with self._told(), self._records.connect() as tx:
            found = list_refused(tx, self._wanted(chosen), limit=limit, cursor=cursor)
        return {"items": [self._shown(row) for row in found.items], "next": found.next}

    def one(self, number: int) -> Json:
        from api.intake import no_such_packet

        with self._told(), self._records.connect() as tx:
            row = get_refused(tx, number)
            if row is None:
                raise no_such_packet(number)
        return self._shown(row)

    def purge(self, chosen: Chosen) -> int:
        # Whoever may open the files needs no leave from them.
        with self._told():
            return purge(self._records, wall(), Actor(SERVICE, Role.ADMIN), self._wanted(chosen))

    def _shown(self, row: RefusedRow) -> Json:
        from api.intake import packet_of

        return packet_of(self._registry, row).model_dump(mode="json")

    def _wanted(self, chosen: Chosen) -> Wanted:
        device = None
        if chosen.device is not None:
            found = self._registry.get(chosen.device)
            if found is None:
                name = chosen.device
                raise NotFound("no_such_device", f"没有设备 {name}", f"there is no device {name}")
            device = found.number
        return Wanted(reason=chosen.reason, device=device, since=chosen.since, before=chosen.before)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Refusal as error:
            raise NotDone(f"{error.zh} {error.en}") from error
