"""Channels as the settings name them: each URL is read from a file or a variable, and decides what kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

from notify.apprise_channel import AppriseChannel
from notify.channel import Channel
from notify.webhook import Webhook


class ChannelError(ValueError):
    """A channel that cannot be opened; the text names the channel and the place, never the URL."""


def open_channels(places: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Channel]:
    """Channel name to channel, of `file:PATH` (first line) or `env:NAME`. Raises ChannelError, naming every bad one."""
    channels: dict[str, Channel] = {}
    mistakes: list[str] = []
    for name, place in places.items():
        try:
            channels[name] = _open(_read(place, environ))
        except ValueError as error:
            mistakes.append(f"notify.channels.{name}: {place}: {error}")
    if mistakes:
        raise ChannelError("\n".join(mistakes))
    return channels


def _read(place: str, environ: Mapping[str, str]) -> str:
    kind, _, name = place.partition(":")
    if kind == "env":
        text = environ.get(name)
    else:
        try:
            text = next(iter(Path(name).read_text(encoding="utf-8").splitlines()), "")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"没有读到网址 cannot be read ({type(error).__name__})") from None
    if not text or not text.strip():
        raise ValueError("没有网址 holds no URL")
    return text.strip()


def _open(url: str) -> Channel:
    if not url.lower().startswith(("http://", "https://")):
        return AppriseChannel(url)
    try:
        return Webhook(url)
    except httpx.InvalidURL:
        raise ValueError("网址无效 not a URL") from None
