"""Why a rule fired or stayed silent for one device at one instant: what it read, what it made of it, what stood then.

Now is asked of the engine that runs, in its own thread; the past is judged again from the stored readings, by the rule
as it is today. Both come with what the records say of that instant: only they know who shelved what.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches

from alerts.refusals import Conflict, Invalid, NotFound
from alerts.service_rules import SERVICE_RULES
from devices.batch import Quality
from devices.instants import DAY, HOUR, SECOND, format_duration
from devices.registry import EVENT, Device
from flow.applying import subject_of
from flow.explained import QUALITY, Explanation, LeftOut, Reason, Recorded, seen
from flow.history import History, Sources, choose, expected_readings
from flow.installation import Installation
from flow.reach import reach
from flow.recalling import in_local_time, local, recall, told_by_records
from flow.trying import backtest, grid_tree, series_read
from rules.book import RuleBook
from rules.explain import examine
from rules.rule import Rule
from store.readings import Slice
from store.records.alarms import AlarmRow, get_alarm

# What a rule can look back on is at most this, whatever it says.
LONGEST_LOOK = 31 * DAY
_SHORTEST_LOOK = 6 * HOUR
# Of one explanation, a second's work: a device that reports every second is looked back on for less.
MOST_READINGS = 1_000_000
# Values that were not judged are looked for and told so far back, and so many.
_NEAR, _MOST_LEFT_OUT = HOUR, 20
# Each takes a core for a moment; more at once would slow settling down.
_at_once = threading.BoundedSemaphore(2)
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class AlarmExplained:
    """`raised` None: it was never raised."""

    alarm: int
    raised: Explanation | None
    now: Explanation


def explain_alarm(here: Installation, number: int) -> AlarmExplained:
    """Why it was raised, and how it is now. Raises NotFound, StoreUnavailable, Conflict where too many ask."""
    with here.records.connect() as tx:
        alarm = get_alarm(tx, number)
    if alarm is None:
        raise NotFound("no_such_alarm", f"没有告警 {number}", f"there is no alarm {number}")
    with _turn():
        raised_at = None if alarm.occurrence is None else alarm.occurrence.raised_at
        raised = None if raised_at is None else _explain(here, alarm.rule, alarm.device, raised_at, alarm)
        return AlarmExplained(number, raised, _explain(here, alarm.rule, alarm.device, None, alarm))


def explain_rule(
    here: Installation, rule: str, device: str, at: int | None, *, knowing: Callable[[Device], bool] = lambda _: True
) -> Explanation:
    """Of the rule that runs, for the device or the group (`grid:…`, `group:…`) at the instant; None is now. Raises
    NotFound for a rule or a device nobody knows, Invalid for an instant to come, StoreUnavailable, Conflict where too
    many ask. `knowing`: the devices whose names may be suggested."""
    rules, now = here.rulebook().rules, here.now()
    if rule in SERVICE_RULES and rule not in rules:
        zh = f"{rule} 是系统自身的告警，请按告警编号查询：gridwhistle explain 编号"
        en = f"{rule} is an alarm of the service itself: it is explained by the alarm's number, gridwhistle explain N"
        raise NotFound("service_rule", zh, en)
    if rule not in rules:
        raise NotFound("no_such_rule", *_unknown("规则", "rule", rule, rules))
    if here.registry.get(device) is None and ":" not in device:
        known = [each.id for each in here.registry.devices if knowing(each)]
        raise NotFound("no_such_device", *_unknown("设备", "device", device, known))
    if at is not None and at > now:
        asked, clock = local(here, at), local(here, now)
        raise Invalid("in_the_future", f"{asked} 尚未到来，现在是 {clock}", f"{asked} is yet to come: now is {clock}")
    with _turn():
        return _explain(here, rule, device, at if at != now else None)


def _unknown(zh: str, en: str, name: str, known: Iterable[str]) -> tuple[str, str]:
    """That there is none, and which is called nearly so."""
    close = get_close_matches(name[:80], list(known), n=1)
    near = (f"，最接近的是 {close[0]}", f"; nearest: {close[0]}") if close else ("", "")
    return f"没有{zh} {name}{near[0]}", f"there is no {en} {name}{near[1]}"


@contextmanager
def _turn() -> Iterator[None]:
    if not _at_once.acquire(timeout=_PATIENCE_S):
        zh, en = "同时查询原因的人太多，请稍后再试", "too many explanations are asked for at once: try again"
        raise Conflict("too_many_explanations", zh, en)
    try:
        yield
    finally:
        _at_once.release()


def _explain(
    here: Installation, rule_id: str, name: str, at: int | None, alarm: AlarmRow | None = None
) -> Explanation:  # fmt: skip
    """`at` None: now."""
    instant = here.now() if at is None else at
    rule = here.rulebook().rules.get(rule_id)
    if rule is None:
        recorded = recall(here, rule_id, name, instant)
        why = (_gone(rule_id, alarm), *told_by_records(here, recorded, instant))
        return Explanation(rule_id, name, instant, recorded=recorded, why=why)
    # What the rule says nothing of, the engine knows why.
    about, devices = subject_of(here, rule, name) or (name, ())
    recorded = recall(here, rule_id, about, instant)
    if at is None or not devices:
        found = _now(here, rule, about, instant)
    else:
        found = _then(here, rule, (about, devices), recorded, instant)
    left_out = _left_out(here, rule, devices, instant)
    told = told_by_records(here, recorded, instant, found.state)
    why = (*found.why, *_bad(left_out), *told, *_at_odds(rule, found, recorded))
    why = tuple(Reason(each.code, in_local_time(here, each.zh), in_local_time(here, each.en)) for each in why)
    return replace(found, recorded=recorded, left_out=left_out, why=why)


def _now(here: Installation, rule: Rule, about: str, now: int) -> Explanation:
    found = seen(here.ask_engine(lambda engine: examine(engine, rule.id, about, now)), "live")
    device = here.registry.get(about)
    newest = {} if device is None else here.latest().of(device.number)
    return found.with_quality({(metric, at): quality for metric, (at, _, quality) in newest.items()})


def _then(
    here: Installation, rule: Rule, subject: tuple[str, Sequence[Device]], recorded: Recorded | None, at: int
) -> Explanation:
    """Judged again up to and including the instant."""
    about, devices = subject
    start, wanted = _from(rule, devices, recorded, at), series_read([rule])
    history = choose(here.registry, devices, wanted, start)
    expected = expected_readings(history, start, at)
    cut: tuple[Reason, ...] = ()
    if expected > MOST_READINGS:
        start = at - round((at - start) * MOST_READINGS / expected)
        history = choose(here.registry, devices, wanted, start)
        span = format_duration((at - start) // SECOND * SECOND)
        cut = (
            Reason("looked_back_less", f"读数很密，只回看了 {span}", f"readings are dense: looked back {span} only"),
        )
    run = backtest(here, RuleBook({rule.id: rule}, {}), history, grid_tree(here), start)
    for rows in Sources(here.records, here.readings).rows(history, start, at + 1):
        run.feed(rows)
    run.clock(at)
    found = seen(examine(run.engine_of(rule.id), rule.id, about, at), "history")
    return replace(_with_quality(here, found, history), why=(*found.why, *cut))


def _from(rule: Rule, devices: Sequence[Device], recorded: Recorded | None, at: int) -> int:
    """Where to begin: far enough back for windows and holds, and before the occurrence that stood, if one did."""
    look = max(_SHORTEST_LOOK, *(reach(rule, device.interval_s) for device in devices))
    begin = recorded.since if recorded is not None and recorded.stands and recorded.since is not None else at
    return max(0, min(begin, at) - look, at - LONGEST_LOOK)


def _with_quality(here: Installation, found: Explanation, history: History) -> Explanation:
    if len(history.registry.devices) != 1 or not found.readings:
        return found
    quality: dict[tuple[str, int], int] = {}
    for reading in found.readings:
        series = history.registry.find_series(0, reading.metric)
        if series is not None and reading.measured_at is not None and history.stored[series] >= 0:
            points = here.readings.range(int(history.stored[series]), reading.measured_at, reading.measured_at + 1, 1)
            quality[reading.metric, reading.measured_at] = int(points.quality[0])
    return found.with_quality(quality)


def _left_out(here: Installation, rule: Rule, devices: Sequence[Device], at: int) -> tuple[LeftOut, ...]:
    """Stored values of bad quality near the instant, newest first; of one device, for a group has too many."""
    if len(devices) != 1:
        return ()
    names = {
        number: name
        for name, number in here.registry.series_of(devices[0].number)
        if name in rule.series and not name.startswith(EVENT)
    }
    near = max(_NEAR, min(reach(rule, devices[0].interval_s), DAY))
    found: Slice = here.readings.slice(list(names), at - near, at + 1, MOST_READINGS)
    bad = (found.quality == Quality.BAD).nonzero()[0][::-1][:_MOST_LEFT_OUT].tolist()
    return tuple(
        LeftOut(names[int(found.series[i])], float(found.value[i]), int(found.measured_at[i]), QUALITY[Quality.BAD])
        for i in bad
    )


def _bad(left_out: Sequence[LeftOut]) -> Iterator[Reason]:
    if left_out:
        names = ", ".join(sorted({one.metric for one in left_out}))
        yield Reason("bad_quality", f"{names} 有 {len(left_out)} 个读数质量为坏，未参与判断",
                     f"{len(left_out)} readings of {names} were of bad quality and not judged")  # fmt: skip


def _at_odds(rule: Rule, found: Explanation, recorded: Recorded | None) -> Iterator[Reason]:
    """Where judging again does not say what was recorded, and why that may be."""
    then = recorded is not None and (recorded.stands or recorded.raised_at == found.at)
    if recorded is not None and then and recorded.condition not in {None, "", rule.when_text}:
        yield Reason("rule_changed", f"规则后来改过，当时的条件是：{recorded.condition}",
                     f"the rule was changed since; it said: {recorded.condition}")  # fmt: skip
    stands = recorded is not None and recorded.stands
    if found.state in {"normal", "pending", "firing"} and (found.state == "firing") is not stands:
        yield Reason(
            "at_odds",
            "按现行规则和已存读数重算，与当时的记录不一致：规则可能改过，或读数迟到、尚未入库",
            "judged again, it is not what was recorded: the rule was changed, or readings came late or are not stored",
        )


def _gone(rule: str, alarm: AlarmRow | None) -> Reason:
    own = SERVICE_RULES.get(rule)
    if own is not None:
        return Reason("service_rule", f"系统自身的告警：{own.name_zh}", f"the service's own alarm: {own.text}")
    name = rule if alarm is None else alarm.rule_zh
    return Reason("rule_not_running", f"规则 {name} 已不在运行", f"the rule {rule} does not run any more")
