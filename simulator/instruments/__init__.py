"""What each kind of device measures of the pretend township: one function a kind, called at each report in turn."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulator.instruments.place import Instrument, Place
from simulator.instruments.streets import air_monitor, camera, door_sensor, equipment
from simulator.instruments.uplands import pump_station, river_gauge, weather_station
from simulator.instruments.waters import algae_buoy, aquaculture_pond, sewage_station, water_monitor

MAKERS: Mapping[str, Instrument] = MappingProxyType(
    {
        "pump_station": pump_station,
        "river_gauge": river_gauge,
        "weather_station": weather_station,
        "air_monitor": air_monitor,
        "water_monitor": water_monitor,
        "algae_buoy": algae_buoy,
        "sewage_station": sewage_station,
        "aquaculture_pond": aquaculture_pond,
        "door_sensor": door_sensor,
        "camera": camera,
        "equipment": equipment,
    }
)

__all__ = ["MAKERS", "Instrument", "Place"]
