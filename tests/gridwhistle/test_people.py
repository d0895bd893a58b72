"""Users from the command line, in the files of an installation that is not running."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from alerts.refusals import NotSignedIn
from alerts.roles import Role
from flow.access import sign_in
from gridwhistle import reach
from gridwhistle.cli import app
from gridwhistle.clock import wall
from store.records.database import open_records
from tests.conftest import free_port


def call(data: Path, *arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(app, ["users", *arguments, "--set", f"data_dir={data}"], input=given)


def role_of(data: Path, name: str, password: str) -> Role:
    return sign_in(open_records(data / "records.sqlite"), wall(), name, password, "api").actor.role


def test_a_user_is_added_with_the_password_from_standard_input(tmp_path: Path) -> None:
    added = call(tmp_path, "add", "王敏", "--role", "duty_officer", "--password-stdin", given="correct horse\n")
    assert added.exit_code == 0, added.output
    assert added.stdout == ""
    assert role_of(tmp_path, "王敏", "correct horse") is Role.DUTY_OFFICER
    assert "correct horse" not in added.output


def test_without_a_terminal_a_password_is_made_and_printed_once(tmp_path: Path) -> None:
    added = call(tmp_path, "add", "li.na", "--role", "handler")
    [password] = added.stdout.splitlines()
    assert role_of(tmp_path, "li.na", password) is Role.HANDLER
    with pytest.raises(NotSignedIn):
        role_of(tmp_path, "li.na", "")


def test_a_name_that_is_taken_or_a_short_password_is_a_no(tmp_path: Path) -> None:
    assert call(tmp_path, "add", "li.na", "--role", "handler").exit_code == 0
    again = call(tmp_path, "add", "li.na", "--role", "admin")
    assert again.exit_code == 1
    assert "已存在" in again.stderr
    assert "already" in again.stderr
    short = call(tmp_path, "add", "wu", "--role", "viewer", "--password-stdin", given="short\n")
    assert (short.exit_code, short.stdout) == (1, "")


def test_an_empty_standard_input_is_wrong_use(tmp_path: Path) -> None:
    assert call(tmp_path, "add", "wu", "--role", "viewer", "--password-stdin").exit_code == 2
    assert not (tmp_path / "records.sqlite").exists()


def test_the_users_are_listed(tmp_path: Path) -> None:
    call(tmp_path, "add", "wu", "--role", "viewer", "--display-name", "吴")
    call(tmp_path, "add", "li", "--role", "admin")
    listed = call(tmp_path, "list", "--json")
    assert json.loads(listed.stdout) == [
        {"name": "li", "role": "admin", "display_name": "", "disabled": False},
        {"name": "wu", "role": "viewer", "display_name": "吴", "disabled": False},
    ]
    assert "吴" in call(tmp_path, "list").stdout


def test_files_in_use_by_a_service_that_does_not_answer_are_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "STARTING", 0)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert call(tmp_path, "add", "wu", "--role", "viewer").exit_code == 1
        (tmp_path / "api.token").write_text("token")
        url = f"http://127.0.0.1:{free_port()}"
        (tmp_path / "api.json").write_text(json.dumps({"url": url, "token_file": "api.token"}))
        silent = call(tmp_path, "add", "wu", "--role", "viewer")
        assert (silent.exit_code, silent.stdout) == (1, "")
    assert not (tmp_path / "records.sqlite").exists()
