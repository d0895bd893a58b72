"""The chart of a backtest: few points with every peak, and a page that a browser draws without a network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, sync_playwright

from devices.attributes import Attribute, Dated
from devices.instants import DAY, HOUR, MINUTE
from devices.registry import Device, Registry
from gridwhistle.backtest_plot import Drawn, page_of, write_plot
from gridwhistle.backtest_sketch import Points, Sketch, thin
from rules.backtest import Backtest
from rules.book import load
from rules.outcome import Rows
from tests.conftest import CHROMIUM
from tests.console.conftest import ARGUMENTS
from tests.rules.desk import START

BOOK = """
rules:
  - {id: high, name: {zh: 圩内水位高}, when: level_inside > attr.inside_limit_level, priority: critical}
  - {id: gone, name: {zh: 缺测}, when: 'absent(level_inside, 15m)', priority: low}
  - {id: mains, name: {zh: 市电中断}, when: mains_ok == false, priority: high}
  - {id: both, name: {zh: 普遍偏高}, applies_to: {kind: pump_station}, when: in_grid(count(level_inside > 3) >= 2)}
  - id: outside
    name: {zh: 外河}
    levels:
      - {priority: medium, when: level_inside > 3.2}
      - {priority: high, when: level_inside > 3.7}
"""


def points(at: list[int], value: list[float]) -> Points:
    return Points(np.array(at, np.int64), np.array(value, np.float64), np.zeros(len(at), np.bool_))


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-10, 10)), min_size=1, max_size=300), st.integers(1, 40))
def test_thinning_keeps_the_least_and_the_most_of_every_stretch(steps: list[tuple[int, float]], stretches: int) -> None:
    at = np.cumsum([step for step, _ in steps]).tolist()
    value = [value for _, value in steps]
    found = thin(points(at, value), stretches)
    assert set(zip(found.at.tolist(), found.value.tolist(), strict=True)) <= set(zip(at, value, strict=True))
    assert len(found) <= max(len(at) if len(at) <= 2 * stretches else 0, 2 * stretches + 2)
    assert (found.value.min(), found.value.max()) == (min(value), max(value))
    width = (at[-1] - at[0] + 1) / stretches
    for k in range(stretches):
        within = [v for t, v in zip(at, value, strict=True) if k <= (t - at[0]) / width < k + 1]
        kept = [v for t, v in zip(found.at, found.value, strict=True) if k <= (t - at[0]) / width < k + 1]
        if within and len(at) > 2 * stretches:
            assert (max(within), min(within)) == (max(kept), min(kept))


def station(name: str = "ps-1", limit: Attribute = 3.5) -> Registry:
    registry = Registry()
    registry.put(
        Device(0, name, "t", "pump_station", attributes={"inside_limit_level": limit}, grid="g", first_seen=START)
    )
    return registry


def rows(series: int, at: np.ndarray[tuple[int], np.dtype[np.int64]], value: object, device: int = 0) -> Rows:
    return Rows(
        np.full(len(at), series, np.int32), at, np.asarray(value, np.float64), np.arange(len(at), dtype=np.int32),
        np.full(len(at), device, np.int32),
    )  # fmt: skip


def test_a_million_readings_become_a_few_thousand_points_with_the_peak_and_the_silence() -> None:
    registry = station()
    series = registry.series(0, "level_inside")
    chance = np.random.default_rng(1)
    at = START + np.arange(1_000_000) * MINUTE
    at[400_000:] += DAY
    value = chance.normal(3, 0.1, len(at))
    value[777_777], value[123_456] = 9.5, -4.5
    sketch = Sketch(registry, frozenset({"level_inside"}), 1_000)
    for part in np.array_split(np.arange(len(at)), 123):
        sketch.take(rows(series, at[part], value[part]))
    found = sketch.points(series)
    assert 1_000 < len(found) <= 2_500
    assert (found.value.max(), found.value.min()) == (9.5, -4.5)
    assert found.at[found.broken].tolist() == [START + 400_000 * MINUTE + DAY]


def test_what_is_not_newer_is_not_drawn() -> None:
    registry = station()
    series = registry.series(0, "level_inside")
    sketch = Sketch(registry, frozenset({"level_inside"}))
    sketch.take(rows(series, START + np.array([2, 1, 3]) * MINUTE, [2, 1, 3]))
    sketch.points(series)
    sketch.take(rows(series, START + np.array([3, 4]) * MINUTE, [9, 4]))
    assert sketch.points(series).value.tolist() == [2, 3, 4]


def drawn(against: bool = False) -> Drawn:
    registry = station(limit=(Dated(3.5, 0), Dated(3.3, START + 2 * HOUR)))
    registry.put(Device(1, "ps-2", "t", "pump_station", name="西泵站", grid="g", first_seen=START))
    level, mains = registry.series(0, "level_inside"), registry.series(0, "mains_ok")
    other = registry.series(1, "level_inside")
    at = START + np.arange(300) * MINUTE
    at[200:] += HOUR
    book = load({"b.yaml": BOOK})
    run, sketch = Backtest(book, registry), Sketch(registry, frozenset({"level_inside", "mains_ok"}))
    for part in (
        rows(level, at, 3.2 + 0.7 * np.sin(np.arange(300) / 20)), rows(mains, at, (np.arange(300) // 50) % 2),
        rows(other, at, np.full(300, 3.1), 1),
    ):  # fmt: skip
        sketch.take(part)
        run.feed(part)
    findings = run.findings()
    tree = {"g": frozenset({"g"})}
    return Drawn("t.csv", book, registry, tree, sketch, findings, findings[::2] if against else None, START,
                 int(at[-1]), "Asia/Shanghai")  # fmt: skip


def test_a_page_has_panels_by_metric_limits_by_date_and_severities_by_time() -> None:
    page = page_of(drawn())
    one = next(subject for subject in page["subjects"] if subject["id"] == "ps-1")
    assert [panel["metric"] for panel in one["panels"]] == ["level_inside", "mains_ok"]
    ms = (START + 2 * HOUR) // 1000 + 8 * 3_600_000  # local time, as if it were UTC
    limits = {(limit["value"], limit["from"] == ms, limit["to"] == ms) for limit in one["panels"][0]["limits"]}
    assert {(3.5, False, True), (3.3, True, False), (3.7, False, False)} <= limits
    levels = [area for area in one["areas"] if area["name"] == "外河"]
    assert {area["priority"] for area in levels} == {"medium", "high"}
    assert all(a["to"] <= b["from"] for a, b in pairwise(levels))
    assert [value for _, value in one["panels"][0]["lines"][0]["points"]].count(None) == 1  # the silence
    group = next(subject for subject in page["subjects"] if subject["id"] == "grid:g")
    assert [line["name"] for line in group["panels"][0]["lines"]] == ["ps-1", "ps-2"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.mark.browser
def test_a_browser_draws_it_without_a_network_and_without_complaint(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "chart.html"
    assert write_plot(path, drawn(against=True)) == 3
    page = browser.new_page(viewport={"width": 1366, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-drawn]")
    assert "西泵站" in page.inner_text("nav")
    for name in ("ps-1", "ps-2", "grid:g"):
        page.click(f'[data-subject="{name}"]')
        page.wait_for_selector(f'body[data-drawn="{name}"]')
        # Something of the colour of the first line is on the canvas.
        ink = page.evaluate(
            "() => { const c = document.querySelector('#chart canvas'); const d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; let n = 0;"
            "for (let i = 0; i < d.length; i += 4)"
            " n += Math.max(Math.abs(d[i] - 21), Math.abs(d[i + 1] - 94), Math.abs(d[i + 2] - 134)) < 60; return n; }"
        )
        assert ink > 200, name
    page.click('[data-subject="ps-1"]')
    page.click("tbody tr >> nth=0")
    assert said == []
    assert asked == [path.as_uri()]
    page.close()
