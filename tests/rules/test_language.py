"""The rule language: what it reads, what it refuses and with which words; whatever the text, nothing else happens."""

from __future__ import annotations

import pytest

from devices.instants import HOUR, MINUTE
from rules.checking import check_condition, vocabulary
from rules.expression import (
    Absent,
    And,
    Arithmetic,
    Attribute,
    Between,
    ByResponse,
    Compare,
    Count,
    DeviceAbsent,
    Duration,
    Expression,
    Flat,
    Forecast,
    Group,
    Holiday,
    Metric,
    Mode,
    Negate,
    Not,
    Number,
    Or,
    OutOfRange,
    Since,
    Spike,
    Weekday,
    Window,
)
from rules.language import MAX_DEPTH, MAX_LENGTH, ExpressionError, parse

A, B = Metric("a"), Metric("b")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a > 1", Compare(">", A, Number(1.0))),
        ("a>1.5e2", Compare(">", A, Number(150.0))),
        ("not a and b", And(Not(A), B)),
        ("a or b and a", Or(A, And(B, A))),
        ("not a == b", Not(Compare("==", A, B))),
        ("a - 1 - 2 < b", Compare("<", Arithmetic("-", Arithmetic("-", A, Number(1.0)), Number(2.0)), B)),
        ("a + b * 2 < 1", Compare("<", Arithmetic("+", A, Arithmetic("*", B, Number(2.0))), Number(1.0))),
        ("-a * b < 1", Compare("<", Arithmetic("*", Negate(A), B), Number(1.0))),
        ("(a - (b - 1)) > 0", Compare(">", Arithmetic("-", A, Arithmetic("-", B, Number(1.0))), Number(0.0))),
        ("a <= attr.limit - 0.20", Compare("<=", A, Arithmetic("-", Attribute("limit"), Number(0.2)))),
        ("absent(a, 1h30m)", Absent("a", 90 * MINUTE)),
        ("since(event('x')) > 24h", Compare(">", Since("x"), Duration(24 * HOUR))),
        ('count(event("x"), 10m) >= 3', Compare(">=", Count("x", 10 * MINUTE), Number(3.0))),
    ],
)
def test_the_language_reads_as_a_person_would(text: str, tree: object) -> None:
    assert parse(text) == tree


ABOVE = Compare(">", A, Number(1.0))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("avg(a, 10m)", Window("avg", "a", 10 * MINUTE)),
        ("count(a, 10m)", Window("count", "a", 10 * MINUTE)),
        ("increase(a, 1h)", Window("increase", "a", HOUR)),
        ("flat(a, 2h, 0.001)", Flat("a", 2 * HOUR, 0.001)),
        ("spike(a, 0.3)", Spike("a", 0.3)),
        ("out_of_range(a)", OutOfRange("a")),
        ("forecast(a, 30m)", Forecast("a", 30 * MINUTE, 30 * MINUTE)),
        ("forecast(a, 30m, 2h)", Forecast("a", 30 * MINUTE, 2 * HOUR)),
        ('between("22:00", "6:30")', Between(22 * HOUR, 390 * MINUTE)),
        ('between("00:00", "24:00")', Between(0, 0)),
        ('weekday("mon", "fri")', Weekday(frozenset({0, 4}))),
        ('weekday("mon-fri")', Weekday(frozenset(range(5)))),
        ('weekday("Sat - Mon", "wed")', Weekday(frozenset({5, 6, 0, 2}))),
        ("holiday()", Holiday()),
        ('mode("response_3")', Mode("response_3")),
        ("by_response(5, 4, 3, 2, attr.x)",
         ByResponse(Number(5.0), Number(4.0), Number(3.0), Number(2.0), Attribute("x"))),
        ("in_grid(count(a > 1) >= 3)", Group(None, ABOVE, False, ">=", 3.0)),
        ("in_grid(share(a > 1) > 0.5)", Group(None, ABOVE, True, ">", 0.5)),
        ('of_group("gateway-7", absent) > 0.5', Group("gateway-7", DeviceAbsent(), True, ">", 0.5)),
        ('of_group("g", absent or a > 1) == 1', Group("g", Or(DeviceAbsent(), ABOVE), True, "==", 1.0)),
    ],
)  # fmt: skip
def test_every_function_reads_what_it_is_told(text: str, tree: Expression) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("avrg(a, 10m) > 3", 1, "unknown function 'avrg'; nearest: avg"),
        ("avg(a) > 3", 6, "expected ',' and a duration, as in avg(level, 10m)"),
        ("avg(3, 10m) > 3", 5, "expected a metric, as in avg(level, 10m)"),
        ("avg(attr.x, 10m) > 3", 5, "by its name alone"),
        ("avg(a, 10) > 3", 8, "expected a duration, as in avg(level, 10m)"),
        ("avg(a, 32d) > 3", 8, "a window is longer than 0s and at most 31d"),
        ("avg(a, 10m, 3) > 3", 11, "after the duration, as in avg(level, 10m)"),
        ('avg(event("x"), 10m) > 3', 5, "expected a metric"),
        ("count(3, 10m) > 3", 7, 'count(level, 10m) or count(event("person_detected"), 10m)'),
        ("flat(a, 2h)", 11, "and a tolerance, as in flat(level, 2h, 0.001)"),
        ("flat(a, 2h, 5m)", 13, "how far it may move"),
        ("flat(a, 2h, -1)", 13, "how far it may move"),
        ("spike(a, attr.x)", 10, "the size of the step, a number, as in spike(level, 0.3)"),
        ("out_of_range(a, 3)", 15, "as in out_of_range(level)"),
        ("forecast(a, 3d) > 1", 13, "a forecast is longer than 0s and at most 2d"),
        ("forecast(a, 1h, 40d) > 1", 17, "a window is longer than 0s and at most 31d"),
        ('between("25:00", "06:00")', 9, 'from 00:00 to 24:00, as in between("22:00", "06:00"), found "25:00"'),
        ('between("22:00")', 16, "and a time of day"),
        ("between(22, 6)", 9, "expected a time of day in quotes"),
        ('weekday("fry")', 9, "'fry' is no day; nearest: fri; one of mon, tue"),
        ('weekday("mon-")', 9, "'' is no day"),
        ("weekday()", 9, "expected a day in quotes"),
        ("holiday and a > 1", 1, "write holiday()"),
        ('mode("flod_season")', 6, "unknown mode 'flod_season'; nearest: flood_season; one of"),
        ("by_response(1, 2, 3, 4) > a", 23, "the value for level I, as in by_response("),
        ("by_response(1, 2, 3, 4, 5, 6) > a", 26, "after five values"),
        ("in_grid(a > 1)", 9, "expected count or share"),
        ("in_grid(shore(a > 1) > 0.5)", 9, "nearest: share"),
        ('in_grid(count(event("x"), 10m) >= 3)', 25, "in_grid counts devices that meet a condition"),
        ("in_grid(count(a > 1) >= 2.5)", 25, "a number of devices is whole"),
        ("in_grid(share(a > 1) >= 50)", 25, "a share of the devices is from 0 to 1"),
        ("in_grid(count(a > 1))", 21, "expected a comparison"),
        ('of_group("g", absent)', 22, 'expected a comparison, as in of_group("gateway-7", absent) > 0.5'),
        ("of_group(g, absent) > 0.5", 10, "expected a tag in quotes"),
        ('of_group("g", absent) > 50', 25, "a share of the devices is from 0 to 1"),
        (" or ".join(["avg(a, 1m) > 1"] * 17), 293, "at most 16 windows"),
    ],
)
def test_a_mistake_in_a_function_says_how_it_is_written(text: str, column: int, words: str) -> None:
    with pytest.raises(ExpressionError) as told:
        parse(text)
    assert told.value.slips[0].column == column, told.value
    assert words in told.value.slips[0].message


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "expected a metric"),
        ("level_inside >", 15, "found the end"),
        ("level_inside = 3", 14, "write '=='"),
        ("level_inside > 3 && mains_ok", 18, "write 'and'"),
        ("level_inside ＞ 3", 14, "write '>'"),
        ("1 < level_inside < 3", 18, "two values at a time"),
        ("level_inside > 15min", 16, "neither a number"),
        ("level_inside > 3.5.1", 16, "neither a number"),
        ("(level_inside > 3", 18, "to close the parenthesis of column 1"),
        ("level_inside > 3)", 17, "expected an operator or the end"),
        ("level_inside 3", 14, "expected an operator"),
        ("avrg(level_inside, 10m) > 3", 1, "unknown function"),
        ("abset(level_inside, 10m)", 1, "nearest: absent"),
        ("absent(level_inside)", 20, "a duration"),
        ("absent(level_inside, 15)", 22, "expected a duration"),
        ("absent(level_inside, 32d)", 22, "at most 31d"),
        ("absent(level_inside, 0s)", 22, "longer than 0s"),
        ("attr.Limit > 3", 6, "snake_case"),
        ("atr.limit > 3", 1, "nearest: attr"),
        ("event(door_opened)", 7, "in quotes"),
        ("since(door_opened) > 1h", 7, "expected event"),
        ('"door_opened"', 1, "only inside a function"),
        ("level_inside > 1e999", 16, "too large"),
        ("level_inside > 999999h", 16, "at most 366d"),
        ("level_inside > 'a", 16, "must end with"),
        ("__import__('os').system('id')", 1, "unknown function"),
    ],
)
def test_a_mistake_is_told_at_its_column(text: str, column: int, words: str) -> None:
    with pytest.raises(ExpressionError) as told:
        parse(text)
    assert told.value.slips[0].column == column
    assert words in told.value.slips[0].message


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("level_insde > 3", 1, "unknown metric 'level_insde' of pump_station; nearest: level_inside"),
        ("pm2_5 > 3", 1, "it is a metric of air_monitor"),
        ("level_inside", 1, "this is a number"),
        ("level_inside > 3 or pumps_running", 21, "'or' needs a condition"),
        ("mains_ok == 0", 10, "write == true or == false"),
        ("mains_ok < true", 10, "compared with =="),
        ("-mains_ok == 3", 1, "'-' needs a number"),
        ("level_inside > 15m", 14, "cannot compare a number with a duration"),
        ("level_inside + 15m > 3", 14, "cannot calculate"),
        ("true", 1, "reads no metric"),
        ("attr.a > 3", 8, "reads no metric"),
        ('event("door_opened")', 7, "unknown event 'door_opened' of pump_station"),
    ],
)
def test_what_a_pump_station_cannot_mean(text: str, column: int, words: str) -> None:
    slips = check_condition(parse(text), vocabulary("pump_station"))
    assert (slips[0].column, words in slips[0].message) == (column, True), slips


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('event("door_opend")', "nearest: door_opened"),
        ('since(event("door_opened")) > 24', "found a number"),
        ('since(event("door_opened"))', "stands alone"),
        ('since(event("door_opened")) + 1h > 2h', "stands alone"),
        ('since(event("door_opened")) == 1h', "not =="),
        ('since(event("door_opened")) > battery * 1h', "does not depend on readings"),
        ('since(event("door_opened")) > since(event("door_closed"))', "compared with a duration"),
    ],
)
def test_what_a_door_cannot_mean(text: str, words: str) -> None:
    slips = check_condition(parse(text), vocabulary("door_sensor"))
    assert words in slips[0].message


def slips(text: str, kind: str | None = "pump_station", *, clear: bool = False) -> list[str]:
    return [slip.message for slip in check_condition(parse(text), vocabulary(kind), clear=clear)]


@pytest.mark.parametrize(
    "text",
    [
        "level_inside > flow",
        "level_inside - pump_current > 3",
        "level_inside + flow > 3",
        "rate(level_inside, 10m) > level_inside",
        "delta(level_inside, 1h) > pumps_running",
        "stddev(level_inside, 1h) > flow",
        "count(level_inside, 1h) > level_inside",
        "attr.dyke_level > flow",
        "forecast(level_inside, 1h) > flow",
        "by_response(attr.dyke_level, 4, 3, 2, 1) < flow",
        "-level_inside < flow",
        "level_inside - 0.5 > pump_current",
        "(level_inside - level_outside) * 2 + flow - level_inside > 0",
    ],
)
def test_what_is_compared_or_added_has_one_unit(text: str) -> None:
    (told,) = slips(text)
    assert "their units differ" in told


@pytest.mark.parametrize(
    "text",
    [
        "pump_current < 30 * pumps_running",
        "level_inside > 3.5 - 0.2",
        "level_inside - level_outside > attr.any",
        "level_inside > attr.inside_limit_level - 0.2",
        "flow / pumps_running > 1.5",
        "rate(level_inside, 10m) * 3600 > 0.1",
        "avg(level_inside, 1h) > level_outside",
        "count(level_inside, 1h) > pumps_running",
        "level_inside > by_response(attr.inside_limit_level, 3.4, 3.3, 3.2, 3.1)",
        "(level_inside + level_outside) / 2 > flow",  # nobody derives the unit of a quotient
    ],
)
def test_a_bare_number_and_a_product_fit_any_unit(text: str) -> None:
    assert slips(text) == []


def test_a_metric_whose_unit_depends_on_the_kind_is_compared_for_one_kind_only() -> None:
    (told,) = slips("flow > 3", None)
    assert told.startswith(
        "flow is in m3/s for pump_station and river_gauge, L/s for sewage_station and equipment: say"
    )
    assert slips("flow > 3", "equipment") == slips("flow == 0", None) == slips("absent(flow, 1h)", None) == []
    assert slips("flow > avg(flow, 1h)", None) == []
    assert slips("flow > 3 and pumps_running > 1", None) == [], "only one kind has both"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("avg(mains_ok, 10m) > 0.5", "avg(…) needs a metric that is a number, mains_ok is true or false"),
        ("flat(mains_ok, 2h, 0)", "flat(…) needs a metric that is a number"),
        ("spike(mains_ok, 1)", "spike(…) needs a metric"),
        ("forecast(mains_ok, 1h) > 1", "forecast(…) needs a metric"),
        ("flat(level_inside, 2h, 0) > 1", "cannot compare true or false with a number"),
        ("avg(level_inside, 10m)", "this is a number"),
        ("level_inside > holiday()", "cannot compare a number with true or false"),
        ("avg(lvel_inside, 10m) > 1", "unknown metric 'lvel_inside' of pump_station; nearest: level_inside"),
        (
            "by_response(level_inside, 1, 1, 1, 1) > 3",
            "takes five fixed numbers such as 3.5 or attr.limit, not level_i",
        ),
        ("level_inside > by_response(1m, 1, 1, 1, 1)", "takes five fixed numbers"),
        ("level_inside > by_response(by_response(1, 1, 1, 1, 1), 1, 1, 1, 1)", "takes five fixed numbers"),
        ("absent and level_inside > 3", "absent alone stands inside in_grid(…) or of_group(…)"),
        ("in_grid(count(level_inside > 3) > 2) and mains_ok", "stand alone"),
        ("not in_grid(count(level_inside > 3) > 2)", "stand alone"),
        ("in_grid(count(in_grid(count(level_inside > 3) > 2)) > 2)", "stand alone"),
        ("in_grid(count(level_inside) > 2)", "a group needs a condition that is true or false"),
        ("in_grid(count(forecast(level_inside, 1h) > 2) > 2)", "a forecast speaks of one device"),
        ("in_grid(count(true) > 2)", "reads no metric"),
        ("forecast(level_inside, 1h) > 3 or mains_ok == false", "joined by `and` alone"),
        ("not forecast(level_inside, 1h) < 3", "joined by `and` alone"),
        ("(forecast(level_inside, 1h) < 3) == false", "joined by `and` alone"),
        ("mains_ok and (forecast(level_inside, 1h) > 3 or mains_ok)", "joined by `and` alone"),
        ('between("22:00", "06:00")', "reads no metric"),
    ],
)
def test_what_a_function_cannot_mean(text: str, words: str) -> None:
    told = slips(text)
    assert words in told[0], told


def test_what_stands_where_it_may() -> None:
    for text in (
        "in_grid(count(level_inside > attr.inside_limit_level) >= 3)",
        'of_group("gateway-7", absent) > 0.5',
        'in_grid(share(absent or level_inside > 3 and between("22:00", "06:00")) > 0.5)',
        "forecast(level_inside, 30m) - 0.1 > attr.inside_limit_level and mains_ok and level_inside > 2",
        'mode("flood_season") and not holiday() and weekday("mon-fri") and level_inside > 3',
        "flat(level_inside, 2h, 0.001) and not out_of_range(level_inside) or spike(level_outside, 1)",
    ):
        assert slips(text) == [], text
    assert slips('between("06:00", "22:00")', clear=True) == slips('mode("drill")', clear=True) == []
    assert slips("forecast(level_inside, 1h) < 3 or level_inside < 2", clear=True) == []
    assert slips("true", clear=True), "nothing would ever judge it"
    assert slips('in_grid(count(event("person_detected")) > 2)', "camera")[0].startswith("event(…) lasts no time")


def test_every_mistake_of_names_and_types_is_told_at_once() -> None:
    slips = check_condition(parse("lvl > 3 and mains_ok == 0 or pumps_running"), vocabulary("pump_station"))
    assert len(slips) == 3


def test_length_and_depth_are_bounded_and_named() -> None:
    for text in (
        "(" * 2000,
        "a" * (MAX_LENGTH + 1),
        "+".join("1" * 500) + " < a",
        "not " * 400 + "a",
        "-" * 1999 + "1",
    ):
        with pytest.raises(ExpressionError, match=r"at most|more than"):
            parse(text)
    assert parse("(" * (MAX_DEPTH - 1) + "a" + ")" * (MAX_DEPTH - 1)) == A
