"""Mosquitto's own configuration: what it keeps for a service that is away, and what of it survives the broker's end.

What a broker announces says none of it, and only the queue can be measured from outside (`doctor_broker`). Defaults
are those of mosquitto.conf(5) of 2.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gridwhistle.findings import Finding, fail, ok, warn

# Of our own configuration: what is lost with the broker's kill -9 is at most what came in these seconds.
SAVED_WITHIN_S = 60
_AUTOSAVE_S = 1800
_TRUE = frozenset({"true", "1"})


def examine_config(path: Path) -> list[Finding]:
    try:
        found = dict(_lines(path, set()))
        queued = {name: int(found.get(name, usual)) for name, usual in (
            ("max_queued_messages", 1000), ("max_queued_bytes", 0),
        )}  # fmt: skip
        interval = int(found.get("autosave_interval", _AUTOSAVE_S))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        return [fail("mosquitto.conf", f"{path}: {error}", "改正 mend it, or --broker-config")]
    persistent = found.get("persistence", "false") in _TRUE
    findings = [*_queue(queued), *_saved(persistent, found.get("autosave_on_changes", "false") in _TRUE, interval)]
    return findings or [ok("mosquitto.conf", f"{path}: 离线消息不限量并落盘 keeps all, and on disk")]


def _queue(limits: dict[str, int]) -> Iterator[Finding]:
    """0 is no limit."""
    set_ = {name: limit for name, limit in limits.items() if limit}
    if set_:
        said = ", ".join(f"{name} {limit}" for name, limit in set_.items())
        lost = "服务停用时超出的消息被静默丢弃 what is over it while we are away is dropped without a word"
        yield fail("mosquitto.queue", f"{said}: {lost}", ", ".join(f"{name} 0" for name in set_))


def _saved(persistent: bool, on_changes: bool, interval: int) -> Iterator[Finding]:
    if not persistent:
        gone = "persistence false: 服务器重启即丢排队的消息 what waits is gone with the broker's own restart"
        yield fail("mosquitto.persistence", gone, "persistence true")
        return
    if on_changes:  # then `autosave_interval` counts changes, and not seconds
        if interval != 1:
            some = f"autosave_on_changes: 断电最多丢 {interval} 项改动 changes are lost with the broker's power"
            yield warn("mosquitto.autosave", some, "autosave_interval 1（慢 slower）")
    elif not 0 < interval <= SAVED_WITHIN_S:
        when = "只在退出时 only at its end" if interval == 0 else f"每 {interval} 秒 every {interval} s"
        lost = f"{when} 落盘 saves: 断电或 kill -9 即丢其间的消息 what came since is lost with its power"
        yield warn("mosquitto.autosave", lost, f"autosave_interval {SAVED_WITHIN_S}")


def _lines(path: Path, seen: set[Path]) -> Iterator[tuple[str, str]]:
    """(name, value) in order, the files of `include_dir` in theirs; of a name that stands twice the last holds."""
    if path.resolve() in seen:
        raise ValueError(f"{path} includes itself")
    seen.add(path.resolve())
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.strip().partition(" ")
        if name == "include_dir":
            for file in sorted(Path(value.strip()).glob("*.conf")):
                yield from _lines(file, seen)
        elif name and not name.startswith("#"):
            yield name, value.strip()
