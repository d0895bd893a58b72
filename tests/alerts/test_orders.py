"""Work orders: every state × every act × every role against the design's table, and as a machine run at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from alerts.orders import (
    FINAL,
    MOVES,
    NEEDS_REASON,
    OPEN,
    SERVICE_MAY,
    STEP_NAMES,
    STEPS,
    Act,
    CloseBy,
    Order,
    OrderState,
    Step,
    acts_for,
    decide,
    needs_reason,
    parse_act,
)
from alerts.refusals import Conflict, Invalid, NotAllowed, NotFound, Refusal
from alerts.roles import Actor, Role

# docs/architecture.md §6, act by act. "before handled" is spelt out; `=` is "state stays".
DESIGN = """
verify       reported                                          > verifying   duty_officer
file         reported verifying                                > filed       duty_officer service
self_handle  reported verifying                                > checking    handler
dispatch     filed returned sent_up                            > dispatched  duty_officer
accept       dispatched rework                                 > accepted    handler
arrive       accepted                                          > on_site     handler
handle       accepted on_site                                  > handled     handler
check        handled                                           > checking    checker
self_clear   filed dispatched accepted on_site                 > checking    service
close        checking                                          > closed      checker
reject       checking                                          > rework      checker
reopen       closed                                            > rework      checker service
archive      closed                                            > archived    duty_officer service
return       dispatched accepted                               > returned    handler
suspend      accepted on_site                                  > suspended   duty_officer
resume       suspended                                         > accepted    handler
send_up      filed returned dispatched accepted on_site        > sent_up     duty_officer
void         reported verifying filed dispatched accepted on_site returned rework suspended sent_up > void duty_officer
merge        reported verifying filed dispatched               > merged      duty_officer
extend       filed returned sent_up dispatched accepted on_site rework > = duty_officer
comment      reported verifying filed dispatched accepted on_site handled checking closed returned rework suspended sent_up > = handler checker duty_officer
"""  # noqa: E501 - one act, one line


def design() -> tuple[dict[tuple[str, str], str], dict[str, set[str]]]:
    moves: dict[tuple[str, str], str] = {}
    who: dict[str, set[str]] = {}
    for line in DESIGN.strip().splitlines():
        left, right = line.split(" > ")
        act, *froms = left.split()
        to, *roles = right.split()
        moves |= {(state, act): state if to == "=" else to for state in froms}
        who[act] = set(roles) | ({"admin"} if "duty_officer" in roles else set())
    return moves, who


MOVES_MEANT, WHO_MEANT = design()
# Nobody's own order: reported by the person, assigned to the person where a handler's acts ask for it.
PEOPLE: dict[str, Actor | None] = {role: Actor(f"a-{role}", role) for role in Role} | {"service": None}


def order_for(state: str, actor: Actor | None) -> Order:
    mine = actor.name if actor is not None and actor.role is Role.HANDLER else "someone"
    return Order(OrderState(state), 3, CloseBy.PERSON, reporter=mine, assignee=mine)


def every_case() -> Iterator[tuple[str, str, str]]:
    return ((state, act, who) for state in OrderState for act in Act for who in PEOPLE)


def test_the_design_speaks_of_every_act() -> None:
    assert set(WHO_MEANT) == set(Act)


def test_every_state_times_every_act_times_every_role() -> None:
    """16 states × 21 acts × 6: the move of the design, or its refusal."""
    seen = 0
    for state, act, who in every_case():
        actor, order = PEOPLE[who], order_for(state, PEOPLE[who])
        move: str | type[Refusal] = MOVES_MEANT.get((state, act), Conflict)
        expected = move if who in WHO_MEANT[act] else NotAllowed
        assert attempt(order, act, actor) == expected, (state, act, who)
        if actor is not None:
            assert (act in acts_for(order, actor)) is isinstance(expected, str), (state, act, who)
        seen += 1
    assert seen == 16 * 21 * 6


def attempt(order: Order, act: str, actor: Actor | None) -> str | type[Refusal]:
    try:
        return decide(order, Act(act), actor, version=order.version, reason="because")
    except Refusal as refusal:
        return type(refusal)


def test_an_unknown_act_does_not_exist() -> None:
    with pytest.raises(NotFound, match="no_such_act"):
        parse_act("delete")


def test_another_version_is_a_conflict_whatever_the_act() -> None:
    order = order_for("filed", None)
    with pytest.raises(Conflict, match="version_changed"):
        decide(order, Act.DISPATCH, Actor("w", Role.DUTY_OFFICER), version=2)


def test_a_role_without_the_right_learns_nothing_of_versions() -> None:
    with pytest.raises(NotAllowed):
        decide(order_for("filed", None), Act.DISPATCH, Actor("v", Role.VIEWER), version=2)


@pytest.mark.parametrize("act", sorted(NEEDS_REASON))
@pytest.mark.parametrize("reason", [None, "", "  \n"])
def test_these_acts_need_a_reason(act: Act, reason: str | None) -> None:
    state = next(s for s, a in MOVES if a is act)
    actor = next(a for who, a in PEOPLE.items() if who in WHO_MEANT[act] and a is not None)
    with pytest.raises(Invalid, match="reason_required"):
        decide(order_for(state, actor), act, actor, reason=reason)


def test_exactly_the_acts_of_the_design_need_one() -> None:
    assert {str(act) for act in NEEDS_REASON} == {"return", "void", "suspend", "extend", "send_up", "reject", "merge"}


@pytest.mark.parametrize(
    ("close_by", "standing", "asked"),
    [
        (CloseBy.SENSOR, True, True),
        (CloseBy.BOTH, True, True),
        (CloseBy.PERSON, True, False),
        (CloseBy.SENSOR, False, False),
        (CloseBy.BOTH, False, False),
    ],
)
def test_closing_while_the_sensor_says_no_is_an_override_with_a_reason(
    close_by: CloseBy, standing: bool, asked: bool
) -> None:
    order, checker = Order(OrderState.CHECKING, 1, close_by, "service", standing=standing), Actor("c", Role.CHECKER)
    assert needs_reason(order, Act.CLOSE) is asked
    if asked:
        with pytest.raises(Invalid, match="reason_required"):
            decide(order, Act.CLOSE, checker)
    assert decide(order, Act.CLOSE, checker, reason="seen on the camera") is OrderState.CLOSED


@pytest.mark.parametrize("act", [Act.CLOSE, Act.REJECT])
@pytest.mark.parametrize(("assignee", "handled_by"), [("li", None), (None, "li"), ("zhao", "li"), ("li", "zhao")])
def test_a_handler_who_became_checker_may_not_check_his_own_order(
    act: Act, assignee: str | None, handled_by: str | None
) -> None:
    checker = Actor("li", Role.CHECKER)
    order = Order(OrderState.CHECKING, 1, CloseBy.PERSON, "service", assignee, handled_by)
    with pytest.raises(NotAllowed, match="handler_may_not_check"):
        decide(order, act, checker, reason="fine")
    assert set(acts_for(order, checker)) == {"comment"}


@pytest.mark.parametrize(
    ("act", "state"),
    [(Act.ACCEPT, "dispatched"), (Act.ARRIVE, "accepted"), (Act.HANDLE, "on_site"), (Act.RETURN, "accepted"),
     (Act.RESUME, "suspended"), (Act.ACCEPT, "rework")],
)  # fmt: skip
def test_the_assignees_acts_are_his_alone(act: Act, state: str) -> None:
    order = Order(OrderState(state), 1, CloseBy.PERSON, "service", assignee="li")
    with pytest.raises(NotAllowed, match="not_the_assignee"):
        decide(order, act, Actor("zhao", Role.HANDLER), reason="mine")
    decide(order, act, Actor("li", Role.HANDLER), reason="mine")


def test_what_came_back_without_an_assignee_any_handler_may_accept() -> None:
    """It cleared itself before it was dispatched, was closed, and the alarm came back."""
    order = Order(OrderState.REWORK, 1, CloseBy.SENSOR, "service")
    assert "accept" in acts_for(order, Actor("zhao", Role.HANDLER))


def test_only_who_reported_it_handles_it_himself() -> None:
    order = Order(OrderState.REPORTED, 1, CloseBy.PERSON, reporter="li")
    assert "self_handle" in acts_for(order, Actor("li", Role.HANDLER))
    assert "self_handle" not in acts_for(order, Actor("zhao", Role.HANDLER))


def test_the_wall_is_offered_nothing() -> None:
    for state in OrderState:
        assert acts_for(order_for(state, None), Actor("wall", Role.DUTY_OFFICER, read_only=True)) == ()


def test_every_state_is_reachable_and_has_a_step() -> None:
    reached = {OrderState.REPORTED, OrderState.FILED}
    while more := {to for (state, _), to in MOVES.items() if state in reached} - reached:
        reached |= more
    assert reached == set(OrderState) == set(STEPS)
    assert set(STEP_NAMES) == set(STEPS.values()) == set(Step)
    assert [zh for zh, _ in STEP_NAMES.values()] == ["发现上传", "分类派发", "接收处置", "验收归档"]


def test_from_every_state_that_is_not_final_an_end_can_be_reached_by_people() -> None:
    """No order is stranded: not even one whose handler has left."""
    ends = set(FINAL)
    without_handler = {a for a in Act if WHO_MEANT[a] & {"duty_officer", "checker"}}
    while more := {s for (s, a), to in MOVES.items() if to in ends and a in without_handler} - ends:
        ends |= more
    assert ends == set(OrderState)


def test_final_orders_do_not_change() -> None:
    assert not [(state, act) for state, act in MOVES if state in FINAL]
    assert OPEN | FINAL | {OrderState.CLOSED} == set(OrderState)


class OrderMachine(RuleBasedStateMachine):
    """Everyone tries everything, as quickly as the table lets them."""

    PEOPLE = (
        *(Actor(f"{role}-{i}", role) for role in Role for i in (1, 2)),
        Actor("handler-1", Role.CHECKER),  # a handler who became a checker
    )

    def __init__(self) -> None:
        super().__init__()
        self.order = Order(OrderState.REPORTED, 1, CloseBy.SENSOR, reporter="handler-2")
        self.history: list[tuple[OrderState, Act, OrderState, str]] = []

    def do(self, act: Act, actor: Actor | None, reason: str | None) -> None:
        before, rows = self.order, len(self.history)
        try:
            to = decide(self.order, act, actor, version=self.order.version, reason=reason)
        except Refusal:
            assert (self.order, len(self.history)) == (before, rows)
            return
        assert actor is None or act in acts_for(before, actor)
        name = actor.name if actor else "service"
        self.order = replace(before, state=to, version=before.version + 1)
        if act is Act.DISPATCH:
            self.order = replace(self.order, assignee="handler-1")
        if act in {Act.ACCEPT, Act.SELF_HANDLE}:
            self.order = replace(self.order, assignee=name)
        if act in {Act.HANDLE, Act.SELF_HANDLE}:
            self.order = replace(self.order, handled_by=name)
        self.history.append((before.state, act, to, name))

    @rule(act=st.sampled_from(Act), actor=st.sampled_from(PEOPLE), reason=st.sampled_from([None, "because"]))
    def someone_tries(self, act: Act, actor: Actor, reason: str | None) -> None:
        self.do(act, actor, reason)

    @rule(data=st.data(), actor=st.sampled_from(PEOPLE))
    def someone_does_what_is_offered(self, data: st.DataObject, actor: Actor) -> None:
        offered = acts_for(self.order, actor)
        if offered:
            self.do(Act(data.draw(st.sampled_from(offered))), actor, "because")

    @rule(act=st.sampled_from(Act))
    def the_service_tries(self, act: Act) -> None:
        if self.order.state in FINAL:
            assert (self.order.state, act) not in MOVES
        if act not in SERVICE_MAY:
            with pytest.raises(NotAllowed):
                decide(self.order, act, None)
        else:
            self.do(act, None, None)

    @rule(standing=st.booleans())
    def the_alarm_changes(self, standing: bool) -> None:
        self.order = replace(self.order, standing=standing)

    @invariant()
    def every_accepted_act_left_one_row_and_one_version(self) -> None:
        assert self.order.version == 1 + len(self.history)
        states = [OrderState.REPORTED, *(to for _, _, to, _ in self.history)]
        assert [before for before, *_ in self.history] == states[:-1]
        assert self.order.state is states[-1]

    @invariant()
    def nobody_checked_what_he_handled(self) -> None:
        handled_by = ""
        for _, act, _, by in self.history:
            if act in {Act.HANDLE, Act.SELF_HANDLE}:
                handled_by = by
            if act in {Act.CHECK, Act.CLOSE, Act.REJECT}:
                assert by != handled_by

    @invariant()
    def the_archive_does_not_change(self) -> None:
        for before, *_ in self.history:
            assert before not in FINAL

    @invariant()
    def nothing_is_closed_that_nobody_checked(self) -> None:
        for before, act, to, _ in self.history:
            if to is OrderState.CLOSED and act is not Act.COMMENT:
                assert (before, act) == (OrderState.CHECKING, Act.CLOSE)


TestOrderMachine = OrderMachine.TestCase
TestOrderMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
