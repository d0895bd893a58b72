"""Users of an installation for the command line, whether it is running or not.

A running service holds its data folder's lock and is asked over its API, with the token it left there; otherwise the
lock is taken here, so that no service starts over the files meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Protocol

import httpx
from sqlalchemy import Engine

from alerts.refusals import Refusal
from alerts.roles import SERVICE, Actor, Role
from devices.instants import SECOND
from flow import access
from gridwhistle.clock import wall
from store.records.access import list_users
from store.records.database import UnusableRecords, migrate, open_records

RECORDS = "records.sqlite"
TIMEOUT_S = 10.0
PAGE = 500
# A service takes its lock first and its address last: this long it may be starting.
STARTING = 10 * SECOND


class NotDone(Exception):
    """Why it was not done, Chinese first."""


# The service knows another token than the one in the folder: signing in would not help.
WRONG_TOKEN = (
    "数据目录中的 api.token 与正在运行的服务不符：请重启服务，或改用该服务的数据目录 (data_dir) "
    "the api.token in this data folder is not that of the running service: restart the service, or use the data folder "
    "of the one that runs"
)


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
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with running(data_dir) as client:
                yield OverApi(client)
            return
        try:
            migrate(data_dir / RECORDS)
        except UnusableRecords as error:
            raise NotDone(str(error)) from error
        records = open_records(data_dir / RECORDS)
        try:
            yield InFiles(records)
        finally:
            records.dispose()


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
        self._ask("POST", "/api/v1/users", body=body)

    def everyone(self) -> list[Person]:
        found: list[Person] = []
        params = {"limit": str(PAGE)}
        while True:
            page = self._ask("GET", "/api/v1/users", params=params)
            found += [Person(u["name"], u["role"], u["display_name"], u["disabled"]) for u in page["items"]]
            if page["next"] is None:
                return found
            params["cursor"] = page["next"]

    def _ask(
        self, method: str, path: str, *, body: dict[str, str] | None = None, params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, json=body, params=params)
            told = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NotDone(f"服务没有应答 the running service did not answer: {type(error).__name__}") from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise NotDone(WRONG_TOKEN)
        if not answer.is_success:
            raise NotDone(f"{told.get('title', '')} {told.get('detail', '')}".strip() or f"HTTP {answer.status_code}")
        return told if isinstance(told, dict) else {}


def _left_behind(data_dir: Path) -> tuple[str, str] | None:
    """Address and token; None where the service has not come that far."""
    try:
        left = json.loads((data_dir / "api.json").read_text(encoding="utf-8"))
        return left["url"], (data_dir / left["token_file"]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError, KeyError):
        return None


@contextmanager
def running(data_dir: Path) -> Iterator[httpx.Client]:
    """A client of the service that holds the lock, by the address and token it left in its folder."""
    deadline = wall() + STARTING
    while (left := _left_behind(data_dir)) is None:
        if wall() > deadline:
            raise NotDone(
                f"{data_dir} 正被占用，但服务尚未就绪，请稍后再试 the data folder is in use, but the service in it "
                "does not answer yet: try again"
            )
        sleep(0.2)
    url, token = left
    headers = {"Authorization": f"Bearer {token}"}
    # It is on this machine: a proxy meant for the outside must not see the token.
    with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
        yield client
