"""The kinds of device a township has, with the metrics, units and ranges of each (docs/architecture.md §7).

Units are UCUM codes. `plausible` is what a healthy site shows: a value outside it is judged all the same and
flagged. `physical` is what the sensor can measure at all: a value outside it is refused and raises `gw-range`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str
    plausible: Range
    physical: Range
    zh: str
    boolean: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """`interval_s` is how often a healthy device of this kind reports, in seconds; a device may override it.

    `always_on`: its silence is an alarm (a patrol's handset is off when nobody is on duty)."""

    name: str
    zh: str
    en: str
    interval_s: float
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    events: frozenset[str] = frozenset()
    attributes: tuple[str, ...] = ()
    personal: bool = False
    always_on: bool = True


_METRICS: dict[str, tuple[str, Range, Range, str]] = {
    "level": ("m", (-5, 20), (-50, 200), "水位"),
    "level_inside": ("m", (0, 8), (-20, 50), "圩内水位"),
    "level_outside": ("m", (0, 8), (-20, 50), "圩外水位"),
    "gate_height": ("m", (0, 6), (-1, 30), "闸门开度"),
    "pumps_running": ("1", (0, 12), (0, 100), "运行台数"),
    "pumps_available": ("1", (0, 12), (0, 100), "可用台数"),
    "pump_current": ("A", (0, 1000), (0, 10000), "水泵电流"),
    "rain": ("mm", (0, 60), (0, 500), "雨量"),
    "temperature": ("Cel", (-20, 120), (-100, 1000), "温度"),
    "water_temperature": ("Cel", (0, 40), (-10, 100), "水温"),
    "humidity": ("%", (0, 100), (0, 100), "湿度"),
    "pressure": ("hPa", (950, 1050), (500, 1200), "气压"),
    "wind_speed": ("m/s", (0, 40), (0, 120), "风速"),
    "wind_direction": ("deg", (0, 360), (0, 360), "风向"),
    "pm2_5": ("ug/m3", (0, 1000), (0, 10000), "PM2.5"),
    "pm10": ("ug/m3", (0, 2000), (0, 20000), "PM10"),
    "tsp": ("ug/m3", (0, 5000), (0, 50000), "总悬浮颗粒物"),
    "so2": ("ug/m3", (0, 1000), (0, 20000), "二氧化硫"),
    "no2": ("ug/m3", (0, 500), (0, 20000), "二氧化氮"),
    "co": ("ug/m3", (0, 20000), (0, 200000), "一氧化碳"),
    "o3": ("ug/m3", (0, 500), (0, 20000), "臭氧"),
    "noise": ("dB", (20, 130), (0, 200), "噪声"),
    "ph": ("[pH]", (4, 11), (0, 14), "pH"),
    "dissolved_oxygen": ("mg/L", (0, 20), (0, 60), "溶解氧"),
    "cod_mn": ("mg/L", (0, 30), (0, 1000), "高锰酸盐指数"),
    "cod": ("mg/L", (0, 500), (0, 100000), "化学需氧量"),
    "ammonia_nitrogen": ("mg/L", (0, 50), (0, 5000), "氨氮"),
    "total_phosphorus": ("mg/L", (0, 10), (0, 1000), "总磷"),
    "total_nitrogen": ("mg/L", (0, 100), (0, 5000), "总氮"),
    "suspended_solids": ("mg/L", (0, 500), (0, 100000), "悬浮物"),
    "turbidity": ("NTU", (0, 1000), (0, 10000), "浊度"),
    "conductivity": ("uS/cm", (0, 5000), (0, 200000), "电导率"),
    "chlorophyll": ("ug/L", (0, 400), (0, 10000), "叶绿素a"),
    "phycocyanin": ("ug/L", (0, 1000), (0, 50000), "藻蓝蛋白"),
    "algal_density": ("1/L", (0, 1e9), (0, 1e12), "藻密度"),
    "battery": ("%", (0, 100), (0, 100), "电量"),
    "signal": ("dBm", (-120, 0), (-200, 50), "信号"),
    "vibration": ("mm/s", (0, 50), (0, 1000), "振动"),
    "current": ("A", (0, 1000), (0, 100000), "电流"),
    "voltage": ("V", (0, 500), (0, 1000000), "电压"),
    "latitude": ("deg", (-90, 90), (-90, 90), "纬度"),
    "longitude": ("deg", (-180, 180), (-180, 180), "经度"),
    "accuracy": ("m", (0, 500), (0, 100000), "定位精度"),
    "speed": ("km/h", (0, 120), (0, 1000), "速度"),
}
_BOOLEANS = {
    "mains_ok": "市电正常", "open": "门开", "motion": "有人移动", "tamper": "被撬", "online": "在线", "running": "运行",
}  # fmt: skip
# flow is a river's or a pump's in m3/s, a pipe's in L/s: the kind decides.
_FLOW = {
    "m3/s": ("m3/s", (0.0, 50.0), (-10000.0, 10000.0), "流量"),
    "L/s": ("L/s", (0.0, 2000.0), (-100000.0, 100000.0), "流量"),
}

# Attributes whose unit is known, so that a rule that compares them with something else is a mistake. An attribute that
# is not here fits any unit.
ATTRIBUTE_UNITS: Mapping[str, str] = MappingProxyType(dict.fromkeys(
    ("drain_start_level", "drain_stop_level", "inside_limit_level", "outside_warning_level", "outside_guarantee_level",
     "dyke_level", "warning_level", "guarantee_level"),
    "m",
))  # fmt: skip
# Heights above a datum: the attribute `datum` of the device says which, `<name>_datum` for one of them.
LEVELS = frozenset({"level", "level_inside", "level_outside", *ATTRIBUTE_UNITS})


def _metric(name: str, flow_unit: str) -> Metric:
    if name in _BOOLEANS:
        return Metric(name, "bool", (0, 1), (0, 1), _BOOLEANS[name], boolean=True)
    unit, plausible, physical, zh = _FLOW[flow_unit] if name == "flow" else _METRICS[name]
    return Metric(name, unit, plausible, physical, zh)


def _kind(  # noqa: PLR0913 - a row of the table below
    name: str, zh: str, en: str, interval_s: float, metrics: str,
    *, events: str = "", attributes: str = "", flow_unit: str = "m3/s", personal: bool = False, always_on: bool = True,
) -> Kind:  # fmt: skip
    named = {m: _metric(m, flow_unit) for m in metrics.split()}
    return Kind(
        name, zh, en, interval_s, MappingProxyType(named), frozenset(events.split()), tuple(attributes.split()),
        personal, always_on,
    )  # fmt: skip


KINDS: Mapping[str, Kind] = MappingProxyType({
    k.name: k
    for k in (
        _kind("pump_station", "排涝泵站", "Pump station", 60,
              "level_inside level_outside flow pumps_running pumps_available gate_height mains_ok pump_current",
              attributes="drain_start_level drain_stop_level inside_limit_level outside_warning_level "
                         "outside_guarantee_level dyke_level datum"),
        _kind("river_gauge", "水位站", "River gauge", 900, "level flow",
              attributes="warning_level guarantee_level datum"),
        _kind("weather_station", "气象站", "Weather station", 300,
              "rain temperature humidity pressure wind_speed wind_direction"),
        _kind("air_monitor", "空气监测站", "Air monitor", 300,
              "pm2_5 pm10 tsp so2 no2 co o3 noise temperature humidity"),
        _kind("water_monitor", "水质监测站", "Water monitor", 900,
              "ph dissolved_oxygen cod_mn cod ammonia_nitrogen total_phosphorus total_nitrogen turbidity "
              "conductivity water_temperature level", attributes="water_class"),
        _kind("algae_buoy", "藻类浮标", "Algae buoy", 900,
              "chlorophyll phycocyanin algal_density dissolved_oxygen ph turbidity water_temperature wind_speed "
              "wind_direction"),
        _kind("sewage_station", "污水监测站", "Sewage station", 900,
              "flow ph cod ammonia_nitrogen total_phosphorus total_nitrogen suspended_solids", flow_unit="L/s"),
        _kind("aquaculture_pond", "养殖塘", "Aquaculture pond", 600,
              "dissolved_oxygen ph ammonia_nitrogen water_temperature"),
        # A door sensor sleeps: its heartbeat comes every 4 to 12 hours.
        _kind("door_sensor", "老人门磁", "Elder's door sensor", 43200, "open motion tamper battery signal",
              events="door_opened door_closed", personal=True),
        _kind("camera", "摄像机", "Camera", 300, "online",
              events="person_detected vehicle_detected boat_detected line_crossed tamper"),
        _kind("equipment", "设备", "Equipment", 60, "temperature vibration current voltage running flow",
              flow_unit="L/s"),
        _kind("patrol", "巡查人员", "Patrol", 60, "latitude longitude accuracy speed battery", personal=True,
              always_on=False),
    )
})  # fmt: skip
