"""Users of an installation for the command line, whether it is running or not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from sqlalchemy import Engine

from alerts.refusals import Refusal
from alerts.roles import SERVICE, Actor, Role
from flow import access
from gridwhistle.clock import wall
from gridwhistle.reach import PATIENCE_S, NotDone, ask, reach
from store.records.access import list_users

PAGE = 500


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    role: str
    display_name: str
    disabled: bool


class People(Protocol):
    def add(self, *, name: str, role: Role, password: str, display_name: str) -> None:
        """Raises NotDone."""

    def everyone(self) -> list[Person]:
        """Raises NotDone."""


def random_password() -> str:
    return secrets.token_urlsafe(12)


@contextmanager
def open_people(data_dir: Path) -> Iterator[People]:
    """Raises NotDone where neither the service nor its files can be reached."""
    with reach(data_dir, make=True, patience_s=PATIENCE_S) as reached:
        yield OverApi(reached) if isinstance(reached, httpx.Client) else InFiles(reached)


class InFiles:
    def __init__(self, records: Engine) -> None:
        self._records = records
        # Whoever may open the files needs no leave from them.
        self._actor = Actor(SERVICE, Role.ADMIN)

    def add(self, *, name: str, role: Role, password: str, display_name: str) -> None:
        try:
            access.add_user(
                self._records, wall(), self._actor, name=name, password=password, role=role, display_name=display_name
            )
        except Refusal as error:
            raise NotDone(f"{error.zh} {error.en}") from error

    def everyone(self) -> list[Person]:
        found: list[Person] = []
        cursor: str | None = None
        with self._records.connect() as tx:
            while True:
                page = list_users(tx, limit=PAGE, cursor=cursor)
                found += [Person(u.name, u.role, u.display_name, u.disabled) for u in page.items]
                if (cursor := page.next) is None:
                    return found


class OverApi:
    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def add(self, *, name: str, role: Role, password: str, display_name: str) -> None:
        body = {"name": name, "role": role.value, "password": password, "display_name": display_name}
        ask(self._client, "POST", "/api/v1/users", body=body)

    def everyone(self) -> list[Person]:
        found: list[Person] = []
        params = {"limit": str(PAGE)}
        while True:
            page = ask(self._client, "GET", "/api/v1/users", query=params)
            found += [Person(u["name"], u["role"], u["display_name"], u["disabled"]) for u in page["items"]]
            if page["next"] is None:
                return found
            params["cursor"] = page["next"]
