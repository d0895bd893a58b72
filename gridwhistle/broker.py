"""The broker of the demo and of `run --embedded-broker`: a child process on a private port of the loopback.

Mosquitto where it is installed, else amqtt, which forgets offline messages and says so. The child must neither outlive
a crash of its parent (it would hold the queue's file) nor die of the Ctrl-C meant for the parent (the queue is drained
after the simulator stops): it runs in a session of its own, and the kernel sends it SIGTERM when the parent is gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
READY_WITHIN_S = 15.0
# A predecessor that was told to end saves its queue first; a second broker must not read the file meanwhile.
PREDECESSOR_WITHIN_S = 10.0
STOP_WITHIN_S = 10.0
PORT_TRIES = 5

# Measured on Mosquitto 2.0.11: with max_queued_messages at its default of 1,000 the broker silently drops QoS 1
# messages of an absent subscriber. 0 is no limit: the disk is.
LIMITS = """\
persistence true
max_queued_messages 0
max_queued_bytes 0
max_inflight_bytes 0
max_packet_size 4194304
"""

NOT_DURABLE = (
    "没有找到 mosquitto，改用 amqtt：断线期间的消息会丢失（不持久）。 "
    "mosquitto is not installed, using amqtt: not durable, messages to an absent subscriber are lost."
)

# PR_SET_PDEATHSIG survives exec, unlike a fork's preexec_fn it needs no code in a forked multi-threaded process, and
# the pid stays the broker's. The parent may have died before prctl: then its pid is no longer ours.
_TIE_AND_EXEC = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
os.getppid() == int(sys.argv[1]) or sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

log = logging.getLogger(__name__)


class BrokerFailed(RuntimeError):
    """The broker did not start; the message carries what it said."""


def find_mosquitto() -> str | None:
    # Debian installs it where a user's PATH does not look.
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


class BrokerChild:
    """One broker over `data_dir/broker`. Start it from a thread that lives as long as it shall (the event loop's):
    Linux ends the child with the thread that made it. Elsewhere than on Linux a crash leaves Mosquitto running."""

    def __init__(self, data_dir: Path, *, mosquitto: str | None = None, use_amqtt: bool = False) -> None:
        self.folder = (data_dir / "broker").resolve()
        self.mosquitto = None if use_amqtt else (mosquitto or find_mosquitto())
        self.port = 0
        self.process: Process | None = None

    @property
    def host(self) -> str:
        return HOST

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    @property
    def durable(self) -> bool:
        return self.mosquitto is not None

    @property
    def warning(self) -> str | None:
        """What the person starting it must be told, Chinese first; None where there is nothing to say."""
        return None if self.durable else NOT_DURABLE

    async def start(self) -> None:
        """Returns when the broker answers a CONNECT. Raises BrokerFailed."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for _ in range(PORT_TRIES):
            self.port = _free_port()
            self.process = await self._spawn()
            if await self._ready():
                log.info("broker %s on %s", "mosquitto" if self.durable else "amqtt", self.url)
                return
            await self.stop()
            if "Address already in use" not in self._said():
                break
        raise BrokerFailed(f"消息服务器未能启动 the broker did not start:\n{self._said()[-2000:]}")

    async def stop(self) -> None:
        """SIGTERM to exactly this child: Mosquitto saves its queue on it. Harmless where nothing runs."""
        process, self.process = self.process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
        except TimeoutError:
            log.warning("the broker did not end within %.0f s and is killed", STOP_WITHIN_S)
            process.kill()
            await process.wait()

    async def ended(self) -> int:
        """Waits until the broker has ended by itself, and returns its exit status."""
        if self.process is None:
            raise RuntimeError("the broker has not been started")
        return await self.process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _spawn(self) -> Process:
        lock = await self._lock()
        try:
            with (self.folder / "broker.log").open("wb") as output:
                return await asyncio.create_subprocess_exec(
                    *self._command(),
                    stdin=DEVNULL if self.durable else PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        finally:
            os.close(lock)  # the child keeps its own: the lock is held exactly as long as the child lives

    async def _lock(self) -> int:
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = asyncio.get_running_loop().time() + PREDECESSOR_WITHIN_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if asyncio.get_running_loop().time() > deadline:
                    os.close(descriptor)
                    raise BrokerFailed(f"另一个消息服务器正在使用 another broker is using {self.folder}") from None
                await asyncio.sleep(0.05)

    def _command(self) -> list[str]:
        if self.mosquitto is None:
            return [sys.executable, "-m", "gridwhistle.broker_amqtt", str(self.port)]
        settings = self.folder / "mosquitto.conf"
        settings.write_text(configuration(self.folder, self.port), encoding="utf-8")
        command = [self.mosquitto, "-c", str(settings)]
        if sys.platform != "linux":
            return command
        return [sys.executable, "-I", "-S", "-c", _TIE_AND_EXEC, str(os.getpid()), *command]

    async def _ready(self) -> bool:
        """False when the child ended or never answered. Before its own `running` an answer may be another broker's
        that took the port; older versions never say it, so after a second the answer alone will do."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        while loop.time() - started < READY_WITHIN_S:
            if self.process is None or self.process.returncode is not None:
                return False
            if ("running" in self._said() or loop.time() - started > 1) and await answers(HOST, self.port):
                return True
            await asyncio.sleep(0.02)
        return False

    def _said(self) -> str:
        try:
            return (self.folder / "broker.log").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


def configuration(folder: Path, port: int) -> str:
    """Mosquitto's file. Started by root it would become another user, unable to write here and, having changed user,
    no longer ended with its parent: it stays who it is."""
    user = "user root\n" if os.geteuid() == 0 else ""
    return (
        f"listener {port} {HOST}\nallow_anonymous true\n{user}{LIMITS}persistence_location {folder}/\n"
        "autosave_interval 60\nlog_dest stderr\nconnection_messages false\n"
        "log_type error\nlog_type warning\nlog_type notice\nlog_type information\n"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def answers(host: str, port: int, within_s: float = 2.0) -> bool:
    """Whether an MQTT 3.1.1 CONNECT gets a CONNACK, accepted or not."""
    name = b"gridwhistle-ready"
    connect = b"\x00\x04MQTT\x04\x02\x00\x05" + len(name).to_bytes(2, "big") + name
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(bytes([0x10, len(connect)]) + connect)
                answer = await reader.readexactly(4)
                writer.write(b"\xe0\x00")
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    return answer[:2] == b"\x20\x02"
