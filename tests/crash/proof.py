"""What must hold after every fault: each reading stored once, each occurrence and order once, the ledger true."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from devices.registry import EVENT
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


def prove(
    service: Service, sent: Sequence[Sent], rules: Path, *, other: Sequence[str] = (), refused: int = 0
) -> dict[str, int]:
    """Stops the service and looks at everything; the ledger's sums. `other`: rules beside those of the load whose
    occurrences the caller judges."""
    counts = settled(service, sent)
    assert counts["stored"] == values_of(sent)
    assert counts["replaced"] == counts["deleted"] == 0
    assert counts["refused"] == refused
    ledger = service.all("ledger", **{"from": "1970-01-01T00:00:00Z"})
    live = [o for o in service.all("occurrences") if o["rule"] not in other]
    orders = Counter(o["device"] for o in service.all("orders"))
    data = service.folder / "data"
    assert service.stop() == 0
    counted = gridwhistle("ledger", "--verify", "--json", "--set", f"data_dir={data}")
    assert counted.returncode == 0, counted.stdout + counted.stderr

    assert sorted((tuple(o[k] for k in KEYS) for o in live), key=str) == expected(sent, rules, service.folder)
    hot = {o["device"] for o in live if o["rule"] == "hot"}
    assert hot, "no alarm at all proves nothing"
    assert orders == Counter(hot), "one order for each machine that was hot: the first is open all the time"
    assert kept_in(data) == wanted_of(sent), "count and content of what is stored"
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


@dataclass(frozen=True, slots=True)
class Kept:
    """What the stores hold: values by (device, metric) and instant, events by (device, key, instant)."""

    values: dict[tuple[str, str], dict[int, float]]
    events: set[tuple[str, str, int]]

    def has(self, message: Sent) -> bool:
        if message.values is None:
            return (message.device, f"{message.device}-{message.seq}", message.at * 1000) in self.events
        return message.at * 1000 in self.values.get((message.device, "temperature"), {})


def kept_in(data: Path) -> Kept:
    """Opened after the service has ended. Nothing may be there twice."""
    with closing(sqlite3.connect(data / "records.sqlite")) as records:
        by_number = "devices on devices.number = {}.device"
        series = records.execute(
            f"select devices.id, metric, series.number from series join {by_number.format('series')}"
        ).fetchall()
        events = records.execute(
            f"select devices.id, events.key, events.at from events join {by_number.format('events')}"
        ).fetchall()
    assert len(events) == len(set(events))
    values: dict[tuple[str, str], dict[int, float]] = {}
    with closing(DuckDBReadings(data / "readings.duckdb")) as readings:
        rows = readings.series()
        for device, metric, number in series:
            if metric.startswith(EVENT) or number not in rows:
                continue
            points = readings.range(number, 0, ENDLESS, rows[number] + 10)
            values[device, metric] = dict(zip(points.measured_at.tolist(), points.value.tolist(), strict=True))
            assert rows[number] == len(points.measured_at) == len(values[device, metric]), (device, metric)
    return Kept(values, set(events))


def wanted_of(sent: Sequence[Sent]) -> Kept:
    values: dict[tuple[str, str], dict[int, float]] = {}
    events: set[tuple[str, str, int]] = set()
    for message in sent:
        if message.values is None:
            events.add((message.device, f"{message.device}-{message.seq}", message.at * 1000))
            continue
        for metric, value in zip(("temperature", "current"), message.values, strict=True):
            values.setdefault((message.device, metric), {})[message.at * 1000] = value
    return Kept(values, events)
