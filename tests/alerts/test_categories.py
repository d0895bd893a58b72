"""The catalogue of categories, a town's changes to it, and the limits that follow."""

from __future__ import annotations

import pytest

from alerts.categories import BUILT_IN, read_categories
from alerts.limits import Limits, is_overdue, moved, next_limit, running
from alerts.orders import Act, CloseBy, OrderState
from alerts.service_rules import PREFIX, SERVICE_RULES
from devices.documents import DocumentError
from devices.instants import DAY, HOUR, MINUTE
from rules.rule import Priority

TOWN = """
categories:
  flood.polder_inside:
    limits: {accept: 3m}
  ferry.delay:
    name: {zh: 渡口延误, en: Ferry late}
    close_by: both
    limits: {accept: 20m, arrive: 1h, handle: 1d}
"""


def test_a_towns_file_changes_what_it_names_and_nothing_else() -> None:
    catalogue = read_categories(TOWN, "categories.yaml")
    polder, built_in = catalogue.of("flood.polder_inside"), BUILT_IN.of("flood.polder_inside")
    assert (polder.accept_us, polder.arrive_us, polder.zh) == (3 * MINUTE, built_in.arrive_us, built_in.zh)
    ferry = catalogue.of("ferry.delay")
    assert (ferry.zh, ferry.close_by, ferry.handle_us) == ("渡口延误", CloseBy.BOTH, DAY)
    assert catalogue.of("elder.no_movement") == BUILT_IN.of("elder.no_movement")


def test_an_empty_file_is_the_built_in_catalogue() -> None:
    assert read_categories("", "categories.yaml") == BUILT_IN


def test_every_mistake_is_told_with_its_line() -> None:
    text = "categories:\n  a.b:\n    limits: {accept: 0s}\n  c.d: {name: {zh: 丙}, close_by: nobody}\n"
    with pytest.raises(DocumentError) as caught:
        read_categories(text, "categories.yaml")
    assert [m.line for m in caught.value.mistakes] == [4]
    with pytest.raises(DocumentError) as caught:
        read_categories(text.replace("close_by: nobody", "close_by: both"), "categories.yaml")
    assert sorted((m.line, m.message.split(":")[0]) for m in caught.value.mistakes) == [
        (2, "a.b"),
        (3, "accept"),
    ]


def test_a_category_nobody_knows_still_has_limits_and_a_name() -> None:
    unknown = BUILT_IN.of("moon.landing")
    assert (unknown.id, unknown.zh, unknown.close_by) == ("moon.landing", "moon.landing", CloseBy.PERSON)
    assert unknown.handle_us == BUILT_IN.of("other").handle_us


def test_only_a_visit_ends_an_elders_order() -> None:
    assert {c.close_by for name, c in BUILT_IN.categories.items() if name.startswith("elder.")} == {CloseBy.PERSON}


def test_the_services_own_rules_file_no_orders_and_are_never_notices() -> None:
    for name, rule in SERVICE_RULES.items():
        assert name == rule.id
        assert name.startswith(PREFIX)
        assert rule.order_category is None
        assert rule.priority is not Priority.NOTICE


CATEGORY = BUILT_IN.of("other")  # 10 min, 30 min, 4 h


def test_the_limits_of_an_order_from_filing_to_handling() -> None:
    limits = moved(Limits(), Act.FILE, CATEGORY, 0)
    assert running(OrderState.FILED, limits) == [(4 * HOUR, "handle_by")]
    limits = moved(limits, Act.DISPATCH, CATEGORY, HOUR)
    assert running(OrderState.DISPATCHED, limits) == [(HOUR + 10 * MINUTE, "accept_by"), (4 * HOUR, "handle_by")]
    limits = moved(limits, Act.ACCEPT, CATEGORY, HOUR + MINUTE)
    assert running(OrderState.ACCEPTED, limits) == [(HOUR + 31 * MINUTE, "arrive_by"), (4 * HOUR, "handle_by")]
    limits = moved(limits, Act.ARRIVE, CATEGORY, 2 * HOUR)
    assert running(OrderState.ON_SITE, limits) == [(4 * HOUR, "handle_by")]
    assert running(OrderState.HANDLED, moved(limits, Act.HANDLE, CATEGORY, 3 * HOUR)) == []


def test_suspension_stops_the_handling_clock() -> None:
    limits = Limits(handle_by=4 * HOUR)
    assert running(OrderState.SUSPENDED, limits) == []
    resumed = moved(limits, Act.RESUME, CATEGORY, 10 * HOUR, suspended_us=9 * HOUR)
    assert (resumed.handle_by, resumed.arrive_by) == (13 * HOUR, 10 * HOUR + 30 * MINUTE)


@pytest.mark.parametrize("act", [Act.REJECT, Act.REOPEN])
def test_rework_starts_its_clocks_anew(act: Act) -> None:
    limits = moved(Limits(accept_by=1, arrive_by=2, handle_by=3), act, CATEGORY, DAY)
    assert limits == Limits(DAY + 10 * MINUTE, None, DAY + 4 * HOUR)


def test_a_limit_is_over_at_its_very_instant_and_the_next_one_goes_on() -> None:
    limits = Limits(accept_by=10, handle_by=20)
    state = OrderState.DISPATCHED
    assert (is_overdue(state, limits, 9), is_overdue(state, limits, 10)) == (False, True)
    assert [next_limit(state, limits, now) for now in (0, 9, 10, 19, 20)] == [10, 10, 20, 20, None]
