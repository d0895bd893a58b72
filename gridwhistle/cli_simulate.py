"""`simulate`: a pretend township over real MQTT, with its ground truth."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridwhistle.cli_options import LOCAL_BROKER, AsJson, BrokerUrl, instant, pace_of, read_town_folder
from gridwhistle.console_io import NO, answer_json, give_up, say, status

if TYPE_CHECKING:
    from devices.town import Town
    from simulator.township import Published

QIDU = Path(__file__).resolve().parent.parent / "examples" / "qidu"
NOW = "now"


def simulate(  # noqa: PLR0913 - the options of one command, all by name
    *,
    town: Annotated[
        Path,
        typer.Option("--town", metavar="DIR", exists=True, file_okay=False, show_default="examples/qidu",
                     help="乡镇目录\n\nFolder of the town."),
    ] = QIDU,
    devices: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="负载：多少台虚拟设备\n\nLoad: so many made-up devices.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="负载：每秒多少条消息\n\nLoad: so many messages a second.")
    ] = None,
    speed: Annotated[str, typer.Option(metavar="X|max", help="几倍速\n\nThe township's time over the wall's.")] = "1",
    seed: Annotated[int, typer.Option(help="随机种子\n\nSame seed and start, same bytes.")] = 1,
    start: Annotated[
        str | None,
        typer.Option(metavar="T|now", help="从何时起，now 为此刻\n\nFirst instant; default: the scenario's own."),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(help="剧本\n\n"
                          "One of showcase, calm, ordinary, flood, silent-elder, bloom, sensor-faults."),
    ] = "showcase",
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="写出应有的告警\n\nAlarms there must be.")
    ] = None,
    broker: BrokerUrl = LOCAL_BROKER,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """模拟乡镇按剧本发布读数，Ctrl-C 结束。

    A pretend township over MQTT; Ctrl-C ends it. A service that follows
    the township's clock runs with [bold]--set clock.source=data[/bold];
    for one on wall time use [bold]--start now[/bold] at speed 1.

    [bold]gridwhistle simulate --scenario flood --speed 60 --truth truth.json[/bold]

    [bold]gridwhistle simulate --start now --broker mqtt://10.0.0.5:1883[/bold]

    [bold]gridwhistle simulate --devices 2000 --rate 5000[/bold]
    """
    pace, first = pace_of(speed), _now() if start == NOW else instant(start)
    place = read_town_folder(town)
    import aiomqtt

    from simulator.township import UnknownScenario

    try:
        published = asyncio.run(
            _publish(broker, place, scenario=scenario, seed=seed, start=first, speed=pace, devices=devices, rate=rate,
                     truth=truth)
        )  # fmt: skip
    except (UnknownScenario, ValueError, OSError) as error:
        give_up(str(error))
    except aiomqtt.MqttError as error:
        give_up(f"{broker}: 无法连接或连接中断 cannot connect, or the connection was lost: {error}", NO)
    _tell(published, as_json=as_json)
    if truth is not None:
        say(f"应有的告警 the alarms there must be: {truth}")


async def _publish(  # noqa: PLR0913 - the options of the command, all by name
    broker: str, town: Town, *, scenario: str, seed: int, start: int | None, speed: float | None, devices: int | None,
    rate: float | None, truth: Path | None,
) -> Published:  # fmt: skip
    from devices.instants import to_iso
    from simulator.township import simulate as play

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with status(f"{scenario} …") as line:
        return await play(
            broker, town, scenario=scenario, seed=seed, start=start, speed=speed, devices=devices, rate=rate,
            stop=stop, truth=truth,
            progress=lambda p: line(f"{p.scenario}  {to_iso(p.until)}  {p.messages} 条消息 messages, "
                                    f"{p.values} 个读数 values"),
        )  # fmt: skip


def _tell(published: Published, *, as_json: bool) -> None:
    from devices.instants import to_iso

    found: dict[str, object] = {
        "scenario": published.scenario,
        "seed": published.seed,
        "start": to_iso(published.start),
        "until": to_iso(published.until),
        "devices": published.devices,
        "messages": published.messages,
        "values": published.values,
        "expected": len(published.truth),
    }
    if as_json:
        answer_json(found)
        return
    print(
        f"{found['scenario']}: {found['start']} – {found['until']}, {published.devices} 台设备 devices, "
        f"{published.messages} 条消息 messages, {published.values} 个读数 values, "
        f"应有告警 alarms there must be: {found['expected']}"
    )


def _now() -> int:
    from gridwhistle.clock import wall

    return wall()
