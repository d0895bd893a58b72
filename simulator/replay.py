"""A recorded file published over MQTT as the devices it describes, in file order (docs/simulator.md).

The data clock moves to a row's instant just before that row and only ever forward: a row that steps back in time is
published all the same, and is late to whoever follows the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from devices.instants import MILLISECOND, SECOND, to_iso
from devices.kinds import KINDS
from devices.names import clock_topic, topic
from simulator.mapping import FileMapping
from simulator.recorded import Chunk, RecordedFile, Unreadable, devices_of
from simulator.wire import Sender, connected

# Rows never run further ahead of the data clock than this. A service on the wall looks at its clock as often; a longer
# step would miss an absence shorter than it.
CLOCK_STEP = SECOND
# While waiting for a row the data clock goes on, this often in wall time.
PACE_S = 0.2


@dataclass(slots=True)
class ReplayReport:
    """Rows of the file, each counted once; `values` is what was sent in the ledger's unit.

    `outside` rows lie before `start` or from `end` on. `problems` holds the first 100 of `unreadable`.
    """

    devices: list[str] = field(default_factory=list)
    sent: int = 0
    values: int = 0
    skipped: int = 0
    unreadable: int = 0
    outside: int = 0
    ambiguous: int = 0
    problems: list[Unreadable] = field(default_factory=list)
    progress: float = 0.0


def encode_instant(at: int) -> int | str:
    """Epoch milliseconds, or ISO 8601 where they would lose something."""
    return to_iso(at) if at % MILLISECOND else at // MILLISECOND


async def replay(
    broker_url: str,
    mapping: FileMapping,
    path: Path,
    *,
    speed: float | None = None,
    start: int | None = None,
    end: int | None = None,
    progress: Callable[[ReplayReport], None] | None = None,
) -> ReplayReport:
    """Returns when the broker has acknowledged every row. `speed` is data time over wall time, None as fast as it goes.

    Raises RecordedError before anything is sent where the file cannot be used, ValueError for a broker url that is
    none, aiomqtt.MqttError where the connection fails.
    """
    report = ReplayReport(devices=[device.id for device in devices_of(mapping, path)])
    recorded = RecordedFile(mapping, path)
    async with connected(broker_url) as sender:
        clock = DataClock(sender, mapping.site, speed)
        for chunk in recorded.chunks(rows=1024):
            for topic_, at, payload, values in _messages(mapping, chunk):
                if (start is not None and at < start) or (end is not None and at >= end):
                    report.outside += 1
                    continue
                await clock.reach(at)
                await sender.send(topic_, payload)
                report.sent += 1
                report.values += values
            _take_counts(report, recorded)
            if progress is not None:
                progress(report)
        await clock.finish()
        await sender.drained()
    _take_counts(report, recorded)
    if progress is not None:
        progress(report)
    return report


class DataClock:
    """Publishes `gw/v1/{site}/clock` and keeps the pace between two instants of the data."""

    def __init__(self, sender: Sender, site: str, speed: float | None) -> None:
        self._sender = sender
        self._topic = clock_topic(site)
        self._speed = speed
        self._said: int | None = None
        self._reached = 0
        self._due = 0.0

    async def reach(self, at: int) -> None:
        """Return when it is time to publish what was measured at this instant, with the clock no more than a second
        behind it."""
        if self._said is None:
            self._reached, self._due = at, asyncio.get_running_loop().time()
            await self._say(at)
        elif at > self._reached:
            await self._wait(at)
            self._reached = at
        if at - (self._said or 0) >= CLOCK_STEP:
            await self._say(at)

    async def finish(self) -> None:
        """Say the last instant, so that what fell due by it is judged."""
        if self._said is not None and self._reached > self._said:
            await self._say(self._reached)

    async def _wait(self, at: int) -> None:
        """Wait out the stretch up to `at`, saying the time as it goes by."""
        if self._speed is None:
            return
        loop = asyncio.get_running_loop()
        self._due += (at - self._reached) / SECOND / self._speed
        while (left := self._due - loop.time()) > 0:
            await asyncio.sleep(min(left, PACE_S))
            passed = at - round(max(0.0, self._due - loop.time()) * self._speed * SECOND)
            if self._said is None or passed > self._said:
                await self._say(passed)

    async def _say(self, at: int) -> None:
        self._said = at
        await self._sender.send(self._topic, msgspec.json.encode({"at": encode_instant(at)}))


def _messages(mapping: FileMapping, chunk: Chunk) -> Iterator[tuple[str, int, bytes, int]]:
    """Topic, instant, payload and number of values of every row."""
    topics = [topic(mapping.site, mapping.kind, device, "readings") for device in chunk.devices]
    boolean = [KINDS[mapping.kind].metrics[metric].boolean for metric in chunk.metrics]
    encode = msgspec.json.Encoder().encode
    rows = zip(chunk.device.tolist(), chunk.measured_at.tolist(), chunk.values.tolist(), strict=True)
    for device, at, values in rows:
        reading: dict[str, object] = {"at": encode_instant(at)}
        for metric, value, truth in zip(chunk.metrics, values, boolean, strict=True):
            if value == value:  # NaN: this row has no value of this metric  # noqa: PLR0124
                reading[metric] = bool(value) if truth and value in (0.0, 1.0) else value
        yield topics[device], at, encode(reading), len(reading) - 1


def _take_counts(report: ReplayReport, recorded: RecordedFile) -> None:
    counts = recorded.counts
    report.skipped, report.unreadable, report.ambiguous = counts.skipped, counts.unreadable, counts.ambiguous
    report.problems, report.progress = counts.problems, recorded.progress
