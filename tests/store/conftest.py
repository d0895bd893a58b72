from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.opened import Opened


@pytest.fixture(params=["duckdb"])
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Every backend: a suite that takes it runs once for each."""
    with Opened(tmp_path / "readings.duckdb") as opened:
        yield opened
