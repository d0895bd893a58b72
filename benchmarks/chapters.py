"""The chapters of the page about performance: each takes one measurement and gives its text and its plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.plots import bars, lines

# What is wanted of a release; the only numbers on the page that were not measured.
RATIO, TIMES, VALUES_PER_S, P99_MS, MEMORY_MB = 0.75, 3, 1_000_000, 100, 400
DAY_MS, MONTH_MS, COMMIT_MS, LEDGER_PERCENT = 20, 100, 200, 3

MADE = "# Performance\n\n<!-- Made by `make bench` from performance.json; do not edit by hand. -->"
INTRODUCTION = """\
How fast it is, how soon an alarm is told, and what it takes, each measured by a script that anyone can run.
`make bench` runs them all, writes [performance.json](performance.json) and makes this page from it. Broker, publisher
and service are processes of one machine and share its cores, over the loopback, without TLS. So what is compared is
compared in one run, window by window in turn; rates of different runs or machines are not. Medians of the windows are
given. In the tables of cores, *used* is what a process and its children ran, and *waited* how long their threads could
have run while others had the cores: where it is much, the machine was full, and more cores would give more."""

Found = Mapping[str, Any]
Chapter = tuple[str, dict[str, str]]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; the first column is text, the others numbers."""
    head = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join(head + ["| " + " | ".join(map(shown, row)) + " |" for row in rows])


def shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) or value != round(value) else f"{round(value):,}"


def ingest(found: Found) -> Chapter:
    stream, lists = found["stream"], found["lists"]
    qualities = [name for name in ("qos0", "qos1") if name in found]
    rows, picture, cores = [], [], []
    for name in qualities:
        of, said = found[name], f"QoS {name[-1]}"
        rows.append((
            said, of["mosquitto_sub_messages_per_s"], of["service_messages_per_s"], f"**{of['ratio']}**",
            of["service_values_per_s"], of["offered_messages_per_s"],
        ))  # fmt: skip
        picture.append((f"{said} mosquitto_sub", of["mosquitto_sub_messages_per_s"], 3))
        picture.append((f"{said} service", of["service_messages_per_s"], 0))
        cores += [(f"{said}, {who}", used) for who, used in of["cpu"].items()]
    cores.append(("lists", lists["cpu"]))
    header = ("messages a second", "mosquitto_sub", "service", "ratio", "values a second", "offered")
    of = found[qualities[0]]
    text = f"""\
## Beside the broker

`python -m benchmarks.ingest`: the same stream to `mosquitto_sub > /dev/null` and to the whole service, which decodes,
judges by {stream["rules"]} rules of which {stream["rules_a_device"]} apply to each device, keeps the ledger, commits to
disk before it acknowledges, and moves everything to the time-series store. {stream["bytes"]} bytes of JSON with
{stream["metrics"]} metrics, from {stream["devices"]:,} devices in turn; {of["messages_a_window"]:,} messages a window
after {stream["warm_messages"]:,} that are not measured; {of["windows"]} windows of each. The publisher writes as fast
as the broker reads; a window ends when its last message is settled. Wanted: a ratio of {RATIO}.

{table(header, rows)}

![Messages a second](img/performance-ingest.svg)

{_windows((f"QoS {name[-1]}", found[name]["each"]) for name in qualities)}

Payload lists of {lists["elements_a_message"]} elements, {lists["values_a_message"]} values, at QoS 1:
**{lists["values_per_s"]:,} values a second** (each window: {_each(lists["each"])}). Wanted: {VALUES_PER_S:,}.

{_cores(cores)}"""
    plots = {"performance-ingest.svg": bars("Messages a second, taken", picture, unit="/s")}
    if "compare" in found:
        more, plot = _compare(found["compare"])
        text, plots = f"{text}\n\n{more}", plots | plot
    return text, plots


def _compare(found: Found) -> Chapter:
    qualities = [name for name in ("qos0", "qos1") if name in found]
    names = list(found[qualities[0]]["messages_per_s"])
    rows: list[Sequence[object]] = [
        (name, *(found[qos]["messages_per_s"][name] for qos in qualities)) for name in names
    ]
    rows.append(("the whole service", *(found[qos]["service_messages_per_s"] for qos in qualities)))
    rows.append(("service / best of the others", *(f"**{found[qos]['ratio']}**" for qos in qualities)))
    node = found["node_red"]
    about = (
        f"Node-RED was left out: {node['skipped']}."
        if "skipped" in node
        else f"Node-RED is {node['version']} on Node {node['node']} with its sqlite node {node['sqlite_node']}."
    )
    text = f"""\
## Beside what one would otherwise write

In the same run (`--compare`): a plain subscriber that puts each message into SQLite, with paho and with aiomqtt, and
Node-RED (mqtt in → function → sqlite). All get their best: MQTT 5 with a full receive maximum where they can, WAL,
synchronous NORMAL, one row a message, no index. *A commit a message* is what one writes first; *a commit a second* is
faster and loses up to a second of what it has acknowledged when it dies. None judges a rule, sees a duplicate or keeps
a ledger, and none has on disk what it has acknowledged; the service does all of that. {about}
{found["messages_a_window"]:,} messages a window, {found["windows"]} windows. Wanted: {TIMES} times the best of them.

{table(("messages a second", *(f"QoS {qos[-1]}" for qos in qualities)), rows)}

![Messages a second beside others](img/performance-compare.svg)"""
    picture = [
        (f"{name}, QoS {qos[-1]}", rate, colour)
        for qos in qualities
        for name, rate, colour in [
            *((n, found[qos]["messages_per_s"][n], 3) for n in names),
            ("service", found[qos]["service_messages_per_s"], 0),
        ]
    ]
    return text, {"performance-compare.svg": bars("Messages a second, kept", picture, unit="/s")}


def ledger(found: Found) -> Chapter:
    text = f"""\
## What the ledger costs

`python -m benchmarks.ledger`: the same stream through link, decoder, settler and readings store in one process, window
by window with the ledger and without all that is there for it (counts, the state of each row, gaps in the devices' own
numbers). CPU of the thread that settles: {found["us_a_message"]} µs a message with, {found["without_us_a_message"]} µs
without; of the process in all {found["whole_us_a_message"]} µs: **{found["cost_percent"]} %** more. Every 30 s the
counts of {found["devices"]:,} devices go to their tables, in {found["fold_ms"]} ms: {found["fold_percent"]} % of the
time. Wanted: {LEDGER_PERCENT} % at most. {found["messages_a_window"]:,} messages a window, {found["windows"]} windows
of each.

- µs a message with the ledger, each window: {_each(found["each"]["with"])}
- and without: {_each(found["each"]["without"])}"""
    return text, {}


def latency(found: Found) -> Chapter:
    rates = list(found["rates"].values())
    rows = [
        (
            f"{of['rate']:,}/s", of["p50_ms"], f"**{of['p99_ms']}**", of["max_ms"], of["until_sealed_ms"]["p50_ms"],
            of["from_sealed_ms"]["p50_ms"], of["from_sealed_ms"]["p99_ms"], of["probes"], of["missing"],
        )
        for of in rates
    ]  # fmt: skip
    header = ("ms at a load of", "p50", "p99", "max", "batched, p50", "told, p50", "told, p99", "alarms", "missing")
    text = f"""\
## From publish to alarm

`python -m benchmarks.latency`: {found["devices"]:,} devices publish at a rate; beside them, {found["probes_per_s"]:g}
times a second, one of some more devices publishes a reading over a limit, on a connection of its own, and a signed-in
client of the event stream waits for that alarm, which was committed before it was told. All at QoS 1. One process
publishes and listens, so both instants are of one clock. Medians of {rates[0]["windows"]} windows of
{found["seconds_a_window"]:g} s each. Wanted: a p99 below {P99_MS} ms at 5,000 a second.

{table(header, rows)}

![Milliseconds from publish to alarm](img/performance-latency.svg)

*Batched* is the way to the broker, from it, and the wait in the batch that grows (`ingest.batch_ms`); *told* is the
rest: judging, committing with one flush to disk, waking the stream, sending.

{_cores((f"{of['rate']:,}/s", of["cpu"]) for of in rates)}"""
    picture = [
        (f"{of['rate']:,}/s {key[:-3]}", of[key], place)
        for of in rates
        for place, key in enumerate(("p50_ms", "p99_ms", "max_ms"))
    ]
    svg = bars("Milliseconds from publish to alarm", picture, unit="ms", wanted=P99_MS)
    return text, {"performance-latency.svg": svg}


def memory(found: Found) -> Chapter:
    rows = [
        ("ready", found["ready_mb"]),
        ("every series seen once", found["every_series_seen_mb"]),
        ("in the middle", found["middle_mb"]),
        ("at the end", f"**{shown(found['end_mb'])}**"),
        ("most", found["peak_mb"]),
        ("grew from the middle to the end", found["grew_mb"]),
    ]
    text = f"""\
## Memory

`python -m benchmarks.memory`: {found["series"]:,} series of {found["devices"]:,} devices, {found["rules"]} rules. Every
device reports each {found["interval_s"]:g} s for {found["minutes"]:g} minutes: {found["values"]:,} values, after which
the data folder has {shown(found["data_mb"])} MB. Resident memory of the service is read from outside. It says what
these minutes showed and nothing of what would come later; the long form is `--minutes 60`. Wanted: below {MEMORY_MB}
MB after an hour, and flat from then on.

{table(("resident", "MB"), rows)}

![Resident memory](img/performance-memory.svg)"""
    series = {"resident memory of the service": [(s / 60, mb) for s, mb in found["samples"]]}
    svg = lines("Resident memory, MB", series, x_label="minutes", y_label="MB", wanted=MEMORY_MB)
    return text, {"performance-memory.svg": svg}


STATES = {"before_compaction": "as its hours left it", "after_compaction": "closed days in order"}
ASKED = {
    "latest_all": "latest of all", "last_24h": "last 24 h", "closed_24h": "a closed 24 h",
    "days_30_by_hour": "30 days by hour", "days_30_by_minute": "30 days by minute",
}  # fmt: skip


def store(found: Found) -> Chapter:
    sizes, pauses = found["sizes"], found["pauses"]
    rows = [
        (f"{of['rows']:,}, {words}", of[state]["append_rows"]["per_s"], *(of[state][key]["ms"] for key in ASKED))
        for of in sizes
        for state, words in STATES.items()
    ]
    upkeep = [
        (f"{of['rows']:,}", of["upkeep"]["seconds"], of["upkeep"]["longest_piece_ms"], of["file_mb"]) for of in sizes
    ]
    paused = [
        (what.replace("_", " "), of["commit_ms"]["p50"], f"**{of['commit_ms']['p99']}**", of["commit_ms"]["max"],
         of["append_ms"]["p50"], of["append_ms"]["p99"], of["append_ms"]["max"])
        for what, of in pauses.items()
    ]  # fmt: skip
    text = f"""\
## Store

`python -m benchmarks.store`: {found["series"]:,} series of a reading a minute, one file that grows. Milliseconds,
medians; what is asked is another series each time. Wanted at the largest size: 24 h below {DAY_MS} ms, 30 days by hour
below {MONTH_MS} ms, and no cost that grows with what is stored.

{table(("rows", "append, rows/s", *ASKED.values()), rows)}

![Milliseconds by rows stored](img/performance-store.svg)

Upkeep (roll-ups, closed days written anew) after the last rows came, in pieces between which the appender goes on:

{table(("rows", "seconds", "longest piece, ms", "file, MB"), upkeep)}

A commit of the journal, before which nothing is acknowledged, and an append, quiet and while upkeep, retention and
checkpoints run without a rest. Wanted: a p99 of the commit below {COMMIT_MS} ms.

{table(("ms", "commit p50", "p99", "max", "append p50", "p99", "max"), paused)}"""
    series = {words: [(of["rows"], of["after_compaction"][key]["ms"]) for of in sizes] for key, words in ASKED.items()}
    svg = lines("Milliseconds by rows stored", series, x_label="rows", y_label="ms", log=True)
    return text, {"performance-store.svg": svg}


def rules(found: Found) -> Chapter:
    plain, windowed, trial = found["plain"], found["windowed"], found["backtest"]
    rows = [(f"{n} rules", *rates.values()) for n, rates in plain["by_rules_and_batch"].items()]
    batches = next(iter(plain["by_rules_and_batch"].values()))
    text = f"""\
## Rules alone

`python -m benchmarks.rules`: the engine over {found["series"]:,} series, each reading met by
{found["rules_a_reading"]} rules. Plain thresholds with a hold and a band: at least {plain["evaluations_per_s"]:,}
evaluations a second, {plain["vs_oracle"]} times the plain scalar engine of the tests
({plain["oracle_evaluations_per_s"]:,}), which must agree on every alarm. Five windowed functions over
{windowed["window_s"]} s: {windowed["evaluations_per_s"]:,}. A backtest of {trial["rules"]} rules over
{trial["readings"]:,} readings takes {trial["seconds"]} s. Plain ones by the size of the batch:

{table(("evaluations a second", *(f"batch of {int(size):,}" for size in batches)), rows)}"""
    return text, {}


def _windows(measured: Iterable[tuple[str, Mapping[str, Sequence[float]]]]) -> str:
    said = [(what, who, rates) for what, each in measured for who, rates in each.items()]
    return "\n".join(f"- {what}, {who}, each window: {_each(rates)}" for what, who, rates in said)


def _each(rates: Iterable[float]) -> str:
    return ", ".join(shown(rate) for rate in rates)


def _cores(measured: Iterable[tuple[str, Mapping[str, Mapping[str, float]]]]) -> str:
    rows = [
        (f"{what}: {who}", used["cores"], used["waiting"], used.get("event_loop", ""))
        for what, cpu in measured
        for who, used in cpu.items()
    ]
    return table(("cores", "used", "waited", "used by the event loop"), rows)


CHAPTERS: Mapping[str, Callable[[Found], Chapter]] = {
    "ingest": ingest, "ledger": ledger, "latency": latency, "memory": memory, "store": store, "rules": rules,
}  # fmt: skip
