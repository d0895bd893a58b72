"""The metrics of one installation for Prometheus; counted by the installation, read when they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from alerts.orders import OPEN
from flow.installation import Installation
from store.records.alarms import counts_standing
from store.records.counts import count_outbox
from store.records.orders import counts_by_state

# From a batch of one value on a fast disk to a disk that stalls.
SETTLE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

log = logging.getLogger(__name__)


_LEDGER = {
    "gridwhistle_values": (
        "Values and events by what became of them; received is the sum of the others",
        "outcome",
        ("received", "stored", "duplicate", "replaced", "refused"),
    ),
    "gridwhistle_stored_values": (
        "Of the values and events stored: evaluated by the rules, late, flagged, quarantined, and deleted since",
        "mark",
        ("evaluated", "late", "flagged", "quarantined", "deleted"),
    ),
    "gridwhistle_missing_messages": (
        "Messages of devices that number theirs: missing (gaps), and of these found after all (gaps_filled)",
        "state",
        ("gaps", "gaps_filled"),
    ),
}
_REASONS = {
    "refused": "Values and events refused, by reason; an unreadable packet counts one",
    "flagged": "Values and events stored and flagged, by reason",
}
MOST_REASONS = 50


class Metrics:
    """`observe_settle` takes the seconds of every settled batch; its count is the number of batches."""

    def __init__(self, installation: Installation) -> None:
        self.registry = CollectorRegistry()
        settle = Histogram(
            "gridwhistle_settle_seconds",
            "Seconds to settle a batch: classify, judge, commit",
            buckets=SETTLE_BUCKETS,
            registry=self.registry,
        )
        self.observe_settle: Callable[[float], None] = settle.observe
        self.registry.register(_Records(installation))


class _Records(Collector):
    def __init__(self, installation: Installation) -> None:
        self._here = installation
        self._highest: dict[tuple[str, str], int] = {}

    def describe(self) -> Iterable[Metric]:
        # Registering must not ask the database, which may be away.
        return ()

    def collect(self) -> Iterable[Metric]:
        yield from self._parts()
        yield from self._ledger()
        try:
            yield from self._counts()
        except SQLAlchemyError as error:
            # What can still be said is said; gridwhistle_up of sql is 0.
            log.warning("metrics without the records: %s", error)

    def _parts(self) -> Iterable[Metric]:
        parts = self._here.health()
        up = GaugeMetricFamily("gridwhistle_up", "1 where this part of the service works", labels=["part"])
        for name, part in parts.items():
            up.add_metric([name], 1.0 if part.get("ok") else 0.0)
        yield up
        lag = parts.get("journal", {}).get("lag_entries", 0)
        assert isinstance(lag, int)
        yield GaugeMetricFamily("gridwhistle_journal_lag_entries", "Entries the readings store has not yet", value=lag)
        clients = self._here.hub.clients
        yield GaugeMetricFamily("gridwhistle_stream_clients", "Clients of the event stream", value=clients)

    def _ledger(self) -> Iterable[Metric]:
        sums, reasons = self._here.ledger_sums(), self._here.ledger_reasons()
        for name, (help_, label, columns) in _LEDGER.items():
            family = CounterMetricFamily(name, help_, labels=[label])
            for column in columns:
                family.add_metric([column], self._risen((name, column), sums[column]))
            yield family
        for column, help_ in _REASONS.items():
            family = CounterMetricFamily(f"gridwhistle_{column}_values", help_, labels=["reason"])
            # Reasons are words of ours and few; a hundred of them would be a mistake.
            told = sorted(reason for of, reason in reasons if of == column)[:MOST_REASONS]
            for reason in told:
                family.add_metric([reason], self._risen((column, reason), reasons[column, reason]))
            yield family

    def _risen(self, key: tuple[str, str], value: int) -> int:
        """Counters only rise: a value of less would be read as a restart. What is read again was not refused after
        all, and what the store had already was not stored anew; their counts catch up."""
        self._highest[key] = max(value, self._highest.get(key, 0))
        return self._highest[key]

    def _counts(self) -> Iterable[Metric]:
        with self._here.records.connect() as tx:
            standing, orders = counts_standing(tx), counts_by_state(tx)
            waiting, dead = count_outbox(tx)
        alarms = GaugeMetricFamily("gridwhistle_standing_alarms", "Standing alarms", labels=["priority"])
        for priority, count in standing.items():
            alarms.add_metric([priority], count)
        yield alarms
        open_orders = GaugeMetricFamily("gridwhistle_open_orders", "Orders somebody still works on", labels=["state"])
        for state in sorted(OPEN):
            open_orders.add_metric([state], orders.get(state, 0))
        yield open_orders
        outbox = GaugeMetricFamily("gridwhistle_outbox_messages", "Messages not sent", labels=["state"])
        outbox.add_metric(["waiting"], waiting)
        outbox.add_metric(["dead"], dead)
        yield outbox
