"""The ledger is read as of one instant, however often it is folded meanwhile."""

from __future__ import annotations

import threading

from flow.ledger_book import Span, total
from tests.api.centre import Centre


def test_what_was_received_never_shrinks_while_it_is_folded(centre: Centre) -> None:
    book = centre.installation.book
    stopping = threading.Event()
    seen: list[int] = []

    def look() -> None:
        while not stopping.is_set():
            sums = total(book.by_hour(Span())).counts
            assert sums["received"] == sums["stored"]
            page = book.page(Span(), limit=500)
            seen.extend((sums["received"], sum(row.received for row in page)))

    looking = threading.Thread(target=look)
    looking.start()
    for n in range(60):
        centre.now += 1_000_000
        payload = b'{"at": %d, "level_inside": 2.5}' % (centre.now // 1000)
        centre.decoder.feed(b"gw/v1/qidu/pump_station/ps-1/readings", payload, 0x30, 0)
        centre.settler.settle(centre.decoder.builder.take()[0], centre.now)
        if n % 2:
            centre.settler.snapshot()
    stopping.set()
    looking.join()
    assert seen == sorted(seen)
    assert total(book.by_device(Span())).counts["received"] == 60
    assert len(seen) > 10
