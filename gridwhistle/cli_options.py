"""Options that several commands share, and settings as every command reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridwhistle.console_io import WRONG_USE, give_up

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from devices.town import Town
    from gridwhistle.settings import Settings
    from rules.calendar import Site

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="设置文件 (TOML)\n\nSettings file; see docs/settings.md."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="单项设置\n\nOne setting, such as http.port=8090; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="答案为 JSON\n\nThe answer as JSON; all else on standard error.")]
BrokerUrl = Annotated[str, typer.Option("--broker", metavar="URL", help="MQTT 服务器\n\nBroker to publish to.")]

LOCAL_BROKER = "mqtt://127.0.0.1:1883"


def read_settings(config: Path | None, overrides: list[str] | None) -> Settings:
    """Ends the command with status 2 and every mistake where the settings cannot be used."""
    from gridwhistle.settings_sources import SettingsError, load

    try:
        return load(config, overrides or ())
    except SettingsError as error:
        give_up(f"设置有误 The settings are wrong:\n{error}", WRONG_USE)


def instant(text: str | None) -> int | None:
    """An ISO 8601 instant with offset as microseconds; a usage mistake otherwise."""
    from devices.instants import from_iso

    if text is None:
        return None
    try:
        return from_iso(text)
    except ValueError as error:
        raise typer.BadParameter(f"应为 expected 2025-09-12T07:00:00Z or …+08:00: {error}") from error


def pace_of(text: str) -> float | None:
    """`60` or `max` (None); a usage mistake otherwise."""
    if text == "max":
        return None
    try:
        pace = float(text)
    except ValueError:
        pace = 0.0
    if not 0 < pace < float("inf"):
        raise typer.BadParameter("--speed: 应为正数或 max expected a number above 0, or max")
    return pace


def read_town_and_site(folder: Path) -> tuple[Town, Site]:
    """As `read_town_folder`; with the zone of the town and its calendar."""
    from devices.documents import DocumentError
    from gridwhistle.folders import read_town_files
    from gridwhistle.site import read_site

    town = read_town_folder(folder)
    try:
        return town, read_site(None, town, read_town_files(folder))
    except DocumentError as error:
        give_up(f"乡镇文件有误 The town is wrong:\n{error}")
    except OSError as error:
        give_up(f"{folder}: 无法读取 cannot be read: {error}")


def read_town_folder(folder: Path) -> Town:
    """Ends the command with status 2 and every mistake where the town's files cannot be used."""
    from devices.documents import DocumentError
    from devices.town import read_town
    from gridwhistle.folders import read_town_files

    try:
        return read_town(read_town_files(folder))
    except DocumentError as error:
        give_up(f"乡镇文件有误 The town is wrong:\n{error}")
    except (OSError, UnicodeDecodeError) as error:
        give_up(f"{folder}: 无法读取 cannot be read: {error}")


def zone_given(settings: Settings) -> ZoneInfo:
    """The site's zone. Ends the command with status 2 where the town it stands in cannot be read."""
    from devices.documents import DocumentError
    from gridwhistle.times import zone_of

    try:
        return zone_of(settings)
    except DocumentError as error:
        give_up(f"乡镇文件有误 The town is wrong:\n{error}")
    except (OSError, UnicodeDecodeError) as error:
        give_up(f"{settings.town}: 无法读取 cannot be read: {error}")


def time_given(settings: Settings, text: str | None, option: str, *, now: Callable[[], int]) -> int | None:
    """A time as `gridwhistle.times.read_time` reads it, `now` only where it is asked for; a usage mistake otherwise."""
    from gridwhistle.times import read_time

    if text is None:
        return None
    try:
        return read_time(text, zone=zone_given(settings), now=now() if text.strip().startswith("-") else 0)
    except ValueError as error:
        raise typer.BadParameter(
            f"{option}: 应为 expected 2025-07-01, 2025-07-01T08:00, 2025-07-01T08:00+08:00, -24h: {error}"
        ) from error


def moments(settings: Settings, to: str = "seconds") -> Callable[[str], str]:
    """Writes an instant of an answer in the site's zone, to the second or minute, with its offset."""
    from datetime import datetime

    zone = zone_given(settings)
    return lambda text: datetime.fromisoformat(text).astimezone(zone).isoformat(" ", to)
