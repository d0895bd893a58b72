"""Rules tried on the history of this installation: asked for, watched, fetched, given up.

What is asked runs beside everything else, one piece a person (`flow.trials`); its result is kept for an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from alerts.roles import Actor
from api.caller import Here, may
from api.problems import describe
from api.shapes import In, Instant, InstantGiven, Line, Out
from flow.suggesting import suggest_from_history
from flow.trials import Trial, TrialState
from flow.trying import RUNNING, Question, Running, Tried, prepare, start_trial
from rules.review import as_json
from rules.suggest import Suggestion

router = APIRouter(tags=["rules"], responses=describe(401, 403))

MAX_DEVICES = 10_000

Trier = Annotated[Actor, Depends(may("rules.try"))]
TrialId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
Yaml = Annotated[str, Field(min_length=1, max_length=900_000, description="A rule file as YAML text")]
Files = Annotated[dict[Line, Yaml], Field(min_length=1, max_length=1_000, description="Rule files by name")]
Devices = Annotated[list[Annotated[Line, Field(max_length=64)]], Field(min_length=1, max_length=MAX_DEVICES)]
RuleIds = Annotated[list[Annotated[Line, Field(max_length=64)]], Field(min_length=1, max_length=10_000)]


class BacktestWanted(In):
    rules: Yaml | Files | None = Field(default=None, description="null: the rules that run")
    against: Running | Yaml | Files | None = Field(default=None, description="Compare with these; null: with none")
    start: InstantGiven = Field(alias="from")
    end: InstantGiven = Field(alias="to", description="Not included")
    devices: Devices | None = Field(default=None, description="null: all that the rules apply to")
    only: RuleIds | None = Field(default=None, description="Of both only these rules; null: all")


class SuggestionWanted(In):
    rule: Line = Field(max_length=64)
    start: InstantGiven = Field(alias="from")
    end: InstantGiven = Field(alias="to", description="Not included")
    devices: Devices | None = None


class Severity(Out):
    at: str
    priority: str


class Found(Out):
    """One alarm as it would have been; `cleared_at` null: it stands at the end. Instants are ISO 8601, UTC."""

    rule: str
    device: str
    metric: str | None
    since: str
    raised_at: str
    cleared_at: str | None
    first_value: float | None
    peak_value: float | None
    severities: list[Severity]


class Moved(Out):
    before: Found
    after: Found
    what: list[str]


class Compared(Out):
    """What the new rules gain, lose and move; at most 10,000 of each are listed, the counts are of all."""

    same: int
    gained_count: int
    lost_count: int
    moved_count: int
    gained: list[Found]
    lost: list[Found]
    moved: list[Moved]


class Note(Out):
    zh: str
    en: str


class Result(Out):
    """`alarms` are those that stood in the span, at most 10,000 of `alarms_count`; `review` counts those raised in it
    by EEMUA 191 and ISA-18.2, as `gridwhistle backtest` does."""

    start: Instant = Field(serialization_alias="from")
    end: Instant = Field(serialization_alias="to")
    readings: int
    devices: list[str]
    rules: list[str]
    alarms_count: int
    alarms: list[Found]
    review: dict[str, Any]
    against_review: dict[str, Any] | None
    comparison: Compared | None
    notes: list[Note]


class Refused(Out):
    code: str
    zh: str
    en: str


class Job(Out):
    id: str
    state: TrialState
    progress: float = Field(ge=0, le=1)
    asked_at: Instant
    finished_at: Instant | None = Field(description="The result is kept for an hour from here")
    problem: Refused | None = Field(description="Why it failed")


class BacktestJob(Job):
    result: Result | None


class SuggestionJob(Job):
    result: dict[str, Any] | None = Field(description="As `gridwhistle suggest --json` gives it")


@router.post(
    "/rules/backtest", summary="Try rules on history / 用历史数据试规则", status_code=202,
    responses=describe(404, 409, 422),
)  # fmt: skip
def start_backtest(here: Here, caller: Trier, given: BacktestWanted) -> BacktestJob:
    """Mistakes of the rules are told at once, with file, line and column; the work then takes seconds to a minute."""
    question = Question(
        rules=_files(given.rules, "rules.yaml"),
        against=RUNNING if given.against == RUNNING else _files(given.against, "against.yaml"),
        start=given.start,
        end=given.end,
        devices=given.devices,
        only=None if given.only is None else frozenset(given.only),
    )
    trial = prepare(here, question)
    return _backtest(start_trial(here, caller, trial))


@router.get("/rules/backtest/{trial_id}", summary="A trial and its result / 试算结果", responses=describe(404, 422))
def see_backtest(here: Here, _caller: Trier, trial_id: TrialId) -> BacktestJob:
    """Of anyone who may try rules: its id may be sent to a colleague."""
    return _backtest(here.trials.find("backtest", trial_id, here.wall()))


@router.delete("/rules/backtest/{trial_id}", summary="Give a trial up / 取消试算", responses=describe(404, 422))
def cancel_backtest(here: Here, _caller: Trier, trial_id: TrialId) -> BacktestJob:
    return _backtest(here.trials.cancel("backtest", trial_id, here.wall()))


@router.post(
    "/rules/suggest", summary="What would quieten a rule / 抑制抖动的建议", status_code=202,
    responses=describe(404, 409, 422),
)  # fmt: skip
def start_suggestion(here: Here, caller: Trier, given: SuggestionWanted) -> SuggestionJob:
    """The smallest `for` or band that removes chattering from a rule that runs, and what it would have cost."""
    work = suggest_from_history(here, rule=given.rule, start=given.start, end=given.end, devices=given.devices)
    return _suggestion(here.trials.start(caller, here.wall, "suggest", work))


@router.get("/rules/suggest/{trial_id}", summary="A suggestion / 建议结果", responses=describe(404, 422))
def see_suggestion(here: Here, _caller: Trier, trial_id: TrialId) -> SuggestionJob:
    return _suggestion(here.trials.find("suggest", trial_id, here.wall()))


@router.delete("/rules/suggest/{trial_id}", summary="Give a suggestion up / 取消建议", responses=describe(404, 422))
def cancel_suggestion(here: Here, _caller: Trier, trial_id: TrialId) -> SuggestionJob:
    return _suggestion(here.trials.cancel("suggest", trial_id, here.wall()))


def _files(given: str | Mapping[str, str] | None, name: str) -> Mapping[str, str] | None:
    return {name: given} if isinstance(given, str) else given


def _backtest(trial: Trial) -> BacktestJob:
    found = trial.result
    return BacktestJob(**_job(trial), result=_result(found) if isinstance(found, Tried) else None)


def _suggestion(trial: Trial) -> SuggestionJob:
    found = trial.result
    return SuggestionJob(**_job(trial), result=found.as_json() if isinstance(found, Suggestion) else None)


def _job(trial: Trial) -> dict[str, Any]:
    refusal = trial.refusal
    return {
        "id": trial.id,
        "state": trial.state,
        "progress": round(trial.progress, 4),
        "asked_at": trial.asked_at,
        "finished_at": trial.finished_at,
        "problem": None if refusal is None else Refused.model_validate(refusal),
    }


def _result(tried: Tried) -> Result:
    found = tried.comparison
    comparison = None
    if found is not None:
        counts = zip(("gained_count", "lost_count", "moved_count"), tried.differences, strict=True)
        comparison = Compared.model_validate(found.as_json() | dict(counts))
    return Result(
        start=tried.start,
        end=tried.end,
        readings=tried.readings,
        devices=list(tried.devices),
        rules=list(tried.rules),
        alarms_count=tried.alarms_count,
        alarms=[Found.model_validate(as_json(finding)) for finding in tried.alarms],
        review=tried.review.as_json(),
        against_review=None if tried.against is None else tried.against.as_json(),
        comparison=comparison,
        notes=[Note(zh=zh, en=en) for zh, en in tried.notes],
    )
