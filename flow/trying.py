"""Rules tried on the history of this installation before they run: which alarms, a review of them, and what changes.

The engine is the one that runs (`rules.backtest`); both books go over the history in one reading of it. So that windows
and holds are not empty at the start, a stretch before it is judged too, and what was raised and over in it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alerts.refusals import Invalid, NotFound
from alerts.roles import Actor
from devices.documents import DocumentError
from devices.instants import DAY, HOUR, MINUTE
from devices.registry import Device
from devices.town import tree_of
from flow.history import History, Sources, check_size, choose
from flow.installation import Installation
from flow.reach import reach
from flow.reloading import wrong_rules
from flow.trials import Told
from flow.trials import Trial as Job
from rules.backtest import Backtest, Finding
from rules.binding import columns, matching
from rules.book import RuleBook, load
from rules.comparison import Comparison, compare
from rules.outcome import Edge
from rules.parts import parts_of
from rules.review import Review, review
from rules.rule import Rule
from store.records.declarations import read_declared
from store.records.devices import list_grids

Running = Literal["running"]
RUNNING: Running = "running"
BACKTEST = "backtest"
# Alarms that one book may raise in a trial: a rule that raises more is no rule, and its list would fill the memory.
MOST_ALARMS = 100_000
# Of each list in a result, which is kept for an hour: the first so many; numbers are of all.
MOST_KEPT = 10_000
_SHORTEST_LEAD, _LONGEST_LEAD = HOUR, 31 * DAY


@dataclass(frozen=True, slots=True)
class Question:
    """`rules` files by name, None the book that runs; `against` another book to compare with; `devices` None: all that
    the rules apply to; `only`: of both books only these rules, None all; [start, end) of measured time."""

    rules: Mapping[str, str] | None
    against: Mapping[str, str] | Running | None
    start: int
    end: int
    devices: Sequence[str] | None = None
    only: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A question that can be answered: its books, the new one first, and the history it needs, from `lead` on."""

    question: Question
    books: tuple[RuleBook, ...]
    history: History
    lead: int
    grid_tree: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Tried:
    """`alarms` that stood at any time in [start, end), by raised_at; the reviews count those raised in it. Of them and
    of each list of the comparison at most MOST_KEPT are kept; `alarms_count` and `differences` (gained, lost, moved)
    are of all. `notes` are (Chinese, English) about what to keep in mind."""

    start: int
    end: int
    readings: int
    devices: tuple[str, ...]
    rules: tuple[str, ...]
    alarms: tuple[Finding, ...]
    alarms_count: int
    review: Review
    against: Review | None
    comparison: Comparison | None
    differences: tuple[int, int, int]
    notes: tuple[tuple[str, str], ...]


def prepare(here: Installation, question: Question) -> Trial:
    """Raises WrongDocument for rules with mistakes, NotFound for a device nobody knows, Invalid for too much at once or
    for rules that apply to none of the devices."""
    books = tuple(_narrowed(_book(here, files), question.only) for files in _asked(question))
    rules = [rule for book in books for rule in book.rules.values()]
    tree = grid_tree(here)
    devices = _devices(here, rules, question.devices, tree)
    if not devices:
        zh, en = "这些规则不适用于任何所选设备", "these rules apply to none of the devices chosen"
        raise Invalid("nothing_to_try", zh, en)
    longest = max(reach(rule, device.interval_s) for rule in rules for device in _slowest(devices))
    lead = max(0, question.start - min(max(longest, _SHORTEST_LEAD), _LONGEST_LEAD))
    history = choose(here.registry, devices, series_read(rules), lead)
    check_size(history, question.start, question.end)
    return Trial(question, books, history, lead, tree)


def start_trial(here: Installation, actor: Actor, trial: Trial) -> Job:
    """Raises Conflict while another of this person's is unfinished."""
    return here.trials.start(actor, here.wall, BACKTEST, lambda told: answer(here, trial, told), asked=trial)


def answer(here: Installation, trial: Trial, told: Told) -> Tried:
    """The work itself: seconds to a minute. `told` hears how far it is and may end it. Raises StoreUnavailable, Invalid
    where a book raises more than MOST_ALARMS."""
    question, history = trial.question, trial.history
    end = max(question.start + 1, min(question.end, here.now() + MINUTE))
    runs = [backtest(here, book, history, trial.grid_tree, trial.lead) for book in trial.books]
    raised, readings = [0] * len(runs), 0
    for rows in Sources(here.records, here.readings).rows(history, trial.lead, end, told):
        readings += len(rows)
        for place, run in enumerate(runs):
            raised[place] += sum(t.edge is Edge.RAISED for t in run.feed(rows))
        if max(raised) > MOST_ALARMS:
            zh = f"所试规则会产生超过 {MOST_ALARMS:,} 次告警，请先收紧规则或缩短时段"
            en = f"the rules would raise more than {MOST_ALARMS:,} alarms: tighten them, or choose a shorter span"
            raise Invalid("too_many_alarms", zh, en)
    for run in runs:
        run.clock(end)
    found = [[f for f in run.findings() if f.cleared_at is None or f.cleared_at >= question.start] for run in runs]
    zone = here.zone.key
    reviews = [review([f for f in each if f.raised_at >= question.start], question.start, end, zone=zone)
               for each in found]  # fmt: skip
    compared = compare(found[1], found[0]) if len(found) > 1 else None
    return Tried(
        start=question.start,
        end=end,
        readings=readings,
        devices=tuple(device.id for device in history.registry.devices),
        rules=tuple(trial.books[0].rules),
        alarms=tuple(found[0][:MOST_KEPT]),
        alarms_count=len(found[0]),
        review=reviews[0],
        against=reviews[1] if len(found) > 1 else None,
        comparison=None if compared is None else _kept(compared),
        differences=(0, 0, 0) if compared is None else _differences(compared),
        notes=tuple(_notes(here, trial)),
    )


def _kept(found: Comparison) -> Comparison:
    return replace(
        found, gained=found.gained[:MOST_KEPT], lost=found.lost[:MOST_KEPT], moved=found.moved[:MOST_KEPT]
    )  # fmt: skip


def _differences(found: Comparison) -> tuple[int, int, int]:
    return len(found.gained), len(found.lost), len(found.moved)


def backtest(
    here: Installation, book: RuleBook, history: History, tree: Mapping[str, frozenset[str]], start: int
) -> Backtest:
    """The engine over this history from `start` on, with the calendar of the site and what was declared then."""
    with here.records.connect() as tx:
        declared = read_declared(tx, history.registry, start)
    return Backtest(book, history.registry, grid_tree=tree, site=here.site(), declared=declared)


def grid_tree(here: Installation) -> dict[str, frozenset[str]]:
    """Every grid → itself and the grids below it."""
    with here.records.connect() as tx:
        return tree_of(list_grids(tx))


def series_read(rules: Iterable[Rule]) -> frozenset[str] | None:
    """Metrics and "event:<name>"s that some rule reads; None (all) where one asks whether anything was heard at all."""
    rules = list(rules)
    if any(rule.group is not None for rule in rules):
        return None
    return frozenset(name for rule in rules for name in rule.series)


def read_rules(files: Mapping[str, str]) -> RuleBook:
    """Raises WrongDocument with every mistake."""
    try:
        return load(files)
    except DocumentError as error:
        raise wrong_rules(error) from error


def _asked(question: Question) -> list[Mapping[str, str] | Running]:
    asked: list[Mapping[str, str] | Running] = [RUNNING if question.rules is None else question.rules]
    return asked if question.against is None else [*asked, question.against]


def _book(here: Installation, files: Mapping[str, str] | Running) -> RuleBook:
    return here.rulebook() if files == RUNNING else read_rules(files)


def _narrowed(book: RuleBook, only: frozenset[str] | None) -> RuleBook:
    if only is None:
        return book
    return replace(book, rules={name: rule for name, rule in book.rules.items() if name in only})


def _devices(
    here: Installation, rules: Sequence[Rule], named: Sequence[str] | None, tree: Mapping[str, frozenset[str]]
) -> list[Device]:
    registry = here.registry
    if named is not None:
        for name in named:
            if registry.get(name) is None:
                raise NotFound("no_such_device", f"没有设备 {name}", f"there is no device {name}")
    table = columns(registry)
    parts = [part.rule for rule in rules for part in parts_of({rule.id: rule}).values()]
    numbers = sorted({number for rule in parts for number in matching(rule, table, tree).tolist()})
    found = (registry.devices[number] for number in numbers)
    wanted = None if named is None else frozenset(named)
    return [d for d in found if wanted is None or d.id in wanted]


def _slowest(devices: Sequence[Device]) -> list[Device]:
    """The device with the longest interval: what reaches back for it reaches back for all."""
    return [max(devices, key=lambda device: device.interval_s)]


def _notes(here: Installation, trial: Trial) -> Iterable[tuple[str, str]]:
    if trial.question.end > here.now():
        yield "时段到现在为止；刚收到、尚未入库的读数不在内", "up to now; readings not yet in the store are left out"
    groups = [rule.id for book in trial.books for rule in book.rules.values() if rule.group is not None]
    if groups and trial.question.devices is not None:
        names = ", ".join(dict.fromkeys(groups))
        yield f"{names}：成组规则只按所选设备计算", f"{names}: judged over the chosen devices alone"
