"""Fixtures of the crash tests: a service under load with rules that raise, and where its log is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Broker
from tests.crash.load import RULES
from tests.end_to_end.conftest import Service


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    return file


@pytest.fixture
def make_service(tmp_path: Path, broker: Broker, rules: Path) -> Iterator[Callable[..., Service]]:
    """Not started yet, so that a test may add to its environment."""
    made: list[Service] = []

    def make(**settings: Any) -> Service:
        wanted = {"rules": rules, "unknown_devices": "accept", "ingest.max_messages_per_s": "none"}
        service = Service(tmp_path / f"service-{len(made)}", broker, wanted | settings)
        made.append(service)
        return service

    yield make
    for service in made:
        service.stop()
