"""Logging by setting: text or one JSON object a line, on standard error.

Libraries that would write addresses with their tokens at `info` (httpx: every URL it asks) are kept to warnings.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime

from gridwhistle.settings import Log

# Whatever logging puts on a record itself; the rest was given with `extra=`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TALKATIVE = ("httpx", "httpcore", "apprise", "alembic", "aiomqtt", "mqtt", "gmqtt", "uvicorn.access")


class JsonLines(logging.Formatter):
    """`at` (UTC), `level`, `logger`, `message`, `trace` of an exception, and whatever was given with `extra=`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def start_logging(settings: Log) -> None:
    """Replaces whatever was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.json_lines:
        handler.setFormatter(JsonLines())
    else:
        text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        text.converter = time.gmtime
        handler.setFormatter(text)
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
