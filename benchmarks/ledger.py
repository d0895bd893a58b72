"""What the ledger costs: `python -m benchmarks.ledger --json`.

The standard stream (benchmarks.load) goes through link, decoder, settler and readings store in this process, window by
window in turn: as it is, and without everything that is there for the ledger (counting, the state byte of each row,
gaps in the devices' own numbers). What is measured is CPU, which the rest of the machine changes little, of the thread
that settles (`us_a_message`): all that the ledger does is done there. `cost_percent` is what it has more with the
ledger, of what the whole process works for a message, the readings store's thread included. Folding the counts into the
tables comes every 30 s and is measured apart: `fold_percent` is its share of those. Where the broker sets the pace the
throughput falls by less.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.load import DEVICES, METRICS, STEP, Stream, chunks_of
from benchmarks.machine import Machine, versions
from benchmarks.path import open_path
from flow.classify import Verdict
from flow.readings import Settler
from gridwhistle.allocator import leave_to_live
from gridwhistle.clock import wall
from gridwhistle.service import SNAPSHOT_EVERY, TICK_S
from ingest import wire
from ingest.decoder import Decoder
from ingest.link import Link, Options
from store.records.database import write
from store.records.settled import JUDGED

# What one read of the socket brings at speed, in packets of some 180 bytes.
PACKETS_A_PIECE = 1_400
ROWS_A_BATCH = 60_000
PLAIN = Verdict.NEW | JUDGED


@dataclass(frozen=True, slots=True)
class Sizes:
    devices: int = DEVICES
    messages: int = 100_000
    windows: int = 21


QUICK = Sizes(devices=200, messages=2_000, windows=1)


@contextmanager
def without_ledger() -> Iterator[None]:
    def states(_memory: Any, sorted_: Any, *_: Any, **_named: Any) -> Any:
        return np.full(len(sorted_.verdict), PLAIN, np.uint8)

    with (
        patch("flow.readings.count_settled", lambda *_: None),
        patch("flow.judging._look_for_gaps", lambda *_: None),
        patch("flow.judging._states", states),
    ):
        yield


async def one_window(settler: Settler, decoder: Decoder, pieces: list[bytes]) -> tuple[float, float]:
    """Seconds that this thread worked for it, and the process until the readings store has all of it."""
    link = Link(Options("bench", 65_535), wire.V311, decoder, lambda: None)
    gc.collect()
    begun, begun_all = time.thread_time(), time.process_time()
    for piece in pieces:
        link.data_received(piece)
        if len(decoder.builder) >= ROWS_A_BATCH:
            settler.settle(decoder.builder.take()[0], wall())
    settler.settle(decoder.builder.take()[0], wall())
    worked = time.thread_time() - begun
    settler.appender.drain(60)
    return worked, time.process_time() - begun_all


def measure(sizes: Sizes) -> dict[str, Any]:
    spent: dict[str, list[float]] = {"with": [], "without": []}
    fold_s, whole = [], []
    with tempfile.TemporaryDirectory(prefix="gridwhistle-bench-") as name:
        settler, decoder = open_path(Path(name), devices=sizes.devices)
        ledger, first_round, counted = settler.memory.ledger, 0, 0
        end = time.time_ns() // 1_000_000
        leave_to_live()
        for n in range(-1, sizes.windows):
            for how in ("with", "without") if n % 2 else ("without", "with"):
                stream = Stream(1, devices=sizes.devices, first_round=first_round)
                # Each after the one before: what is late goes another way.
                end += stream.rounds(sizes.messages) * STEP
                pieces = list(chunks_of(stream.packets(sizes.messages, end), PACKETS_A_PIECE))
                first_round += stream.rounds(sizes.messages)
                if how == "with":
                    seconds, of_all = asyncio.run(one_window(settler, decoder, pieces))
                    counted += sizes.messages * len(METRICS)
                else:
                    with without_ledger():
                        seconds, of_all = asyncio.run(one_window(settler, decoder, pieces))
                assert ledger.running()["received"] == counted, "a window was not what it was meant to be"
                if n >= 0:
                    spent[how].append(1e6 * seconds / sizes.messages)
                    whole.append(1e6 * of_all / sizes.messages)
                    print(f"{how}: {spent[how][-1]:.2f} µs a message", file=sys.stderr)
            begun = time.perf_counter()
            with write(settler.records) as tx:
                ledger.fold(tx)
            fold_s.append(time.perf_counter() - begun)
            ledger.folded(settler.number)
        settler.appender.stop(30)
    with_us, without_us = (statistics.median(spent[how]) for how in ("with", "without"))
    more, whole_us = with_us - without_us, statistics.median(whole)
    fold = statistics.median(fold_s)
    return {
        "us_a_message": round(with_us, 3),
        "without_us_a_message": round(without_us, 3),
        "whole_us_a_message": round(whole_us, 3),
        "cost_percent": round(100 * more / (whole_us - more), 2),
        "fold_ms": round(1e3 * fold, 1),
        "fold_percent": round(100 * fold / (SNAPSHOT_EVERY * TICK_S), 2),
        "devices": sizes.devices,
        "messages_a_window": sizes.messages,
        "windows": sizes.windows,
        "each": {how: [round(us, 2) for us in found] for how, found in spent.items()},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the default and only form of output")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    given = parser.parse_args(arguments)
    machine = Machine()
    result = measure(QUICK if given.quick else Sizes())
    print(json.dumps(result | {"quick": given.quick, "machine": machine.describe(), "versions": versions()}))


if __name__ == "__main__":
    main()
