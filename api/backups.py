"""Backups of the running installation: begun and watched, by an admin alone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from alerts.roles import Actor
from api.caller import Here, may
from api.problems import describe
from api.shapes import In, Instant, Line, Out
from flow.backing_up import Backup as Made
from flow.backing_up import Backups, BackupState
from flow.installation import Installation

router = APIRouter(tags=["backup"], responses=describe(401, 403))

Admin = Annotated[Actor, Depends(may("backup.make"))]


class BackupWanted(In):
    folder: Annotated[Line, Field(min_length=1, max_length=4096)] = Field(
        description="Absolute path on the machine the service runs on; absent or empty, outside the data folder"
    )


class BackedUp(Out):
    bytes: int
    sha256: str


class Manifest(Out):
    """`applied` is the last journal entry that is in the copy of the readings; the records hold what came after it."""

    format: int
    version: str
    schema_: str = Field(alias="schema", description="The newest migration of the records")
    applied: int
    began_at: Instant
    readings_at: Instant
    records_at: Instant
    finished_at: Instant
    files: dict[str, BackedUp]


class Problem(Out):
    zh: str
    en: str


class Backup(Out):
    folder: str
    by: str
    began_at: Instant
    state: BackupState
    step: str = Field(description="readings, records, files, checksums or done")
    progress: float = Field(ge=0, le=1)
    manifest: Manifest | None
    problem: Problem | None = Field(description="Why it failed; then nothing is left in the folder")


@router.post("/backup", summary="Make a backup / 开始备份", status_code=202, responses=describe(409, 422))
def begin_backup(here: Here, caller: Admin, wanted: BackupWanted) -> Backup:
    """It is made beside everything else; ask `GET` how far it is. One at a time."""
    return _shown(_of(here).start(caller, wanted.folder))


@router.get("/backup", summary="The backup that is made, or the last / 备份进度", responses=describe(404))
def see_backup(here: Here, _caller: Admin) -> Backup:
    return _shown(_of(here).last())


def _of(here: Installation) -> Backups:
    assert here.backups is not None
    return here.backups


def _shown(made: Made) -> Backup:
    problem = None if made.problem is None else Problem(zh=made.problem[0], en=made.problem[1])
    return Backup(
        folder=made.folder, by=made.by, began_at=made.began_at, state=made.state, step=made.step,
        progress=made.progress, manifest=None if made.manifest is None else Manifest.model_validate(made.manifest),
        problem=problem,
    )  # fmt: skip
