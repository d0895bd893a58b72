"""`doctor` on what a site stands on: the disk and what is to be kept there, open files, Mosquitto's own file."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devices.instants import DAY
from devices.town import read_town
from gridwhistle.broker import LIMITS
from gridwhistle.cli import app
from gridwhistle.doctor import FEW_FILES, open_files
from gridwhistle.doctor_disk import LITTLE_DISK, MB, file_system, kept, room
from gridwhistle.doctor_mosquitto import examine_config
from gridwhistle.findings import Finding, Level
from gridwhistle.starter import write_starter
from tests.conftest import free_port

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
server:/export /data/far nfs4 rw 0 0
/dev/vdb /data/far/near xfs rw 0 0
//nas/town /mnt/big\\040disk cifs rw 0 0
"""
SHIPPED = f"{LIMITS}autosave_interval 60\n"


def names(findings: Sequence[Finding]) -> dict[str, Level]:
    assert all(f.todo for f in findings if f.level is not Level.OK), "each with what to do"
    return {f.name: f.level for f in findings}


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/data", ""), ("/data/far/centre", "nfs4"), ("/data/far/near/centre", ""), ("/data/farther", ""),
        ("/run/centre", "tmpfs"), ("/mnt/big disk/centre", "cifs"),
    ],
)  # fmt: skip
def test_a_data_folder_on_a_network_or_in_memory_is_told(folder: str, said: str) -> None:
    found = file_system(Path(folder), MOUNTS)
    assert [said in f.found for f in found] == ([True] if said else [])
    assert names(found) == ({"disk.kind": Level.WARN} if said else {})


def test_of_two_file_systems_at_one_place_the_later_is_meant() -> None:
    assert file_system(Path("/data"), "a / nfs4 rw 0 0\nb / ext4 rw 0 0\n") == []
    assert file_system(Path("/data"), "") == [], "not known"


def test_the_journal_must_fit_beside_what_the_stores_need() -> None:
    assert room(LITTLE_DISK + 100 * MB, 100 * MB) == []
    assert names(room(LITTLE_DISK + 99 * MB, 100 * MB)) == {"disk.journal": Level.WARN}


def test_what_the_town_sends_must_fit_for_as_long_as_it_is_kept() -> None:
    entries = "".join(f"  - {{id: air-{n}, kind: air_monitor, interval: 10}}\n" for n in range(100))
    town = read_town({"town.yaml": "site: s\nname: {zh: 镇}\n", "devices.yaml": f"devices:\n{entries}"})
    # 100 devices, 10 metrics, every 10 s: 8.64 million readings of 12 bytes a day.
    (found,) = kept(5_000 * MB, 400 * DAY, town)
    assert (found.name, found.level) == ("disk.retention", Level.WARN)
    assert "每天约写 98.9 MB，空间约够 51 天" in found.found
    assert kept(5_000 * MB, 50 * DAY, town) == []
    assert kept(5_000 * MB, None, town) == [], "for ever is what somebody wanted"
    assert kept(5_000 * MB, 400 * DAY, None) == []


def test_few_open_files_are_told() -> None:
    assert open_files(FEW_FILES).level is Level.OK
    assert open_files(resource.RLIM_INFINITY).level is Level.OK
    few = open_files(256)
    assert (few.level, "LimitNOFILE=1024" in few.todo) == (Level.WARN, True)


def of_config(folder: Path, text: str) -> dict[str, Level]:
    (folder / "mosquitto.conf").write_text(text, encoding="utf-8")
    return names(examine_config(folder / "mosquitto.conf"))


def test_the_configuration_we_write_is_well(tmp_path: Path) -> None:
    write_starter(tmp_path)
    assert names(examine_config(tmp_path / "mosquitto.conf")) == {"mosquitto.conf": Level.OK}
    assert of_config(tmp_path, SHIPPED) == {"mosquitto.conf": Level.OK}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {"mosquitto.queue": Level.FAIL, "mosquitto.persistence": Level.FAIL}),
        ("# max_queued_messages 0\n" + SHIPPED, {"mosquitto.conf": Level.OK}),
        (SHIPPED + "max_queued_messages 100000\n", {"mosquitto.queue": Level.FAIL}),
        (SHIPPED + "max_queued_bytes 1000\n", {"mosquitto.queue": Level.FAIL}),
        (SHIPPED + "persistence false\n", {"mosquitto.persistence": Level.FAIL}),
        (LIMITS, {"mosquitto.autosave": Level.WARN}),
        (LIMITS + "autosave_interval 0\n", {"mosquitto.autosave": Level.WARN}),
        (LIMITS + "autosave_on_changes true\nautosave_interval 1\n", {"mosquitto.conf": Level.OK}),
        (LIMITS + "autosave_on_changes true\n", {"mosquitto.autosave": Level.WARN}),
        (SHIPPED + "max_queued_messages many\n", {"mosquitto.conf": Level.FAIL}),
    ],
)
def test_what_a_configuration_of_mosquitto_loses(tmp_path: Path, text: str, found: dict[str, Level]) -> None:
    assert of_config(tmp_path, text) == found


def test_the_files_it_includes_are_read_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "a.conf").write_text("max_queued_messages 5000\n")
    (folder / "b.conf").write_text(SHIPPED)
    (folder / "c.txt").write_text("persistence false\n")
    assert of_config(tmp_path, f"include_dir {folder}\n") == {"mosquitto.conf": Level.OK}
    (folder / "b.conf").write_text(f"include_dir {folder}\n")
    assert of_config(tmp_path, f"include_dir {folder}\n") == {"mosquitto.conf": Level.FAIL}, "no end"


def test_a_configuration_that_is_not_there_is_a_failure_on_the_command_line(tmp_path: Path) -> None:
    options = ["doctor", "--json", "--set", f"data_dir={tmp_path}", "--broker-config", str(tmp_path / "none.conf")]
    done = CliRunner().invoke(app, [*options, "--set", f"broker.url=mqtt://127.0.0.1:{free_port()}"])
    assert done.exit_code == 1
    found = {f["name"]: f["level"] for f in json.loads(done.stdout)["findings"]}
    assert found["mosquitto.conf"] == "fail"
    assert found["files.open"] == "ok"
