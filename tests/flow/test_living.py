"""What an alarm of several devices must not hide: the elder behind a living sensor, the station lost in the flood."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from devices.instants import HOUR, MINUTE
from store.records.tables import orders
from tests.flow.centre import START, SmallCentre

BOOKS = Path(__file__).parents[2] / "examples" / "books"
SITE = "site: qidu\nname: {zh: 七都, en: Qidu}\n"
DOORS = {
    "town.yaml": SITE,
    "devices.yaml": "devices:\n" + "".join(
        f"  - {{id: d{i}, kind: door_sensor, interval: 3600, tags: [gateway-1]}}\n" for i in (1, 2, 3)
    ),
}  # fmt: skip
# A sensor that is alive may be mute about its door.
MUTE = """
rules:
  - id: gateway-down
    name: {zh: 网关离线, en: Gateway down}
    applies_to: {kind: door_sensor}
    when: of_group("gateway-1", absent) > 0.5
    clear: of_group("gateway-1", absent) < 0.2
  - id: door-mute
    name: {zh: 门状态无数据, en: Door mute}
    applies_to: {kind: door_sensor}
    when: absent(open, 5h)
    order: {category: elder.door}
"""
STATIONS = {
    "town.yaml": SITE,
    "grids.geojson": """{"type": "FeatureCollection", "features": [{"type": "Feature",
        "properties": {"id": "west", "name": "西片"}, "geometry": {"type": "Polygon",
        "coordinates": [[[120, 31], [121, 31], [121, 32], [120, 31]]]}}]}""",
    "devices.yaml": "devices:\n" + "".join(
        f"  - {{id: ps-{i}, kind: pump_station, grid: west, interval: 60, attributes: {{inside_limit_level: 3.5}}}}\n"
        for i in (1, 2, 3)
    ),
}  # fmt: skip
FLOOD = """
rules:
  - id: polders-high
    name: {zh: 片区多处圩内水位超限, en: Several polders above their limits}
    applies_to: {kind: pump_station}
    when: in_grid(count(level_inside > attr.inside_limit_level) >= 2)
    priority: critical
  - id: level-silent
    name: {zh: 水位无数据, en: No level}
    applies_to: {kind: pump_station}
    when: absent(level_inside, 15m)
    order: {category: device.fault}
"""
GATEWAY = ("gateway-down", "group:gateway-1")


def init_books(*names: str) -> str:
    """As `init --books` takes them, in one file."""
    return "rules:\n" + "".join((BOOKS / f"{name}.yaml").read_text("utf-8").split("rules:\n", 1)[1] for name in names)


def report(centre: SmallCentre, *devices: str, **values: object) -> None:
    """The clock first: an hour has gone by since the last."""
    centre.settler.tick(centre.now)
    for device in devices:
        centre.send(device, {"at": centre.now // 1000, **values}, kind="door_sensor")
    centre.settle()


def ordered(centre: SmallCentre) -> list[tuple[str, str]]:
    with centre.records.connect() as tx:
        return [(o.category, o.device) for o in tx.execute(select(orders).order_by(orders.c.id))]


def test_the_elder_behind_a_living_sensor_is_looked_for_while_the_gateway_alarm_stands(tmp_path: Path) -> None:
    """Two of three sensors are silent; the third is alive, and nobody has opened that door for a day."""
    centre = SmallCentre(tmp_path / "data", rules=init_books("door", "device-health"), town=DOORS).start()
    for hour in range(31):
        centre.now = START + hour * HOUR
        report(centre, *(("d1", "d2", "d3") if hour < 6 else ("d3",)), battery=90)
    states = centre.states()
    assert states[GATEWAY] == "UNACK"
    assert states["elder-no-opening", "d3"] == "UNACK"
    assert ("elder.no_movement", "d3") in ordered(centre)
    held = {pair for pair, state in states.items() if state == "DSUPR"}
    assert held == {(rule, device) for rule in ("gw-silence", "elder-unobserved") for device in ("d1", "d2")}
    assert ordered(centre) == [("device.fault", "group:gateway-1"), ("elder.no_movement", "d3")]
    centre.stop()


def test_only_who_is_absent_is_held_back_and_whoever_comes_back_is_told_of(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data", rules=MUTE, town=DOORS).start()
    report(centre, "d1", "d2", "d3", battery=90, open=False)
    for hour in range(1, 8):
        centre.now = START + hour * HOUR
        report(centre, "d3", battery=90)
    mute = {device: state for (rule, device), state in centre.states().items() if rule == "door-mute"}
    assert mute == {"d1": "DSUPR", "d2": "DSUPR", "d3": "UNACK"}
    assert ordered(centre) == [("elder.door", "d3")]

    centre.stop()
    centre.start()
    assert centre.states()["door-mute", "d1"] == "DSUPR"
    centre.now += HOUR
    report(centre, "d1", "d3", battery=90)
    states = centre.states()
    assert (states[GATEWAY], states["gw-silence", "d1"]) == ("UNACK", "NORM")
    assert (states["door-mute", "d1"], states["door-mute", "d2"]) == ("UNACK", "DSUPR")
    assert ordered(centre) == [("elder.door", "d3"), ("elder.door", "d1")]
    centre.stop()


def test_a_flood_does_not_hide_that_its_stations_went_silent(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data", rules=FLOOD, town=STATIONS).start()
    for i in (1, 2, 3):
        centre.level(centre.now, 3.8, device=f"ps-{i}")
    for _ in range(20):
        centre.now += MINUTE
        centre.settler.tick(centre.now)
        centre.level(centre.now, 3.8, device="ps-3")
    states = centre.states()
    assert states["polders-high", "grid:west"] == "UNACK"
    lost = {(rule, device) for rule in ("gw-silence", "level-silent") for device in ("ps-1", "ps-2")}
    assert {pair: states[pair] for pair in lost} == dict.fromkeys(lost, "UNACK")
    assert sorted(ordered(centre)) == [("device.fault", "ps-1"), ("device.fault", "ps-2")]
    centre.stop()
