"""What `/readyz` says of the four parts that a reading goes through."""

from __future__ import annotations

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from flow.appender import Appender
from flow.installation import Health
from gridwhistle.storage import Storage, first_line
from ingest.subscriber import Subscriber

# Journal entries that the readings store has not taken.
FAR_BEHIND = 1_000


def health(subscriber: Subscriber, storage: Storage, appender: Appender, records: Engine) -> Health:
    """Asks the database too; everything else is known."""
    sql, store = storage.sql_trouble(), storage.store_trouble()
    # The link that we do not acknowledge to is not to blame for the database.
    linked = subscriber.up and (sql is not None or not subscriber.trouble)
    lag = appender.lag()
    return {
        "broker": {
            "ok": linked,
            "detail": "connected" if linked else subscriber.trouble,
            "lag_s": round(subscriber.lag_s, 3),
        },
        "sql": _sql(records) if sql is None else {"ok": False, "detail": sql},
        "store": {"ok": store is None, "detail": store or "appending"},
        "journal": {"ok": lag < FAR_BEHIND, "detail": f"{lag} entries wait for the store", "lag_entries": lag},
    }


def _sql(records: Engine) -> dict[str, object]:
    try:
        with records.connect() as tx:
            tx.execute(select(1))
    except SQLAlchemyError as error:
        return {"ok": False, "detail": first_line(error)}
    return {"ok": True, "detail": "answers"}
