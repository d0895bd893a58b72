"""Reads kept refused packets again: a decoder of its own, and a batch of its own for the settling thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from devices.batch import Batch
from flow.readings import Settler
from flow.redriving import redriven, settle_again
from ingest.decoder import Decoder
from store.records.refused import RefusedRow

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

    async def __call__(self, packets: Sequence[RefusedRow]) -> Mapping[str, int]:
        """As `flow.redriving.ReadAgain`."""
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
            decoder.redrive(packet.topic.encode(), packet.payload, packet.at, redriven(packet))
            whose += [number] * (len(decoder.builder.refused) - len(whose))
        batch, _ = decoder.builder.take()
        return batch, whose
