"""A room in which rules with levels and of groups are judged, for a few pump stations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from devices.instants import MINUTE
from devices.registry import DeviceStatus, Registry
from rules.book import RuleBook
from rules.combining import Combiner, members_of
from rules.engine import Engine, Outcome
from rules.expression import Group, Order
from rules.language import parse
from rules.outcome import Peak, Transition
from rules.rule import AppliesTo, Level, Priority, Rule
from tests.rules.desk import START, Element, at, put, rows, town

OUTSIDE = Rule(
    "outside",
    parse("level_outside > 3"),
    applies_to=AppliesTo(kind="pump_station"),
    levels=(
        Level(Priority.MEDIUM, parse("level_outside > 3"), MINUTE, parse("level_outside <= 2.8"), "警戒", "warning",
              "level_outside > 3", "level_outside <= 2.8"),
        Level(Priority.CRITICAL, parse("level_outside > 4"), name_zh="保证", when_text="level_outside > 4"),
    ),
)  # fmt: skip
TREE = {"town": frozenset({"town", "west", "east"})}


def of_group(text: str, op: Order, limit: float, *, share: bool = True, tag: str | None = "g7", **more: object) -> Rule:
    fields: dict[str, object] = {"applies_to": AppliesTo(kind="pump_station"), "when_text": "many", **more}
    return Rule("many", Group(tag, parse(text), share, op, limit), **fields)  # type: ignore[arg-type]


def stations(count: int = 4) -> Registry:
    registry = town()
    for name in ("ps-1", "ps-2"):
        put(registry, name, tags=frozenset({"g7"}))
    first = registry.devices[0]
    for n in range(3, count + 1):
        registry.put(replace(first, number=len(registry.devices), id=f"ps-{n}", grid="east"))
    return registry


def members(rules: Sequence[Rule], registry: Registry) -> dict[str, dict[str, tuple[int, ...]]]:
    able = [d.number for d in registry.devices if d.kind == "pump_station" and d.status is DeviceStatus.ACTIVE]
    return {rule.id: members_of(rule, able, registry, TREE) for rule in rules}


@dataclass
class Room:
    """An engine and what it said."""

    rules: list[Rule]
    registry: Registry = field(default_factory=stations)
    said: list[Transition] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(book(self.rules), self.registry, grid_tree=TREE)

    @property
    def combiner(self) -> Combiner:
        return self.engine._bound.combiner

    def take(self, outcome: Outcome) -> list[str]:
        self.engine.adopt(outcome)
        self.peaks += outcome.peaks
        return self.hear(outcome.transitions)

    def hear(self, transitions: Sequence[Transition]) -> list[str]:
        self.said += transitions
        return [tell(t) for t in transitions]

    def reads(self, *elements: Element) -> list[str]:
        return self.take(self.engine.evaluate(rows(self.registry, elements)))

    def outside(self, *readings: tuple[str, float]) -> list[str]:
        return self.reads(*[("ps-1", after, {"level_outside": value}) for after, value in readings])

    def inside(self, after: str, **values: float) -> list[str]:
        return self.reads(*[(name.replace("_", "-"), after, {"level_inside": v}) for name, v in values.items()])

    def ticks(self, after: str) -> list[str]:
        return self.take(self.engine.tick(at(after)))

    def reloads(self, rules: list[Rule], after: str) -> list[str]:
        return self.take(self.engine.reload(book(rules), at(after)))

    def devices_change(self) -> list[str]:
        return self.hear(self.engine.devices_changed())

    def loses(self, name: str) -> list[str]:
        put(self.registry, name, status=DeviceStatus.QUARANTINED)
        return self.devices_change()


def book(rules: Sequence[Rule]) -> RuleBook:
    return RuleBook({rule.id: rule for rule in rules}, {})


def tell(t: Transition) -> str:
    """`raised critical 2 of ps-1`: minutes after START."""
    return " ".join([t.edge, *([t.priority] if t.priority else []), f"{(t.at - START) / MINUTE:g} of {t.device}"])
