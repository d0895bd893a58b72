"""Work orders: filed by a rule or by hand, carried by acts through the four steps."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import Field, computed_field

from alerts.orders import Act, CloseBy, OrderState, Source, Step
from alerts.refusals import NotFound
from alerts.roles import Actor
from api.caller import Caller, Here, may
from api.privacy import hides_order, kind_is_personal, refuse_hidden
from api.problems import describe
from api.shapes import MAX_ID, ClearedBy, Cursor, In, Instant, Limit, Line, Lines, Listed, Note, Out, cleared_by, listed
from flow import orders
from rules.rule import Priority
from store.records.devices import grids_under
from store.records.orders import OrderRow, chain, get_order, list_orders, order_history

router = APIRouter(tags=["orders"], responses=describe(401, 403, 422))

OrderId = Annotated[int, Path(ge=1, le=MAX_ID)]
Title = Annotated[Line, Field(min_length=1, max_length=orders.MAX_TITLE)]


class Order(Out):
    """Of a personal device or of elder care everyone below handler sees neither device, title, description nor
    position; of a personal device nobody a position."""

    id: int
    state: OrderState
    step: Step
    version: int
    category: str
    category_zh: str
    category_en: str
    title: str
    description: str
    priority: Priority
    source: Source
    reporter: str
    external_id: str | None
    alarm: int | None
    device: str | None
    device_name: str
    grid: str | None
    grid_name: str
    latitude: float | None
    longitude: float | None
    close_by: CloseBy
    assignee: str | None
    assignee_name: str
    handled_by: str | None
    merged_into: int | None
    keeper: str
    keeper_phone: str
    standing: bool = Field(description="The condition of an attached occurrence still holds")
    created_at: Instant
    changed_at: Instant
    accept_by: Instant | None
    arrive_by: Instant | None
    handle_by: Instant | None
    closed_at: Instant | None
    overdue: bool


class OrderAct(Out):
    at: Instant
    by: str
    post: str = Field(description="The role the person acted in, or service")
    act: str
    from_state: str | None
    to_state: str
    why: str | None
    detail: dict[str, Any]

    @computed_field(description="What cleared it where no reading did; null: a reading, or it was not cleared")  # type: ignore[prop-decorator]
    @property
    def cleared_by(self) -> ClearedBy | None:
        return cleared_by(self.by, self.why)


class ChainLink(Out):
    """One link from the reading to the archive; `kind` is reading, occurrence, alarm or order."""

    at: Instant
    kind: str
    act: str
    by: str
    post: str
    from_state: str | None
    to_state: str | None
    why: str | None
    alarm: int | None
    occurrence: int | None
    detail: dict[str, Any]


class OrderNow(Order):
    acts: list[Act] = Field(description="What the caller may do with it next")


class OrderView(OrderNow):
    history: list[OrderAct] = Field(description="Oldest first")
    chain: list[ChainLink]


class OrderWanted(In):
    category: Annotated[str, Field(min_length=1, max_length=64)]
    title: Title
    description: Annotated[Lines, Field(max_length=orders.MAX_DESCRIPTION)] = ""
    source: Source = Source.DUTY
    priority: Priority = Priority.MEDIUM
    external_id: Annotated[Line | None, Field(min_length=1, max_length=orders.MAX_EXTERNAL)] = None
    device: Annotated[str | None, Field(max_length=64)] = None
    grid: Annotated[str | None, Field(max_length=64)] = None
    latitude: Annotated[float | None, Field(ge=-90, le=90)] = None
    longitude: Annotated[float | None, Field(ge=-180, le=180)] = None
    alarm: Annotated[int | None, Field(ge=1, le=MAX_ID)] = None


class Deed(In):
    version: int = Field(ge=1, le=MAX_ID, description="The version you saw")
    reason: Note | None = None
    assignee: Annotated[str | None, Field(max_length=64, description="For dispatch: whom")] = None
    detail: dict[str, Any] | None = Field(default=None, description="extend: until; merge: into; else kept")


@router.get("/orders", summary="Orders / 工单")
def see_orders(  # noqa: PLR0913 - the filters of the list
    here: Here,
    caller: Caller,
    *,
    state: OrderState | None = None,
    step: Step | None = None,
    assignee: Annotated[str | None, Query(max_length=64)] = None,
    category: Annotated[str | None, Query(max_length=64, description="Or a group, such as flood")] = None,
    device: Annotated[str | None, Query(max_length=64)] = None,
    grid: Annotated[str | None, Query(max_length=64, description="This grid and all below it")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[Order]:
    """Newest first."""
    if device is not None:
        refuse_hidden(caller, here.registry.get(device))
    with here.records.connect() as tx:
        found = list_orders(
            tx,
            state=state,
            step=step,
            assignee=assignee,
            category=category,
            device=device,
            grid=None if grid is None else grids_under(tx, grid),
            limit=limit,
            cursor=cursor,
        )
    return listed(found, lambda row: Order(**_shown(caller, row)))


@router.post(
    "/orders",
    summary="File an order by hand / 上报工单",
    status_code=201,
    responses={**describe(404, 409), 200: {"model": OrderNow, "description": "This external_id was filed before"}},
)
def file_order(
    here: Here, response: Response, caller: Annotated[Actor, Depends(may("order.report"))], given: OrderWanted
) -> OrderNow:
    """The same `external_id` again changes nothing and answers 200 with the order it made."""
    filed = orders.file_order(here.records, here.now(), caller, **given.model_dump())
    if not filed.created:
        response.status_code = 200
    here.hub.poke()
    return _now(caller, filed.view)


@router.get("/orders/{order_id}", summary="One order with its chain / 工单详情", responses=describe(404))
def see_order(here: Here, caller: Caller, order_id: OrderId) -> OrderView:
    with here.records.connect() as tx:
        row = get_order(tx, order_id)
        if row is None:
            raise NotFound("no_such_order", f"没有编号为 {order_id} 的工单", f"there is no order {order_id}")
        hidden = hides_order(caller, kind=row.kind, category=row.category)
        history = [] if hidden else order_history(tx, order_id)
        links = [] if hidden else chain(tx, order_id)
    view = orders.view_order(row, caller)
    return OrderView(
        **_shown(caller, row),
        acts=[Act(act) for act in view.acts],
        history=[OrderAct.model_validate(act) for act in history],
        chain=[ChainLink.model_validate(link) for link in links],
    )


@router.post("/orders/{order_id}/{act}", summary="Do an act / 处置操作", responses=describe(404, 409))
def act_on_order(here: Here, caller: Caller, order_id: OrderId, act: str, given: Deed) -> OrderNow:
    """The table of acts is in docs/api.md. Refused with 409 where the order is in another state than the act needs, or
    has another version than you saw."""
    view = orders.act_on_order(
        here.records,
        here.now(),
        caller,
        order=order_id,
        act=act,
        version=given.version,
        reason=given.reason,
        assignee=given.assignee,
        detail=given.detail,
    )
    here.hub.poke()
    return _now(caller, view)


def _now(actor: Actor, view: orders.OrderView) -> OrderNow:
    return OrderNow(**_shown(actor, view.order), acts=[Act(act) for act in view.acts])


def _shown(actor: Actor, row: OrderRow) -> dict[str, Any]:
    shown = {name: getattr(row, name) for name in Order.model_fields}
    if kind_is_personal(row.kind):
        shown |= {"device_name": "", "latitude": None, "longitude": None}
    if hides_order(actor, kind=row.kind, category=row.category):
        shown |= {"device": None, "device_name": "", "keeper": "", "keeper_phone": "", "alarm": None}
        # The number of a caller's call, or of another system's case, leads to the person as well.
        shown |= {"title": row.category_zh, "description": "", "external_id": None}
        shown |= {"latitude": None, "longitude": None}
    return shown
