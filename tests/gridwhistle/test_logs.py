"""Logs: JSON a line where it is asked for, and no address of a library that would tell secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from gridwhistle.logs import start_logging
from gridwhistle.settings import Log, LogLevel


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = before, level


def test_json_lines_carry_level_logger_message_extras_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(Log(json_lines=True))
    log = logging.getLogger("gridwhistle.test")
    log.info("批次 %d", 7, extra={"rows": 20_000})
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    out, err = capsys.readouterr()
    first, second = (json.loads(line) for line in err.splitlines())
    assert out == ""
    assert first.pop("at").endswith("Z")
    assert first == {"level": "info", "logger": "gridwhistle.test", "message": "批次 7", "rows": 20_000}
    assert second["trace"].endswith("ValueError: broken")


def test_what_is_below_the_level_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(Log(level=LogLevel.WARNING))
    logging.getLogger("gridwhistle.test").info("quiet")
    logging.getLogger("gridwhistle.test").warning("loud")
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("gridwhistle.test: loud")
    assert "Z WARNING" in line


def test_addresses_with_tokens_do_not_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(Log(level=LogLevel.DEBUG))
    logging.getLogger("httpx").info("HTTP Request: POST https://hook.example/hunter2")
    assert capsys.readouterr().err == ""
