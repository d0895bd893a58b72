"""The data folder's lock: one process at a time works over the files of an installation."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Locked(Exception):
    """The data folder is not to be had: another service runs over it, or it cannot be made or written."""


@contextmanager
def data_folder(folder: Path) -> Iterator[None]:
    """The folder, made if absent and locked. Raises Locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        opened = (folder / "lock").open("w")
    except OSError as error:
        raise Locked(f"{folder}: {error.strerror}") from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Locked(
                f"{folder}: 已有服务在使用该数据目录 another gridwhistle runs over this data folder"
            ) from error
        yield
