"""The clock of the service's machine steps an hour: alarms are those of the readings, and nothing runs out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devices.instants import HOUR, SECOND
from gridwhistle.clock import SteadyClock
from tests.conftest import SOAK, Broker
from tests.crash.load import RULES, Load
from tests.crash.proof import prove
from tests.crash.test_network import GONE, MACHINES, SILENCES, town
from tests.end_to_end.conftest import Service

# A tenth of it is how far the clock has gone by then; the limits of this town are two seconds.
HELD_S = 10 if SOAK else 4


@pytest.mark.services
def test_an_hour_forward_and_an_hour_back_change_no_alarm(
    make_service: Callable[..., Service], broker: Broker, rules: Path, tmp_path: Path
) -> None:
    every, offset = tmp_path / "every.yaml", tmp_path / "offset"
    every.write_text(RULES + GONE)
    service = make_service(rules=every, town=town(tmp_path / "town"))
    service.environment["GRIDWHISTLE_CLOCK_OFFSET_FILE"] = str(offset)
    service.start()
    with Load(broker, machines=MACHINES, rate=400) as load:
        time.sleep(3)  # one full limit from the start, so that silence may be judged
        for step in (3600, -3600):
            offset.write_text(str(step))
            time.sleep(HELD_S)
        # Silence of devices, clocks of devices, silence by a rule: none of it.
        assert {o["rule"] for o in service.all("occurrences")} <= {"hot", "cold", "strong"}
        orders = [service.get(f"orders/{order['id']}") for order in service.all("orders")]
        assert [row["act"] for order in orders for row in order["history"] if row["act"] == "overdue"] == []
        sent = load.finish()
        assert "stepped by 3600.0 s" in (service.folder / "service.log").read_text()
        prove(service, sent, rules, other=SILENCES)


class Machine:
    """A machine's clock and one that nobody sets, both in microseconds."""

    def __init__(self) -> None:
        self.set, self.ran = 1_700_000_000 * SECOND, 0
        self.steady = SteadyClock(lambda: self.set + self.ran, lambda: self.ran)

    def off_after(self, seconds: int) -> float:
        """How far the steady clock is ahead of the machine's, looked at every second; it never runs back."""
        for _ in range(seconds):
            before = self.steady.now()
            self.ran += SECOND
            assert self.steady.now() > before
        return (self.steady.now() - self.set - self.ran) / SECOND


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_is_followed_by_a_tenth_until_nothing_is_left(step: int) -> None:
    machine = Machine()
    assert machine.off_after(10) == 0
    machine.set += step
    sign = -1 if step > 0 else 1
    assert machine.off_after(60) == sign * (3600 - 6)
    assert machine.off_after(36_000) == 0
    assert machine.steady.jumps == 0


def test_a_machine_that_slept_is_followed_at_once() -> None:
    machine = Machine()
    machine.set += 30 * HOUR
    assert machine.off_after(1) == 0
    assert machine.steady.jumps == 1
