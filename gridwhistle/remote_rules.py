"""Rules on the running installation, for the command line: asked over its API with the token it left in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import sleep
from typing import Any, Literal

from devices.instants import to_iso
from gridwhistle.reach import NotDone, ask, open_running

POLL_S = 0.3
Told = Callable[[float], None]
Rules = Mapping[str, str] | Literal["running"] | None


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
