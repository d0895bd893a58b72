"""Backups and restoring for the command line: of the service that runs, over its API; of files, under their lock."""

from __future__ import annotations

import sqlite3
from contextlib import nullcontext
from pathlib import Path
from time import sleep
from typing import Any

import msgspec

from devices.documents import DocumentError
from devices.instants import to_iso
from flow.backup import READINGS, RECORDS, Manifest, NotCopied, Told, back_up, restore
from gridwhistle.backups import source_of
from gridwhistle.data_folder import Locked, data_folder
from gridwhistle.reach import NotDone, ask, open_running
from gridwhistle.settings import Settings
from store.readings import StoreUnavailable
from store.readings.duckdb import DuckDBReadings

POLL_S = 0.3
_FAILED = (NotCopied, StoreUnavailable, DocumentError, OSError, sqlite3.Error)


def make_backup(settings: Settings, folder: Path, told: Told) -> dict[str, Any]:
    """The manifest. `told` what is being done and how much of all is. Raises NotDone."""
    data_dir, folder = settings.data_dir, folder.absolute()
    if not (data_dir / RECORDS).is_file():
        raise NotDone(f"{data_dir}: 没有可备份的数据 nothing to back up: no service ever ran over it")
    try:
        with data_folder(data_dir):
            return _of_files(settings, folder, told)
    except Locked:
        return _of_service(data_dir, folder, told)


def restore_backup(folder: Path, data_dir: Path, told: Told) -> dict[str, Any]:
    """The manifest of what is in the data folder now. Raises NotDone."""
    if data_dir.exists() and any(place.name != "lock" for place in data_dir.iterdir()):
        raise NotDone(f"{data_dir}: 不是空目录，不会覆盖 not empty: nothing there is overwritten")
    try:
        with data_folder(data_dir):
            return _as_json(restore(folder, data_dir, told))
    except (NotCopied, Locked, OSError) as error:
        raise NotDone(str(error)) from error


def _of_service(data_dir: Path, folder: Path, told: Told) -> dict[str, Any]:
    with open_running(data_dir) as client:
        found = ask(client, "POST", "/api/v1/backup", body={"folder": str(folder)})
        while found["state"] == "running":
            told(found["step"], found["progress"])
            sleep(POLL_S)
            found = ask(client, "GET", "/api/v1/backup")
    if found["problem"]:
        raise NotDone(f"{found['problem']['zh']} {found['problem']['en']}")
    told("done", 1.0)
    return dict(found["manifest"])


def _of_files(settings: Settings, folder: Path, told: Told) -> dict[str, Any]:
    try:
        readings = DuckDBReadings(settings.data_dir / READINGS)
        try:
            made = back_up(folder, source_of(settings, readings, nullcontext), told)
        finally:
            readings.close()
    except _FAILED as error:
        raise NotDone(str(error)) from error
    return _as_json(made)


def _as_json(manifest: Manifest) -> dict[str, Any]:
    """As the API gives it: instants as text."""
    told: dict[str, Any] = msgspec.to_builtins(manifest)
    return told | {name: to_iso(told[name]) for name in told if name.endswith("_at")}
