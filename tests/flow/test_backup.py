"""A backup made while readings come: restored, it is the installation it was made of, row by row."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from alerts.refusals import Conflict
from alerts.roles import Actor, Role
from devices.instants import MINUTE
from devices.registry import DeviceStatus
from flow.backup import CONFIG, MANIFEST, Manifest, NotCopied, Source, back_up, held, read_manifest, restore
from flow.ledger import verify
from store.readings import StoreUnavailable
from store.readings.duckdb import DuckDBReadings
from tests.flow.centre import START, SmallCentre

FILES = {"rules/water.yaml": b"rules: []\n", "settings.json": b"{}\n"}


class Interleaved(DuckDBReadings):
    """Something happens after the readings are copied and before the records are."""

    between: Callable[[], None] = staticmethod(lambda: None)

    def copy_to(self, path: Path, stopping: Callable[[], bool] = lambda: False) -> int:
        applied = super().copy_to(path, stopping)
        self.between()
        return applied


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[SmallCentre]:
    centre = SmallCentre(tmp_path / "data", store=Interleaved).start()
    yield centre
    centre.stop()


def source(centre: SmallCentre) -> Source:
    @contextmanager
    def still() -> Iterator[None]:
        with held(centre.settler, lambda act: act()):
            yield

    return Source(centre.folder, centre.readings, still, lambda: FILES, "1.2.3", lambda: centre.now)


def make(centre: SmallCentre, folder: Path, told: Callable[[str, float], None] = lambda *_: None) -> Manifest:
    return back_up(folder, source(centre), told)


def some_minutes(centre: SmallCentre, minutes: int) -> None:
    """Levels that raise an alarm and clear it, repeats, values for old instants, events, and what is refused."""
    for _ in range(minutes):
        at = centre.now + MINUTE
        value = 3.0 + (at - START) // MINUTE % 8 / 10
        centre.level(at, value)
        centre.level(at, value)
        centre.level(at - 3 * MINUTE, value / 2, "ps-2")
        centre.send("cam-1", {"at": at // 1000, "event": "person_detected"}, channel="events", kind="camera")
        centre.send("ps-1", b"?")
        centre.send("new-1", {"at": at // 1000, "level_inside": 1})
        centre.settle()


def tables(file: Path) -> dict[str, list[Any]]:
    """Every row of every table."""
    with closing(sqlite3.connect(file)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: db.execute(f'SELECT * FROM "{name}" ORDER BY rowid').fetchall() for name in names}


def readings(centre: SmallCentre) -> list[tuple[Any, ...]]:
    assert centre.settler.appender.drain(5)
    every = range(len(centre.settler.memory.registry.series_metric))
    found = centre.readings.slice(list(every), 0, 1 << 62, 1_000_000)
    columns = (found.series, found.measured_at, found.value, found.quality)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def state(centre: SmallCentre) -> bytes:
    return centre.settler.memory.snapshot(centre.settler.book.files)


def differences(centre: SmallCentre) -> list[Any]:
    assert centre.settler.appender.drain(5)
    memory = centre.settler.memory
    with centre.records.connect() as tx:
        return list(verify(tx, memory.ledger, centre.readings, memory.registry))


def test_what_comes_between_the_two_copies_is_neither_lost_nor_doubled(centre: SmallCentre, tmp_path: Path) -> None:
    assert isinstance(centre.readings, Interleaved)
    some_minutes(centre, 8)
    at_copy = len(readings(centre))

    def between() -> None:
        some_minutes(centre, 8)
        assert centre.settler.appender.drain(5)
        centre.settler.snapshot()  # would drop what the copied readings do not have
        some_minutes(centre, 5)

    centre.readings.between = between
    manifest = make(centre, tmp_path / "backup")
    assert tables(tmp_path / "backup" / "records.sqlite") == tables(centre.folder / "records.sqlite")
    restored = SmallCentre(tmp_path / "restored", now=centre.now)
    restore(tmp_path / "backup", restored.folder, lambda *_: None)
    with closing(sqlite3.connect(restored.folder / "records.sqlite")) as db:
        (waiting,) = db.execute("SELECT count(*) FROM journal WHERE number > ?", [manifest.applied]).fetchone()
    assert waiting >= 13 * 4
    restored.start()
    try:
        centre.settler.reload(centre.settler.book, centre.now)  # as a start does
        for step in ("as restored", "and on"):
            assert readings(restored) == readings(centre), step
            assert len(readings(restored)) > at_copy
            assert state(restored) == state(centre), step
            assert differences(restored) == differences(centre) == []
            assert restored.ledger() == centre.ledger()
            assert restored.occurrences() == centre.occurrences()
            some_minutes(restored, 10)
            some_minutes(centre, 10)
            for each in (restored, centre):
                each.settler.snapshot()
            ours, theirs = (tables(each.folder / "records.sqlite") for each in (centre, restored))
            assert ours.keys() == theirs.keys()
            assert {n for n in ours if ours[n] != theirs[n]} <= {"journal", "snapshots"}, step
    finally:
        restored.stop()


def test_the_test_above_can_fail(centre: SmallCentre, tmp_path: Path) -> None:
    """Without the hold a snapshot between the copies drops entries that the copied readings need."""
    assert isinstance(centre.readings, Interleaved)
    some_minutes(centre, 5)

    def between() -> None:
        some_minutes(centre, 5)
        assert centre.settler.appender.drain(5)
        centre.settler.snapshot()

    centre.readings.between = between
    loose = Source(centre.folder, centre.readings, nullcontext, lambda: FILES, "1", lambda: centre.now)
    back_up(tmp_path / "backup", loose, lambda *_: None)
    restored = SmallCentre(tmp_path / "restored", now=centre.now)
    restore(tmp_path / "backup", restored.folder, lambda *_: None)
    restored.start()
    assert len(readings(restored)) < len(readings(centre))
    assert differences(restored) != []
    restored.stop()


def test_no_device_is_rejected_while_a_backup_is_made_and_the_journal_shrinks_after_it(
    centre: SmallCentre, tmp_path: Path
) -> None:
    assert isinstance(centre.readings, Interleaved)
    some_minutes(centre, 2)
    officer = Actor("wang", Role.DUTY_OFFICER)

    def between() -> None:
        with pytest.raises(Conflict, match="backup_running"):
            centre.settler.set_status("new-1", DeviceStatus.REJECTED, centre.now, officer)

    centre.readings.between = between
    make(centre, tmp_path / "backup")
    assert centre.settler.set_status("new-1", DeviceStatus.REJECTED, centre.now, officer) == 2
    assert tables(centre.folder / "records.sqlite")["journal"] == []


def test_the_manifest_says_what_is_there(centre: SmallCentre, tmp_path: Path) -> None:
    some_minutes(centre, 2)
    assert centre.settler.appender.drain(5)
    steps: list[str] = []
    made = make(centre, tmp_path / "a" / "backup", lambda step, _: steps.append(step))
    folder = tmp_path / "a" / "backup"
    assert read_manifest(folder) == made
    assert (made.version, made.applied) == ("1.2.3", centre.settler.appender.applied)
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert found == sorted([*made.files, MANIFEST])
    assert (folder / CONFIG / "rules/water.yaml").read_bytes() == FILES["rules/water.yaml"]
    assert list(dict.fromkeys(steps)) == ["readings", "records", "files", "checksums", "done"]


def test_a_damaged_backup_is_refused_naming_the_file(centre: SmallCentre, tmp_path: Path) -> None:
    for name in make(centre, tmp_path / "backup").files:
        file = tmp_path / "backup" / name
        whole = file.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for content in (flipped, whole[:-1], None):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            else:
                file.mkdir()
            with pytest.raises(NotCopied, match=name):
                restore(tmp_path / "backup", tmp_path / "restored", lambda *_: None)
            assert not (tmp_path / "restored").exists()
            if content is None:
                file.rmdir()
                file.touch()
        file.write_bytes(whole)
    restore(tmp_path / "backup", tmp_path / "restored", lambda *_: None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "newer version"),
        ({"schema": "9999"}, "newer version"),
        ({"files": {}}, "readings.duckdb is missing"),
        ({"files": {"../../evil": {"bytes": 1, "sha256": "x"}}}, "no name of a file"),
        ({"files": {"config/../../evil": {"bytes": 1, "sha256": "x"}}}, "no name of a file"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": "x"}}}, "no name of a file"),
        ({"applied": "many"}, "damaged"),
    ],
)
def test_a_manifest_of_something_else_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    whole = {"format": 1, "version": "1", "schema": "0004", "applied": 1, "files": {}} | dict.fromkeys(
        ("began_at", "readings_at", "records_at", "finished_at"), START
    )
    (tmp_path / MANIFEST).write_text(json.dumps(whole | change))
    with pytest.raises(NotCopied, match=said):
        restore(tmp_path, tmp_path / "restored", lambda *_: None)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(NotCopied, match="not a backup"):
        read_manifest(tmp_path)


def test_a_folder_with_something_in_it_is_left_alone(centre: SmallCentre, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    for folder in (tmp_path / "full", centre.folder / "backup", centre.folder, Path("backup")):
        with pytest.raises(NotCopied, match=r"empty folder|outside the data folder"):
            make(centre, folder)
    assert (tmp_path / "full" / "x").read_text() == "mine"
    assert not (centre.folder / "backup").exists()


def test_too_little_room_is_said_before_anything_is_copied(
    centre: SmallCentre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, 4096))
    with pytest.raises(NotCopied, match="not enough room"):
        make(centre, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_one_that_is_stopped_leaves_nothing_and_the_store_goes_on(centre: SmallCentre, tmp_path: Path) -> None:
    assert isinstance(centre.readings, Interleaved)
    some_minutes(centre, 2)
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", tmp_path / "made"):
        with pytest.raises(NotCopied, match="stopped"):
            back_up(folder, source(centre), lambda *_: None, lambda: True)
    assert not any((tmp_path / "mine").iterdir())
    assert not (tmp_path / "made").exists()

    def refuse() -> None:
        raise StoreUnavailable("x")

    centre.readings.between = refuse
    with pytest.raises(StoreUnavailable):
        make(centre, tmp_path / "made")
    assert centre.settler.needed_after is None
    some_minutes(centre, 1)
    assert differences(centre) == []


def test_a_long_copy_ends_soon_once_it_is_to_stop(tmp_path: Path) -> None:
    """Interrupted inside its one statement; the store takes readings as before."""
    readings = DuckDBReadings(tmp_path / "readings.duckdb")
    made = readings._file.connection
    made.execute("insert into arrived select (i % 1000)::integer, i, i, 0, 0 from range(6000000) t(i)")
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        readings.copy_to(tmp_path / "copy.duckdb", lambda: time.monotonic() - begun > 0.2)
    assert not (tmp_path / "copy.duckdb").exists()
    assert readings.copy_to(tmp_path / "copy.duckdb") == 0
    readings.close()
    assert time.monotonic() - begun < 60
