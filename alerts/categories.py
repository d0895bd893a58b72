"""Categories of work orders: what they are called, who may end them, and how long each step may take.

A town's categories.yaml changes and adds to the built-in catalogue. A category nobody knows gets the limits of
`other`: a rule may name it before the catalogue does, and an order is never lost for the want of a row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from alerts.orders import CloseBy
from devices.documents import Document, DocumentError, Mistake, Model, check, parse
from devices.instants import DAY, HOUR, MINUTE, parse_duration

# Orders of these groups are about one person at home, whichever device or caller they came from.
_PERSONAL_GROUPS = frozenset({"elder"})


def is_personal_category(category: str) -> bool:
    """Whether its orders are for those who may know of the person; by name, so that a town's own elder.… is too."""
    return category.partition(".")[0] in _PERSONAL_GROUPS


@dataclass(frozen=True, slots=True)
class Category:
    """Limits in microseconds: to accept from dispatch, to arrive from acceptance, to handle from filing."""

    id: str
    zh: str
    en: str
    close_by: CloseBy
    accept_us: int = 10 * MINUTE
    arrive_us: int = 30 * MINUTE
    handle_us: int = 4 * HOUR

    @property
    def personal(self) -> bool:
        return is_personal_category(self.id)


OTHER = Category("other", "其他", "Other", CloseBy.PERSON)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`watch_us`: how long after closing a new occurrence reopens the order instead of filing another."""

    categories: Mapping[str, Category]
    watch_us: int = DAY

    def of(self, category: str) -> Category:
        return self.categories.get(category) or replace(OTHER, id=category, zh=category, en=category)


def _built_in() -> Catalogue:
    sensor, person, both = CloseBy.SENSOR, CloseBy.PERSON, CloseBy.BOTH
    fast, slow = 5 * MINUTE, 30 * MINUTE
    rows = (
        Category("flood.polder_inside", "圩内高水位", "Polder level inside", sensor, accept_us=fast),
        Category("flood.outside", "圩外高水位", "River level outside", sensor, accept_us=fast),
        Category("flood.pump", "排涝泵故障", "Drainage pump", both, accept_us=fast),
        Category("flood.mains", "泵站失电", "Pump station without mains", sensor, accept_us=fast),
        Category("water.quality", "水质异常", "Water quality", sensor, arrive_us=HOUR, handle_us=DAY),
        Category("water.algae", "蓝藻异常", "Algal bloom", both, arrive_us=HOUR, handle_us=DAY),
        Category("air.quality", "空气质量异常", "Air quality", sensor, arrive_us=HOUR, handle_us=DAY),
        Category("pond.oxygen", "养殖塘缺氧", "Pond short of oxygen", sensor, accept_us=fast, handle_us=2 * HOUR),
        # The door opening for the visitor proves nothing: only the visit ends it.
        Category("elder.no_movement", "老人长时间未活动", "Elder without movement", person, handle_us=2 * HOUR),
        Category("elder.door", "老人门磁异常", "Elder's door", person, handle_us=2 * HOUR),
        Category("camera.intrusion", "禁区闯入", "Persons in a no-go zone", person, accept_us=fast, handle_us=2 * HOUR),
        Category("equipment.fault", "设备故障", "Equipment fault", both, handle_us=DAY),
        Category("equipment.temperature", "设备超温", "Equipment too hot", sensor),
        Category("weather.rain", "强降雨", "Heavy rain", sensor),
        Category("device.fault", "监测设备故障", "Fault of a measuring device", sensor, slow, 4 * HOUR, 3 * DAY),
        Category("resident.report", "居民诉求", "Resident's report", person, slow, 2 * HOUR, 5 * DAY),
        OTHER,
    )
    return Catalogue(MappingProxyType({row.id: row for row in rows}))


BUILT_IN = _built_in()


class _Name(Model):
    zh: Annotated[str, Field(min_length=1)]
    en: str = ""


class _Limits(Model):
    accept: str | None = None
    arrive: str | None = None
    handle: str | None = None


class _Row(Model):
    name: _Name | None = None
    close_by: CloseBy | None = None
    limits: _Limits = _Limits()


class _File(Model):
    """categories.yaml; durations as in rules: 10m, 1h30m, 2d."""

    categories: dict[str, _Row] = Field(default_factory=dict)


def read_categories(text: str, file: str) -> Catalogue:
    """The built-in catalogue with the file's changes. Raises DocumentError with every mistake and its place."""
    document = parse(text or "{}", file)
    read = check(document, _File)
    mistakes: list[Mistake] = []
    categories = dict(BUILT_IN.categories)
    for name, row in read.categories.items():
        known = categories.get(name)
        if known is None and row.name is None:
            mistakes.append(document.mistake(("categories", name), f"{name}: a new category needs a name"))
        categories[name] = _changed(known or replace(OTHER, id=name), row, document, mistakes)
    if mistakes:
        raise DocumentError(mistakes)
    return Catalogue(MappingProxyType(categories))


def _changed(category: Category, row: _Row, document: Document, mistakes: list[Mistake]) -> Category:
    spans = {
        limit: _duration(getattr(row.limits, limit), ("categories", category.id, "limits", limit), document, mistakes)
        for limit in ("accept", "arrive", "handle")
    }
    return replace(
        category,
        zh=row.name.zh if row.name else category.zh,
        en=(row.name.en or row.name.zh) if row.name else category.en,
        close_by=row.close_by or category.close_by,
        accept_us=spans["accept"] or category.accept_us,
        arrive_us=spans["arrive"] or category.arrive_us,
        handle_us=spans["handle"] or category.handle_us,
    )


def _duration(text: str | None, path: tuple[str | int, ...], document: Document, mistakes: list[Mistake]) -> int | None:
    if text is None:
        return None
    try:
        span = parse_duration(text)
    except ValueError as error:
        mistakes.append(document.mistake(path, str(error)))
        return None
    if span == 0:
        mistakes.append(document.mistake(path, f"{path[-1]}: must be longer than nothing"))
        return None
    return span
