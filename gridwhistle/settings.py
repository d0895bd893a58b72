"""Every setting of the service: name, default, what it means, what is accepted (docs/settings.md is made from this).

Values come from `settings_sources.load`; constructing `Settings(...)` directly takes the arguments and defaults only,
never the environment, so a test or the demo gets exactly what it wrote. One file although it is long: it is read, and
printed as the reference, from top to bottom.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from devices.instants import DAY, HOUR, MINUTE, format_duration, parse_duration
from devices.kinds import KINDS
from devices.names import is_name
from ingest.decoder import UnknownDevices

DEFAULT_ZONE = "Asia/Shanghai"


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _none(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


AS_DURATION = PlainSerializer(lambda span: "none" if span is None else format_duration(span))
# Microseconds inside, `5m` in files. The second may be switched off with `none`.
Duration = Annotated[int, BeforeValidator(_duration), AS_DURATION]
DurationOrNone = Annotated[int | None, BeforeValidator(lambda value: _duration(_none(value))), AS_DURATION]
CountOrNone = Annotated[int | None, BeforeValidator(_none)]

_DURATION = "a duration such as 90s, 5m, 1h30m or 7d"


class ClockSource(StrEnum):
    WALL = "wall"
    DATA = "data"  # the last instant published on gw/v1/{site}/clock


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _setting(default: Any, zh: str, en: str, expected: str, *, alias: str | None = None) -> Any:
    """A field with what the reference and the error messages say about it."""
    extra: dict[str, Any] = {"zh": zh, "expected": expected}
    return Field(default=default, description=en, json_schema_extra=extra, alias=alias)


def _count(default: int, zh: str, en: str, *, lowest: int, highest: int) -> Any:
    extra: dict[str, Any] = {"zh": zh, "expected": f"{lowest} to {highest}"}
    return Field(default=default, description=en, json_schema_extra=extra, ge=lowest, le=highest)


def _channel_name(value: str) -> str:
    if not is_name(value):
        raise ValueError("not a name")
    return value


def _url_place(value: str) -> str:
    kind, _, rest = value.partition(":")
    if kind not in {"file", "env"} or not rest or rest.startswith("//"):
        raise ValueError("not a place of a URL")
    return value


ChannelName = Annotated[str, AfterValidator(_channel_name)]
UrlPlace = Annotated[str, AfterValidator(_url_place)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Broker(_Group):
    url: str = _setting(
        "mqtt://127.0.0.1:1883",
        "MQTT 服务器地址",
        "Where the broker is; mqtts:// for TLS.",
        "mqtt://host[:port] or mqtts://host[:port], without user or password",
    )
    username: str | None = _setting(None, "登录名", "User name at the broker.", "text")
    password_file: Path | None = _setting(
        None, "密码文件（首行）", "File whose first line is the password.", "a file that exists"
    )
    ca_file: Path | None = _setting(
        None,
        "证书机构文件 (PEM)",
        "Authority that signed the broker's certificate; default: the system's.",
        "a file that exists",
    )
    client_id: str = _setting(
        "gridwhistle",
        "客户端标识；改动会丢下旧会话中的消息",
        "Fixed client id: changing it leaves behind what the broker queued for the old one.",
        "1 to 64 of A-Z a-z 0-9 _ . -",
    )
    keep_alive_s: int = _count(
        30,
        "保活秒数：断线最迟在其一倍半之内察觉",
        "A link on which nothing has come for one and a half times so many seconds is given up and made again.",
        lowest=2,
        highest=600,
    )

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError("not such an address")
        if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.port == 0:
            raise ValueError("not such an address")
        return value

    @field_validator("client_id")
    @classmethod
    def _client_id(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
            raise ValueError("not a client id")
        return value

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (8883 if self.tls else 1883)

    def read_password(self) -> str | None:
        """The first line of password_file, None where none is set. Raises OSError."""
        if self.password_file is None:
            return None
        lines = self.password_file.read_text(encoding="utf-8").splitlines()
        return lines[0] if lines else ""


class Http(_Group):
    host: str = _setting(
        "127.0.0.1", "网页与接口监听地址", "Address the console and the API listen on.", "a host name or address"
    )
    port: int = _count(8080, "端口；0 任取一个空闲端口", "Port; 0 takes a free one.", lowest=0, highest=65535)


class Site(_Group):
    zone: str | None = _setting(
        None,
        f"显示与规则排程所用时区；默认随乡镇文件，再无则 {DEFAULT_ZONE}",
        f"Zone of times shown and of schedules in rules; default: the town's own, else {DEFAULT_ZONE}.",
        "an IANA zone such as Asia/Shanghai",
    )

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("no such zone") from error
        return value


class Clock(_Group):
    source: ClockSource = _setting(
        ClockSource.WALL,
        "规则所用的“现在”：墙钟，或数据时间",
        "Whose `now` rules, limits and absence use: wall, or data (the last instant published on gw/v1/{site}/clock).",
        "wall or data",
    )
    max_ahead: DurationOrNone = _setting(
        5 * MINUTE,
        "设备时钟最多快多少",
        "A device clock further ahead than this is at fault.",
        f"{_DURATION}, or none",
    )
    max_behind: DurationOrNone = _setting(
        7 * DAY,
        "设备时钟最多慢多少；回放历史数据用 none",
        "A device clock further behind than this is at fault; none for recorded data.",
        f"{_DURATION}, or none",
    )


class Admin(_Group):
    password: SecretStr | None = _setting(
        None,
        "首次启动时 admin 的密码；不设则生成并只打印一次",
        "Password of `admin` at the first start; otherwise one is made and printed once.",
        "at least 8 characters",
    )

    @field_validator("password")
    @classmethod
    def _password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 8:
            raise ValueError("too short")
        return value


class Log(_Group):
    """`json` would hide a method of pydantic's, so the attribute has another name than the setting."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_by_name=True)

    json_lines: bool = _setting(
        False,
        "日志每行一个 JSON",
        "Log lines as JSON objects instead of text; on standard error.",
        "true or false",
        alias="json",
    )
    level: LogLevel = _setting(
        LogLevel.INFO, "日志级别", "The least severe messages written.", "debug, info, warning or error"
    )


class Ingest(_Group):
    batch_ms: int = _count(
        50,
        "一批最多等待的毫秒数",
        "A batch is settled at the latest after so many milliseconds: fewer, more commits; more, later alarms.",
        lowest=1,
        highest=5000,
    )
    batch_rows: int = _count(100_000, "一批最多的读数个数", "... or with so many values.", lowest=1, highest=1_000_000)
    receive_maximum: int = _count(
        65_535,
        "在途报文上限",
        "Packets the broker may have under way to us; with fewer than two batches it waits for us instead of sending.",
        lowest=20,
        highest=65_535,
    )
    max_messages_per_s: CountOrNone = _setting(
        None,
        "每台设备每秒报文上限，超出的拒收并计数；默认不限，因为拒收的读数不会再来；不用于数据时钟与积压",
        "Messages a second of one device; what is over it is refused and counted (too_fast). No limit by default: what "
        "is refused does not come again. Not with clock.source = data, and not while a backlog is drained.",
        "1 to 1000000, or none",
    )
    burst_s: int = _count(
        60,
        "短时超限的余量：可一次用掉多少秒的报文",
        "How many seconds' worth of messages a device may send at once, such as what it held back while offline.",
        lowest=1,
        highest=86_400,
    )

    @field_validator("max_messages_per_s")
    @classmethod
    def _most(cls, value: int | None) -> int | None:
        if value is not None and not 1 <= value <= 1_000_000:
            raise ValueError("out of range")
        return value


class Journal(_Group):
    max_mb: int = _count(
        2048,
        "日志缓冲上限 (MB)",
        "While the time-series store is down the journal is the buffer, up to this size; then we stop acknowledging "
        "and the broker queues.",
        lowest=16,
        highest=1_000_000,
    )


def _spans(value: object, names: Mapping[str, object]) -> object:
    """Durations by name, as written; a bare number has no unit."""
    if not isinstance(value, Mapping) or not value.keys() <= names.keys():
        raise ValueError("not durations by name")
    if not all(isinstance(span, str) for span in value.values()):
        raise ValueError("not a duration")
    return {name: _duration(_none(span)) for name, span in value.items()}


class Retention(_Group):
    raw: DurationOrNone = _setting(
        400 * DAY,
        "原始数据保存多久（按测量时间，整天删除）",
        "How long readings and events are kept, by the time they were measured; they go in whole days.",
        f"{_DURATION}, or none (for ever)",
    )
    kinds: Mapping[str, int | None] = _setting(
        {},
        "某类设备的数据另定保存期限",
        "The same for one kind of device, instead of raw and personal.",
        f'KIND = "400d", {_DURATION}, or "none"',
    )
    metrics: Mapping[str, Mapping[str, int | None]] = _setting(
        {},
        "某类设备的某项指标另定保存期限",
        "The same for one metric of a kind, instead of all others.",
        f'KIND.METRIC = "400d", {_DURATION}, or "none"',
    )
    personal: DurationOrNone = _setting(
        90 * DAY,
        "涉及个人的数据（门磁、巡查人员等）保存多久",
        "... of devices that tell about one person (doors, patrols, whatever stands in a home); their roll-ups too.",
        f"{_DURATION}, or none (for ever)",
    )
    minutes: DurationOrNone = _setting(
        730 * DAY,
        "每分钟汇总保存多久",
        "How long roll-ups by the minute are kept.",
        f"{_DURATION}, or none (for ever)",
    )
    hours: DurationOrNone = _setting(
        None, "每小时汇总保存多久", "... and by the hour.", f"{_DURATION}, or none (for ever)"
    )
    evidence_days: int = _count(
        30,
        "告警前后的数据在工单归档后再保存的天数",
        "Readings around an alarm stay until its order is archived (without order: until it clears) and so many days.",
        lowest=0,
        highest=3650,
    )

    @field_validator("kinds", mode="before")
    @classmethod
    def _kinds(cls, value: object) -> object:
        return _spans(value, KINDS)

    @field_validator("metrics", mode="before")
    @classmethod
    def _metrics(cls, value: object) -> object:
        if not isinstance(value, Mapping) or not value.keys() <= KINDS.keys():
            raise ValueError("not metrics by kind")
        return {kind: _spans(metrics, KINDS[kind].metrics) for kind, metrics in value.items()}


class Orders(_Group):
    watch: Duration = _setting(
        24 * HOUR,
        "观察期：结案后再次告警则返工",
        "Watch period: a new occurrence this soon after closing reopens the order as rework; then it is archived.",
        _DURATION,
    )


class Sessions(_Group):
    hours: int = _count(12, "登录有效小时数", "How long a sign-in lasts.", lowest=1, highest=720)


class Notify(_Group):
    channels: Mapping[ChannelName, UrlPlace] = _setting(
        {},
        "通知渠道：名称 = file:文件 或 env:变量，网址（保密）存放其中",
        "Channel name to where its URL is kept: file:PATH (first line) or env:NAME. An http(s) URL gets a JSON POST, "
        "any other is an Apprise URL. The URL itself never stands here: it is a secret.",
        'NAME = "file:PATH" or "env:VARIABLE", NAME of a-z 0-9 _ -',
    )
    attempts: int = _count(
        12, "最多尝试次数", "After so many failed attempts a message is dead: listed, not sent.", lowest=1, highest=100
    )


class Settings(BaseSettings):
    """All settings; every group is frozen. `rules` and `town` are None where none is given."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    data_dir: Path = _setting(
        Path("data"),
        "数据目录：数据库、时序库、消息队列",
        "Folder of the databases and of the embedded broker's queue; locked by the running service.",
        "a folder (made if absent)",
    )
    rules: Path | None = _setting(
        None, "规则文件或目录", "Rules: one YAML file, or a folder of them.", "a file or folder that exists"
    )
    town: Path | None = _setting(
        None, "乡镇目录：设备与网格", "Folder of the town: its grids and devices.", "a folder that exists"
    )
    unknown_devices: UnknownDevices = _setting(
        UnknownDevices.QUARANTINE,
        "未登记设备：隔离、接受或拒收",
        "What becomes of a device nobody registered.",
        "quarantine, accept or refuse",
    )
    broker: Broker = Broker()
    http: Http = Http()
    site: Site = Site()
    clock: Clock = Clock()
    admin: Admin = Admin()
    log: Log = Log()
    ingest: Ingest = Ingest()
    journal: Journal = Journal()
    retention: Retention = Retention()
    orders: Orders = Orders()
    sessions: Sessions = Sessions()
    notify: Notify = Notify()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
