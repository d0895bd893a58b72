"""The town's categories.yaml as it was at the last start, kept with the orders whose limits come from it."""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import Connection, delete, insert, select

from alerts.categories import BUILT_IN, Catalogue, read_categories
from store.records.tables import settings

_NAME = "categories"


def put_categories(tx: Connection, text: str | None, file: str = "categories.yaml") -> None:
    """Keep this text from now on; None: the built-in catalogue alone. Raises DocumentError and keeps the old one."""
    if text is not None:
        read_categories(text, file)
    tx.execute(delete(settings).where(settings.c.name == _NAME))
    if text is not None:
        tx.execute(insert(settings).values(name=_NAME, value=text))


def catalogue(tx: Connection) -> Catalogue:
    text = tx.execute(select(settings.c.value).where(settings.c.name == _NAME)).scalar()
    return BUILT_IN if text is None else _read(text)


# A page reads it for every order shown; parsing takes milliseconds.
@lru_cache(maxsize=4)
def _read(text: str) -> Catalogue:
    return read_categories(text, _NAME)
