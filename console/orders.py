"""Orders in four steps, and filing one by hand."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection

from alerts.orders import OrderState, Source, Step
from alerts.refusals import NotFound, Refusal
from console.order import order_page, title_of
from console.pages import page, page_or_part
from console.places import is_personal, read_places, shown_name
from console.texts import Language
from console.visits import Posted, Signed, SignedVisit
from flow.orders import file_order
from rules.rule import Priority
from store.records.categories import catalogue
from store.records.orders import OrderRow, list_handlers, list_orders

router = APIRouter()

SHOWS = ("open", "mine", "overdue", "all")
# Cards in a column; a longer column is not read, the filter is.
MOST_CARDS = 60
# What is filed by hand is most often what somebody rang about; a town's own catalogue may not have it.
_RESIDENT = "resident.report"


@dataclass(frozen=True, slots=True)
class Filter:
    show: str = "open"
    category: str = ""
    assignee: str = ""

    @property
    def path(self) -> str:
        given = {"show": self.show, "category": self.category, "assignee": self.assignee}
        kept = {k: v for k, v in given.items() if v and (k, v) != ("show", "open")}
        return "/orders" + ("?" + urlencode(kept) if kept else "")


@dataclass(frozen=True, slots=True)
class Card:
    id: int
    title: str
    priority: str
    state: OrderState
    overdue: bool
    next_limit_at: int | None
    grid_name: str
    assignee: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Lane:
    step: Step
    cards: Sequence[Card]
    more: bool


@dataclass(frozen=True, slots=True)
class Orders:
    path: str
    show: str
    category: str
    assignee: str
    lanes: Sequence[Lane]
    categories: Sequence[tuple[str, str]]
    assignees: Sequence[tuple[str, str]]
    shows: Sequence[str] = SHOWS


def orders_of(visit: SignedVisit, wanted: Filter) -> Orders:
    with visit.installation.records.connect() as tx:
        return Orders(
            path=wanted.path,
            show=wanted.show,
            category=wanted.category,
            assignee=wanted.assignee,
            lanes=[lane_of(tx, visit, step, wanted) for step in Step],
            categories=categories_of(tx, visit.language),
            assignees=list_handlers(tx),
        )


def lane_of(tx: Connection, visit: SignedVisit, step: Step, wanted: Filter, *, limit: int = MOST_CARDS) -> Lane:
    found = list_orders(
        tx,
        step=step,
        open_only=wanted.show != "all",
        category=wanted.category or None,
        assignee=visit.actor.name if wanted.show == "mine" else wanted.assignee or None,
        limit=limit,
    )
    rows = [order for order in found.items if wanted.show != "overdue" or order.overdue]
    return Lane(step, [card_of(visit, order) for order in sorted(rows, key=_urgency)], found.next is not None)


def card_of(visit: SignedVisit, order: OrderRow) -> Card:
    return Card(
        id=order.id,
        title=title_of(visit, order),
        priority=order.priority,
        state=order.state,
        overdue=order.overdue,
        next_limit_at=order.next_limit_at if order.state is not OrderState.CLOSED else None,
        grid_name=order.grid_name,
        assignee=order.assignee_name or order.assignee or "",
        created_at=order.created_at,
    )


def categories_of(tx: Connection, language: Language) -> list[tuple[str, str]]:
    return [(c.id, c.zh if language is Language.ZH else c.en) for c in catalogue(tx).categories.values()]


def _urgency(order: OrderRow) -> tuple[bool, int, int, int]:
    ranks = {priority.value: rank for rank, priority in enumerate(Priority)}
    return (not order.overdue, ranks.get(order.priority, 99), order.next_limit_at or 2**62, order.id)


@router.get("/orders")
def see_orders(
    request: Request,
    visit: Signed,
    *,
    show: Annotated[str, Query(max_length=20)] = "open",
    category: Annotated[str, Query(max_length=64)] = "",
    assignee: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    view = orders_of(visit, Filter(show if show in SHOWS else "open", category, assignee))
    return page_or_part(request, visit, "orders.html", "parts/orders.html", here="orders", view=view)


@router.get("/orders/new")
def see_new(request: Request, visit: Signed) -> Response:
    visit.actor.require("order.report")
    return _form(request, visit, {})


@router.post("/orders/new")
def file_new(  # noqa: PLR0913 - the fields of the form
    request: Request,
    visit: Posted,
    *,
    title: Annotated[str, Form()] = "",
    category: Annotated[str, Form()] = "",
    priority: Annotated[str, Form()] = Priority.MEDIUM.value,
    source: Annotated[str, Form()] = Source.DUTY.value,
    grid: Annotated[str, Form()] = "",
    device: Annotated[str, Form()] = "",
    description: Annotated[str, Form()] = "",
    external_id: Annotated[str, Form()] = "",
) -> Response:
    """`external_id` is made with the form, so that pressing twice files once."""
    form = {
        "title": title, "category": category, "priority": priority, "source": source, "grid": grid,
        "device": device.strip(), "description": description, "external_id": external_id,
    }  # fmt: skip
    given = {
        name: value or None if name in {"grid", "device", "external_id"} else value for name, value in form.items()
    }
    try:
        filed = file_order(visit.installation.records, visit.now, visit.actor, **given)  # type: ignore[arg-type]
    except Refusal as refused:
        return _form(request, visit, form, refused=refused)
    visit.installation.hub.poke()
    return RedirectResponse(f"/orders/{filed.view.order.id}", 303)


def _form(request: Request, visit: SignedVisit, form: Mapping[str, str], *, refused: Refusal | None = None) -> Response:
    empty = {
        "title": "", "category": _RESIDENT, "priority": Priority.MEDIUM.value, "source": Source.DUTY.value, "grid": "",
        "device": "", "description": "", "external_id": f"console-{secrets.token_hex(12)}",
    }  # fmt: skip
    with visit.installation.records.connect() as tx:
        places, categories = read_places(tx), categories_of(tx, visit.language)
    devices = visit.installation.registry.devices
    return page(
        request,
        visit,
        "order_new.html",
        here="orders",
        status=refused.status if refused else 200,
        refused=refused,
        form={**empty, **form},
        categories=categories,
        priorities=list(Priority),
        sources=[source for source in Source if source is not Source.RULE],
        grids=places.choices(),
        devices=[(d.id, shown_name(visit, d)) for d in devices if not is_personal(d.kind)],
    )


@router.get("/orders/{order}")
def see_order(request: Request, visit: Signed, order: int) -> Response:
    return order_page(request, visit, order)


@router.get("/orders/{order}/{act}")
def see_after_act(order: int, act: str) -> Response:
    """A form sent without scripts and then reloaded ends here."""
    del act
    if order < 1:
        raise NotFound("no_such_page", "没有这个页面", "there is no such page")
    return RedirectResponse(f"/orders/{order}", 303)
