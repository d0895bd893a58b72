"""Documents a person wrote: every mistake with its place, nothing guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.documents import Document, DocumentError, Mistake, parse
from devices.town import read_town

TOWN = "site: qidu\nname: {zh: 七都}\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands twice"),
        ("a: &x 1\nb: *x\n", 2, "aliases"),
        ("a: [1, 2\n", 2, ""),
        ("a: {b: 1\nc\n", 3, ""),
        ("? [1, 2]\n: 3\n", 1, "plain text"),
        ("\tx: 1", 1, ""),
    ],
)
def test_what_is_not_a_document_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text, "f.yaml")
    mistake = caught.value.mistakes[0]
    assert (mistake.file, mistake.line) == ("f.yaml", line)
    assert said in mistake.message


@given(st.text(max_size=200))
def test_any_text_is_a_document_or_a_mistake(text: str) -> None:
    mistakes: tuple[Mistake, ...] = ()
    document: Document | None = None
    try:
        document = parse(text, "f.yaml")
    except DocumentError as error:
        mistakes = error.mistakes
    assert (document is None) == bool(mistakes)


def test_dates_stay_the_text_that_was_written() -> None:
    assert parse("valid_from: 2026-07-01\n", "f.yaml").data == {"valid_from": "2026-07-01"}


def test_every_mistake_of_every_file_of_a_town_is_told() -> None:
    devices = (
        "devices:\n  - {id: PS-1, kind: pump_station}\n  - {id: a, kind: submarine}\n"
        "  - {id: b, kind: camera, gird: x}\n  - {id: c, kind: camera, at: [91, 0]}\n"
    )
    with pytest.raises(DocumentError) as caught:
        read_town({"town.yaml": "site: qidu\n", "devices.yaml": devices, "grids.geojson": "{"})
    places = {(m.file, m.line) for m in caught.value.mistakes}
    assert {("town.yaml", 1), *(("devices.yaml", n) for n in (2, 3, 4, 5))} <= places
    assert any(m.file == "grids.geojson" for m in caught.value.mistakes)


def test_a_device_stands_once_and_its_grid_exists() -> None:
    devices = (
        "devices:\n  - {id: a, kind: camera}\n  - {id: a, kind: camera}\n  - {id: b, kind: camera, grid: nowhere}\n"
    )
    with pytest.raises(DocumentError) as caught:
        read_town({"town.yaml": TOWN, "devices.yaml": devices})
    assert [m.line for m in caught.value.mistakes] == [3, 4]


def test_a_grid_tree_has_parents_and_no_circles() -> None:
    def grid(name: str, parent: str | None) -> str:
        above = "null" if parent is None else f'"{parent}"'
        return (
            f'{{"type": "Feature", "geometry": null, "properties": {{"id": "{name}", "name": "x", "parent": {above}}}}}'
        )

    def town(*grids: str) -> dict[str, str]:
        text = f'{{"type": "FeatureCollection", "features": [{", ".join(grids)}]}}'
        return {"town.yaml": TOWN, "grids.geojson": text}

    assert read_town(town(grid("a", None), grid("b", "a"), grid("c", "b"))).under("a") == {"a", "b", "c"}
    for wrong in (town(grid("a", "nobody")), town(grid("a", "b"), grid("b", "a"))):
        with pytest.raises(DocumentError):
            read_town(wrong)
