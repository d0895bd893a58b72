"""A channel through Apprise: mail, SMS, chat groups, by one URL each.

Apprise's DingTalk, WeCom and Feishu plugins look at the HTTP status alone; those services answer 200 with an `errcode`
in the body when they refuse (wrong key word, rate limit), so for them "sent" means "delivered to their front door".
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from flow.outbox import Message
from notify.channel import NotSent


class AppriseChannel:
    """Raises ValueError where Apprise does not understand the URL (its text never repeats the URL)."""

    def __init__(self, url: str) -> None:
        import apprise

        self._apprise: Any = apprise.Apprise()
        if not self._apprise.add(url):
            raise ValueError("not an Apprise URL")

    async def send(self, message: Message) -> None:
        title, text = title_and_text(message)
        # In a thread: its plugins block, and bring their own timeouts (4 s to connect, 4 s to read).
        if not await asyncio.to_thread(self._apprise.notify, title=title, body=text):
            raise NotSent("Apprise could not send it")

    async def close(self) -> None:
        return None


def title_and_text(message: Message) -> tuple[str, str]:
    """For people, Chinese first. The key closes the text: whoever gets a message twice sees that it is one."""
    zh, en = message.body.get("zh"), message.body.get("en")
    if not isinstance(zh, str) or not isinstance(en, str):
        return message.channel, f"{json.dumps(dict(message.body), ensure_ascii=False)}\n[{message.key}]"
    return zh, f"{zh}\n{en}\n[{message.key}]"
