"""What must hold after every fault: each reading stored once, each occurrence and order once, the ledger true."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from store.readings.duckdb import DuckDBReadings
from tests.crash.load import MAPPING, Sent, write_csv
from tests.end_to_end.conftest import Service, gridwhistle, wait_for

ENDLESS = 1 << 62
KEYS = ("rule", "device", "metric", "since", "raised_at", "cleared_at", "first_value", "peak_value")


def values_of(sent: Sequence[Sent]) -> int:
    """What the ledger counts: two values a reading, one an event."""
    return sum(2 if message.values else 1 for message in sent)


def settled(service: Service, sent: Sequence[Sent], seconds: float = 60) -> dict[str, int]:
    """Wait until the service has counted all of it as stored; the ledger's sums."""
    wanted = values_of(sent)
    wait_for(lambda: service.ledger()["stored"] >= wanted, seconds, lambda: f"{service.ledger()}, wanted {wanted}")
    return service.ledger()


def prove(service: Service, sent: Sequence[Sent], rules: Path, *, other: Sequence[str] = ()) -> dict[str, int]:
    """Stops the service and looks at everything; the ledger's sums. `other`: rules beside those of the load whose
    occurrences the caller judges."""
    counts = settled(service, sent)
    assert counts["stored"] == values_of(sent)
    assert counts["replaced"] == counts["refused"] == counts["deleted"] == 0
    ledger = service.all("ledger", **{"from": "1970-01-01T00:00:00Z"})
    live = [o for o in service.all("occurrences") if o["rule"] not in other]
    orders = Counter(o["device"] for o in service.all("orders"))
    data = service.folder / "data"
    assert service.stop() == 0

    assert sorted((tuple(o[k] for k in KEYS) for o in live), key=str) == expected(sent, rules, service.folder)
    hot = {o["device"] for o in live if o["rule"] == "hot"}
    assert hot, "no alarm at all proves nothing"
    assert orders == Counter(hot), "one order for each machine that was hot: the first is open all the time"
    names = _names(data)
    same_readings(data, names, sent)
    stored: Counter[str] = Counter()
    for row in ledger:
        stored[row["device"]] += row["stored"]
    wanted: Counter[str] = Counter()
    for message in sent:
        wanted[message.device] += 2 if message.values else 1
    assert stored == wanted, "per device"
    return counts


def expected(sent: Sequence[Sent], rules: Path, folder: Path) -> list[tuple[object, ...]]:
    """The occurrences by `backtest` over the same readings, in order."""
    csv, mapping = folder / "sent.csv", folder / "mapping.yaml"
    write_csv(list(sent), csv)
    mapping.write_text(MAPPING)
    answer = gridwhistle("backtest", "--rules", rules, "--csv", csv, "--mapping", mapping, "--json")
    assert answer.returncode == 0, answer.stderr
    return sorted((tuple(a[k] for k in KEYS) for a in json.loads(answer.stdout)["alarms"]), key=str)


def same_readings(data: Path, names: dict[tuple[str, str], int], sent: Sequence[Sent]) -> None:
    """Rows of the readings store and of the table of events against what was sent: count and content."""
    wanted: dict[tuple[str, str], dict[int, float]] = {}
    events: Counter[tuple[str, str, int]] = Counter()
    for message in sent:
        if message.values is None:
            events[message.device, f"{message.device}-{message.seq}", message.at * 1000] += 1
            continue
        for metric, value in zip(("temperature", "current"), message.values, strict=True):
            wanted.setdefault((message.device, metric), {})[message.at * 1000] = value
    with closing(DuckDBReadings(data / "readings.duckdb")) as readings:
        rows = readings.series()
        for key, values in wanted.items():
            points = readings.range(names[key], 0, ENDLESS, len(values) + 10)
            assert dict(zip(points.measured_at.tolist(), points.value.tolist(), strict=True)) == values, key
            assert rows[names[key]] == len(values), key
    with closing(sqlite3.connect(data / "records.sqlite")) as records:
        query = "select devices.id, events.key, events.at from events join devices on devices.number = events.device"
        assert Counter(tuple(row) for row in records.execute(query)) == events


def _names(data: Path) -> dict[tuple[str, str], int]:
    """(device, metric) → series."""
    query = "select devices.id, metric, series.number from series join devices on devices.number = series.device"
    with closing(sqlite3.connect(data / "records.sqlite")) as records:
        return {(device, metric): number for device, metric, number in records.execute(query)}
