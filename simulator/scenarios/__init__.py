"""What can happen to the township, one file a scenario: each writes a script, and knows when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulator.scenarios import bloom, calm, flood, ordinary, sensor_faults, showcase, silent_elder
from simulator.scenarios.scenario import Scenario, world_of

SCENARIOS: Mapping[str, Scenario] = MappingProxyType({
    scenario.name: scenario
    for scenario in (
        showcase.SCENARIO, calm.SCENARIO, ordinary.SCENARIO, flood.SCENARIO, silent_elder.SCENARIO, bloom.SCENARIO,
        sensor_faults.SCENARIO,
    )
})  # fmt: skip

__all__ = ["SCENARIOS", "Scenario", "world_of"]
