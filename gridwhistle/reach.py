"""An installation for the command line: the service that runs over a data folder, or its files where none does.

A running service holds its folder's lock and is asked over its API, with the token it left there; otherwise the lock is
taken here, so that no service starts over the files meanwhile.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import IO, Any

import httpx
from sqlalchemy import Engine

from devices.instants import SECOND
from gridwhistle.clock import wall
from store.records.database import UnusableRecords, migrate, open_records

RECORDS = "records.sqlite"
# Reading a large rule book takes the service some seconds before it answers; what is asked of the whole store, minutes.
PATIENCE_S = 60.0
LONG_PATIENCE_S = 600.0
# A service takes its lock first and its address last: this long it may be starting.
STARTING = 10 * SECOND


class NotDone(Exception):
    """Why it was not done, Chinese first."""


class WrongRequest(NotDone):
    """What was asked for makes no sense: it is the caller who must change it."""


class WrongRules(Exception):
    """The service will not have the rules; every mistake with file, line and column, one a line."""


# The service knows another token than the one in the folder: signing in would not help.
WRONG_TOKEN = (
    "数据目录中的 api.token 与正在运行的服务不符：请重启服务，或改用该服务的数据目录 (data_dir) "
    "the api.token in this data folder is not that of the running service: restart the service, or use the data folder "
    "of the one that runs"
)


@contextmanager
def reach(
    data_dir: Path, *, make: bool = False, patience_s: float = LONG_PATIENCE_S
) -> Iterator[httpx.Client | Engine]:
    """A client of the running service, or the records of a stopped one, whose folder nobody else gets meanwhile.
    `make`: a folder that is not there is made; `patience_s`: how long an answer may take. Raises NotDone where
    there is neither."""
    try:
        if make:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "lock").open("a" if make else "r+")
    except OSError as error:
        why = f"无法使用 cannot be used: {error.strerror}" if make else "中没有系统数据 no installation lies in it"
        raise NotDone(f"{data_dir} {why}") from error
    with lock:
        if not _taken(lock):
            with _running(data_dir, patience_s) as client:
                yield client
            return
        try:
            migrate(data_dir / RECORDS)
        except UnusableRecords as error:
            raise NotDone(str(error)) from error
        records = open_records(data_dir / RECORDS)
        try:
            yield records
        finally:
            records.dispose()


@contextmanager
def open_running(data_dir: Path) -> Iterator[httpx.Client]:
    """A client of the service that runs over this data folder. Raises NotDone where none does."""
    nobody = NotDone(f"{data_dir} 没有服务在运行 no service runs over this data folder: start it with gridwhistle run")
    try:
        lock = (data_dir / "lock").open("r+")
    except OSError as error:
        raise nobody from error
    with lock:
        if _taken(lock):
            raise nobody
        with _running(data_dir, PATIENCE_S) as client:
            yield client


def _taken(lock: IO[str]) -> bool:
    """The lock is ours now; it is not where a service has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def ask(
    client: httpx.Client, method: str, path: str, *, body: Mapping[str, object] | None = None,
    query: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Raises NotDone with what the service says, WrongRequest for a 422, WrongRules for mistakes in rules."""
    try:
        answer = client.request(method, path, json=body, params=query)
        told = answer.json()
    except (httpx.HTTPError, ValueError) as error:  # or it answers with what is not JSON
        raise NotDone(f"服务没有应答 the running service did not answer: {type(error).__name__}") from error
    if answer.is_success and isinstance(told, dict):
        return told
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise NotDone(WRONG_TOKEN)
    if mistakes := told.get("mistakes"):
        raise WrongRules("\n".join(f"{m['file']}:{m['line']}:{m['column']}: {m['message']}" for m in mistakes))
    fields = [f"{each['field']}: {each['zh']} {each['en']}" for each in told.get("errors") or ()]
    refused = WrongRequest if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY else NotDone
    raise refused("\n".join([f"{told.get('title', '')} {told.get('detail', '')}".strip(), *fields]))


def _left_behind(data_dir: Path) -> tuple[str, str] | None:
    """Address and token; None where the service has not come that far."""
    try:
        left = json.loads((data_dir / "api.json").read_text(encoding="utf-8"))
        return left["url"], (data_dir / left["token_file"]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError, KeyError):
        return None


@contextmanager
def _running(data_dir: Path, patience_s: float) -> Iterator[httpx.Client]:
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
    with httpx.Client(base_url=url, headers=headers, timeout=patience_s, trust_env=False) as client:
        yield client
