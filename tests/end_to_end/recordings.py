"""The recorded files of real stations: how each is read, its rule, and what the rule must give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AIR = "beijing_air/PRSA_Data_{}_20130301-20170228.csv"


@dataclass(frozen=True, slots=True)
class Recording:
    """`raised` and `cleared` in ISO 8601 UTC where the file is known to give just these; `count` always."""

    name: str
    file: str
    mapping: str
    rule: str
    count: int
    raised: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    peak: float | None = None

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The mapping and the rules as files."""
        mapping, rules = folder / f"{self.name}.yaml", folder / f"{self.name}-rules.yaml"
        mapping.write_text(self.mapping)
        rules.write_text(f"rules:\n  - {{id: limit, name: {{zh: 限}}, max_gap: none, priority: high, {self.rule}}}\n")
        return mapping, rules


def _air(station: str, count: int) -> Recording:
    mapping = (
        "site: beijing\nkind: air_monitor\ndevice: {column: station}\n"
        "time: {columns: [year, month, day, hour], zone: Asia/Shanghai}\n"
        'metrics:\n  PM2.5: {metric: pm2_5}\nmissing: ["", "NA"]\n'
    )
    rule = "applies_to: {kind: air_monitor}, when: pm2_5 > 75, clear: pm2_5 <= 50"
    return Recording(station.lower(), AIR.format(station), mapping, rule, count)


RECORDINGS = [
    Recording(
        "water-flow",
        "tecnojest_waterflow/water-flow.csv",
        "site: tecnojest\nkind: equipment\ndevice: {const: branch}\ntime: {column: Time, format: iso}\n"
        'metrics:\n  "Water flow [l/s]": {metric: flow}\n',
        "applies_to: {kind: equipment}, when: flow < 60",
        3,
        ("2022-03-24T08:00:00Z", "2022-03-29T07:00:00Z", "2022-04-27T14:00:00Z"),
        ("2022-03-24T23:00:00Z", "2022-03-29T16:00:00Z", "2022-04-28T03:00:00Z"),
    ),
    _air("Guanyuan", 604),
    _air("Wanliu", 592),
    Recording(
        "hebden-bridge",
        "ea_calder_2025/river/Hebden-Bridge-level-15min-Qualified.csv",
        "site: calder\nkind: river_gauge\ndevice: {const: hebden-bridge}\nattributes: {warning_level: 0.2}\n"
        'time: {column: dateTime, format: iso, zone: UTC}\nmetrics:\n  value: {metric: level}\nmissing: ["", "NA"]\n',
        "applies_to: {kind: river_gauge}, when: level > 0.20",
        1,
        ("2025-09-12T07:00:00Z",),
        ("2025-09-12T14:45:00Z",),
        0.289,
    ),
    Recording(
        "machine",
        "nab/data/realKnownCause/machine_temperature_system_failure.csv",
        "site: nab\nkind: equipment\ndevice: {const: machine}\n"
        'time: {column: timestamp, format: "%Y-%m-%d %H:%M:%S", zone: UTC}\nmetrics:\n  value: {metric: temperature}\n',
        "applies_to: {kind: equipment}, when: temperature < 45, clear: temperature >= 60",
        3,
        ("2013-12-16T15:25:00Z", "2014-02-03T11:10:00Z", "2014-02-08T00:00:00Z"),
    ),
]
