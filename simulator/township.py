"""The pretend township over real MQTT, paced by the wall and stopped at any instant (docs/simulator.md).

One connection at one QoS, so that the data clock and the readings it covers keep their order. What has been published
and what it must raise are true up to `Published.until`, whenever the run ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import msgspec

from devices.instants import MILLISECOND, SECOND, to_iso
from devices.names import clock_topic, topic
from devices.town import Town, TownDevice
from simulator.load import load_messages, load_town
from simulator.reports import ledger_count, messages, payload
from simulator.scenarios import SCENARIOS, world_of
from simulator.truth import Expectation, Recorder, to_json
from simulator.wire import Sender, connected
from simulator.world import Sample

# Sleeps shorter than this cost more than they pace.
SHORTEST_SLEEP_S = 0.002
# While the wall catches up the stop is looked at this often.
LONGEST_SLEEP_S = 0.25
PROGRESS_EVERY_S = 0.5


@dataclass(slots=True)
class Published:
    """What went out and was acknowledged by the broker. `values` is in the ledger's unit: values and events, a packet
    that cannot be read counts one. `until` is the last data clock published, `truth` all expectations so far."""

    scenario: str
    seed: int
    start: int
    until: int
    devices: int
    messages: int = 0
    values: int = 0
    truth: list[Expectation] = field(default_factory=list)


class UnknownScenario(ValueError):
    """No scenario of this name."""


async def simulate(  # noqa: PLR0913 - the options of one command, all by name
    broker_url: str,
    town: Town,
    *,
    scenario: str = "showcase",
    seed: int = 1,
    start: int | None = None,
    speed: float | None = 60.0,
    until: int | None = None,
    devices: int | None = None,
    rate: float | None = None,
    stop: asyncio.Event | None = None,
    truth: Path | None = None,
    progress: Callable[[Published], None] | None = None,
) -> Published:
    """Publish the township until `stop` is set, or the data clock reaches `until` (µs).

    `start` None is the scenario's own; `speed` is the township's time over the wall's, None as fast as it goes.
    With `devices` or `rate` it is load instead of the scenario: so many synthetic devices, so many messages a second
    of wall time. Returns once the broker has acknowledged everything, the truth written to the file `truth`.

    Raises UnknownScenario, ValueError for a broker url that is none, aiomqtt.MqttError where the connection fails.
    """
    if scenario not in SCENARIOS:
        raise UnknownScenario(f"no scenario {scenario!r}; one of {', '.join(SCENARIOS)}")
    world = world_of(SCENARIOS[scenario], town, seed=seed, start=start)
    if devices is not None or rate is not None:
        town = load_town(town, devices or 100)
        stream = load_messages(town, seed=seed, start=world.start, every_us=_spacing(len(town.devices), rate, speed))
        scenario = "load"
    else:
        stream = messages(world)
    run = _Run(town, Published(scenario, seed, world.start, world.start, len(town.devices)), stop, progress)
    async with connected(broker_url, will=_will(town)) as sender:
        await run.publish(sender, stream, speed=speed, until=until)
    run.published.truth = run.recorder.finished(run.published.until)
    if truth is not None:
        truth.write_text(truth_file(run.published), encoding="utf-8")
    return run.published


def truth_file(published: Published) -> str:
    """JSON: the run, and under `expected` one line for each alarm it must raise."""
    about = {
        "scenario": published.scenario,
        "seed": published.seed,
        "start": to_iso(published.start),
        "until": to_iso(published.until),
        "values": published.values,
    }
    return to_json(published.truth, about)


class _Run:
    def __init__(
        self,
        town: Town,
        published: Published,
        stop: asyncio.Event | None,
        progress: Callable[[Published], None] | None,
    ) -> None:
        self.town = town
        self.published = published
        self.recorder = Recorder(town)
        self._stop = stop or asyncio.Event()
        self._progress = progress
        self._told_s = 0.0
        self._clock_topic = clock_topic(town.site)
        self._topics = {
            (d.id, channel): topic(town.site, d.kind, d.id, channel)
            for d in town.devices.values()
            for channel in ("readings", "events", "status")
        }

    async def publish(
        self, sender: Sender, stream: Iterator[Sample | int], *, speed: float | None, until: int | None
    ) -> None:
        await self._say_status(sender, b"online")
        loop, start = asyncio.get_running_loop(), self.published.start
        began, last = loop.time(), start
        for item in stream:
            at = item if isinstance(item, int) else item.sent_at
            if until is not None and at > until:
                break
            if speed is not None:
                await self._wait(began + (at - start) / SECOND / speed)
            if self._stop.is_set():
                break
            if isinstance(item, int):
                await self._say_clock(sender, item)
            else:
                await self._say(sender, item)
            last = at
        if last > self.published.until:  # nothing that went out stays uncovered by the clock
            await self._say_clock(sender, last)
        await self._say_status(sender, b"offline")
        await sender.drained()
        self._tell(loop.time(), always=True)

    async def _say(self, sender: Sender, sample: Sample) -> None:
        await sender.send(self._topics[sample.device, sample.channel], payload(sample))
        self.recorder.message(sample)
        self.published.messages += 1
        self.published.values += ledger_count(sample)

    async def _say_clock(self, sender: Sender, at: int) -> None:
        await sender.send(self._clock_topic, msgspec.json.encode({"at": at // MILLISECOND}))
        self.recorder.clock(at)
        self.published.until = at
        self._tell(asyncio.get_running_loop().time())

    async def _say_status(self, sender: Sender, status: bytes) -> None:
        for device in self.town.devices.values():
            await sender.send(self._topics[device.id, "status"], status, retain=True)

    async def _wait(self, due: float) -> None:
        """Until this loop time, or the stop."""
        loop = asyncio.get_running_loop()
        while (left := due - loop.time()) > SHORTEST_SLEEP_S and not self._stop.is_set():
            await asyncio.sleep(min(left, LONGEST_SLEEP_S))

    def _tell(self, now_s: float, *, always: bool = False) -> None:
        if self._progress is not None and (always or now_s - self._told_s >= PROGRESS_EVERY_S):
            self._told_s = now_s
            self._progress(self.published)


def _will(town: Town) -> aiomqtt.Will | None:
    """One connection leaves one will: it speaks for the first device, the silence of the others for themselves."""
    first: TownDevice | None = next(iter(town.devices.values()), None)
    if first is None:
        return None
    return aiomqtt.Will(topic(town.site, first.kind, first.id, "status"), b"offline", qos=1, retain=True)


def _spacing(devices: int, rate: float | None, speed: float | None) -> int:
    """Township time between two messages so that `rate` of them go out in a second of wall time; without a rate each
    device reports once a minute."""
    if rate is None:
        return max(1, round(60 * SECOND / devices))
    return max(1, round(SECOND / rate * (speed or 1.0)))
