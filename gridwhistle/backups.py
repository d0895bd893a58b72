"""What belongs to a backup of this installation."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version

from flow.backup import Source
from gridwhistle.clock import wall
from gridwhistle.folders import TOWN_FILES, read_rule_files
from gridwhistle.settings import Settings
from store.readings import ReadingStore


def source_of(settings: Settings, readings: ReadingStore, still: Callable[[], AbstractContextManager[None]]) -> Source:
    return Source(settings.data_dir, readings, still, lambda: files_of(settings), version("gridwhistle"), wall)


def files_of(settings: Settings) -> dict[str, bytes]:
    """The files of rules and town as they are now, and the settings in force but for the admin's password. The other
    secrets stand in files of their own, which are not copied. Raises OSError, DocumentError."""
    files = {f"rules/{name}": text.encode() for name, text in read_rule_files(settings.rules).items()}
    if settings.town is not None:
        town = [(name, settings.town / name) for name in TOWN_FILES]
        files |= {f"town/{name}": place.read_bytes() for name, place in town if place.is_file()}
    told = settings.model_dump(mode="json", by_alias=True, exclude={"admin": {"password"}})
    files["settings.json"] = json.dumps(told, ensure_ascii=False, indent=2).encode() + b"\n"
    return files
