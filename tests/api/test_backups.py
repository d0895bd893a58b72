"""Backups over the API: begun by an admin, watched to their end, one at a time, refused with a reason."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from flow.backup import Manifest, Stopping, Told, read_manifest
from store.records.tables import audit
from tests.api.centre import Centre


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


def ended(centre: Centre) -> Any:
    deadline = time.monotonic() + 20
    while (found := centre.get("admin", "/backup"))["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_backup_is_begun_watched_and_recorded(centre: Centre, place: Path) -> None:
    centre.level(3.8)
    assert centre.ask("GET", "/api/v1/backup", token=centre.token("admin")).status_code == 404
    folder = place / "backups" / "one"
    begun = centre.post("admin", "/backup", {"folder": str(folder)}, status=202)
    assert (begun["folder"], begun["by"], begun["problem"]) == (str(folder), "admin", None)
    done = ended(centre)
    assert (done["state"], done["progress"], done["step"]) == ("done", 1.0, "done")
    manifest = read_manifest(folder)
    assert done["manifest"]["files"]["records.sqlite"]["sha256"] == manifest.files["records.sqlite"].sha256
    assert done["manifest"]["schema"] == manifest.schema
    with centre.records.connect() as tx:
        (row,) = tx.execute(select(audit).where(audit.c.act == "backup_started")).all()
    assert (row.by, row.why) == ("admin", str(folder))


def test_why_there_is_none_is_said(centre: Centre, place: Path) -> None:
    (place / "full").mkdir()
    (place / "full" / "x").touch()
    for folder, said in ((str(place / "full"), "not an empty folder"), ("backup", "absolute path")):
        centre.post("admin", "/backup", {"folder": folder}, status=202)
        failed = ended(centre)
        assert failed["state"] == "failed"
        assert said in failed["problem"]["en"]
        assert failed["manifest"] is None


def test_one_at_a_time(centre: Centre, place: Path) -> None:
    backups = centre.installation.backups
    assert backups is not None
    making, going_on = backups._make, threading.Event()

    def make(folder: Path, told: Told, stopping: Stopping) -> Manifest:
        assert going_on.wait(10)
        return making(folder, told, stopping)

    backups._make = make
    centre.post("admin", "/backup", {"folder": str(place / "one")}, status=202)
    answer = centre.post("admin", "/backup", {"folder": str(place / "two")}, status=409)
    assert answer["type"].endswith(":backup_running")
    going_on.set()
    assert ended(centre)["state"] == "done"
    assert not (place / "two").exists()
