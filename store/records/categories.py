"""The town's categories.yaml as it was at the last start, kept with the orders whose limits come from it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from sqlalchemy import Connection, delete, insert, select

from alerts.categories import BUILT_IN, Catalogue, read_categories
from store.records.tables import settings

_NAME = "categories"


def put_categories(
    tx: Connection, text: str | None, file: str = "categories.yaml", *, watch_us: int = BUILT_IN.watch_us
) -> None:
    """Keep this text and watch period from now on; None: the built-in catalogue alone.

    Raises DocumentError and keeps the old one.
    """
    if text is not None:
        read_categories(text, file)
    tx.execute(delete(settings).where(settings.c.name == _NAME))
    tx.execute(insert(settings).values(name=_NAME, value={"text": text, "watch_us": watch_us}))


def catalogue(tx: Connection) -> Catalogue:
    kept = tx.execute(select(settings.c.value).where(settings.c.name == _NAME)).scalar()
    return BUILT_IN if kept is None else _read(kept["text"] or "", kept["watch_us"])


# A page reads it for every order shown; parsing takes milliseconds.
@lru_cache(maxsize=4)
def _read(text: str, watch_us: int) -> Catalogue:
    return replace(read_categories(text, _NAME), watch_us=watch_us)
