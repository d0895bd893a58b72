"""The broker as a subscriber meets it: does it answer, what does it announce, what does it keep for one who is away.

A broker never announces how many messages it queues for an absent subscriber, and Mosquitto's default of 1,000 drops
the rest without a word. So it is measured: a session of our own is left, more than that is published to it, and what
is still there is counted.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from dataclasses import dataclass, field

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gridwhistle.findings import Finding, fail, ok, warn
from gridwhistle.settings import Broker
from ingest import wire
from ingest.wire import V5, V311, Connack, ProtocolError

ANSWER_WITHIN_S = 5.0
QUIET_S = 2.0
# A fifth more than the default that loses messages.
LEFT_BEHIND = 1_200
# What the service asks for (ingest.link.Options.session_expiry): a week without us.
SESSION_EXPIRY_S = 7 * 24 * 3600
BAD_LOGIN = {0x04, 0x05, 0x86, 0x87}

SEE_SHIPPED = (
    "在服务器配置中加入 put into the broker's configuration: max_queued_messages 0, max_queued_bytes 0, "
    "max_inflight_bytes 0, persistence true"
)


@dataclass(frozen=True, slots=True)
class Door:
    """How to reach the broker, without the client id: an examination never takes the service's session."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    username: str | None
    password: str | None = field(repr=False)


def door_of(broker: Broker) -> Door:
    """Raises OSError (a file that cannot be read), ssl.SSLError (a certificate that is none)."""
    tls = ssl.create_default_context(cafile=broker.ca_file) if broker.tls else None
    return Door(broker.host, broker.port, tls, broker.username, broker.read_password())


async def examine_broker(broker: Broker) -> list[Finding]:
    try:
        door = door_of(broker)
    except OSError as error:
        return [fail("broker", f"{error}", "检查 check broker.password_file, broker.ca_file")]
    version, connack, trouble = V5, None, ""
    for version in (V5, V311):
        try:
            connack = await _connect(door, version)
        except (OSError, TimeoutError, ProtocolError, asyncio.IncompleteReadError) as error:
            trouble = str(error) or type(error).__name__
            connack = None
        if connack is not None and connack.code not in wire.UNSUPPORTED_VERSION:
            break
    if connack is None:
        return [_unreachable(broker, trouble)]
    if connack.code != 0:
        return [_refused(broker, connack.code)]
    findings = [ok("broker", f"{broker.url} 应答 answers, MQTT {'5' if version == V5 else '3.1.1'}")]
    findings += announced(connack) if version == V5 else [_old(broker)]
    findings.append(await _measured(door, version))
    return findings


async def _connect(door: Door, version: int) -> Connack:
    """The CONNACK to what the service asks for; the session ends with the connection."""
    connect = wire.connect(
        f"gridwhistle-doctor-{secrets.token_hex(4)}", version=version, keep_alive=30, receive_maximum=100,
        session_expiry=SESSION_EXPIRY_S, username=door.username,
        password=None if door.password is None else door.password.encode(),
    )  # fmt: skip
    if version == V311:
        # Its flags stand behind the packet's two bytes, the protocol's name and its version: clean session on.
        connect = connect[:9] + bytes([connect[9] | 0x02]) + connect[10:]
    async with asyncio.timeout(ANSWER_WITHIN_S):
        reader, writer = await asyncio.open_connection(door.host, door.port, ssl=door.tls)
        try:
            writer.write(connect)
            first, length = await reader.readexactly(2)
            if first != wire.CONNACK or length > 127:
                raise ProtocolError("不是 MQTT not MQTT")
            return wire.read_connack(await reader.readexactly(length), version=version)
        finally:
            # §3.14.2.2.2: an expiry of 0 in the DISCONNECT ends the session; in 3.1.1 it was a clean one.
            writer.write(bytes([wire.DISCONNECT, 7, 0, 5, 0x11, 0, 0, 0, 0]) if version == V5 else wire.disconnect())
            writer.close()


def _unreachable(broker: Broker, trouble: str) -> Finding:
    return fail(
        "broker",
        f"{broker.url} 连不上 cannot be reached: {trouble}",
        "启动服务器或改正 broker.url；没有服务器时用 run --embedded-broker。 Start it, mend broker.url, or use run "
        "--embedded-broker",
    )


def _refused(broker: Broker, code: int) -> Finding:
    if code in BAD_LOGIN:
        return fail("broker", f"{broker.url} 拒绝登录 refuses the login (reason {code:#04x})",
                    "改正 mend broker.username, broker.password_file")  # fmt: skip
    return fail("broker", f"{broker.url} 拒绝连接 refuses the connection (reason {code:#04x})", "见其日志 see its log")


def _old(broker: Broker) -> Finding:
    return warn(
        "broker.version",
        f"{broker.url} 只会 MQTT 3.1.1，在途上限由它定 speaks 3.1.1 only: how much is under way is its choice",
        "改用 Mosquitto 2 use Mosquitto 2",
    )


def announced(connack: Connack) -> list[Finding]:
    """The limits of MQTT 5 §3.2.2.3; absent means the most the protocol allows."""
    has = connack.properties
    findings: list[Finding] = []
    if has.get(0x24, 2) < 1:
        findings.append(fail("broker.qos", "最高 QoS 0 only: 断线即丢 what comes while we are away is lost",
                             "允许 QoS 1 allow QoS 1"))  # fmt: skip
    if has.get(0x28, 1) == 0:
        findings.append(fail("broker.wildcard", "不许通配订阅 no wildcard subscriptions", "打开 allow them: gw/v1/#"))
    if has.get(0x25, 1) == 0:
        unretained = "不保留消息，设备在线状态不可靠 no retained messages: presence cannot be relied on"
        findings.append(warn("broker.retain", unretained, "打开 allow retained messages"))
    expiry = has.get(0x11, SESSION_EXPIRY_S)
    if expiry < SESSION_EXPIRY_S:
        short = f"服务停止超过 {expiry} 秒即丢消息 away for longer than {expiry} s, we lose what came"
        findings.append(warn("broker.session", short, "调大会话保留时间 raise the session expiry"))
    packet = has.get(0x27)
    if packet is not None and packet < 65_536:
        findings.append(warn("broker.packet", f"报文最大 {packet} 字节 largest packet", "放宽 raise max_packet_size"))
    receive = has.get(0x21, 65_535)
    size = "不限 unlimited" if packet is None else f"{packet} 字节 bytes"
    findings.append(ok("broker.limits", f"设备在途上限 packets a publisher may have under way: {receive}; "
                                        f"报文上限 largest packet: {size}"))  # fmt: skip
    return findings


async def _measured(door: Door, version: int) -> Finding:
    name = "broker.queue"
    try:
        kept = await _left_behind(door, version)
    except (aiomqtt.MqttError, OSError, TimeoutError) as error:
        unknown = f"无法测量离线消息队列 what it keeps for an absent subscriber could not be measured: {error}"
        return warn(name, unknown, f"允许 allow gridwhistle/doctor/#; {SEE_SHIPPED}")
    if kept == LEFT_BEHIND:
        return ok(
            name,
            f"离线消息全部保留 keeps all {kept} messages for an absent subscriber（其重启后是否仍在，看 persistence "
            "whether also over its own restart is its `persistence`）",
        )
    return fail(name, f"离线时丢消息 it drops messages of an absent subscriber: {kept}/{LEFT_BEHIND} kept", SEE_SHIPPED)


async def _left_behind(door: Door, version: int) -> int:
    """How many of LEFT_BEHIND messages wait for a session that was away. The session is deleted afterwards."""
    identity = f"gridwhistle-doctor-{secrets.token_hex(6)}"
    topic = f"gridwhistle/doctor/{identity}"
    async with _client(door, version, identity) as client:
        granted = await client.subscribe(topic, qos=1)
        if any((code if isinstance(code, int) else code.value) != 1 for code in granted):
            raise aiomqtt.MqttError("不许订阅 the subscription was refused or lowered")
    async with _client(door, version, f"{identity}-out", stays=False) as publisher:
        publisher.pending_calls_threshold = LEFT_BEHIND
        await asyncio.gather(*(publisher.publish(topic, b"%d" % n, qos=1) for n in range(LEFT_BEHIND)))
    kept = 0
    try:
        async with _client(door, version, identity) as client:
            messages = client.messages
            while kept < LEFT_BEHIND:
                async with asyncio.timeout(QUIET_S):
                    await anext(messages)
                kept += 1
    except TimeoutError:
        pass  # quiet: this is all there is
    finally:
        async with _client(door, version, identity, stays=False):
            pass
    return kept


def _client(door: Door, version: int, identity: str, *, stays: bool = True) -> aiomqtt.Client:
    """A connection whose session stays after it, or ends with it and takes an older one of the name along."""
    if version == V311:
        return aiomqtt.Client(
            door.host, door.port, username=door.username, password=door.password, tls_context=door.tls,
            identifier=identity, protocol=aiomqtt.ProtocolVersion.V311, clean_session=not stays,
            max_inflight_messages=100,
        )  # fmt: skip
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 60 if stays else 0
    return aiomqtt.Client(
        door.host, door.port, username=door.username, password=door.password, tls_context=door.tls,
        identifier=identity, protocol=aiomqtt.ProtocolVersion.V5, clean_start=not stays, properties=properties,
        max_inflight_messages=100,
    )  # fmt: skip
