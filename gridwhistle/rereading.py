"""Reads kept refused packets again: a decoder of its own, and a batch of its own for the settling thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from devices.batch import Batch
from flow.readings import Settler
from flow.redriving import redriven, settle_again
from ingest.decoder import Decoder
from store.records.refused import RefusedRow, Wanted, oldest_refused

Run = Callable[[Callable[[], dict[str, int]]], Awaitable[dict[str, int]]]


class Rereader:
    """`run` does a thing in the settling thread; `met` is called where a packet brought a device that was unknown."""

    def __init__(
        self, decoder: Decoder, settler: Settler, *, run: Run, now: Callable[[], int], met: Callable[[], None]
    ) -> None:
        self._decoder = decoder
        self._settler = settler
        self._run = run
        self._now = now
        self._met = met
        # Of two people who read the same packets again the second must find them gone.
        self._one = asyncio.Lock()

    async def __call__(self, packets: Sequence[RefusedRow]) -> Mapping[str, int]:
        """As `flow.redriving.ReadAgain`. What is not kept any more is left out."""
        async with self._one:
            kept = await asyncio.to_thread(self._kept, packets)
            return await self._read(kept) if kept else {}

    def _kept(self, packets: Sequence[RefusedRow]) -> list[RefusedRow]:
        wanted = Wanted(ids=tuple(packet.id for packet in packets))
        with self._settler.records.connect() as tx:
            return oldest_refused(tx, wanted, after=0, through=packets[-1].id, limit=len(packets), most_bytes=1 << 62)

    async def _read(self, packets: Sequence[RefusedRow]) -> Mapping[str, int]:
        known = len(self._settler.memory.registry.devices)
        decoded = self._decode(packets)
        if len(self._settler.memory.registry.devices) != known:
            self._met()
        return await self._run(lambda: settle_again(self._settler, packets, decoded, self._now()))

    def _decode(self, packets: Sequence[RefusedRow]) -> tuple[Batch, list[int]]:
        """The batch, and of each of its refusals which packet it is of."""
        decoder, whose = self._decoder, list[int]()
        decoder.forget_routes()  # of devices that were decided about since
        for number, packet in enumerate(packets):
            decoder.redrive(packet.topic.encode(), packet.payload, packet.arrived_at, redriven(packet))
            whose += [number] * (len(decoder.builder.refused) - len(whose))
        batch, _ = decoder.builder.take()
        return batch, whose
