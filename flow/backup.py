"""A copy of the installation in a folder: the readings, the records, the files of rules and town, and what they weigh.

Readings are copied first, as of one journal entry, and the records after them; the journal keeps what came in between,
and a service that starts over the copies applies it, as after a crash: nothing is lost and nothing doubled. The
manifest is written last, so what was cut short is no backup.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from store.readings import ReadingStore
from store.records.database import copy_database, head

if TYPE_CHECKING:  # the command line needs neither rules nor numpy for a copy
    from flow.readings import Settler

MANIFEST = "manifest.json"
READINGS, RECORDS, CONFIG = "readings.duckdb", "records.sqlite", "config"
FORMAT = 1
# Beyond what is there now: what comes while it is copied.
_ROOM = 64 << 20
_CHUNK = 1 << 20

Told = Callable[[str, float], None]
Stopping = Callable[[], bool]


class NotCopied(Exception):
    """Why there is no backup, or nothing was restored: Chinese, then English. Nothing is left behind."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(f"{zh} {en}")
        self.zh, self.en = zh, en


class File(msgspec.Struct, frozen=True):
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """`applied` is the last journal entry that is in the readings; `schema` the newest migration of the records. The
    instants are microseconds of the wall: begun, when the readings and when the records were as they are in the copy,
    whole."""

    format: int
    version: str
    schema: str
    applied: int
    began_at: int
    readings_at: int
    records_at: int
    finished_at: int
    files: dict[str, File]


@dataclass(frozen=True)
class Source:
    """What is copied. `still` is held around both copies: no journal entry that one of them needs is dropped, nothing
    is deleted. `files` are by their name below `config`."""

    data_dir: Path
    readings: ReadingStore
    still: Callable[[], AbstractContextManager[None]]
    files: Callable[[], Mapping[str, bytes]]
    version: str
    wall: Callable[[], int]


@contextmanager
def held(settler: Settler, ask: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """The journal keeps every entry that is not in the readings now, and no device is rejected. `ask` does it in the
    settling thread, so that no deletion is under way."""

    def hold() -> None:
        settler.needed_after = settler.appender.applied

    ask(hold)
    try:
        yield
    finally:
        settler.needed_after = None


def back_up(folder: Path, source: Source, told: Told, stopping: Stopping = lambda: False) -> Manifest:
    """Into a folder that is absent or empty; `told` what is being done and how much of all is. Raises NotCopied,
    StoreUnavailable, OSError, sqlite3.Error: then nothing is left of it."""
    made = _prepare(folder, source)
    try:
        return _copy(folder, source, told, stopping)
    except BaseException:
        shutil.rmtree(folder / CONFIG, ignore_errors=True)
        for left in folder.iterdir():
            left.unlink(missing_ok=True)
        if made:
            folder.rmdir()
        raise


def _copy(folder: Path, source: Source, told: Told, stopping: Stopping) -> Manifest:
    began_at = source.wall()
    with source.still():
        told("readings", 0.0)
        readings_at = source.wall()
        applied = source.readings.copy_to(folder / READINGS, stopping)
        told("records", 0.6)
        records_at = source.wall()
        copy_database(source.data_dir / RECORDS, folder / RECORDS)
    told("files", 0.8)
    names = [READINGS, RECORDS]
    for name, content in source.files().items():
        names.append(f"{CONFIG}/{name}")
        place = folder / names[-1]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    files = {}
    for number, name in enumerate(names):
        if stopping():
            raise NotCopied("备份已中止", "the backup was stopped")
        told("checksums", 0.8 + 0.2 * number / len(names))
        files[name] = _weigh(folder / name)
        _sync(folder / name)
    manifest = Manifest(
        FORMAT, source.version, head(), applied, began_at, readings_at, records_at, source.wall(), files
    )
    _write_manifest(folder, manifest)
    told("done", 1.0)
    return manifest


def restore(folder: Path, data_dir: Path, told: Told) -> Manifest:
    """What a backup holds into a data folder that holds nothing yet. Raises NotCopied, OSError: then nothing is left of
    it."""
    manifest = read_manifest(folder)
    total = sum(file.bytes for file in manifest.files.values()) or 1
    _need_room(data_dir, total)
    done = 0
    for name, file in manifest.files.items():
        told("checksums", done / total / 2)
        verify(folder, name, file)
        done += file.bytes
    written: list[Path] = []
    try:
        for name, file in manifest.files.items():
            told("files", done / total / 2)
            place = data_dir / name
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            written.append(place)
            shutil.copyfile(folder / name, place)
            _sync(place)
            done += file.bytes
        _sync(data_dir)
    except BaseException:
        for place in written:
            place.unlink(missing_ok=True)
        shutil.rmtree(data_dir / CONFIG, ignore_errors=True)
        raise
    told("done", 1.0)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Raises NotCopied."""
    place = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(place.read_bytes(), type=Manifest)
    except OSError as error:
        zh, en = f"{place}: 不是备份，或备份没有完成", f"not a backup, or one that was not finished: {error.strerror}"
        raise NotCopied(zh, en) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotCopied(f"{place}: 已损坏", f"damaged: {error}") from error
    if manifest.format > FORMAT or manifest.schema > head():
        raise NotCopied(
            f"{place}: 由更新的版本 {manifest.version} 备份", f"made by a newer version, {manifest.version}"
        )
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        inside = name in (READINGS, RECORDS) or (len(parts) > 1 and parts[0] == CONFIG and ".." not in parts)
        if not inside:
            raise NotCopied(f"{place}: 文件名不合规 {name}", f"no name of a file of a backup: {name}")
    for name in (READINGS, RECORDS):
        if name not in manifest.files:
            raise NotCopied(f"{place}: 缺少 {name}", f"{name} is missing from it")
    return manifest


def verify(folder: Path, name: str, file: File) -> None:
    """Raises NotCopied naming the file."""
    try:
        found = _weigh(folder / name)
    except OSError as error:
        raise NotCopied(f"{folder / name}: 无法读取", f"cannot be read: {error.strerror}") from error
    if found != file:
        zh, en = f"{folder / name}: 已损坏，与清单不符", "damaged: not what the manifest says"
        raise NotCopied(zh, en)


def _prepare(folder: Path, source: Source) -> bool:
    """Whether the folder was made here."""
    here, data = folder.resolve(), source.data_dir.resolve()
    if not folder.is_absolute() or here == data or data in here.parents:
        zh, en = f"{folder}: 须为数据目录之外的绝对路径", "an absolute path outside the data folder"
        raise NotCopied(zh, en)
    if not (source.data_dir / RECORDS).is_file():
        raise NotCopied(f"{source.data_dir}: 没有可备份的数据", "nothing to back up: no service ever ran over it")
    made = not folder.exists()
    if not made and (not folder.is_dir() or any(folder.iterdir())):
        raise NotCopied(f"{folder}: 不是空目录", "not an empty folder")
    size = sum(_size(source.data_dir / f"{name}{end}") for name in (READINGS, RECORDS) for end in ("", ".wal", "-wal"))
    _need_room(folder, size)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return made


def _need_room(folder: Path, size: int) -> None:
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size + _ROOM:
        zh = f"{folder}: 空间不足，需要 {size + _ROOM:,} 字节，可用 {free:,}"
        raise NotCopied(zh, f"not enough room: {size + _ROOM:,} bytes are needed, {free:,} are free")


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def _weigh(file: Path) -> File:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return File(size, digest.hexdigest())


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Whole or not at all."""
    made = folder / f"{MANIFEST}.new"
    made.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    _sync(made)
    made.rename(folder / MANIFEST)
    _sync(folder)


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
