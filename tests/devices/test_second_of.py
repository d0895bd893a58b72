"""A second source of a station in devices.yaml: whom it may name, and every mistake at its line."""

from __future__ import annotations

import pytest

from devices.documents import DocumentError
from devices.registry import Device, DeviceStatus
from devices.town import read_town

TOWN = "site: qidu\nname: {zh: 七都}\n"
FIRST = "devices:\n  - {id: ps-1, kind: pump_station}\n  - {id: air-1, kind: air_monitor}\n"


def told(devices: str) -> str:
    with pytest.raises(DocumentError) as caught:
        read_town({"town.yaml": TOWN, "devices.yaml": devices})
    (mistake,) = caught.value.mistakes
    return str(mistake)


def test_it_names_a_device_of_its_kind_wherever_that_stands() -> None:
    town = read_town(
        {"town.yaml": TOWN, "devices.yaml": "devices:\n  - {id: a, kind: camera, second_of: b}\n"
         "  - {id: b, kind: camera}\n  - {id: c, kind: camera, second_of: b}\n"}
    )  # fmt: skip
    assert {d.id: d.second_of for d in town.devices.values()} == {"a": "b", "b": None, "c": "b"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("second_of: ps-l", "second_of: there is no device 'ps-l'; nearest: ps-1"),
        ("second_of: air-1", "second_of: air-1 is a air_monitor, this a pump_station: two sources are of one kind"),
        ("second_of: ps-2", "second_of: a device is not its own second source"),
    ],
)
def test_whom_it_cannot_name(entry: str, said: str) -> None:
    assert told(f"{FIRST}  - id: ps-2\n    kind: pump_station\n    {entry}\n") == f"devices.yaml:6:5: {said}"


def test_a_chain_is_told_at_its_end() -> None:
    chain = "  - {id: ps-2, kind: pump_station, second_of: ps-1}\n  - {id: ps-3, kind: pump_station, second_of: ps-2}\n"
    said = "second_of: ps-2 is itself the second source of ps-1: name the device that is judged"
    assert told(FIRST + chain) == f"devices.yaml:5:36: {said}"


def test_two_that_name_each_other_are_both_told() -> None:
    circle = "devices:\n  - {id: a, kind: camera, second_of: b}\n  - {id: b, kind: camera, second_of: a}\n"
    with pytest.raises(DocumentError) as caught:
        read_town({"town.yaml": TOWN, "devices.yaml": circle})
    assert [m.line for m in caught.value.mistakes] == [2, 3]


@pytest.mark.parametrize("status", list(DeviceStatus))
@pytest.mark.parametrize("second_of", [None, "ps-1"])
def test_judged_is_an_approved_device_that_is_no_second_source(status: DeviceStatus, second_of: str | None) -> None:
    device = Device(0, "ps-2", "qidu", "pump_station", status=status, second_of=second_of)
    assert device.judged == (status is DeviceStatus.ACTIVE and second_of is None)
