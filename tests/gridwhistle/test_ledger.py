"""`ledger` and `refused` on the command line: over the API of what runs, and in the files of what was killed."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, text, update
from typer.testing import Result

from devices.instants import DAY, HOUR, MINUTE, from_iso, to_iso
from flow.access import open_local_session
from gridwhistle.times import read_time
from store.records.database import open_records, write
from store.records.tables import audit
from store.records.tables import ledger as ledger_table
from tests.api.centre import START, Centre, people
from tests.gridwhistle.test_cli import call

SPAN = ("--from", to_iso(START - DAY), "--to", to_iso(START + DAY))
DOOR = "gw/v1/qidu/door_sensor/door-1/readings"


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("people") / "records.sqlite")


def used(centre: Centre) -> None:
    """Four values, of which one came twice, two that a sensor cannot measure, and packets nobody can read."""
    for value in (3.0, 3.3, 3.6):
        centre.level(value)
    centre.send("ps-1", {"at": centre.now // 1000, "level_inside": 3.6})
    centre.send("ps-1", {"at": centre.now // 1000 + 1, "level_inside": 900, "level_outside": -900})
    centre.send("ps-2", b"\xff\x00no")
    centre.send("ps-2", {"nonsense": 1})
    centre.send("door-1", b"{", kind="door_sensor")


def killed(folder: Path, peopled: Path) -> None:
    """Its last readings are in the journal alone, and no snapshot says what was counted."""
    centre = Centre(folder, peopled).start()
    used(centre)
    centre.settler.appender.stop(5)
    for value in (3.1, 3.2):
        centre.now += HOUR
        centre.decoder.feed(b"gw/v1/qidu/pump_station/ps-2/readings", b'{"level_inside": %f}' % value, 0x30, 0)
        centre.settler.settle(centre.decoder.builder.take()[0], centre.now)
    centre.stop()
    (folder / "lock").touch()


@contextmanager
def running(folder: Path, peopled: Path) -> Iterator[Centre]:
    """A folder as a running service has it: locked, with its address and token."""
    centre = Centre(folder, peopled).start()
    with centre.served() as url, (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "api.token").write_text(open_local_session(centre.records, centre.now))
        (folder / "api.json").write_text(json.dumps({"url": url, "token_file": "api.token"}))
        yield centre
    centre.stop()


def gridwhistle(folder: Path, *arguments: str) -> Result:
    return call(*arguments, "--set", f"data_dir={folder}")


def answer(folder: Path, *arguments: str, status: int = 0) -> Any:
    done = gridwhistle(folder, *arguments, "--json")
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


def of_killed(folder: Path) -> dict[str, Any]:
    found = answer(folder, "ledger", *SPAN)
    names = ("received", "stored", "duplicate", "refused", "refused_by")
    rows = {(row["device"], row["hour"]): tuple(row[name] for name in names) for row in found["items"]}
    assert rows == {
        ("ps-1", "2025-11-21T04:00:00Z"): (6, 3, 1, 2, {"out_of_range": 2}),
        ("ps-2", "2025-11-21T04:00:00Z"): (2, 0, 0, 2, {"malformed": 1, "unknown_metric": 1}),
        ("door-1", "2025-11-21T04:00:00Z"): (1, 0, 0, 1, {"malformed": 1}),
        ("ps-2", "2025-11-21T05:00:00Z"): (1, 1, 0, 0, {}),
        ("ps-2", "2025-11-21T06:00:00Z"): (1, 1, 0, 0, {}),
    }
    assert {name: found["total"][name] for name in names[:4]} == {
        "received": 11, "stored": 5, "duplicate": 1, "refused": 5,
    }  # fmt: skip
    total: dict[str, Any] = found["total"]
    return total


def test_of_a_killed_installation_nothing_is_missed_and_it_verifies(tmp_path: Path, peopled: Path) -> None:
    killed(tmp_path, peopled)
    of_killed(tmp_path)
    verified = answer(tmp_path, "ledger", "--verify")["verified"]
    assert verified == {"ok": True, "devices": 2, "stored": 5, "differences": []}
    of_killed(tmp_path)
    assert answer(tmp_path, "ledger", "--device", "ps-2", *SPAN)["total"]["received"] == 4


def test_a_difference_is_told_by_device_and_count(tmp_path: Path, peopled: Path) -> None:
    killed(tmp_path, peopled)
    assert gridwhistle(tmp_path, "ledger", "--verify").exit_code == 0
    centre = Centre(tmp_path, peopled, now=START + 3 * HOUR)
    centre.peopled = tmp_path / "kept.sqlite"
    (tmp_path / "records.sqlite").rename(centre.peopled)
    centre.start()  # folds the ledger into its table
    centre.settler.snapshot()
    centre.stop()
    records = open_records(tmp_path / "records.sqlite")
    with write(records) as tx:
        c = ledger_table.c
        tx.execute(update(ledger_table).where(c.device == 0, c.stored > 0).values(stored=c.stored + 2))
    records.dispose()
    verified = answer(tmp_path, "ledger", "--verify", status=1)["verified"]
    assert verified["differences"] == [{"device": "ps-1", "ledger": 5, "counted": 3}]
    of_one = answer(tmp_path, "ledger", "--verify", "--device", "ps-2")["verified"]
    assert of_one == {"ok": True, "devices": 1, "stored": 2, "differences": []}
    said = gridwhistle(tmp_path, "ledger", "--verify")
    assert said.exit_code == 1
    assert said.stdout.splitlines()[-2].replace("│", " ").split() == ["ps-1", "5", "3", "-2"]
    assert "不一致" in said.stderr


def test_records_that_cannot_be_used_are_said_in_a_line(tmp_path: Path, peopled: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "records.sqlite").write_bytes(b"no database at all" * 100)
    for command in (("ledger",), ("refused", "list"), ("users", "list"), ("run",)):
        said = gridwhistle(tmp_path, *command)
        assert (said.exit_code, said.stdout) == (2 if command == ("run",) else 1, "")
        assert "无法打开 cannot be opened: file is not a database" in said.stderr.splitlines()[-1]
    (tmp_path / "records.sqlite").write_bytes(peopled.read_bytes())
    records = open_records(tmp_path / "records.sqlite")
    with write(records) as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    records.dispose()
    said = gridwhistle(tmp_path, "ledger")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "written by a newer version: 9999" in said.stderr


def test_of_a_running_installation_in_a_table_with_sums_and_reasons(tmp_path: Path, peopled: Path) -> None:
    with running(tmp_path, peopled) as centre:
        used(centre)
        shown = gridwhistle(tmp_path, "ledger", "--from", "-2h", "--verify")
        assert shown.exit_code == 0
        assert "2025-11-21 12:00+08:00" in shown.stdout
        assert "合计 sum" in shown.stdout
        assert "拒收 refused: 超出传感器量程 out_of_range 2 · 内容无法解析 malformed 2" in shown.stdout
        assert "台账与存储一致" in shown.stdout
        local = answer(tmp_path, "ledger", "--from", "2025-11-21T12:00", "--to", "2025-11-21T13:00")
        assert local["from"] == "2025-11-21T04:00:00Z"
        assert local["total"]["received"] == 9
        assert answer(tmp_path, "ledger", "--from", "2025-11-22", "--to", "2025-11-23")["items"] == []
        hour = answer(tmp_path, "ledger", "--from", "-0h")
        assert (hour["from"], hour["to"]) == ("2025-11-21T04:00:00Z", "2025-11-21T05:00:00Z")
        assert hour["total"]["received"] == 9
        for command in ("list", "retry"):
            said = gridwhistle(tmp_path, "refused", command, "--reason", "malformd")
            assert (said.exit_code, said.stdout) == (2, "")
            assert "最接近的是 malformed" in "".join(said.stderr.split("\n"))
        (tmp_path / "api.token").write_text("of another service")
        for words in (("ledger",), ("users", "list"), ("command", "ps-1", "stop")):
            said = gridwhistle(tmp_path, *words)
            assert said.exit_code == 1
            assert "api.token 与正在运行的服务不符" in said.stderr
    wrong = gridwhistle(tmp_path, "ledger", "--from", "yesterday")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert gridwhistle(tmp_path / "nowhere", "ledger").exit_code == 1


def test_what_was_refused_is_listed_shown_and_thrown_away_in_the_files_too(tmp_path: Path, peopled: Path) -> None:
    killed(tmp_path, peopled)
    listed = answer(tmp_path, "refused", "list")["items"]
    assert [(p["device"], p["reason"]) for p in listed] == [
        ("door-1", "malformed"), ("ps-2", "unknown_metric"), ("ps-2", "malformed"), ("ps-1", "out_of_range"),
        ("ps-1", "out_of_range"),
    ]  # fmt: skip
    assert (listed[0]["masked"], listed[0]["payload"], listed[0]["topic"]) == (True, "", "")
    number = {p["reason"]: str(p["id"]) for p in listed[1:]}
    shown = gridwhistle(tmp_path, "refused", "show", number["malformed"]).stdout
    assert "000000  ff 00 6e 6f" in shown
    assert '"nonsense"' in gridwhistle(tmp_path, "refused", "show", number["unknown_metric"]).stdout
    door = gridwhistle(tmp_path, "refused", "show", str(listed[0]["id"])).stdout
    assert DOOR not in door
    assert "不显示" in door
    page = answer(tmp_path, "refused", "list", "--limit", "2")
    rest = answer(tmp_path, "refused", "list", "--limit", "9", "--cursor", page["next"])
    assert [p["id"] for p in (*page["items"], *rest["items"])] == [p["id"] for p in listed]
    assert answer(tmp_path, "refused", "list", "--device", "ps-1", "--reason", "malformed")["items"] == []
    assert answer(tmp_path, "refused", "list", "--since", to_iso(START + HOUR))["items"] == []

    assert gridwhistle(tmp_path, "refused", "purge", "--all").exit_code == 2  # nobody to ask
    assert gridwhistle(tmp_path, "refused", "purge", "--yes").exit_code == 2
    assert gridwhistle(tmp_path, "refused", "purge", "--reason", "malformd", "--yes").exit_code == 2
    assert gridwhistle(tmp_path, "refused", "show", "4711").exit_code == 1
    assert gridwhistle(tmp_path, "refused", "retry", "--all").exit_code == 1  # nothing runs
    assert answer(tmp_path, "refused", "purge", "--reason", "malformed", "--yes") == {"purged": 2}
    assert answer(tmp_path, "refused", "purge", "--before", to_iso(START + MINUTE), "--yes") == {"purged": 0}
    assert answer(tmp_path, "refused", "purge", "--all", "--yes") == {"purged": 3}
    assert of_killed(tmp_path)["refused_by"] == {"out_of_range": 2, "malformed": 2, "unknown_metric": 1}
    records = open_records(tmp_path / "records.sqlite")
    with records.connect() as tx:
        done = [
            tuple(row) for row in tx.execute(select(audit.c.by, audit.c.subject).where(audit.c.act == "refused_purged"))
        ]
    records.dispose()
    assert [by for by, _ in done] == ["service"] * 3
    assert [subject for _, subject in done] == ["malformed", f"before {to_iso(START + MINUTE)}", "all"]


@pytest.mark.parametrize("words", [("--arg", "foo"), ("--expires", "soon"), ("--why", "")])
def test_a_command_names_the_option_that_is_wrong(tmp_path: Path, words: tuple[str, str]) -> None:
    said = gridwhistle(tmp_path, "command", "ps-1", "stop", *words)
    assert (said.exit_code, said.stdout) == (2, "")
    assert [name for name in ("--arg:", "--expires:", "--why:") if name in said.stderr] == [f"{words[0]}:"]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2025-07-01T08:00:00+08:00", "2025-07-01T00:00:00Z"),
        ("2025-07-01T00:00Z", "2025-07-01T00:00:00Z"),
        ("2025-07-01", "2025-06-30T16:00:00Z"),
        ("2025-07-01 09:30", "2025-07-01T01:30:00Z"),
        ("-1h30m", "2025-11-21T03:10:00Z"),
    ],
)
def test_a_time_as_a_person_writes_it(text: str, instant: str) -> None:
    assert read_time(text, zone=ZoneInfo("Asia/Shanghai"), now=START) == from_iso(instant)


@pytest.mark.parametrize("text", ["", "-", "-soon", "yesterday", "1969-12-31", "24h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|not a duration|before 1970"):
        read_time(text, zone=ZoneInfo("Asia/Shanghai"), now=START)
