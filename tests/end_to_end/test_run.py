"""`gridwhistle run` as an operator meets it: start, stop, a second one, a broker that goes away."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import Broker
from tests.end_to_end.conftest import PASSWORD, PROGRAM, Service, gridwhistle, wait_for

pytestmark = pytest.mark.services

START_MS = 1_763_700_000_000
RULES = """
rules:
  - {id: hot, name: {zh: 过热, en: hot}, applies_to: {kind: equipment}, when: temperature > 80, max_gap: none,
     priority: high, order: {category: equipment.temperature}}
"""


@pytest.fixture
def publish(broker: Broker) -> Callable[..., None]:
    """Publish at QoS 1 and wait for the broker's acknowledgement."""

    def send(*messages: tuple[str, bytes | dict[str, object]]) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.connect(broker.host, broker.port)
        client.loop_start()
        for topic, body in messages:
            payload = body if isinstance(body, bytes) else json.dumps(body)
            client.publish(topic, payload, qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()

    return send


def reading(second: int, temperature: float, device: str = "m-1") -> tuple[str, bytes | dict[str, object]]:
    body: dict[str, object] = {"at": START_MS + second * 1000, "temperature": temperature}
    return (f"gw/v1/site/equipment/{device}/readings", body)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    return file


OPEN = {"unknown_devices": "accept", "clock.max_behind": "none"}


def test_hostile_traffic_is_refused_with_reasons_and_loses_nothing_beside_it(
    make_service: Callable[..., Service], publish: Callable[..., None], rules: Path
) -> None:
    service = make_service(rules=rules, **OPEN)
    where = "gw/v1/site/equipment/m-1/readings"
    publish(
        reading(0, 20),
        (where, b"\xff\xfe\x00"),
        (where, b'{"at": 1763700000000, "temperature": NaN}'),
        (where, b"[" * 50_000),
        (where, b'{"temperature": "' + b"9" * 1_000_000 + b'"}'),
        (where, {"at": START_MS, "temperature": "hot", "shoe_size": 43}),
        ("gw/v1/site/submarine/m-1/readings", {"depth": 3}),
        ("gw/v1/site/equipment/../readings", {"temperature": 3}),
        ("gw/v1/" + "deep/" * 100, b"x"),
        reading(60, 90),
    )
    counts = service.wait_received(11)
    assert counts["stored"] == 2
    assert counts["refused"] == 9
    reasons = sorted(r["reason"] for r in service.all("refused"))
    assert reasons == sorted(
        ["malformed"] * 3 + ["too_large", "wrong_type", "unknown_metric", "bad_topic", "bad_topic", "bad_topic"]
    )
    assert service.all("occurrences", rule="hot")[0]["raised_at"] == "2025-11-21T04:41:00Z"
    assert service.api.get("/readyz").status_code == 200


def test_what_is_sent_while_the_service_is_down_arrives_when_it_is_back(
    make_service: Callable[..., Service], publish: Callable[..., None], rules: Path
) -> None:
    service = make_service(rules=rules, **OPEN)
    publish(reading(0, 20))
    service.wait_received(1)
    assert service.stop() == 0
    publish(*(reading(n, 20 + n) for n in range(1, 101)))
    service.start()
    counts = service.wait_received(101)
    assert counts["stored"] == 101
    assert [o["first_value"] for o in service.all("occurrences", rule="hot")] == [81]


def test_the_broker_may_restart_and_nothing_is_lost(
    make_service: Callable[..., Service], publish: Callable[..., None], rules: Path, broker: Broker
) -> None:
    service = make_service(rules=rules, **OPEN)
    publish(reading(0, 20))
    service.wait_received(1)
    broker.stop()
    wait_for(lambda: service.api.get("/readyz").status_code == 503, 10)
    broker.start()
    publish(*(reading(n, 20) for n in range(1, 11)))
    assert service.wait_received(11, 60)["stored"] == 11
    wait_for(lambda: service.api.get("/readyz").status_code == 200, 10)


def test_a_second_service_over_the_same_folder_is_refused(make_service: Callable[..., Service]) -> None:
    service = make_service()
    second = gridwhistle("run", "--set", f"data_dir={service.folder / 'data'}", "--set", "http.port=0", timeout=30)
    assert second.returncode == 2
    assert "data" in second.stderr


def test_of_two_services_with_one_client_id_one_leaves_and_says_why(make_service: Callable[..., Service]) -> None:
    services = [make_service(), make_service()]
    wait_for(lambda: any(s.process and s.process.poll() is not None for s in services), 30)
    ended = [s for s in services if s.process and s.process.poll() is not None]
    assert [s.process.returncode for s in ended if s.process] == [1]
    said = (ended[0].folder / "service.log").read_text()
    assert "另设 broker.client_id another client connected" in said


def test_a_mistake_in_the_rules_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES.replace("temperature > 80", "temprature > 80"))
    answer = gridwhistle("run", "--set", f"rules={file}", "--set", f"data_dir={tmp_path / 'data'}", timeout=30)
    assert answer.returncode == 2
    assert "rules.yaml:3:" in answer.stderr
    assert "temperature" in answer.stderr


def test_a_mistake_in_any_file_is_told_before_anything_is_made(tmp_path: Path) -> None:
    """The first password is shown once: it must not be made by a start that fails."""
    town, data = tmp_path / "town", tmp_path / "data"
    town.mkdir()
    (town / "town.yaml").write_text("site: qidu\nname: {zh: 镇}\nzone: UTC\n")
    (town / "calendar.yaml").write_text("years: nonsense\n")
    answer = gridwhistle("run", "--set", f"town={town}", "--set", f"data_dir={data}", timeout=30)
    assert answer.returncode == 2
    assert "calendar.yaml:1" in answer.stderr
    assert [file.name for file in data.iterdir()] == ["lock"]


def test_a_duty_officer_carries_an_alarm_to_the_archive_over_the_api(
    make_service: Callable[..., Service], publish: Callable[..., None], rules: Path
) -> None:
    service = make_service(rules=rules, **OPEN)
    for name, role in (("duty", "duty_officer"), ("wang", "handler"), ("li", "checker")):
        service.post("users", name=name, password=PASSWORD, role=role)
    publish(reading(0, 20), reading(60, 90), reading(120, 20))
    service.wait_received(3)
    alarm = service.all("alarms")[0]
    assert alarm["state"] == "RTNUN"

    def act(who: str, name: str, **body: object) -> dict[str, object]:
        service.sign_in(who, PASSWORD)
        order = service.all("orders")[0]
        assert name in service.get(f"orders/{order['id']}")["acts"]
        answer: dict[str, object] = service.post(f"orders/{order['id']}/{name}", version=order["version"], **body)
        return answer

    service.sign_in("duty", PASSWORD)
    service.post(f"alarms/{alarm['id']}/acknowledge")
    assert service.all("alarms")[0]["state"] == "NORM"
    order = service.all("orders")[0]
    if order["state"] == "filed":
        act("duty", "dispatch", assignee="wang")
        act("wang", "accept")
        act("wang", "arrive")
        act("wang", "handle")
        act("li", "check")
    act("li", "close")
    act("duty", "archive")
    final = service.get(f"orders/{order['id']}")
    assert final["state"] == "archived"
    assert final["acts"] == []
    acts = [row["act"] for row in final["history"]]
    assert acts[0] == "file"
    assert acts[-2:] == ["close", "archive"]


def test_the_demonstration_matches_its_own_truth() -> None:
    began = time.monotonic()
    answer = gridwhistle("demo", "--for", "31s", "--speed", "120", "--report", "-", "--port", "0", timeout=120)
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert time.monotonic() - began < 90
    kept = report["stored"] + report["duplicates"] + report["replaced"] + report["refused"]
    assert report["published"] == report["received"] == kept > 5_000
    assert report["truth"]["missed"] == report["truth"]["false"] == []
    assert report["truth"]["matched"] == report["truth"]["expected"] >= 6
    assert report["alarms"]["raised"] >= 6
    assert len(report["alarms"]["by_kind"]) >= 4
    assert report["alarms"]["cleared"] >= 1
    assert report["orders"]["filed"] >= 2


def test_absence_under_the_data_clock_is_what_backtest_says(
    make_service: Callable[..., Service], tmp_path: Path
) -> None:
    rules, csv, mapping = tmp_path / "r.yaml", tmp_path / "rows.csv", tmp_path / "mapping.yaml"
    rules.write_text(
        "rules:\n  - {id: gone, name: {zh: 无数据}, applies_to: {kind: equipment}, priority: low,\n"
        "     when: 'absent(temperature, 10m)'}\n"
    )
    minutes = [0, 5, 10, 40, 45, 52, 90]
    csv.write_text("at,t\n" + "".join(f"{1_760_000_000 + m * 60},{20 + m}\n" for m in minutes))
    mapping.write_text(
        "site: calder\nkind: equipment\ndevice: {const: m-1}\ntime: {column: at, format: epoch_s}\n"
        "metrics: {t: {metric: temperature}}\n"
    )
    answer = gridwhistle("backtest", "--rules", rules, "--csv", csv, "--mapping", mapping, "--json")
    expected = [(a["raised_at"], a["cleared_at"]) for a in json.loads(answer.stdout)["alarms"]]
    assert len(expected) == 2
    service = make_service(
        rules=rules, unknown_devices="accept", **{"clock.source": "data", "clock.max_behind": "none"}
    )
    answer = gridwhistle("replay", csv, "--mapping", mapping, "--broker", service.broker.url)
    assert answer.returncode == 0, answer.stderr
    assert service.wait_received(len(minutes))["late"] == 0
    wait_for(lambda: len(service.all("occurrences", rule="gone")) == 2, 20)
    wait_for(lambda: all(o["cleared_at"] for o in service.all("occurrences", rule="gone")), 20)
    assert sorted((o["raised_at"], o["cleared_at"]) for o in service.all("occurrences", rule="gone")) == expected


def test_an_unknown_scenario_is_one_line_and_status_2() -> None:
    answer = gridwhistle("demo", "--scenario", "nope", timeout=30)
    assert answer.returncode == 2
    assert "showcase" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_service_whose_own_broker_dies_ends_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [PROGRAM, "run", "--embedded-broker", "--set", f"data_dir={data}", "--set", "http.port=0"],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    try:
        assert process.stdout
        assert process.stdout.readline().startswith("ready http://")
        broker = psutil.Process(process.pid).children()[0]
        broker.kill()
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait(10)
    assert "broker ended" in (tmp_path / "log").read_text()


def test_the_data_clock_survives_a_restart_and_never_becomes_the_wall(
    make_service: Callable[..., Service], publish: Callable[..., None], rules: Path
) -> None:
    service = make_service(
        rules=rules, unknown_devices="accept", **{"clock.source": "data", "clock.max_behind": "none"}
    )

    def tell(second: int) -> None:
        publish(("gw/v1/site/clock", {"at": START_MS + second * 1000}), reading(second, 20))

    tell(0)
    service.wait_received(1)
    for start in (60, 120):
        assert service.stop() == 0
        service.start()
        tell(start)
        service.wait_received(1 + start // 60)
    counts = service.ledger()
    assert (counts["stored"], counts["late"]) == (3, 0)
    hours = {row["hour"] for row in service.all("ledger", **{"from": "1970-01-01T00:00:00Z"})}
    assert hours == {"2025-11-21T04:00:00Z"}
