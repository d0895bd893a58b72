"""What would quieten a rule that runs, found on the history of this installation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from alerts.refusals import Invalid, NotFound
from devices.instants import SECOND
from flow.history import Sources
from flow.installation import Installation
from flow.trials import Told
from flow.trying import Question, Trial, backtest, prepare
from rules.backtest import Finding
from rules.outcome import Rows
from rules.rule import Rule
from rules.suggest import Suggestion, suggest

# The history is gone through a dozen times, so it is kept in memory: 28 bytes a row.
MOST_ROWS = 5_000_000
# Of the progress, what reading takes; how many times the rule will be tried is not known beforehand.
_READING, _A_RUN = 0.5, 0.04


def suggest_from_history(
    here: Installation, *, rule: str, start: int, end: int, devices: Sequence[str] | None
) -> Callable[[Told], Suggestion]:
    """The work to be done. Raises NotFound for a rule that does not run, and what `prepare` raises."""
    if rule not in here.rulebook().rules:
        raise NotFound("no_such_rule", f"没有规则 {rule}", f"there is no rule {rule}")
    question = Question(rules=None, against=None, start=start, end=end, devices=devices, only=frozenset({rule}))
    trial = prepare(here, question)
    [book] = trial.books
    until = min(end, here.now())
    known = trial.history.registry.devices
    interval = round(median(device.interval_s for device in known) * SECOND)

    def work(told: Told) -> Suggestion:
        chunks = _read(here, trial, until, told)
        done = _READING

        def run(form: Rule) -> list[Finding]:
            nonlocal done
            done = min(0.99, done + _A_RUN)
            tried = backtest(here, replace(book, rules={form.id: form}), trial.history, trial.grid_tree, trial.lead)
            for rows in chunks:
                told(done)
                tried.feed(rows)
            tried.clock(until)
            return [finding for finding in tried.findings() if finding.raised_at >= start]

        return suggest(book.rules[rule], run, interval)

    return work


def _read(here: Installation, trial: Trial, until: int, told: Told) -> list[Rows]:
    chunks: list[Rows] = []
    sources, rows = Sources(here.records, here.readings), 0
    for chunk in sources.rows(trial.history, trial.lead, until, lambda part: told(part * _READING)):
        chunks.append(chunk)
        rows += len(chunk)
        if rows > MOST_ROWS:
            zh, en = (
                f"超过 {MOST_ROWS:,} 个读数，请缩短时段",
                f"more than {MOST_ROWS:,} readings: choose a shorter span",
            )
            raise Invalid("history_too_long", zh, en)
    return chunks
