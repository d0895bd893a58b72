"""Names of sites, kinds and devices on the wire (docs/architecture.md §8)."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def to_name(text: str) -> str:
    """Lower-cased, other characters turned to `-`; empty if nothing of it can stand in a name."""
    lowered = re.sub(r"[^a-z0-9_-]", "-", text.strip().lower())[:64]
    return lowered if NAME.fullmatch(lowered) else lowered.lstrip("-_")


def topic(site: str, kind: str, device: str, channel: str) -> str:
    """The native topic of a device: channel is readings, events, status, commands or commands/reply."""
    return f"gw/v1/{site}/{kind}/{device}/{channel}"


def clock_topic(site: str) -> str:
    return f"gw/v1/{site}/clock"
