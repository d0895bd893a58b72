"""Try: a rule is changed, run on history against the one that runs, and looked at before it stands in a file.

Nothing here changes the rules: what was tried is shown as text for the file, which is reviewed like code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from alerts.refusals import NotFound, WrongDocument
from console.pages import page, page_or_part, part
from console.periods import Period, period_of, text_of
from console.rules import choices
from console.trials import Outcome, outcome_of, shaded
from console.visits import Posted, Signed, SignedVisit, is_fragment
from devices.documents import DocumentError, Mistake
from flow.trials import UNFINISHED, TrialState
from flow.trials import Trial as Job
from flow.trying import BACKTEST, RUNNING, Question, Trial, Tried, prepare, read_rules, start_trial
from rules.book import RuleBook, load

router = APIRouter()

_FILE = "rules.yaml"
_BLANK = """rules:
  - id: my-rule
    applies_to: {kind: pump_station}
    when: level_inside > attr.inside_limit_level
    for: 1m
"""


@dataclass(frozen=True, slots=True)
class JobView:
    """One trial as it stands; `percent` 0 to 100; `outcome` once it is done; `problem` why it failed."""

    id: str
    path: str
    state: TrialState
    percent: int
    running: bool
    problem: str
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class TryPage:
    """`text` is what the form holds; `mistakes` of what was sent."""

    rule: str
    text: str
    device: str
    period: Period
    choices: Sequence[tuple[str, str]]
    mistakes: Sequence[Mistake]
    job: JobView | None


def text_for(book: RuleBook, rule_id: str) -> str:
    """The rule as a file of its own; where its lines cannot stand alone, the file it is in; a beginning for none."""
    rule = book.rules.get(rule_id)
    if rule is None:
        return _BLANK
    alone = f"rules:\n{rule.text}\n"
    try:
        if load({_FILE: alone}).rules.keys() == {rule_id}:
            return alone
    except DocumentError:
        pass
    return next((text for text in book.files.values() if rule.text in text), alone)


def job_view(visit: SignedVisit, job: Job) -> JobView:
    tried = job.result if isinstance(job.result, Tried) else None
    problem = "" if job.refusal is None else job.refusal.zh if visit.language == "zh" else job.refusal.en
    return JobView(
        id=job.id,
        path=f"/rules/try/{job.id}",
        state=job.state,
        percent=round(job.progress * 100),
        running=job.state in UNFINISHED,
        problem=problem,
        outcome=None if tried is None else outcome_of(visit, job.asked, tried),
    )


def _find(visit: SignedVisit, job_id: str) -> Job:
    visit.actor.require("rules.try")
    here = visit.installation
    job = here.trials.find(BACKTEST, job_id, here.wall())
    if not isinstance(job.asked, Trial) or job.asked.question.against is None:
        raise NotFound("no_such_trial", "没有这次试算", "there is no such trial")
    return job


def _form_of(visit: SignedVisit, job: Job) -> TryPage:
    """The form as it was sent for this trial."""
    asked: Question = job.asked.question
    zone = visit.installation.zone
    text = "\n".join((asked.rules or visit.installation.rulebook().files).values())
    period = Period(asked.start, asked.end, 0, text_of(asked.start, zone), text_of(asked.end, zone))
    device = asked.devices[0] if asked.devices else ""
    return TryPage("", text, device, period, choices(visit), (), job_view(visit, job))


@router.get("/rules/try")
def see_try(request: Request, visit: Signed, rule: Annotated[str, Query(max_length=64)] = "") -> Response:
    visit.actor.require("rules.try")
    here = visit.installation
    period = period_of(visit.now, here.zone, days=7, start="", end="")
    view = TryPage(rule, text_for(here.rulebook(), rule), "", period, choices(visit), (), None)
    return page(request, visit, "try.html", here="rules", view=view)


@router.post("/rules/try")
def start(
    request: Request,
    visit: Posted,
    *,
    rules: Annotated[str, Form(max_length=60_000)] = "",
    device: Annotated[str, Form(max_length=64)] = "",
    start: Annotated[str, Form(alias="from", max_length=40)] = "",
    end: Annotated[str, Form(alias="to", max_length=40)] = "",
) -> Response:
    """Compared with the rules of the same ids that run. Mistakes are told in place, with line and column."""
    visit.actor.require("rules.try")
    here = visit.installation
    text = rules.replace("\r\n", "\n")
    period = period_of(visit.now, here.zone, days=0, start=start, end=end)
    try:
        book = read_rules({_FILE: text})
    except WrongDocument as error:
        view = TryPage("", text, device, period, choices(visit), error.mistakes, None)
        fragment = is_fragment(request.headers)
        show = part if fragment else page
        return show(request, visit, "parts/trial.html" if fragment else "try.html", status=422, view=view)
    question = Question(
        rules={_FILE: text}, against=RUNNING, start=period.start, end=period.end,
        devices=[device] if device else None, only=frozenset(book.rules),
    )  # fmt: skip
    job = start_trial(here, visit.actor, prepare(here, question))
    if not is_fragment(request.headers):
        return RedirectResponse(f"/rules/try/{job.id}", 303)
    return part(request, visit, "parts/trial.html", view=_form_of(visit, job))


@router.get("/rules/try/{job_id}")
def see_job(request: Request, visit: Signed, job_id: str) -> Response:
    """Its address may be sent to a colleague."""
    view = _form_of(visit, _find(visit, job_id))
    return page_or_part(request, visit, "try.html", "parts/trial.html", here="rules", view=view)


@router.post("/rules/try/{job_id}/cancel")
def cancel(request: Request, visit: Posted, job_id: str) -> Response:
    here = visit.installation
    job = _find(visit, job_id)
    here.trials.cancel(BACKTEST, job.id, here.wall())
    if not is_fragment(request.headers):
        return RedirectResponse(f"/rules/try/{job.id}", 303)
    return part(request, visit, "parts/trial.html", view=_form_of(visit, job))


@router.get("/rules/try/{job_id}/chart")
def see_chart(
    visit: Signed,
    job_id: str,
    device: Annotated[str, Query(max_length=64)],
    metric: Annotated[str, Query(max_length=64)],
) -> Response:
    """The series of the trial with the alarms of both, for trial.js."""
    job = _find(visit, job_id)
    if not isinstance(job.result, Tried):
        raise NotFound("no_such_trial", "试算尚未完成", "the trial is not done")
    return JSONResponse(shaded(visit, job.asked, job.result, device, metric))
