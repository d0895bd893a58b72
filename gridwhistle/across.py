"""What is wrong between rules, town and categories, each of which is right by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from alerts.categories import Catalogue
from devices.documents import Mistake, Path, nearest, parse
from devices.instants import SECOND, format_duration
from devices.kinds import KINDS
from devices.town import Town, TownDevice
from rules.book import RuleBook
from rules.checking import has_series
from rules.datum import datum_slips
from rules.expression import Absent, Attribute, Expression, Flat, Forecast, Window, leaves
from rules.rule import Rule
from rules.text import text_of

# Beyond this, more devices with the same fault tell nothing new.
_SHOWN = 3


def across(
    book: RuleBook, files: Mapping[str, str], town: Town | None, catalogue: Catalogue
) -> Iterator[tuple[Mistake, bool]]:
    """`files` those the book was read from; True beside what is a mistake, False beside a warning."""
    for file, text in files.items():
        document = parse(text, file)
        entries: list[Any] = document.data["rules"]
        for index, entry in enumerate(entries):
            rule = book.rules[entry["id"]]
            category = rule.order_category
            if category is not None and category not in catalogue.categories:
                near = nearest(category, catalogue.categories)
                said = f"{rule.id}: category {category!r} is not in the catalogue; it gets the limits of `other`{near}"
                yield document.mistake(("rules", index, "order", "category"), said), False
            if town is not None:
                for path, said, fatal in _Against(rule, town).all():
                    yield document.mistake(("rules", index, *path), f"{rule.id}: {said}"), fatal


def warnings(book: RuleBook, town: Town | None, catalogue: Catalogue) -> tuple[Mistake, ...]:
    """The same of a book that runs all the same: mistakes first, for the rule leaves those devices out."""
    found = sorted(across(book, book.files, town, catalogue), key=lambda one: not one[1])
    return tuple(mistake for mistake, _ in found)


Said = tuple[Path, str, bool]


class _Against:
    """One rule and the town it is to watch over."""

    def __init__(self, rule: Rule, town: Town) -> None:
        self._rule = rule
        self._town = town
        grids = rule.applies_to.grids
        below = None if grids is None else frozenset().union(*(town.under(grid) for grid in grids & town.grids.keys()))
        self._devices = [device for device in town.devices.values() if _applies(rule, device, below)]

    def all(self) -> Iterator[Said]:
        unknown = list(self._unknown_names())
        yield from unknown
        if not self._devices:
            if not unknown:
                yield ("applies_to",), "applies to no device of the town", False
            return
        yield from self._missing_attributes()
        yield from self._few_members()
        yield from self._datums()
        yield from self._short_spans()

    def _unknown_names(self) -> Iterator[Said]:
        to, town = self._rule.applies_to, self._town
        tags = {tag for device in town.devices.values() for tag in device.tags}
        for what, given, known in (
            ("devices", to.devices, set(town.devices)), ("grids", to.grids, set(town.grids)), ("tags", to.tags, tags),
        ):  # fmt: skip
            for name in sorted((given or frozenset()) - known):
                if what == "tags":
                    yield ("applies_to", what), f"no device of the town has tag {name!r}{nearest(name, tags)}", False
                else:
                    yield ("applies_to", what), f"no {what[:-1]} {name!r} in the town{nearest(name, known)}", True
        group = self._rule.group
        if group is not None and group.tag is not None and group.tag not in tags:
            yield ("when",), f"no device of the town has tag {group.tag!r}{nearest(group.tag, tags)}", False

    def _missing_attributes(self) -> Iterator[Said]:
        """Each where it is first named."""
        where: dict[str, Path] = {}
        for path, tree in _trees(self._rule):
            for leaf in leaves(tree):
                if isinstance(leaf, Attribute):
                    where.setdefault(leaf.name, path)
        known = {name for device in self._devices for name in device.attributes}
        for name, path in sorted(where.items()):
            values = [device.attributes[name] for device in self._devices if name in device.attributes]
            if not values:
                said = f"none of its {len(self._devices)} devices has attribute {name!r}, so it can never be true"
                yield path, f"{said}{nearest(name, known)}", False
            elif all(isinstance(value, str) for value in values):
                yield path, f"attribute {name!r} of its devices is a text, not a number, so it can never be true", False

    def _short_spans(self) -> Iterator[Said]:
        """A span in which a device reports once or not at all, each where it is first written."""
        written: dict[Absent | Flat | Forecast | Window, Path] = {}
        for path, tree in _trees(self._rule):
            for leaf in leaves(tree):
                if isinstance(leaf, (Absent, Flat, Forecast, Window)):
                    written.setdefault(leaf, path)
        for leaf, path in written.items():
            span = leaf.window_us if isinstance(leaf, Forecast) else leaf.us
            slow = {device.id: us for device in self._devices if (us := _interval(device)) >= span}
            if slow:
                every = format_duration(max(slow.values()))
                who = f"{_few(slow)}, which {'reports' if len(slow) == 1 else 'report'} every {every}"
                if isinstance(leaf, Absent):
                    yield path, f"{text_of(leaf)} is true between any two readings of {who}", False
                else:
                    yield path, f"at most one reading lies in {text_of(leaf)} of {who}", False

    def _few_members(self) -> Iterator[Said]:
        group = self._rule.group
        if group is None or group.op not in (">", ">=") or group.share:
            return
        needed = int(group.limit) + (group.op == ">")
        members = self._members()
        if max(members.values(), default=0) < needed:
            biggest = ", ".join(f"{name} {count}" for name, count in members.most_common(1)) or "none has any"
            yield ("when",), f"no grid has {needed} of its devices (most: {biggest}), so it can never be true", False

    def _members(self) -> Counter[str]:
        """The devices of each grid it speaks of: those of its own grid or, where grids are named, of all below."""
        named = self._rule.applies_to.grids
        if named is None:
            return Counter(device.grid for device in self._devices if device.grid is not None)
        found: Counter[str] = Counter()
        for grid in named & self._town.grids.keys():
            below = self._town.under(grid)
            found[grid] = sum(device.grid in below for device in self._devices)
        return found

    def _datums(self) -> Iterator[Said]:
        mixing = {device.id: slips for device in self._devices if (slips := datum_slips(self._rule, device.attributes))}
        if mixing:
            told = next(iter(mixing.values()))
            where: Path = ("levels",) if self._rule.levels else ("when",)
            yield (
                where,
                f"does not apply to {_few(mixing)}, whose levels have different datums: {'; '.join(told)}",
                True,
            )


def _trees(rule: Rule) -> Iterator[tuple[Path, Expression]]:
    """Every condition with the key it stands at."""
    for k, level in enumerate(rule.levels):
        yield ("levels", k, "when"), level.when
        if level.clear is not None:
            yield ("levels", k, "clear"), level.clear
    if not rule.levels:
        yield ("when",), rule.when
        if rule.clear is not None:
            yield ("clear",), rule.clear


def _applies(rule: Rule, device: TownDevice, below: frozenset[str] | None) -> bool:
    """As the engine binds it: all that is given matches, and the kind has every metric and event that it reads."""
    to = rule.applies_to
    tags = (to.tags or frozenset()) | {rule.group.tag} if rule.group and rule.group.tag else to.tags
    return (
        device.second_of is None
        and (to.kind is None or device.kind == to.kind)
        and (to.devices is None or device.id in to.devices)
        and (tags is None or tags <= device.tags)
        and (below is None or device.grid in below)
        and all(has_series(device.kind, name) for name in rule.series)
    )


def _interval(device: TownDevice) -> int:
    return round((device.interval or KINDS[device.kind].interval_s) * SECOND)


def _few(names: Iterable[str]) -> str:
    all_names = list(names)
    more = len(all_names) - _SHOWN
    return ", ".join(all_names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
