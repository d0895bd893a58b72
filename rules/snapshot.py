"""The engine's state as bytes and back, exactly: msgpack around raw columns.

Pairs are named by rule id, meaning and device number, so a restored engine may have other rules or more devices;
what has no counterpart is left out. Of a pair whose phase is normal only its instants are written.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices.batch import I64
from rules.binding import Binding
from rules.declared import Declared
from rules.history import History
from rules.kernel import Block, Kernel
from rules.logic import Clock
from rules.seeing import Memory
from rules.state import NORMAL, Tracks

VERSION = 3


class _Pairs(msgspec.Struct, frozen=True):
    rule: str
    meaning: str
    device: bytes
    instant: bytes
    heard: bytes
    standing: bytes
    phase: bytes
    since: bytes
    first: bytes
    peak: bytes
    raised: bytes
    bits: bytes


class _Samples(msgspec.Struct, frozen=True):
    """Of each series with any how many, and all of them one series after the other."""

    series: bytes
    sizes: bytes
    at: bytes
    value: bytes


class _Versioned(msgspec.Struct, frozen=True):
    version: int


class Shot(msgspec.Struct, frozen=True):
    """`combined` is of rules.combining, as it gave it."""

    version: int
    now: int
    resumed_at: int
    value: bytes
    at: bytes
    samples: _Samples
    pairs: list[_Pairs]
    combined: bytes
    declared: Declared


# A set has no order of its own: equal states give equal bytes.
_encoder = msgspec.msgpack.Encoder(order="deterministic")


def pack(binding: Binding, memory: Memory, clock: Clock, combined: bytes) -> bytes:
    return _encoder.encode(
        Shot(
            VERSION,
            clock.now,
            clock.resumed_at,
            memory.value[:-1].tobytes(),
            memory.at[:-1].tobytes(),
            _samples(memory.history),
            [_pairs(kernel, block) for kernel, block in binding.blocks()],
            combined,
            clock.declared,
        )
    )


def read(blob: bytes) -> Shot:
    """ValueError where it is no snapshot of this version."""
    try:
        version = msgspec.msgpack.decode(blob, type=_Versioned).version
        if version != VERSION:
            raise ValueError(f"a snapshot of version {version}; this engine reads version {VERSION}")
        return msgspec.msgpack.decode(blob, type=Shot)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a snapshot of the rules engine: {error}") from error


def unpack(shot: Shot, binding: Binding, memory: Memory) -> None:
    """Writes into the (fresh) binding and memory."""
    value, at = np.frombuffer(shot.value), _i64(shot.at)
    known = min(len(at), len(memory.at) - 1)
    memory.value[:known], memory.at[:known] = value[:known], at[:known]
    _unpack_samples(shot.samples, memory.history)
    saved = {(p.rule, p.meaning): p for p in shot.pairs}
    for kernel, block in binding.blocks():
        found = saved.get((block.rule.id, block.meaning))
        if found is not None:
            _unpack_pairs(found, kernel, block)


def _samples(history: History) -> _Samples:
    sizes = history.sizes()
    series = np.flatnonzero(sizes)
    at, value = history.samples(series)
    return _Samples(series.tobytes(), sizes[series].tobytes(), at.tobytes(), value.tobytes())


def _unpack_samples(samples: _Samples, history: History) -> None:
    series, sizes = _i64(samples.series), _i64(samples.sizes)
    wanted = series < len(history.span)
    wanted[wanted] = history.span[series[wanted]] > 0
    rows = np.repeat(wanted, sizes)
    history.put(series[wanted], sizes[wanted], _i64(samples.at)[rows], np.frombuffer(samples.value)[rows])


def _pairs(kernel: Kernel, block: Block) -> _Pairs:
    rows = np.arange(block.start, block.stop)
    state = kernel.state
    standing = np.flatnonzero(state.tracks.phase[rows] != NORMAL)
    tracks = state.tracks.take(rows[standing])
    return _Pairs(
        block.rule.id,
        block.meaning,
        block.devices.tobytes(),
        state.instant[rows].tobytes(),
        state.heard[rows].tobytes(),
        standing.tobytes(),
        tracks.phase.tobytes(),
        tracks.since.tobytes(),
        tracks.first.tobytes(),
        tracks.peak.tobytes(),
        tracks.raised.tobytes(),
        state.bits[rows].tobytes() if kernel.shape.repeat is not None else b"",
    )


def _unpack_pairs(found: _Pairs, kernel: Kernel, block: Block) -> None:
    state = kernel.state
    _, here, there = np.intersect1d(block.devices, _i64(found.device), assume_unique=True, return_indices=True)
    state.instant[block.start + here] = _i64(found.instant)[there]
    state.heard[block.start + here] = _i64(found.heard)[there]
    if kernel.shape.repeat is not None:
        state.bits[block.start + here] = np.frombuffer(found.bits, np.uint64)[there]
    standing = _i64(found.standing)
    _, rows, columns = np.intersect1d(there, standing, assume_unique=True, return_indices=True)
    state.tracks.put(block.start + here[rows], _tracks(found).take(columns))


def _i64(raw: bytes) -> I64:
    return np.frombuffer(raw, np.int64)


def _tracks(pairs: _Pairs) -> Tracks:
    phase: NDArray[np.int8] = np.frombuffer(pairs.phase, np.int8)
    return Tracks(
        phase, _i64(pairs.since), np.frombuffer(pairs.first), np.frombuffer(pairs.peak), _i64(pairs.raised)
    )  # fmt: skip
