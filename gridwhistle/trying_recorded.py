"""Rules tried on a recorded file: one reading of it for every book, and as many runs as a suggestion needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from devices.documents import nearest
from gridwhistle.backtest_output import answer_of
from gridwhistle.backtest_plot import Drawn
from gridwhistle.backtest_sketch import Sketch
from gridwhistle.cli_options import read_town_and_site
from gridwhistle.cli_recorded import read_mapping_file, remark
from gridwhistle.console_io import give_up, progress, say
from gridwhistle.recorded_history import RecordedHistory, open_history
from gridwhistle.recorded_survey import told
from rules.backtest import Finding
from rules.book import RuleBook
from rules.review import review
from rules.rule import Rule
from rules.suggest import suggest
from simulator.recorded import RecordedError

# About how many forms of a rule are tried, for the bar alone.
_RUNS = 12
# Different intervals told on the terminal; all are in the JSON.
_LISTED = 5


def open_recorded(csv: Path, mapping: Path, town: Path | None) -> RecordedHistory:
    """Tells intervals that are not the kind's. Ends the command with status 2 where a file cannot be used."""
    columns = read_mapping_file(mapping)
    place, site = read_town_and_site(town) if town else (None, None)
    try:
        history = open_history(columns, csv, place, site)
    except (RecordedError, OSError) as error:
        give_up(str(error))
    for interval, devices in Counter(history.intervals.values()).most_common(_LISTED):
        say(told(interval, columns.kind, devices))
    return history


def backtest_recorded(
    history: RecordedHistory, books: Sequence[RuleBook], *, draw: bool
) -> tuple[dict[str, Any], Drawn | None]:
    """The answer as JSON and what a chart is drawn of; the second book is the one to compare with."""
    runs = [history.trial(book) for book in books]
    names = frozenset(name for book in books for rule in book.rules.values() for name in rule.series)
    sketch = Sketch(history.registry, names) if draw else None
    with _reading(history) as done:
        for rows in history.rows(done):
            for run in runs:
                run.feed(rows)
            if sketch is not None:
                sketch.take(rows)
    found = [run.findings() for run in runs]
    reviews = [review(each, history.start, history.end, zone=history.site.zone) for each in found]
    before = (found[1], reviews[1]) if len(found) > 1 else None
    answer = answer_of(history.counted.readings, found[0], reviews[0], before) | _intervals(history)
    if sketch is None:
        return answer, None
    return answer, Drawn(
        history.path.name, books[0], history.registry, history.grid_tree, sketch, found[0],
        before[0] if before else None, history.start, history.end, history.site.zone,
    )  # fmt: skip


def suggest_recorded(book: RuleBook, rule: str, csv: Path, mapping: Path, town: Path | None) -> dict[str, Any]:
    """As `Suggestion.as_json`, with `interval_s` as of a backtest."""
    if rule not in book.rules:
        give_up(f"没有规则 there is no rule {rule!r}{nearest(rule, book.rules)}")
    one = replace(book, rules={rule: book.rules[rule]})
    history = open_recorded(csv, mapping, town)
    with _reading(history) as done:
        chunks = history.only(one, done)
    runs = 0
    with progress(f"比较 comparing {rule}") as done:

        def run(form: Rule) -> Sequence[Finding]:
            nonlocal runs
            runs += 1
            done(min(0.99, runs / _RUNS))
            trial = history.trial(replace(one, rules={form.id: form}))
            for rows in chunks:
                trial.feed(rows)
            return trial.findings()

        return suggest(book.rules[rule], run, history.interval(chunks)).as_json() | _intervals(history)


def _intervals(history: RecordedHistory) -> dict[str, Any]:
    return {"interval_s": {device: interval.seconds for device, interval in history.intervals.items()}}


@contextmanager
def _reading(history: RecordedHistory) -> Iterator[Callable[[float], None]]:
    """A bar while the file is read, and then what of it was left out."""
    try:
        with progress(f"回测 backtesting {history.path.name}") as done:
            yield done
    except (RecordedError, OSError) as error:
        give_up(str(error))
    remark(history.counts, history.counted.impossible)
