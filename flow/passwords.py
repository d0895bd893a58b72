"""Passwords: what is accepted, hashing with argon2id, and a check that takes as long for a name nobody has."""

from __future__ import annotations

import secrets
import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from alerts.refusals import Invalid

MIN_CHARACTERS, MAX_CHARACTERS = 8, 256

# RFC 9106 asks for 64 MiB where it can be had; OWASP's 19 MiB and two passes is what a township's old server can give
# to two sign-ins at once (about 30 ms each). Less is cheap to guess, more lets sign-ins crowd out the readings.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_hashing = threading.BoundedSemaphore(2)


def check_password(password: str) -> None:
    """Raises Invalid for one that may not be set."""
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise Invalid(
            "bad_password",
            f"密码须为 {MIN_CHARACTERS} 到 {MAX_CHARACTERS} 个字符",
            f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters",
        )


def hash_password(password: str) -> str:
    with _hashing:
        return _hasher.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """False where nothing is stored, after the same work."""
    against = _nobodys_hash() if stored is None else stored
    with _hashing:
        try:
            return _hasher.verify(against, password[:MAX_CHARACTERS]) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def needs_new_hash(stored: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return _hasher.check_needs_rehash(stored)


@cache
def _nobodys_hash() -> str:
    return hash_password(secrets.token_urlsafe(32))
