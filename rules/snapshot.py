"""The engine's state as bytes and back, exactly: msgpack around raw columns.

Pairs are named by rule id, fingerprint and device number, so a restored engine may have other rules or more devices;
what has no counterpart is left out. Of a pair whose phase is normal only its instants are written.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices.batch import I64
from rules.binding import Binding
from rules.seeing import Memory
from rules.state import NORMAL, Times, Tracks

VERSION = 1


class _Pairs(msgspec.Struct, frozen=True):
    rule: str
    fingerprint: str
    device: bytes
    instant: bytes
    heard: bytes
    standing: bytes
    phase: bytes
    since: bytes
    first: bytes
    peak: bytes
    raised: bytes


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    now: int
    resumed_at: int
    value: bytes
    at: bytes
    times: dict[int, bytes]
    pairs: list[_Pairs]


def pack(binding: Binding, memory: Memory, now: int, resumed_at: int) -> bytes:
    times = {series: found.view().tobytes() for series, found in memory.times.items()}
    pairs = []
    for kernel, block in binding.blocks():
        rows = np.arange(block.start, block.stop)
        standing = np.flatnonzero(kernel.state.tracks.phase[rows] != NORMAL)
        tracks = kernel.state.tracks.take(rows[standing])
        timed = kernel.shape.timed
        pairs.append(
            _Pairs(
                block.rule.id,
                block.rule.fingerprint,
                block.devices.tobytes(),
                kernel.state.instant[rows].tobytes(),
                kernel.state.heard[rows].tobytes() if timed else b"",
                standing.tobytes(),
                tracks.phase.tobytes(),
                tracks.since.tobytes(),
                tracks.first.tobytes(),
                tracks.peak.tobytes(),
                tracks.raised.tobytes(),
            )
        )
    shot = _Snapshot(VERSION, now, resumed_at, memory.value[:-1].tobytes(), memory.at[:-1].tobytes(), times, pairs)
    return msgspec.msgpack.encode(shot)


def unpack(blob: bytes, binding: Binding, memory: Memory) -> tuple[int, int]:
    """Writes into the (fresh) binding and memory; returns (now, resumed_at). ValueError where it is no snapshot."""
    try:
        shot = msgspec.msgpack.decode(blob, type=_Snapshot)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a snapshot of the rules engine: {error}") from error
    if shot.version != VERSION:
        raise ValueError(f"a snapshot of version {shot.version}; this engine reads version {VERSION}")
    value, at = np.frombuffer(shot.value), np.frombuffer(shot.at, np.int64)
    known = min(len(at), len(memory.at) - 1)
    memory.value[:known], memory.at[:known] = value[:known], at[:known]
    memory.times = {series: Times(_i64(times)) for series, times in shot.times.items()}
    saved = {(p.rule, p.fingerprint): p for p in shot.pairs}
    for kernel, block in binding.blocks():
        found = saved.get((block.rule.id, block.rule.fingerprint))
        if found is None:
            continue
        _, here, there = np.intersect1d(block.devices, _i64(found.device), assume_unique=True, return_indices=True)
        kernel.state.instant[block.start + here] = _i64(found.instant)[there]
        if kernel.shape.timed:
            kernel.state.heard[block.start + here] = _i64(found.heard)[there]
        standing = _i64(found.standing)
        _, rows, columns = np.intersect1d(there, standing, assume_unique=True, return_indices=True)
        kernel.state.tracks.put(block.start + here[rows], _tracks(found).take(columns))
    return shot.now, shot.resumed_at


def _i64(raw: bytes) -> I64:
    return np.frombuffer(raw, np.int64)


def _tracks(pairs: _Pairs) -> Tracks:
    phase: NDArray[np.int8] = np.frombuffer(pairs.phase, np.int8)
    return Tracks(
        phase, _i64(pairs.since), np.frombuffer(pairs.first), np.frombuffer(pairs.peak), _i64(pairs.raised)
    )  # fmt: skip
