"""`gridwhistle init`: a commented configuration, rules and a town to change into one's own; it passes `check`."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from devices.documents import nearest
from gridwhistle.broker import LIMITS

CONFIG = """\
# 吹哨的设置 Settings of Gridwhistle. 全部设置见 docs/settings.md; every setting is in docs/settings.md.
# 本文件中的路径相对于本文件 Paths are relative to this file.
# 检查 Check it with:  gridwhistle check gridwhistle.toml

data_dir = "data"        # 数据库与队列 databases and queue; one running service a folder
rules = "rules"          # 规则 rules: a file or a folder of them
town = "town"            # 设备与网格 devices and grids

# 未登记的设备：隔离 (quarantine)、接受 (accept) 或拒收 (refuse)
unknown_devices = "quarantine"

[broker]
url = "mqtt://127.0.0.1:1883"    # mqtts:// 为加密 for TLS
# username = "gridwhistle"
# password_file = "broker.password"
# ca_file = "broker-ca.pem"

[http]
host = "127.0.0.1"       # 其他电脑要访问时改为 0.0.0.0，并在前面加 HTTPS; 0.0.0.0 to be seen from other machines
port = 8080

[clock]
max_ahead = "5m"         # 设备时钟快慢超出此限即为时钟故障 beyond these a device's clock is at fault
max_behind = "7d"

# 通知渠道：网址是机密，写在单独的文件里。 Channels: the URL is a secret and stands in a file of its own.
# http(s) 网址收到 JSON，其余按 Apprise 处理。 An http(s) URL gets JSON, any other is an Apprise URL.
# [notify.channels]
# duty = "file:duty.url"
"""

RULES = """\
# 规则：何时算有问题。 Rules: when a reading is a problem. 写法见 docs/rules.md; the language is in docs/rules.md.
# 用历史数据先试 Try them on recorded data first:
#   gridwhistle backtest --rules rules --csv levels.csv --mapping levels.yaml
rules:
  - id: polder-inside-high
    name: {zh: 圩内水位超最高控制水位, en: Polder inside level above its limit}
    applies_to: {kind: pump_station}
    when: level_inside > attr.inside_limit_level
    for: 2m                                                  # 持续这么久才告警 it must hold this long
    clear: level_inside <= attr.inside_limit_level - 0.20    # 回落 20 厘米才解除 20 cm below before it ends
    priority: critical
    order: {category: flood.polder_inside}                   # 同时派工单 and a work order is filed

  - id: pump-without-mains
    name: {zh: 泵站失电, en: Pump station without mains}
    applies_to: {kind: pump_station}
    when: mains_ok == false
    for: 1m
    priority: high
    order: {category: flood.mains}

  - id: elder-door-silent
    name: {zh: 老人门磁一天无开门, en: Elder's door not opened for a day}
    applies_to: {kind: door_sensor}
    when: since(event("door_opened")) > 24h
    priority: high
    order: {category: elder.no_movement}
"""

TOWN = """\
# 乡镇 The town: `site` 是主题 gw/v1/{site}/… 中的名字 is its name in topics.
site: mytown
name: {zh: 我的乡镇, en: My town}
zone: Asia/Shanghai
"""

GRIDS = """\
{
  "type": "FeatureCollection",
  "features": [
    {
      "type": "Feature",
      "properties": {"id": "mytown", "name": "我的乡镇", "level": "镇"},
      "geometry": null
    },
    {
      "type": "Feature",
      "properties": {"id": "east-01", "name": "东片第一网格", "level": "网格", "parent": "mytown"},
      "geometry": {
        "type": "Polygon",
        "coordinates": [[[120.50, 31.20], [120.51, 31.20], [120.51, 31.21], [120.50, 31.21], [120.50, 31.20]]]
      }
    }
  ]
}
"""

DEVICES = """\
# 设备 Devices. id 与主题中的一致 as in their topic: gw/v1/mytown/{kind}/{id}/readings
devices:
  - id: pump-east-01
    kind: pump_station
    name: 东圩排涝站
    grid: east-01
    at: [31.205, 120.505]            # 纬度, 经度 latitude, longitude (WGS 84)
    interval: 60                     # 每隔多少秒上报 seconds between reports
    attributes: {inside_limit_level: 3.50, drain_start_level: 3.20, drain_stop_level: 2.95, datum: 吴淞}
    keeper: 张三                     # 责任人，显示在告警旁 shown beside its alarms
    keeper_phone: "13800000000"

  - id: door-east-01
    kind: door_sensor
    grid: east-01
    person: 李奶奶                   # 个人信息，默认隐去 personal: hidden by default
"""

CATEGORIES = """\
# 工单类别：谁可结案 (close_by: sensor | person | both)，各步时限。
# Categories of work orders: who may end them, and how long each step may take. 未写的沿用内置 The rest is built in.
categories:
  flood.polder_inside:
    limits: {accept: 5m, arrive: 30m, handle: 4h}
"""

MOSQUITTO = f"""\
# 站点 MQTT 服务器 (Mosquitto) 的要点。 What a site's own Mosquitto needs; put it in /etc/mosquitto/conf.d/.
# 默认的 max_queued_messages (1000) 会在服务停止期间悄悄丢弃消息。
# The default of max_queued_messages (1,000) silently drops messages while the service is down.
{LIMITS}autosave_interval 60
# listener 1883 0.0.0.0
# allow_anonymous false
# password_file /etc/mosquitto/passwords
"""

IGNORE = "data/\n*.password\n*.url\n"

FILES = {
    "gridwhistle.toml": CONFIG,
    "rules/example.yaml": RULES,
    "town/town.yaml": TOWN,
    "town/grids.geojson": GRIDS,
    "town/devices.yaml": DEVICES,
    "town/categories.yaml": CATEGORIES,
    "mosquitto.conf": MOSQUITTO,
    ".gitignore": IGNORE,
}


BOOKS = Path(__file__).resolve().parent.parent / "examples" / "books"


class UnknownBook(ValueError):
    """There is no rule book of that name; the message says which there are."""


def book_names() -> list[str]:
    """The rule books that ship."""
    return sorted(path.stem for path in BOOKS.glob("*.yaml"))


def write_starter(folder: Path, books: Sequence[str] = ()) -> list[Path]:
    """The files made; `books` take the place of the example's rules, each with the scenarios that test it.

    Raises UnknownBook, and FileExistsError where a file is there already, before anything is written.
    """
    files = _files(books)
    for name in files:
        if (folder / name).exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder / name))
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def _files(books: Sequence[str]) -> dict[str, str]:
    if not books:
        return FILES
    found = {name: text for name, text in FILES.items() if not name.startswith("rules/")}
    for name in dict.fromkeys(books):
        if name not in book_names():
            raise UnknownBook(f"{name!r}{nearest(name, book_names())}; {', '.join(book_names())}")
        found[f"rules/{name}.yaml"] = (BOOKS / f"{name}.yaml").read_text(encoding="utf-8")
        # Scenarios stand beside the folder of rules, in which every file is a rule book.
        scenarios = (BOOKS / "scenarios" / f"{name}.yaml").read_text(encoding="utf-8")
        found[f"scenarios/{name}.yaml"] = scenarios.replace("rules: ../", "rules: ../rules/", 1)
    return found
