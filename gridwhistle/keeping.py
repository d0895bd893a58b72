"""The settings of retention as the maintenance thread takes them."""

from __future__ import annotations

from devices.instants import DAY
from flow.retention import Keep
from gridwhistle.settings import Settings


def keep_of(settings: Settings) -> Keep:
    kept = settings.retention
    return Keep(
        raw=kept.raw,
        kinds=kept.kinds,
        metrics={(kind, metric): span for kind, spans in kept.metrics.items() for metric, span in spans.items()},
        personal=kept.personal,
        minutes=kept.minutes,
        hours=kept.hours,
        evidence=kept.evidence_days * DAY,
    )
