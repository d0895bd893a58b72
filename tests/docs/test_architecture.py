"""docs/architecture.md says how the code is: folders, kinds, states, topics, samples and numbers."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields

import pytest

from alerts.alarms import MAX_SHELVED, AlarmState
from alerts.orders import STEP_NAMES, STEPS, OrderState, Step
from devices.instants import DAY, HOUR, MINUTE
from devices.kinds import KINDS
from devices.presence import MISSED_REPORTS
from devices.registry import Registry
from flow import alarms as recorded
from flow import holes
from flow.appender import REMEMBERED_ROWS
from flow.filling import QUIET
from flow.occurring import MOST_CHANGES
from gridwhistle.broker import LIMITS
from gridwhistle.centre import BACKLOG_S, LINK_GRACE_S
from gridwhistle.service import SNAPSHOT_EVERY, TICK_S
from gridwhistle.settings import Settings
from ingest.columns import KEPT_PAYLOAD
from ingest.decoder import FILTERS, Decoder, UnknownDevices, read_clock
from ingest.link import Options
from ingest.pieces import MAX_PAYLOAD
from ingest.subscriber import MARKER_EVERY_S, MOST_TAKEN, TAKEN_WITHIN_S
from ingest.topics import ALONE, MAX_UNKNOWN
from rules.book import load
from store.readings import Capabilities, ReadingStore
from store.records import refused
from tests.docs.pages import blocks, read, table_under

PAGE = read("docs/architecture.md")
TOPICS = {row[0].strip("`"): row[1] for row in table_under(PAGE, "| topic | what |")}
KIND_TABLE = table_under(PAGE, "| kind | metrics | events | attributes rules use |")


def section(number: int) -> str:
    return PAGE.split(f"\n## {number}. ")[1].split("\n## ")[0]


def decoder() -> Decoder:
    return Decoder(Registry(), unknown=UnknownDevices.ACCEPT, now=lambda: 1, first_arrival=lambda *_: None)


def payload(channel: str) -> bytes:
    """The page's own sample of this channel, `online` for a status, anything for what is not read."""
    samples = {block.info.split(" ")[1]: block.text for block in blocks(PAGE, "json")}
    samples |= {"commands": "{}", "reply": '{"id": "c-1", "ok": true}'}
    return samples.get(channel, "online").encode()


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_of_the_page_is_read_or_ignored_as_it_says(topic: str) -> None:
    channel = topic.rpartition("/")[2]
    kind = {"events": "camera"}.get(channel, "pump_station")
    ours = decoder()
    ours.feed(f"gw/v1/qidu/{kind}/x-1/status".encode(), b"online", 0x30, 0)
    ours.builder.take()
    ours.feed(topic.format(site="qidu", kind=kind, device="x-1").encode(), payload(channel), 0x30, 0)
    batch, _ = ours.builder.take()
    assert not batch.refused
    seen = {
        "readings": len(batch), "events": len(batch.events), "status": len(batch.statuses), "reply": len(batch.replies),
    }  # fmt: skip
    assert sum(seen.values()) > 0 if "ignored" not in TOPICS[topic] else not any(seen.values())
    assert seen.get(channel, 0) == {"readings": 3, "events": 1, "status": 1, "reply": 1}.get(channel, 0)


@pytest.mark.parametrize("channel", ["reading", "readings/raw", "state", "clock", "commands/reply/again"])
def test_every_other_topic_is_refused(channel: str) -> None:
    ours = decoder()
    ours.feed(f"gw/v1/qidu/pump_station/x-1/{channel}".encode(), b"{}", 0x30, 0)
    batch, _ = ours.builder.take()
    assert [refused.reason for refused in batch.refused] == ["bad_topic"]


def test_every_topic_of_the_page_is_subscribed_to() -> None:
    assert all(topic.startswith("gw/v1/") for topic in TOPICS)
    assert FILTERS == ("gw/v1/#",)
    assert "`gw/v1/#`" in section(2)
    assert "gridwhistle/{client id}/marker" in section(2)


def test_a_status_may_be_json_and_a_clock_bare() -> None:
    ours = decoder()
    for said in (b"offline", b'{"state": "offline"}'):
        ours.feed(b"gw/v1/qidu/camera/x-1/status", said, 0x30, 0)
    batch, _ = ours.builder.take()
    assert [status.online for status in batch.statuses] == [False, False]
    assert read_clock(b"1763721600000") == read_clock(b'{"at": 1763721600000}')


def test_the_rule_of_the_page_loads() -> None:
    (sample,) = blocks(PAGE, "yaml")
    (rule,) = load({"architecture.md": sample.text}).rules.values()
    assert rule.id == "polder-inside-high"


def test_the_samples_of_the_wire_are_json() -> None:
    assert {block.info.split(" ")[1] for block in blocks(PAGE, "json")} == {"readings", "events"}
    for block in blocks(PAGE, "json"):
        assert isinstance(json.loads(block.text), dict)


def metrics(cell: str) -> Iterator[tuple[str, str]]:
    """`a b` m, `c` A → (a, m), (b, m), (c, A)"""
    for names, unit in re.findall(r"`([^`]+)` ([^,]+)", cell):
        yield from ((name, unit.strip()) for name in names.split())


def test_the_kinds_are_those_of_the_code() -> None:
    listed = {row[0].strip("`"): row[1:] for row in KIND_TABLE}
    assert listed.keys() == KINDS.keys()
    for name, (measured, events, attributes) in listed.items():
        kind = KINDS[name]
        assert dict(metrics(measured)) == {m.name: m.unit for m in kind.metrics.values()}, name
        assert set(events.replace("`", "").split()) == kind.events, name
        assert tuple(" ".join(re.findall(r"`([^`]+)`", attributes)).split()) == kind.attributes, name
    assert {k.name for k in KINDS.values() if k.personal} == {"door_sensor", "patrol"}
    assert {k.name for k in KINDS.values() if not k.always_on} == {"patrol"}


def test_the_steps_have_their_states() -> None:
    for (named, states), step in zip(table_under(PAGE, "| step | states |"), Step, strict=True):
        assert named == f"{STEP_NAMES[step][0]} {step}"
        assert re.findall(r"`(\w+)`", states) == [s for s in OrderState if STEPS[s] is step]


def test_the_states_of_alarms() -> None:
    assert set(re.findall(r"\b[A-Z]{4,5}\b", section(5).split("States are")[1].split(";")[0])) == set(AlarmState)


def test_the_folders_are_the_packages_and_their_order_that_of_the_imports() -> None:
    listed = [row[0].strip("`/") for row in table_under(PAGE, "| folder | what it is | kind |")]
    project = tomllib.loads(read("pyproject.toml"))["tool"]
    assert sorted(listed) == project["setuptools"]["packages"] == project["importlinter"]["root_packages"]
    layers = project["importlinter"]["contracts"][0]["layers"]
    told = re.search(r"Imports go one way: `(.+?)`", PAGE)
    assert told is not None
    assert told[1].replace("(", "").replace(")", "").split(" → ") == layers


def test_the_protocol_of_the_store_is_named_whole() -> None:
    told = re.search(r"`ReadingStore` \((.+?)\)", PAGE)
    assert told is not None
    wanted = [name for name in vars(ReadingStore) if not name.startswith("_") and name != "capabilities"]
    assert re.findall(r"`(\w+)`", told[1]) == wanted
    assert len(fields(Capabilities)) == 3


NUMBERS = [
    (2, f"in the newest {REMEMBERED_ROWS:,} rows", "appender.REMEMBERED_ROWS"),
    (2, f"the first {KEPT_PAYLOAD // 1024} KiB", "columns.KEPT_PAYLOAD"),
    (
        2,
        f"the newest {refused.KEPT:,}, of {refused.KEPT_BYTES >> 20} MiB and {refused.KEPT_FOR // DAY} days",
        "refused.KEPT",
    ),
    (2, f"every {TICK_S * SNAPSHOT_EVERY:.0f} s: the state", "service.SNAPSHOT_EVERY"),
    (2, f"session expiry {Options('x', 20).session_expiry // 86400} days", "link.Options"),
    (2, f"Every {MARKER_EVERY_S:.0f} s it publishes a marker", "subscriber.MARKER_EVERY_S"),
    (2, f"`gw-link` is raised after {LINK_GRACE_S:.0f} s", "centre.LINK_GRACE_S"),
    (2, f"`gw-backlog` at a lag over {BACKLOG_S:.0f} s", "centre.BACKLOG_S"),
    (2, f"until {ALONE} in a row were good", "topics.ALONE"),
    (2, f"{'four' if MOST_TAKEN == 4 else MOST_TAKEN} links in a row", "subscriber.MOST_TAKEN"),
    (2, f"closed within {TAKEN_WITHIN_S:.0f} s", "subscriber.TAKEN_WITHIN_S"),
    (4, f"older than {recorded.LATE_AFTER // MINUTE} min behind now", "flow.alarms.LATE_AFTER"),
    (4, f"or {MISSED_REPORTS} × its interval", "presence.MISSED_REPORTS"),
    (4, f"more than {holes.MISSED} of its device's intervals", "holes.MISSED"),
    (4, f"at most {holes.MOST_OF_A_SERIES} a series, for {holes.KEPT // DAY} days", "holes.KEPT"),
    (4, f"none has come for {QUIET // MINUTE} min", "filling.QUIET"),
    (5, f"the first and the latest {MOST_CHANGES - 1} changes", "occurring.MOST_CHANGES"),
    (5, f"an expiry within {MAX_SHELVED // DAY} days", "alarms.MAX_SHELVED"),
    (6, f"default {Settings().orders.watch // HOUR} h", "settings.Orders"),
    (8, f"at most {MAX_UNKNOWN:,} such devices", "decoder.MAX_UNKNOWN"),
    (8, f"at most {MAX_PAYLOAD // 1024} KiB", "native.MAX_PAYLOAD"),
]


@pytest.mark.parametrize(("place", "told", "constant"), NUMBERS, ids=[constant for _, _, constant in NUMBERS])
def test_a_number_of_the_page_is_that_of_the_code(place: int, told: str, constant: str) -> None:
    assert told in section(place), f"§{place} does not say {told!r} ({constant})"


def test_the_limits_of_the_broker_are_told() -> None:
    for line in LIMITS.splitlines():
        if line.startswith("max_") and line.endswith(" 0"):
            assert f"`{line}`" in section(2)
