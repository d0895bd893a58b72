"""What a person or a machine is told when an act is not done: a machine name, an HTTP status, and words for people.

A refusal is an answer, not a fault of ours: nothing was changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from devices.documents import Mistake


class Refusal(Exception):
    """`code` is a snake_case machine name that stays the same; `zh` and `en` are for people and may change."""

    status: ClassVar[int] = 422

    def __init__(self, code: str, zh: str, en: str) -> None:
        super().__init__(f"{code}: {en}")
        self.code = code
        self.zh = zh
        self.en = en


class NotSignedIn(Refusal):
    status = 401


class NotAllowed(Refusal):
    """Signed in, but this role (or this person) may not do it."""

    status = 403


class NotFound(Refusal):
    status = 404


class Conflict(Refusal):
    """The thing has moved on: the act is not in the state's table, or the version is no longer the one seen."""

    status = 409


class Invalid(Refusal):
    """The request itself is wrong or incomplete: a missing reason, an unknown assignee, an instant in the past."""


class WrongDocument(Invalid):
    """A document that people write, such as the rules, refused whole; every mistake stands with its place."""

    def __init__(self, code: str, zh: str, en: str, mistakes: Sequence[Mistake]) -> None:
        super().__init__(code, zh, en)
        self.mistakes = tuple(mistakes)
