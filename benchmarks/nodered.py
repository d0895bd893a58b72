"""Node-RED as a contender: mqtt in → function → sqlite, installed by npm into a cache folder and never part of this.

It too gets its best: one prepared INSERT a message, WAL, synchronous NORMAL, no editor. Where npm or the network is not
at hand, `install` says why and the comparison goes on without it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.contenders import LIMIT_S, QUIET_S, TABLE
from benchmarks.load import METRICS
from benchmarks.machine import Usage, program_version
from benchmarks.parts import Broker, Publisher, end, free_port

NODE_RED, SQLITE_NODE = "4.1.15", "1.1.1"
NODE = "v20."
INSTALL_LIMIT_S, START_LIMIT_S = 600, 60
FUNCTION = f"""\
const p = msg.payload;
msg.params = {{$device: msg.topic.split("/")[4], $at: p.at, {", ".join(f"${m}: p.{m}" for m in METRICS)}}};
return msg;
"""
SETTINGS = """\
module.exports = {
  uiHost: "127.0.0.1", uiPort: %d, flowFile: "flows.json", disableEditor: true, httpAdminRoot: false,
  telemetry: {enabled: false, updateNotification: false}, logging: {console: {level: "info"}},
};
"""


class NotAtHand(Exception):
    """Why Node-RED is not compared."""


def install() -> Path:
    """The folder it is installed in, from an earlier run or by npm now (the sqlite node is compiled where no binary is
    offered). Raises NotAtHand."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise NotAtHand("node and npm are not installed")
    node = program_version("node") or ""
    if not node.startswith(NODE):
        raise NotAtHand(f"Node {NODE[1:-1]} is wanted, this is {node}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "gridwhistle-bench" / f"node-red-{NODE_RED}"
    if _usable(folder):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    # Without this newer npm installs the binding of SQLite but does not build it.
    wanted = {"node-red": NODE_RED, "node-red-node-sqlite": SQLITE_NODE}
    package = {"private": True, "dependencies": wanted, "allowScripts": {"sqlite3": True}}
    (folder / "package.json").write_text(json.dumps(package))
    print(f"installing Node-RED {NODE_RED} into {folder}", file=sys.stderr)
    command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False,
            timeout=INSTALL_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NotAtHand(f"npm install took longer than {INSTALL_LIMIT_S} s") from error
    if done.returncode or not _usable(folder):
        raise NotAtHand(f"npm install failed: {done.stderr.strip()[-300:] or 'no binding of sqlite3'}")
    return folder


def _usable(folder: Path) -> bool:
    binding = folder / "node_modules" / "sqlite3" / "build" / "Release" / "node_sqlite3.node"
    return binding.exists() and (folder / "node_modules" / "node-red" / "red.js").exists()


def flows(port: int, qos: int, database: Path) -> list[dict[str, Any]]:
    insert = f"INSERT INTO readings VALUES ($device, $at, {', '.join(f'${m}' for m in METRICS)})"
    broker = {"broker": "127.0.0.1", "port": str(port), "clientid": "node-red", "protocolVersion": "5",
              "keepalive": "60", "cleansession": True, "autoConnect": True, "usetls": False}  # fmt: skip
    # No id may be the name of a type: Node-RED would take it for a circle.
    return [
        {"id": "n-tab", "type": "tab", "label": "bench"},
        {"id": "n-broker", "type": "mqtt-broker", **broker},
        {"id": "n-file", "type": "sqlitedb", "db": str(database), "mode": "RWC"},
        {"id": "n-in", "type": "mqtt in", "z": "n-tab", "topic": "gw/#", "qos": str(qos), "datatype": "json",
         "broker": "n-broker", "inputs": 0, "wires": [["n-function"]]},
        {"id": "n-function", "type": "function", "z": "n-tab", "func": FUNCTION, "outputs": 1,
         "wires": [["n-insert"]]},
        {"id": "n-insert", "type": "sqlite", "z": "n-tab", "mydb": "n-file", "sqlquery": "prepared", "sql": insert,
         "wires": [[]]},
        {"id": "n-once", "type": "inject", "z": "n-tab", "once": True, "onceDelay": 0, "repeat": "", "crontab": "",
         "topic": "", "props": [{"p": "payload"}], "wires": [["n-pragma"]]},
        {"id": "n-pragma", "type": "sqlite", "z": "n-tab", "mydb": "n-file", "sqlquery": "fixed",
         "sql": "PRAGMA synchronous=NORMAL", "wires": [[]]},
    ]  # fmt: skip


def measure(installed: Path, folder: Path, *, qos: int, messages: int) -> tuple[float, dict[str, Any]]:
    """Messages a second that it committed, and who used the cores meanwhile. Raises NotAtHand if it does not start."""
    with ExitStack() as stack:
        folder.mkdir()
        database = folder / "plain.db"
        with closing(sqlite3.connect(database)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(TABLE)
        broker = Broker(stack, folder / "broker")
        (folder / "settings.js").write_text(SETTINGS % free_port())
        (folder / "flows.json").write_text(json.dumps(flows(broker.port, qos, database)))
        process = subprocess.Popen(
            ["node", str(installed / "node_modules" / "node-red" / "red.js"), "--userDir", str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
        )  # fmt: skip
        stack.callback(end, process)
        _wait_connected(process)
        publisher = Publisher(stack, broker.port, messages, qos)
        usage = Usage({"broker": broker.process.pid, "publisher": publisher.process.pid, "subscriber": process.pid})
        usage.start()
        begun = publisher.go()
        taken, took = _watch(database, messages, begun)
        assert taken > 0, "Node-RED took nothing"
        return taken / took, usage.stop()


def _wait_connected(process: subprocess.Popen[str]) -> None:
    """It subscribes as soon as it is connected; what it says later is read and dropped, so that it never waits."""
    connected, said = threading.Event(), []

    def listen() -> None:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            del said[:-20]
            if "Connected to broker" in line:
                connected.set()

    threading.Thread(target=listen, daemon=True).start()
    if not connected.wait(START_LIMIT_S):
        raise NotAtHand(f"Node-RED did not connect: {''.join(said)[-300:]}")
    time.sleep(1)


def _watch(database: Path, messages: int, begun: float) -> tuple[int, float]:
    """How many rows it committed and in how many seconds; looked at from outside, which costs it nothing."""
    taken, last = 0, begun
    with closing(sqlite3.connect(database)) as db:
        while taken < messages and time.perf_counter() - begun < LIMIT_S and time.perf_counter() - last < QUIET_S:
            time.sleep(0.1)
            rows = db.execute("SELECT max(rowid) FROM readings").fetchone()[0] or 0
            if rows > taken:
                taken, last = rows, time.perf_counter()
    return taken, last - begun
