"""Readings over the API: raw with quality, in buckets, newest; in pages that lose nothing."""

from __future__ import annotations

from typing import Any

import pytest

from devices.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND, to_iso
from tests.api.centre import START, Centre


def fill(centre: Centre, minutes: int) -> list[tuple[str, float]]:
    """One value a minute: 0.00, 0.01, … 9.99, 0.00, …"""
    first = START + MINUTE
    points = [(first + i * MINUTE, i % 1000 / 100) for i in range(minutes)]
    centre.now = points[-1][0]
    centre.send("ps-1", [{"at": at // MILLISECOND, "level_inside": value} for at, value in points])
    return [(to_iso(at), value) for at, value in points]


def points(answer: Any) -> list[tuple[str, float]]:
    return [(p["at"], p["value"]) for p in answer["items"]]


def ask(centre: Centre, **query: Any) -> Any:
    given = {"device": "ps-1", "metric": "level_inside"} | {"from" if k == "start" else k: v for k, v in query.items()}
    return centre.get("viewer", "/readings", **given)


def test_raw_readings_with_unit_and_quality(centre: Centre) -> None:
    sent = fill(centre, 5)
    centre.now += 100 * DAY
    centre.send("ps-2", {"at": START // MILLISECOND, "level_inside": 3.0})
    found = ask(centre, start=START // MILLISECOND)
    assert points(found) == sent
    assert (found["device"], found["metric"], found["unit"], found["next"]) == ("ps-1", "level_inside", "m", None)
    assert {p["quality"] for p in found["items"]} == {"good"}
    assert points(ask(centre)) == [], "a day before now, where nothing is given"


@pytest.mark.parametrize("span", ["iso", "ms", "offset", "lost plus"])
def test_instants_as_people_write_them(centre: Centre, span: str) -> None:
    sent = fill(centre, 10)
    start, end = START + 3 * MINUTE, START + 6 * MINUTE
    written = {
        "iso": (to_iso(start), to_iso(end)),
        "ms": (str(start // MILLISECOND), str(end // MILLISECOND)),
        "offset": ("2025-11-21T12:43:00+08:00", "2025-11-21T12:46:00+08:00"),
        "lost plus": ("2025-11-21T12:43:00 08:00", "2025-11-21T12:46:00 0800"),
    }[span]
    assert points(ask(centre, start=written[0], to=written[1])) == sent[2:5], "to is not included"


@pytest.mark.parametrize("instant", ["2025-11-21", "2025-11-21T12:43:00", "now", "1e3", "-1", "9" * 17, "NaN", ""])
def test_instants_without_meaning(centre: Centre, instant: str) -> None:
    query = f"/api/v1/readings?device=ps-1&metric=level_inside&from={instant}"
    assert centre.ask("GET", query, token=centre.token("viewer")).status_code == 422


def test_pages_of_raw_readings_lose_nothing(centre: Centre) -> None:
    sent = fill(centre, 25)
    found, cursor = [], None
    for _ in range(5):
        page = ask(centre, limit=7, **({"cursor": cursor} if cursor else {}))
        found += points(page)
        cursor = page["next"]
        if cursor is None:
            break
    assert found == sent


@pytest.mark.parametrize(
    ("fn", "expected"), [("avg", 0.02), ("min", 0.0), ("max", 0.04), ("last", 0.04), ("count", 5.0), (None, 0.02)]
)
def test_buckets(centre: Centre, fn: str | None, expected: float) -> None:
    first = START - START % (5 * MINUTE)
    centre.now = first + 5 * MINUTE
    centre.send("ps-1", [
        {"at": (first + i * MINUTE) // MILLISECOND, "level_inside": i / 100} for i in range(5)
    ])  # fmt: skip
    found = ask(centre, every="5m", start=first // MILLISECOND, **({"fn": fn} if fn else {}))
    assert [(p["at"], p["quality"]) for p in found["items"]] == [(to_iso(first), None)]
    assert found["items"][0]["value"] == pytest.approx(expected)


def test_pages_of_buckets_lose_nothing_and_cut_no_bucket(centre: Centre) -> None:
    fill(centre, 60)
    start = (START + 270 * SECOND) // MILLISECOND
    whole = points(ask(centre, every="7m", fn="count", start=start))
    assert sum(value for _, value in whole) == 56
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = ask(centre, every="7m", fn="count", start=start, limit=2, **({"cursor": cursor} if cursor else {}))
        assert len(page["items"]) <= 2
        found += points(page)
        cursor, pages = page["next"], pages + 1
    assert found == whole
    assert pages > 3


@pytest.mark.parametrize("limit", [1, 3, 10_000])
def test_pages_of_buckets_skip_time_without_readings(centre: Centre, limit: int) -> None:
    sent = fill(centre, 4)
    centre.now += 200 * DAY
    sent.append((to_iso(centre.level(3.0)), 3.0))
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = ask(centre, every="1s", start=0, limit=limit, **({"cursor": cursor} if cursor else {}))
        found += points(page)
        cursor, pages = page["next"], pages + 1
        assert pages < 6
    assert found == sent


def test_never_more_than_ten_thousand_points(centre: Centre) -> None:
    sent = fill(centre, 10_050)
    first = ask(centre, start=START // MILLISECOND)
    assert len(first["items"]) == 10_000
    rest = ask(centre, start=START // MILLISECOND, cursor=first["next"])
    assert points(first) + points(rest) == sent
    year = ask(centre, every="1s", start=(START - 300 * DAY) // MILLISECOND, fn="count")
    assert len(year["items"]) <= 10_000
    assert year["next"] is not None


@pytest.mark.parametrize(
    "query",
    ["fn=avg", "every=0s", "every=5", "every=-5m", "every=999999d", "every=1h&fn=sum", "limit=10001", "every=1ms",
     "from=2025-11-22T00:00:00Z&to=2025-11-21T00:00:00Z", "every=" + "1h" * 400,
     "every=" + "9" * 400 + "s"],
)  # fmt: skip
def test_questions_without_sense(centre: Centre, query: str) -> None:
    path = f"/api/v1/readings?device=ps-1&metric=level_inside&{query}"
    assert centre.ask("GET", path, token=centre.token("viewer")).status_code == 422


def test_a_device_that_never_reported_has_no_readings(centre: Centre) -> None:
    assert centre.get("viewer", "/readings", device="ps-2", metric="flow")["items"] == []


def test_the_newest_value_of_every_series_in_pages(centre: Centre) -> None:
    at = centre.now // MILLISECOND
    centre.send("ps-2", {"at": at, "level_inside": 3.1, "pumps_running": 2, "mains_ok": True})
    centre.send("ps-1", {"at": at, "level_inside": 3.0})
    centre.send("new-1", {"at": at, "level_inside": 9.0})
    whole = centre.get("viewer", "/readings/latest")["items"]
    assert [(v["device"], v["metric"], v["value"], v["unit"]) for v in whole] == [
        ("new-1", "level_inside", 9.0, "m"), ("ps-1", "level_inside", 3.0, "m"), ("ps-2", "level_inside", 3.1, "m"),
        ("ps-2", "mains_ok", 1.0, "bool"), ("ps-2", "pumps_running", 2.0, "1"),
    ]  # fmt: skip
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = centre.get("viewer", "/readings/latest", limit=2, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor, pages = page["next"], pages + 1
    assert (found, pages) == (whole, 3)
    narrow = centre.get("viewer", "/readings/latest", device="ps-2", metric="mains_ok")["items"]
    assert [v["metric"] for v in narrow] == ["mains_ok"]
    centre.post("officer", "/devices/new-1/reject")
    assert {v["device"] for v in centre.get("viewer", "/readings/latest")["items"]} == {"ps-1", "ps-2"}


def test_the_ledger_adds_up_and_pages(centre: Centre) -> None:
    fill(centre, 3)
    centre.send("ps-1", {"at": centre.now // MILLISECOND, "level_inside": 0.02})
    centre.send("ps-1", b"not json")
    centre.now += 2 * HOUR
    centre.level(3.0, "ps-2")
    found = centre.get("handler", "/ledger")
    total = found["total"]
    assert total["received"] == total["stored"] + total["duplicate"] + total["replaced"] + total["refused"]
    assert (total["stored"], total["duplicate"], total["refused"]) == (4, 1, 1)
    assert [item["hour"] for item in found["items"]] == sorted(item["hour"] for item in found["items"])
    first = centre.get("handler", "/ledger", limit=1)
    assert first["total"] == total
    rest = centre.get("handler", "/ledger", cursor=first["next"])
    assert first["items"] + rest["items"] == found["items"]
    only = centre.get("viewer", "/ledger", device="ps-2")
    assert (only["total"]["received"], len(only["items"])) == (1, 1)


def test_refused_packets_with_their_bytes(centre: Centre) -> None:
    for i in range(3):
        centre.send("ps-1", b"\xff not json %d" % i)
    found = centre.get("handler", "/refused", limit=2)
    assert [r["payload_base64"] for r in found["items"]] == ["/yBub3QganNvbiAy", "/yBub3QganNvbiAx"]
    assert all(r["topic"] == "gw/v1/qidu/pump_station/ps-1/readings" and r["reason"] for r in found["items"])
    rest = centre.get("handler", "/refused", cursor=found["next"])
    assert (len(rest["items"]), rest["next"]) == (1, None)
    assert centre.get("handler", "/refused", reason="nothing-like-it")["items"] == []


def test_refused_packets_of_personal_devices_are_counted_not_shown(centre: Centre) -> None:
    centre.send("door-1", b"\xff opened", kind="door_sensor")
    centre.send("door-9", b"{door_opened", kind="door_sensor")
    for person in ("handler", "admin"):
        for packet in centre.get(person, "/refused")["items"]:
            hidden = (packet["topic"], packet["detail"], packet["payload"], packet["payload_base64"])
            assert (hidden, packet["masked"]) == (("", "", "", ""), True)
            assert packet["reason"]
        assert len(centre.get(person, "/refused", device="door-1")["items"]) == 1
