"""One order: where it stands, what this person may do now, its limits, the chain from the reading to the archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection

from alerts.alarms import SEVERITY_ACTS
from alerts.categories import is_personal_category
from alerts.limits import Limits, running
from alerts.orders import Act, CloseBy, OrderState, Step, acts_for, needs_reason
from alerts.refusals import Invalid, NotFound
from console.pages import done, page_or_part, part
from console.places import device_name, is_personal
from console.reasons import explain
from console.texts import Language, say, say_or
from console.visits import Posted, SignedVisit, is_fragment
from console.words import end_of, metric_name, metric_of, moment, quantity, severities
from devices.instants import DAY, HOUR, MINUTE, from_iso
from devices.subjects import is_group
from flow.orders import act_on_order
from store.records.alarms import get_alarm
from store.records.orders import Link, OrderRow, chain, get_order, list_handlers

router = APIRouter()

EXTEND_SPANS = (30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, DAY, 3 * DAY)
# Acts that lead on along the four steps; the others stand folded below them.
_MAIN = (
    Act.VERIFY, Act.FILE, Act.SELF_HANDLE, Act.DISPATCH, Act.ACCEPT, Act.ARRIVE, Act.HANDLE, Act.RESUME, Act.CHECK,
    Act.CLOSE, Act.REJECT, Act.ARCHIVE,
)  # fmt: skip
_GRAVE = frozenset({Act.REJECT, Act.VOID})
_MAX_ORDER = 2**53


@dataclass(frozen=True, slots=True)
class ActForm:
    """`reason` is required or optional."""

    name: str
    reason: str
    assignee: bool
    into: bool
    limit: bool
    grave: bool
    minor: bool


@dataclass(frozen=True, slots=True)
class ChainLink:
    kind: str
    act: str
    at: int
    what: str
    by: str
    states: str
    why: str


@dataclass(frozen=True, slots=True)
class StepMark:
    """`place` is done, now or empty."""

    name: Step
    place: str


@dataclass(frozen=True, slots=True)
class OrderPage:
    id: int
    version: int
    title: str
    state: OrderState
    priority: str
    overdue: bool
    steps: Sequence[StepMark]
    acts: Sequence[ActForm]
    minor_acts: Sequence[ActForm]
    handlers: Sequence[tuple[str, str]]
    limits: Sequence[tuple[str, int, bool]]
    chain: Sequence[ChainLink]
    category_name: str
    source: str
    reporter: str
    grid_name: str
    device: str
    device_name: str
    keeper: str
    keeper_phone: str
    assignee: str
    close_by: CloseBy
    created_at: int
    external_id: str
    merged_into: int | None
    description: str
    extend_spans: Sequence[int] = EXTEND_SPANS


def order_page(request: Request, visit: SignedVisit, order: int) -> Response:
    view = order_view(visit, order)
    return page_or_part(request, visit, "order.html", "parts/order.html", here="orders", view=view, done="")


def order_view(visit: SignedVisit, number: int) -> OrderPage:
    """Raises NotFound."""
    with visit.installation.records.connect() as tx:
        order = get_order(tx, number) if 0 < number < _MAX_ORDER else None
        if order is None:
            raise NotFound("no_such_order", f"没有编号为 {number} 的工单", f"there is no order {number}")
        links = chain(tx, number)
        handlers = list_handlers(tx)
        english = _english_names(tx, links) if visit.language is Language.EN else {}
    forms = [_act_form(order, Act(act)) for act in acts_for(order.to_decide(), visit.actor)]
    masked = is_masked(visit, order)
    return OrderPage(
        id=order.id,
        version=order.version,
        title=title_of(visit, order),
        state=order.state,
        priority=order.priority,
        overdue=order.overdue,
        steps=_steps(order),
        acts=sorted((f for f in forms if f.name in _MAIN), key=lambda f: _MAIN.index(Act(f.name))),
        minor_acts=[f for f in forms if f.name not in _MAIN],
        handlers=handlers,
        limits=_limits(order),
        chain=[] if masked else [_link(visit, order, _renamed(link, english)) for link in links],
        category_name=order.category_zh if visit.language is Language.ZH else order.category_en,
        source=order.source,
        reporter="" if order.reporter == "service" else order.reporter,
        grid_name=order.grid_name or say(visit.language, "grid.none"),
        device="" if masked or is_group(order.device or "") else order.device or "",
        device_name="" if masked else device_name(visit, order.device or "", order.device_name, order.kind),
        keeper=order.keeper,
        keeper_phone=order.keeper_phone,
        assignee=order.assignee_name or order.assignee or "",
        close_by=order.close_by,
        created_at=order.created_at,
        external_id="" if (order.external_id or "").startswith("console-") else order.external_id or "",
        merged_into=order.merged_into,
        description="" if masked else order.description,
    )


def is_masked(visit: SignedVisit, order: OrderRow) -> bool:
    """An order about a personal device, or of elder care: a viewer learns that it exists, no more."""
    about_a_person = is_personal(order.kind) or is_personal_category(order.category)
    return about_a_person and not visit.allows("person.see")


def title_of(visit: SignedVisit, order: OrderRow) -> str:
    """An order filed by a rule has a Chinese title made of rule and place: in English it is put together anew."""
    if is_masked(visit, order):
        return say(visit.language, "order.masked")
    if visit.language is Language.EN and order.source == "rule" and order.device:
        return f"{order.category_en} · {device_name(visit, order.device, order.device_name, order.kind)}"
    return order.title


def _act_form(order: OrderRow, act: Act) -> ActForm:
    needed = needs_reason(order.to_decide(), act) or act is Act.COMMENT
    return ActForm(
        name=act.value,
        reason="required" if needed else "optional",
        assignee=act is Act.DISPATCH,
        into=act is Act.MERGE,
        limit=act is Act.EXTEND,
        grave=act in _GRAVE,
        minor=act not in _MAIN,
    )


def _steps(order: OrderRow) -> list[StepMark]:
    steps = list(Step)
    now = steps.index(order.step)
    finished = order.state is OrderState.ARCHIVED
    return [
        StepMark(step, "done" if i < now or finished else "now" if i == now else "") for i, step in enumerate(steps)
    ]


def _limits(order: OrderRow) -> list[tuple[str, int, bool]]:
    """(name, instant, whether it runs in this state) of every limit that was ever set."""
    limits = Limits(order.accept_by, order.arrive_by, order.handle_by)
    active = {name for _, name in running(order.state, limits)}
    named = (("accept_by", order.accept_by), ("arrive_by", order.arrive_by), ("handle_by", order.handle_by))
    return [(name, at, name in active) for name, at in named if at is not None]


def _english_names(tx: Connection, links: Sequence[Link]) -> dict[str, str]:
    """Chinese to English, of the rules behind the order: a row that a rule wrote carries the rule's Chinese name."""
    numbers = {number for link in links if isinstance(number := link.detail.get("alarm"), int)}
    alarms = [alarm for number in sorted(numbers) if (alarm := get_alarm(tx, number)) is not None]
    return {alarm.rule_zh: alarm.rule_en for alarm in alarms}


def _renamed(link: Link, names: Mapping[str, str]) -> Link:
    return replace(link, why=names.get(link.why, link.why)) if link.why and link.by == "service" else link


def _link(visit: SignedVisit, order: OrderRow, link: Link) -> ChainLink:
    language = visit.language
    kind = "raised" if (link.kind, link.act) == ("occurrence", "raised") else link.kind
    kind = "cleared" if link.act == "cleared" else kind
    service = link.by in {"", "service"}
    states = ""
    if link.to_state and link.from_state != link.to_state:
        group = "alarm" if link.kind == "alarm" else "order"
        names = [say_or(language, f"{group}.{state}", state) for state in (link.from_state, link.to_state) if state]
        states = " → ".join(names)
    return ChainLink(
        kind="service" if service and link.kind in {"order", "alarm"} else kind,
        act=link.act,
        at=link.at,
        what=_what(visit, order, link),
        by=_by(visit, link),
        states=states,
        why=_why(visit, order, link),
    )


def _what(visit: SignedVisit, order: OrderRow, link: Link) -> str:
    language = visit.language
    if link.kind == "reading":
        metric, value = link.detail.get("metric"), link.detail.get("value")
        if not isinstance(metric, str) or not isinstance(value, (int, float)):
            return say(language, "chain.condition")
        known = metric_of(order.kind, metric)
        shown = quantity(float(value), known.unit if known else "", language)
        return say(language, "chain.reading", what=metric_name(order.kind, metric, language), value=shown)
    if link.kind in {"occurrence", "alarm"}:
        return say_or(language, f"chain.{link.act}", link.act)
    return say_or(language, f"act.{link.act}", link.act)


def _by(visit: SignedVisit, link: Link) -> str:
    if link.by == "service":
        return say(visit.language, "role.service")
    return f"{link.by} ({say_or(visit.language, f'role.{link.post}', link.post)})" if link.by and link.post else link.by


def _why(visit: SignedVisit, order: OrderRow, link: Link) -> str:
    """The words a person gave, or what the rule saw."""
    installation, language = visit.installation, visit.language
    if link.kind == "reading":
        reason = link.detail.get("reason")
        rule = "gw-" if isinstance(reason, dict) and "when" not in reason else ""
        if not isinstance(reason, dict):
            return ""
        return explain(order.kind, rule, reason, language, zone=installation.zone, now=visit.now)
    if limit := link.detail.get("limit"):
        return say_or(language, f"limit.{limit}", str(limit))
    said = severities if link.act in SEVERITY_ACTS else end_of if link.by == "service" else None
    lines = [link.why if said is None else said(link.why, language)] if link.why else []
    if assignee := link.detail.get("assignee"):
        lines.append(f"{say(language, 'assignee')}: {assignee}")
    if until := link.detail.get("until"):
        at = until if isinstance(until, int) else from_iso(str(until))
        lines.append(f"{say(language, 'limit.handle_by')}: {moment(at, installation.zone, visit.now)}")
    if into := link.detail.get("into"):
        lines.append(f"{say(language, 'order.merged_into')}: #{into}")
    return "\n".join(lines)


@router.post("/orders/{order}/{act}")
def act_on(  # noqa: PLR0913 - the fields of every act's form
    request: Request,
    visit: Posted,
    order: int,
    act: str,
    *,
    version: Annotated[int, Form()],
    reason: Annotated[str, Form()] = "",
    assignee: Annotated[str, Form()] = "",
    into: Annotated[str, Form(max_length=20)] = "",
    span: Annotated[int, Form()] = 0,
) -> Response:
    act_on_order(
        visit.installation.records,
        visit.now,
        visit.actor,
        order=order,
        act=act,
        version=version,
        reason=reason or None,
        assignee=assignee or None,
        detail=_detail(visit, order, act, into=into, span=span),
    )
    visit.installation.hub.poke()
    if not is_fragment(request.headers):
        return RedirectResponse(f"/orders/{order}", 303)
    message = done(request, visit, "order.act_done", n=order, act=say(visit.language, f"act.{act}"))
    return part(request, visit, "parts/order.html", view=order_view(visit, order), done=message)


def _detail(visit: SignedVisit, number: int, act: str, *, into: str, span: int) -> dict[str, object] | None:
    if act == Act.MERGE:
        if not into.isascii() or not into.isdigit():
            raise Invalid("bad_into", "请填写要并入的工单号", "give the number of the order it goes into")
        return {"into": int(into)}
    if act == Act.EXTEND:
        with visit.installation.records.connect() as tx:
            order = get_order(tx, number)
        # From the old limit where that is still ahead, else from now: two hours more are two hours to work in.
        return {"until": max(visit.now, (order.handle_by if order else None) or 0) + span}
    return None
