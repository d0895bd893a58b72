"""Rules on the running installation, for the command line: asked over its API with the token it left in its folder."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any, Literal

import httpx

from devices.instants import to_iso
from gridwhistle.people import WRONG_TOKEN, NotDone, running

POLL_S = 0.3
# Reading a large rule book takes the service some seconds before it answers.
PATIENCE_S = 60.0
Told = Callable[[float], None]
Rules = Mapping[str, str] | Literal["running"] | None


class WrongRequest(NotDone):
    """What was asked for makes no sense: it is the caller who must change it."""


class WrongRules(Exception):
    """The service will not have the rules; every mistake with file, line and column, one a line."""


@contextmanager
def open_running(data_dir: Path) -> Iterator[httpx.Client]:
    """A client of the service that runs over this data folder. Raises NotDone where none does."""
    nobody = NotDone(f"{data_dir} 没有服务在运行 no service runs over this data folder: start it with gridwhistle run")
    try:
        lock = (data_dir / "lock").open("r+")
    except OSError as error:
        raise nobody from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with running(data_dir) as client:
                client.timeout = httpx.Timeout(PATIENCE_S)
                yield client
            return
    raise nobody


def backtest_running(
    data_dir: Path,
    *,
    rules: Mapping[str, str] | None,
    against: Rules,
    start: int,
    end: int,
    devices: Sequence[str] | None = None,
    told: Told,
) -> dict[str, Any]:
    """The result as the API gives it: readings, alarms, alarms_count, review, against_review, comparison, notes.

    `rules` are files by name, None the rules that run. Raises WrongRules, NotDone.
    """
    body = {
        "rules": rules, "against": against, "from": to_iso(start), "to": to_iso(end),
        "devices": None if devices is None else list(devices),
    }  # fmt: skip
    return _tried(data_dir, "backtest", body, told)


def suggest_running(
    data_dir: Path, *, rule: str, start: int, end: int, devices: Sequence[str] | None = None, told: Told
) -> dict[str, Any]:
    """As `rules.suggest.Suggestion.as_json`. Raises NotDone, also for a rule that does not run."""
    listed = None if devices is None else list(devices)
    return _tried(
        data_dir, "suggest", {"rule": rule, "from": to_iso(start), "to": to_iso(end), "devices": listed}, told
    )


def explain_alarm(data_dir: Path, alarm: int) -> dict[str, Any]:
    """{alarm, raised, now}, both explanations as the API gives them. Raises NotDone."""
    with open_running(data_dir) as client:
        return ask(client, "GET", f"/api/v1/alarms/{alarm}/explain")


def explain_rule(data_dir: Path, *, rule: str, device: str, at: int | None) -> dict[str, Any]:
    """Of the rule for the device at the instant; None is now. Raises NotDone."""
    query = {"device": device} | ({} if at is None else {"at": to_iso(at)})
    with open_running(data_dir) as client:
        return ask(client, "GET", f"/api/v1/rules/{rule}/explain", query=query)


def ask(
    client: httpx.Client, method: str, path: str, *, body: Mapping[str, object] | None = None,
    query: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Raises NotDone with what the service says, WrongRequest for a 422, WrongRules for mistakes in rules."""
    try:
        answer = client.request(method, path, json=body, params=query)
        told = answer.json()
    except (httpx.HTTPError, json.JSONDecodeError) as error:
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


def _tried(data_dir: Path, kind: str, body: Mapping[str, object], told: Told) -> dict[str, Any]:
    """Started, watched to its end, and given up where the person here gives up."""
    with open_running(data_dir) as client:
        job = ask(client, "POST", f"/api/v1/rules/{kind}", body=body)
        path = f"/api/v1/rules/{kind}/{job['id']}"
        try:
            while job["state"] in {"waiting", "running"}:
                told(job["progress"])
                sleep(POLL_S)
                job = ask(client, "GET", path)
        except KeyboardInterrupt:
            ask(client, "DELETE", path)
            raise
    if job["state"] != "done":
        problem = job["problem"] or {"zh": "已取消", "en": "it was cancelled"}
        raise NotDone(f"{problem['zh']} {problem['en']}")
    told(1.0)
    result: dict[str, Any] = job["result"]
    return result
