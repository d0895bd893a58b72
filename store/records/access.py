"""Users, their sessions and the audit, as rows.

The surprise: a name nobody has fails and locks like any other, so that an answer never tells who exists; its failures
are counted in the audit, having no row of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select

from store.records.pages import Page, decode_cursor, page_of
from store.records.tables import audit, sessions, users

# Audit acts that the lockout counts.
SIGN_IN_FAILED = "sign_in_failed"
LOCKED_OUT = "locked_out"


@dataclass(frozen=True, slots=True)
class UserRow:
    name: str
    role: str
    display_name: str
    created_at: int
    failures: int
    locked_until: int | None
    disabled: bool


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session that may be used: not expired, of a user who is not disabled. `kind` is api, console or wall."""

    id: int
    user: str
    role: str
    kind: str
    csrf: str
    created_at: int
    expires_at: int
    label: str


_USER = [users.c[f.name] for f in fields(UserRow)]
_SESSION = [users.c.role if f.name == "role" else sessions.c[f.name] for f in fields(SessionRow)]


def list_users(tx: Connection, *, limit: int, cursor: str | None = None) -> Page[UserRow]:
    query = select(*_USER).order_by(users.c.name).limit(limit + 1)
    if cursor is not None:
        query = query.where(users.c.name > decode_cursor(cursor, str)[0])
    return page_of([UserRow(*row) for row in tx.execute(query)], limit, lambda user: [user.name])


def get_user(tx: Connection, name: str) -> UserRow | None:
    row = tx.execute(select(*_USER).where(users.c.name == name)).one_or_none()
    return None if row is None else UserRow(*row)


def password_of(tx: Connection, name: str) -> str | None:
    """The argon2id hash of a user who may sign in."""
    return tx.execute(select(users.c.password).where(users.c.name == name, ~users.c.disabled)).scalar()


def find_session(tx: Connection, digest: str, now: int) -> SessionRow | None:
    row = tx.execute(_live(now).where(sessions.c.digest == digest)).one_or_none()
    return None if row is None else SessionRow(*row)


def list_wall_sessions(tx: Connection, now: int) -> list[SessionRow]:
    """The long-lived read-only tokens in force, newest first."""
    found = tx.execute(_live(now).where(sessions.c.kind == "wall").order_by(sessions.c.id.desc()))
    return [SessionRow(*row) for row in found]


def failures_of(tx: Connection, name: str) -> tuple[int, int | None]:
    """Failures in a row and the instant until which the name is locked, for a name nobody has.

    `why` of a lockout row is the instant it ends.
    """
    of_name = audit.c.subject == name
    last = tx.execute(
        select(audit.c.id, audit.c.why).where(of_name, audit.c.act == LOCKED_OUT).order_by(audit.c.id.desc()).limit(1)
    ).one_or_none()
    failed = select(func.count()).where(of_name, audit.c.act == SIGN_IN_FAILED, audit.c.id > (last.id if last else 0))
    return tx.execute(failed).scalar_one(), int(last.why) if last else None


def write_audit(tx: Connection, now: int, by: str, act: str, *, subject: str, why: str | None = None) -> None:
    """One immutable row: who did what to what. No secrets."""
    tx.execute(insert(audit).values(at=now, by=by, act=act, subject=subject, why=why))


def _live(now: int) -> Select[Any]:
    joined = select(*_SESSION).join(users, users.c.name == sessions.c.user)
    return joined.where(sessions.c.expires_at > now, ~users.c.disabled)
