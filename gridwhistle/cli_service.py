"""`demo` and `run`: the service, with a pretend township in front of it or without."""

from __future__ import annotations

import errno
from typing import Annotated

import typer

from gridwhistle.cli_options import Config, Overrides, read_settings
from gridwhistle.console_io import OK, WRONG_USE, say

# An address that is taken, not ours, or not allowed: the settings are wrong, not the program.
UNUSABLE = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}


def run(
    config: Config = None,
    overrides: Overrides = None,
    embedded_broker: Annotated[
        bool,
        typer.Option(
            "--embedded-broker",
            help="自带消息服务器\n\nStart a broker of its own on a private local port; broker.* is not used.",
        ),
    ] = False,
) -> None:
    """运行服务。

    Run the service: readings from the broker in, console and API out.
    Prints one line, [bold]ready http://ADDRESS[/bold], on standard output when
    broker, stores and HTTP answer.

    [bold]gridwhistle run --config gridwhistle.toml[/bold]

    [bold]gridwhistle run --set broker.url=mqtt://10.0.0.5:1883 --set rules=rules --set town=town[/bold]

    [bold]GRIDWHISTLE_HTTP__PORT=8090 gridwhistle run --embedded-broker[/bold]
    """
    settings = read_settings(config, overrides)
    from gridwhistle import process
    from gridwhistle.broker import BrokerFailed
    from gridwhistle.logs import start_logging
    from notify.channels import ChannelError

    start_logging(settings.log)
    status = OK
    try:
        status = process.run(settings, embedded_broker=embedded_broker)
    except* (ChannelError, BrokerFailed) as errors:
        status = _told(errors)
    except* OSError as errors:
        if any(getattr(error, "errno", None) not in UNUSABLE for error in errors.exceptions):
            raise
        status = _told(errors, f"{settings.http.host}:{settings.http.port}: ")
    raise typer.Exit(status)


def _told(errors: BaseExceptionGroup[BaseException], before: str = "") -> int:
    for error in errors.exceptions:
        say(f"{before}{error}")
    return WRONG_USE


def demo(
    *,
    lasts: Annotated[
        str | None,
        typer.Option("--for", metavar="60s", help="多久后自行停止\n\nStop by itself after this wall time."),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="FILE|-", help="结束时写出报告\n\nWrite a JSON report at the end; - is standard output."
        ),
    ] = None,
    scenario: Annotated[str, typer.Option(help="剧本\n\nWhich day to play; see simulate --help.")] = "showcase",
    seed: Annotated[int, typer.Option(help="随机种子\n\nSame seed, same readings.")] = 1,
    speed: Annotated[float, typer.Option(min=0.1, help="几倍速\n\nSimulated seconds a second.")] = 60.0,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="网页端口\n\nPort of the console.")] = None,
) -> None:
    """演示：一个模拟乡镇接上完整服务，Ctrl-C 结束。

    A pretend township in front of the whole service; Ctrl-C ends it.

    [bold]gridwhistle demo[/bold] prints the console's address and a sign-in

    [bold]gridwhistle demo --for 60s --report -[/bold] plays an hour in a minute and prints what happened
    """
    from devices.instants import parse_duration

    try:
        duration = None if lasts is None else parse_duration(lasts)
    except ValueError as error:
        raise typer.BadParameter(f"--for: {error}") from error
    from gridwhistle import demo as stage

    raise typer.Exit(stage.demo(lasts=duration, report=report, scenario=scenario, seed=seed, speed=speed, port=port))
