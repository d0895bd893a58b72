"""The event stream: what a client that was away gets, what a slow one costs, and what a viewer never sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from devices.batch import F64, I64, U8
from devices.instants import DAY, HOUR
from devices.registry import Device, DeviceStatus, Registry
from flow import stream as streams
from flow.stream import Hub, emit, prune, sse
from store.records.database import migrate, open_records, write
from store.records.tables import stream

NOW = 1_782_864_000_000_000


@dataclass
class Message:
    event: str
    id: int | None
    data: dict[str, object]


@dataclass
class Latest:
    measured_at: I64
    value: F64
    quality: U8


class Town:
    """A hub over a real database and three devices: a pump station, an elder's door, a rejected stranger."""

    def __init__(self, folder: Path) -> None:
        migrate(folder / "records.sqlite")
        self.records: Engine = open_records(folder / "records.sqlite")
        self.now = NOW
        self.registry = Registry()
        self.registry.put(Device(0, "ps-01", "qidu", "pump_station"))
        self.registry.put(Device(1, "door-01", "qidu", "door_sensor"))
        self.registry.put(Device(2, "stranger", "qidu", "equipment", status=DeviceStatus.REJECTED))
        for device, metric in ((0, "level_inside"), (1, "battery"), (1, "event:door_opened"), (2, "temperature")):
            self.registry.series(device, metric)
        self.latest = Latest(np.full(4, NOW, np.int64), np.array([3.1, 1.0, 1.0, 20.0]), np.zeros(4, np.uint8))

    def hub(self) -> Hub:
        return Hub(self.records, lambda: self.now, registry=self.registry, latest=lambda: self.latest)

    def emit(self, count: int = 1, *, kind: str = "alarm", device: str = "ps-01", at: int | None = None) -> list[int]:
        with write(self.records) as tx:
            for i in range(count):
                emit(tx, self.now if at is None else at, kind, {"id": i, "device": device, "reason": "当前"})
            last = tx.execute(select(func.max(stream.c.id))).scalar_one()
        return list(range(last - count + 1, last + 1))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.records.dispose()


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Hub]:
    task = asyncio.create_task(hub.run(), name="hub")
    try:
        yield hub
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def parse(chunk: str) -> list[Message]:
    found = []
    for block in chunk.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "event" in fields:
            number = int(fields["id"]) if "id" in fields else None
            found.append(Message(fields["event"], number, json.loads(fields["data"])))
    return found


class Client:
    """Reads messages until told to stop; remembers the id an EventSource would send when it reconnects."""

    def __init__(self, hub: Hub, last_id: str | None = None, **how: object) -> None:
        options: dict[str, object] = {"personal": True, "values": False} | how
        self._source = sse(hub, last_id, **options)  # type: ignore[arg-type]
        self.last_id = last_id
        self.messages: list[Message] = []

    async def read(self, done: Callable[[Client], bool], seconds: float = 5) -> Client:
        async with asyncio.timeout(seconds):
            while not done(self):
                found = parse(await anext(self._source))
                self.messages += found
                for message in found:
                    if message.id is not None:
                        self.last_id = str(message.id)
        return self

    def ids(self, kind: str = "alarm") -> list[int | None]:
        return [m.id for m in self.messages if m.event == kind]

    async def close(self) -> None:
        await self._source.aclose()  # type: ignore[attr-defined]


def with_hub(town: Town, scenario: Callable[[Hub], Awaitable[None]]) -> None:
    async def go() -> None:
        async with running(town.hub()) as hub:
            await scenario(hub)

    asyncio.run(go())


def test_an_event_arrives_when_it_is_poked_not_when_it_is_polled(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "POLL_S", 60.0)

    async def scenario(hub: Hub) -> None:
        client = await Client(hub).read(lambda c: bool(c.messages))
        assert [m.event for m in client.messages] == ["ready"]
        (sent,) = await asyncio.to_thread(town.emit)
        await asyncio.to_thread(hub.poke)
        await client.read(lambda c: c.ids() == [sent], seconds=2)
        assert client.messages[-1].data == {"id": 0, "device": "ps-01", "reason": "当前"}

    with_hub(town, scenario)


def test_an_event_of_another_process_is_found_without_a_poke(town: Town) -> None:
    async def scenario(hub: Hub) -> None:
        client = await Client(hub).read(lambda c: bool(c.messages))
        (sent,) = await asyncio.to_thread(town.emit)
        await client.read(lambda c: len(c.messages) > 1, seconds=4)
        assert [(m.event, m.id) for m in client.messages[1:]] == [("alarm", sent)]

    with_hub(town, scenario)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_a_client_that_comes_and_goes_misses_nothing_and_sees_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, away: list[int]
) -> None:
    """It reads some, goes away while more happens, comes back with its Last-Event-ID; the service restarts between."""
    town = Town(tmp_path_factory.mktemp("stream"))

    async def visit(last_id: str | None, expected: int, more: int) -> tuple[str | None, list[int | None]]:
        async with running(town.hub()) as hub:
            client = await Client(hub, last_id).read(lambda c: len(c.ids()) >= expected and (c.last_id is not None))
            town.emit(more) if more else None
            await client.close()
        return client.last_id, client.ids()

    last_id, seen, missed = None, [], 0
    for more in [*away, 0]:
        last_id, ids = asyncio.run(visit(last_id, missed, more))
        seen += ids
        missed = more
    assert seen == list(range(1, sum(away) + 1))
    town.records.dispose()


def test_a_backlog_larger_than_memory_is_read_from_the_table(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RING", 10)
    first = town.emit()

    async def scenario(hub: Hub) -> None:
        sent = await asyncio.to_thread(town.emit, 1_200)
        hub.poke()
        client = await Client(hub, str(first[-1])).read(lambda c: len(c.ids()) == 1_200)
        assert client.ids() == sent

    with_hub(town, scenario)


def test_memory_and_table_join_without_a_gap(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RING", 3)
    first = town.emit()[0]

    async def scenario(hub: Hub) -> None:
        await Client(hub).read(lambda c: bool(c.messages))
        sent = [first, *await asyncio.to_thread(town.emit, 9)]
        hub.poke()
        await Client(hub, str(first)).read(lambda c: len(c.ids()) == 9)
        for i, last in enumerate(sent):
            assert [event.id for event in await hub.after(last) or []] == sent[i + 1 :]

    with_hub(town, scenario)


def test_a_client_that_does_not_read_costs_nothing_and_loses_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RING", 10)

    async def scenario(hub: Hub) -> None:
        slow = await Client(hub).read(lambda c: bool(c.messages))
        quick = await Client(hub).read(lambda c: bool(c.messages))
        sent = await asyncio.to_thread(town.emit, 300)
        hub.poke()
        await quick.read(lambda c: len(c.ids()) == 300)
        assert len(hub._ring) == 10
        await slow.read(lambda c: len(c.ids()) == 300)
        assert slow.ids() == quick.ids() == sent

    with_hub(town, scenario)


@pytest.mark.parametrize("unknown", ["99999", "-1", "x", "1e3", "9" * 40, "0x1"])
def test_an_unknown_id_gets_reset_with_the_id_to_go_on_from(town: Town, unknown: str) -> None:
    town.emit(3)

    async def scenario(hub: Hub) -> None:
        client = await Client(hub, unknown).read(lambda c: bool(c.messages))
        assert [(m.event, m.id) for m in client.messages] == [("reset", 3)]
        (sent,) = await asyncio.to_thread(town.emit)
        hub.poke()
        await client.read(lambda c: c.ids() == [sent])

    with_hub(town, scenario)


def test_an_id_older_than_a_day_gets_reset_even_before_it_is_pruned(town: Town) -> None:
    town.emit(2, at=NOW - 25 * HOUR)
    town.emit(2, at=NOW - 23 * HOUR)

    async def scenario(hub: Hub) -> None:
        old = await Client(hub, "2").read(lambda c: bool(c.messages))
        assert [m.event for m in old.messages] == ["reset"]
        kept = await Client(hub, "3").read(lambda c: bool(c.messages))
        assert kept.ids() == [4]

    with_hub(town, scenario)


def test_a_client_left_behind_by_pruning_is_told(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RING", 2)

    async def scenario(hub: Hub) -> None:
        client = await Client(hub).read(lambda c: bool(c.messages))
        await asyncio.to_thread(town.emit, 5)
        await asyncio.to_thread(prune, town.records, NOW + 2 * DAY)
        await asyncio.to_thread(town.emit, 5)
        hub.poke()
        await client.read(lambda c: any(m.event == "reset" for m in c.messages))
        (sent,) = await asyncio.to_thread(town.emit)
        hub.poke()
        await client.read(lambda c: c.ids()[-1:] == [sent])
        assert [m.event for m in client.messages] == ["ready", "reset", "alarm"]

    with_hub(town, scenario)


def test_pruning_keeps_a_day_and_never_reuses_an_id(town: Town) -> None:
    town.emit(3, at=NOW - 2 * DAY)
    kept = town.emit(1, at=NOW - DAY)
    assert prune(town.records, NOW) == 3
    assert prune(town.records, NOW + 30 * DAY) == 0
    with town.records.connect() as tx:
        assert list(tx.execute(select(stream.c.id)).scalars()) == kept
    assert town.emit() == [kept[0] + 1]


def test_an_event_exists_only_if_its_change_does(town: Town) -> None:
    with suppress(RuntimeError), write(town.records) as tx:
        emit(tx, NOW, "alarm", {"id": 1})
        raise RuntimeError
    with town.records.connect() as tx:
        assert tx.execute(select(func.count()).select_from(stream)).scalar_one() == 0


def test_below_handler_an_elders_door_is_a_count_in_its_grid(town: Town) -> None:
    with write(town.records) as tx:
        body = {"alarm": 7, "device": "door-01", "grid": "g-3", "state": "UNACK", "reason": {"open": 1.0}}
        emit(tx, NOW, "alarm", body)
        emit(tx, NOW, "alarm", body | {"priority": "notice"})
        emit(tx, NOW, "presence", {"device": "door-01", "online": False})
        emit(tx, NOW, "presence", {"device": "ps-01", "online": False})

    async def scenario(hub: Hub) -> None:
        viewer = await Client(hub, "0", personal=False).read(lambda c: len(c.messages) == 2)
        assert [m.data for m in viewer.messages] == [
            {"alarm": 7, "grid": "g-3", "state": "UNACK"},
            {"device": "ps-01", "online": False},
        ]
        handler = await Client(hub, "0", personal=True).read(lambda c: len(c.messages) == 4)
        assert handler.messages[0].data == body

    with_hub(town, scenario)


def test_below_handler_an_order_of_elder_care_without_a_device_is_a_count_too(town: Town) -> None:
    with write(town.records) as tx:
        body = {"id": 4, "category": "elder.no_movement", "device": None, "grid": "g-3", "title": "陆阿婆"}
        emit(tx, NOW, "order", body)

    async def scenario(hub: Hub) -> None:
        viewer = await Client(hub, "0", personal=False).read(lambda c: len(c.messages) == 1)
        assert viewer.messages[0].data == {"id": 4, "category": "elder.no_movement", "grid": "g-3"}
        handler = await Client(hub, "0", personal=True).read(lambda c: len(c.messages) == 1)
        assert handler.messages[0].data == body

    with_hub(town, scenario)


def values(client: Client) -> list[tuple[str, str, float]]:
    items = [item for m in client.messages if m.event == "latest" for item in m.data["items"]]  # type: ignore[attr-defined]
    return [(i["device"], i["metric"], i["value"]) for i in items]


def test_latest_values_come_without_id_throttled_and_only_what_changed(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "VALUES_S", 0.2)

    async def scenario(hub: Hub) -> None:
        client = await Client(hub, values=True).read(lambda c: len(values(c)) == 2)
        assert values(client) == [("ps-01", "level_inside", 3.1), ("door-01", "battery", 1.0)]
        begun = asyncio.get_running_loop().time()
        for i in range(50):
            town.latest.measured_at[0] += 1
            town.latest.value[0] = i
            await asyncio.sleep(0.01)
        await client.read(lambda c: values(c)[-1] == ("ps-01", "level_inside", 49.0))
        elapsed = asyncio.get_running_loop().time() - begun
        updates = [m for m in client.messages if m.event == "latest"]
        assert all(m.id is None for m in updates)
        assert len(updates) <= 2 + elapsed / 0.2
        assert {device for device, _, _ in values(client)[2:]} == {"ps-01"}
        viewer = await Client(hub, values=True, personal=False).read(lambda c: bool(values(c)))
        assert {device for device, _, _ in values(viewer)} == {"ps-01"}
        narrow = await Client(hub, values=True, devices=frozenset({"door-01"})).read(lambda c: bool(values(c)))
        assert {device for device, _, _ in values(narrow)} == {"door-01"}

    with_hub(town, scenario)


def test_many_values_are_sent_in_portions(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "VALUES_S", 0.05)
    monkeypatch.setattr(streams, "VALUES_LIMIT", 1)

    async def scenario(hub: Hub) -> None:
        client = await Client(hub, values=True).read(lambda c: len(values(c)) == 2)
        assert [len(m.data["items"]) for m in client.messages if m.event == "latest"] == [1, 1]  # type: ignore[arg-type]

    with_hub(town, scenario)


def test_series_numbered_later_are_sent_too(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "VALUES_S", 0.05)

    async def scenario(hub: Hub) -> None:
        client = await Client(hub, values=True).read(lambda c: len(values(c)) == 2)
        town.registry.series(0, "level_outside")
        grown = Latest(
            np.append(town.latest.measured_at, NOW), np.append(town.latest.value, 3.5), np.zeros(5, np.uint8)
        )
        town.latest = grown
        await client.read(lambda c: len(values(c)) > 2)
        assert values(client)[2:] == [("ps-01", "level_outside", 3.5)]

    with_hub(town, scenario)


def test_a_session_that_ends_ends_its_stream_at_the_next_heartbeat(town: Town) -> None:
    async def scenario(hub: Hub) -> None:
        asked = []

        def allowed() -> bool:
            asked.append(1)
            return len(asked) < 3

        chunks = [c async for c in sse(hub, None, personal=False, values=False, allowed=allowed, heartbeat_s=0.05)]
        assert chunks[1:] == [": \n\n"] * 2
        assert hub.clients == 0

    with_hub(town, scenario)


def test_streams_end_when_the_hub_does(town: Town) -> None:
    async def scenario() -> None:
        async with running(town.hub()) as hub:
            client = await Client(hub).read(lambda c: bool(c.messages))
            assert hub.clients == 1
        with pytest.raises(StopAsyncIteration):
            await client.read(lambda _: False, seconds=2)
        assert hub.clients == 0

    asyncio.run(scenario())


def test_latest_values_never_say_who_is_at_home(town: Town) -> None:
    town.registry.series(1, "open")
    town.registry.series(1, "motion")
    town.latest = Latest(np.full(6, NOW, np.int64), np.ones(6), np.zeros(6, np.uint8))

    async def scenario(hub: Hub) -> None:
        for asked in (None, frozenset({"door-01", "ps-01"})):
            client = await Client(hub, values=True, devices=asked).read(lambda c: bool(values(c)))
            assert {metric for _, metric, _ in values(client)} == {"level_inside", "battery"}

    with_hub(town, scenario)
