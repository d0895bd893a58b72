"""Refused packets read again and thrown away over the API, and the ledger that stays right meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, update

from devices.instants import DAY, HOUR, MINUTE, to_iso
from store.records.database import write
from store.records.refused import Wanted, oldest_refused
from store.records.tables import audit
from store.records.tables import ledger as ledger_table
from tests.api.centre import Centre
from tests.api.test_health import metrics

NEW = "gw/v1/qidu/pump_station/ps-new/readings"


def rejected(centre: Centre, count: int = 3) -> None:
    """A device nobody wanted, and what it sent afterwards."""
    centre.level(2.0, "ps-new")
    centre.post("officer", "/devices/ps-new/reject")
    for n in range(count):
        centre.level(2.1 + n / 10, "ps-new")


def retry(centre: Centre, **body: Any) -> Any:
    return centre.post("admin", "/refused/retry", body)


def listed(centre: Centre, **query: Any) -> list[Any]:
    items: list[Any] = centre.get("admin", "/refused", **query)["items"]
    return items


def counts(centre: Centre, *names: str) -> tuple[Any, ...]:
    total = centre.get("admin", "/ledger")["total"]
    assert total["received"] == total["stored"] + total["duplicate"] + total["replaced"] + total["refused"]
    assert sum(total["refused_by"].values()) == total["refused"]
    assert sum(total["flagged_by"].values()) == total["flagged"]
    return tuple(total[name] for name in names)


def all_is_there(centre: Centre) -> bool:
    verified = centre.post("admin", "/ledger/verify")
    assert verified["ok"] == (not verified["differences"])
    return bool(verified["ok"])


def test_what_a_device_sent_is_stored_with_the_time_it_came_and_judged(centre: Centre) -> None:
    rejected(centre)
    assert counts(centre, "received", "stored", "refused", "refused_by") == (4, 1, 3, {"rejected_device": 3})
    assert metrics(centre)["gridwhistle_refused_values_total", "rejected_device"] == 3
    at = [packet["at"] for packet in listed(centre)]
    centre.now += 2 * HOUR
    centre.post("officer", "/devices/ps-new/approve")
    assert retry(centre, reason="rejected_device") == {
        "taken": 3, "refused_again": [], "left": [], "waiting": 0, "next": None,
    }  # fmt: skip
    assert listed(centre) == []
    assert counts(centre, "received", "stored", "refused", "refused_by", "evaluated") == (4, 4, 0, {}, 3)
    points = centre.get("admin", "/readings", device="ps-new", metric="level_inside")["items"]
    assert [point["value"] for point in points] == pytest.approx([2.1, 2.2, 2.3])
    assert [point["at"] for point in points] == [to_iso(x) for x in sorted(_micro(a) for a in at)]
    assert all_is_there(centre)
    assert metrics(centre)["gridwhistle_refused_values_total", "rejected_device"] == 3  # a counter never falls


def _micro(text: str) -> int:
    from devices.instants import from_iso

    return from_iso(text) // 1000 * 1000


def test_what_is_refused_again_stands_in_the_list_anew(centre: Centre) -> None:
    rejected(centre, 1)
    centre.send("ps-new", b"{")
    centre.send("ps-new", {"level_inside": 900.0, "level_outside": 2.5})
    before = {packet["id"] for packet in listed(centre)}
    centre.post("officer", "/devices/ps-new/approve")
    done = retry(centre, device="ps-new")
    assert done["taken"] == 1
    assert {again["reason"]: again["count"] for again in done["refused_again"]} == {"malformed": 1, "out_of_range": 1}
    now = listed(centre)
    assert {packet["reason"] for packet in now} == {"malformed", "out_of_range"}
    assert {packet["id"] for packet in now}.isdisjoint(before)
    assert counts(centre, "received", "stored", "refused") == (5, 3, 2)
    assert retry(centre, all=True)["taken"] == 0
    assert len(listed(centre)) == 2
    assert counts(centre, "received", "stored", "refused") == (5, 3, 2)
    assert all_is_there(centre)


def test_what_is_refused_twice_keeps_the_time_it_came(centre: Centre) -> None:
    centre.level(2.0, "ps-new")
    centre.post("officer", "/devices/ps-new/reject")
    centre.now = came = centre.now + MINUTE
    centre.send("ps-new", {"level_inside": 2.5})
    for _ in range(2):
        centre.now += 2 * HOUR
        centre.send("ps-1", b"x")
        assert retry(centre, device="ps-new")["refused_again"] == [{"reason": "rejected_device", "count": 1}]
    hours = {row["hour"] for row in centre.get("admin", "/ledger", device="ps-new")["items"] if row["refused"]}
    assert hours == {to_iso(centre.now // HOUR * HOUR)}
    assert [(p["device"], p["at"]) for p in listed(centre)] == [
        ("ps-1", to_iso(centre.now)), ("ps-1", to_iso(centre.now - 2 * HOUR)), ("ps-new", to_iso(came)),
    ]  # fmt: skip
    first = centre.get("admin", "/refused", limit=1)
    assert centre.get("admin", "/refused", limit=2, cursor=first["next"])["items"] == listed(centre)[1:]
    assert [p["device"] for p in listed(centre, since=to_iso(came + 1))] == ["ps-1", "ps-1"]
    centre.post("officer", "/devices/ps-new/approve")
    assert retry(centre, device="ps-new")["taken"] == 1
    assert centre.settler.appender.drain(5)
    points = centre.get("admin", "/readings", device="ps-new", metric="level_inside")["items"]
    assert [(point["at"], point["value"]) for point in points] == [(to_iso(came), 2.5)]
    assert counts(centre, "received", "stored", "refused") == (4, 2, 2)
    assert all_is_there(centre)


def test_what_cannot_be_read_again_stays_and_says_why(centre: Centre) -> None:
    rejected(centre, 1)
    centre.send("ps-new", b"[" + b" " * 70_000 + b"]")
    centre.send("ps-new", b"online", channel="status")
    centre.decoder.feed(b"gw/v1/qidu/pump_station/ps-1/readings", b'{"level_inside": 1}', 0x31, 0)  # retained
    centre.settler.settle(centre.decoder.builder.take()[0], centre.now)
    centre.post("officer", "/devices/ps-new/approve")
    done = retry(centre, all=True)
    left = {one["reason"]: one["count"] for one in done["left"]}
    assert (done["taken"], left) == (1, {"cut": 1, "status": 1, "timeless": 1})
    assert [(packet["reason"], packet["whole"]) for packet in listed(centre)] == [
        ("retained_without_time", True), ("rejected_device", True), ("rejected_device", False),
    ]  # fmt: skip


def test_many_go_in_parts_and_none_twice(centre: Centre) -> None:
    for n in range(620):
        centre.decoder.feed(NEW.replace("ps-new", f"x{n % 7}!").encode(), b"{}", 0x30, 0)
    centre.settler.settle(centre.decoder.builder.take()[0], centre.now)
    first = retry(centre, reason="bad_topic")
    assert (first["refused_again"], first["waiting"]) == ([{"reason": "bad_topic", "count": 500}], 120)
    last = retry(centre, reason="bad_topic", cursor=first["next"])
    assert (last["refused_again"], last["next"]) == ([{"reason": "bad_topic", "count": 120}], None)
    assert counts(centre, "received", "refused") == (620, 620)


def test_one_packet_by_its_number_and_who_did_what_is_recorded(centre: Centre) -> None:
    rejected(centre)
    newest, _, oldest = (packet["id"] for packet in listed(centre))
    assert centre.get("handler", f"/refused/{newest}")["topic"] == NEW
    centre.post("officer", "/devices/ps-new/approve")
    assert retry(centre, ids=[newest, oldest])["taken"] == 2
    assert centre.post("admin", "/refused/purge", {"device": "ps-new"}) == {"purged": 1}
    assert centre.ask("GET", f"/api/v1/refused/{newest}", token=centre.token("admin")).status_code == 404
    assert centre.post("admin", "/refused/retry", {"ids": [newest]}, status=404)["type"].endswith("nothing_refused")
    assert counts(centre, "received", "stored", "refused") == (4, 3, 1)
    with centre.records.connect() as tx:
        rows = tx.execute(select(audit.c.act, audit.c.by, audit.c.subject, audit.c.why).order_by(audit.c.id)).all()
    assert [tuple(row) for row in rows if row.act.startswith("refused_")] == [
        ("refused_retried", "admin", f"{newest} {oldest}", "2 packets"),
        ("refused_purged", "admin", "device 4", "1 packets"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": None},
        {"ids": []},
        {"all": False},
        {"ids": [0]},
        {"nonsense": 1},
        {"all": True, "reason": "malformed"},
    ],
)
@pytest.mark.parametrize("act", ["retry", "purge"])
def test_it_must_be_said_which(centre: Centre, act: str, body: dict[str, Any]) -> None:
    centre.send("ps-1", b"x")
    centre.post("admin", f"/refused/{act}", body, status=422)
    assert len(listed(centre)) == 1


def test_the_list_is_narrowed_by_time(centre: Centre) -> None:
    centre.send("ps-1", b"x")
    centre.now += HOUR
    centre.send("ps-1", b"y")
    assert [packet["payload"] for packet in listed(centre, since=to_iso(centre.now))] == ["y"]


def test_the_ledger_comes_in_pages_and_its_sum_with_the_first(centre: Centre) -> None:
    for hour in range(3):
        for device in ("ps-1", "ps-2"):
            centre.level(2.0 + hour, device)
        centre.settler.snapshot() if hour == 1 else None
        centre.now += HOUR
    whole = centre.get("viewer", "/ledger")
    assert whole["total"]["stored"] == 6
    hour = centre.now // HOUR * HOUR
    assert (whole["from"], whole["to"]) == (to_iso(hour - DAY), to_iso(hour + HOUR))
    span = {"from": to_iso(centre.now - 1), "to": to_iso(hour + HOUR)}
    assert centre.get("viewer", "/ledger", **span)["to"] == to_iso(hour + HOUR)
    items, page = [], centre.get("viewer", "/ledger", limit=4)
    assert page["total"] == whole["total"]
    while True:
        items += page["items"]
        if page["next"] is None:
            break
        page = centre.get("viewer", "/ledger", limit=4, cursor=page["next"])
        assert page["total"] is None
    assert items == whole["items"]
    assert [(row["hour"], row["device"]) for row in items] == sorted((row["hour"], row["device"]) for row in items)


def test_a_difference_is_told(centre: Centre) -> None:
    centre.level(3.0)
    centre.settler.snapshot()
    assert all_is_there(centre)
    with write(centre.records) as tx:
        tx.execute(update(ledger_table).values(stored=ledger_table.c.stored + 1))
    verified = centre.post("admin", "/ledger/verify")
    assert verified["differences"] == [{"device": "ps-1", "ledger": 2, "counted": 1}]
    assert centre.ask("POST", "/api/v1/ledger/verify?device=ps-2", token=centre.token("admin")).json()["ok"]


def test_of_two_who_read_the_same_packet_again_one_does(centre: Centre) -> None:
    """It has no time of its own: read twice it would be two values."""
    rejected(centre, 0)
    centre.now += HOUR
    centre.send("ps-new", {"level_inside": 2.5})
    centre.post("officer", "/devices/ps-new/approve")
    with centre.records.connect() as tx:
        kept = oldest_refused(tx, Wanted(), after=0, through=1 << 62, limit=9, most_bytes=1 << 20)
    assert len(kept) == 1

    async def both() -> None:
        read_again = centre.installation.read_again
        await asyncio.gather(read_again(kept), read_again(kept))

    centre.runner.run(both())
    assert counts(centre, "received", "stored", "refused") == (2, 2, 0)
