from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.centre import Centre, people


@pytest.fixture(scope="session")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("people") / "records.sqlite")


@pytest.fixture
def centre(tmp_path: Path, peopled: Path) -> Iterator[Centre]:
    centre = Centre(tmp_path, peopled).start()
    yield centre
    centre.stop()
