"""Who may come in: users, sign-in with lockout, sessions, wall tokens. Everything that changes is an audit row.

The surprises: only the SHA-256 of a token is kept; a wrong name costs, fails and locks exactly like a wrong password;
hashing never happens inside a transaction, so what was true before it is checked again when its result is written.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from alerts.refusals import Conflict, Invalid, NotAllowed, NotFound, NotSignedIn
from alerts.roles import SERVICE, Actor, Role
from devices.instants import DAY, HOUR, MINUTE
from flow.passwords import check_password, hash_password, needs_new_hash, verify_password
from store.records.access import (
    LOCKED_OUT,
    SIGN_IN_FAILED,
    SessionRow,
    UserRow,
    failures_of,
    find_session,
    get_user,
    password_of,
    write_audit,
)
from store.records.database import write
from store.records.tables import sessions, users

SESSION = 12 * HOUR
SESSION_COOKIE = "gw_session"  # carries a console session's token; the event stream takes it too
FAILURES_ALLOWED = 5
LOCKOUT = 15 * MINUTE
MAX_WALL = 3650 * DAY
NOBODY = "nobody"  # `by` of what someone did who was not let in
RESERVED = frozenset({SERVICE, NOBODY})

_NAME = re.compile(r"[\w.@-]{1,64}")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`token` exists only here and at the client. `csrf` goes into every form of a console session."""

    token: str
    expires_at: int
    csrf: str
    actor: Actor


@dataclass(frozen=True, slots=True)
class Session:
    id: int
    kind: str
    csrf: str
    expires_at: int
    actor: Actor


# The label of the session that open_local_session makes.
LOCAL = "local command line"


def sign_in(records: Engine, now: int, username: str, password: str, kind: str, *, lasts: int = SESSION) -> SignedIn:
    """A session of `kind` api or console. Raises NotSignedIn: `locked_out` after five failures in a row, whether or
    not anyone has that name, else `wrong_name_or_password`."""
    if kind not in {"api", "console"}:
        raise ValueError(f"no such kind of session: {kind!r}")
    name = username[:64]
    with records.connect() as tx:
        _refuse_locked(tx, name, now)
        stored = password_of(tx, name)
    right = verify_password(stored, password)
    fresh = hash_password(password) if right and stored and needs_new_hash(stored) else stored
    if not right:
        _fail(records, now, name)
    token = secrets.token_urlsafe(32)
    with write(records) as tx:
        # Guesses made at the same time may have locked the name, or its password may have changed, meanwhile.
        _refuse_locked(tx, name, now)
        if password_of(tx, name) != stored:
            raise _wrong()
        tx.execute(update(users).where(users.c.name == name).values(failures=0, locked_until=None, password=fresh))
        tx.execute(delete(sessions).where(sessions.c.expires_at <= now))
        session = _open_session(tx, now, token, user=name, kind=kind, lasts=lasts)
        write_audit(tx, now, name, "signed_in", subject=name, why=kind)
        role = tx.execute(select(users.c.role).where(users.c.name == name)).scalar_one()
    return SignedIn(token, now + lasts, session, Actor(name, Role(role)))


def session_of(records: Engine, now: int, token: str) -> Session | None:
    """Whose token this is; None where it is unknown, expired, signed out or of a disabled user."""
    with records.connect() as tx:
        row = find_session(tx, _digest(token), now)
    return None if row is None else Session(row.id, row.kind, row.csrf, row.expires_at, _actor(row))


def actor_of(records: Engine, now: int, token: str) -> Actor | None:
    session = session_of(records, now, token)
    return None if session is None else session.actor


def sign_out(records: Engine, now: int, token: str) -> None:
    """Harmless where the session is over already."""
    with write(records) as tx:
        row = find_session(tx, _digest(token), now)
        if row is not None:
            tx.execute(delete(sessions).where(sessions.c.id == row.id))
            write_audit(tx, now, row.user, "signed_out", subject=row.user, why=row.kind)


def change_password(records: Engine, now: int, actor: Actor, *, old: str, new: str, keep: str) -> None:
    """One's own. Every other session ends except the walls; `keep` is the token of the session that asks.

    A wrong `old` counts as a failed sign-in: a stolen session must not be a place to guess.
    """
    if actor.read_only:
        raise NotAllowed("not_allowed", "只读令牌不能修改密码", "a read-only token may not change a password")
    check_password(new)
    with records.connect() as tx:
        _refuse_locked(tx, actor.name, now)
        stored = password_of(tx, actor.name)
    if not verify_password(stored, old):
        _fail(records, now, actor.name)
    fresh = hash_password(new)
    with write(records) as tx:
        if password_of(tx, actor.name) != stored:
            raise _wrong()
        tx.execute(update(users).where(users.c.name == actor.name).values(password=fresh, failures=0))
        _end_sessions(tx, actor.name, keep=_digest(keep))
        write_audit(tx, now, actor.name, "password_changed", subject=actor.name)


def add_user(
    records: Engine, now: int, actor: Actor, *, name: str, password: str, role: Role, display_name: str = ""
) -> UserRow:
    actor.require("users.manage")
    _check_name(name)
    check_password(password)
    hashed = hash_password(password)
    with write(records) as tx:
        if get_user(tx, name) is not None:
            raise Conflict("user_exists", f"用户 {name} 已存在", f"there is a user {name} already")
        _insert_user(tx, now, name=name, hashed=hashed, role=role, display_name=display_name)
        write_audit(tx, now, actor.name, "user_added", subject=name, why=role.value)
        return _known_user(tx, name)


def change_user(
    records: Engine,
    now: int,
    actor: Actor,
    *,
    name: str,
    role: Role | None = None,
    password: str | None = None,
    disabled: bool | None = None,
    display_name: str | None = None,
) -> UserRow:
    """Role, password, disabling; a new password also ends a lockout. Ends the user's sessions, except for a mere name.

    Raises Conflict for what would leave no admin who can sign in.
    """
    actor.require("users.manage")
    if password is not None:
        check_password(password)
    given = {"role": role, "disabled": disabled, "display_name": display_name}
    values: dict[str, object] = {column: value for column, value in given.items() if value is not None}
    if password is not None:
        values |= {"password": hash_password(password), "failures": 0, "locked_until": None}
    with write(records) as tx:
        before = _known_user(tx, name)
        if not values:
            return before
        tx.execute(update(users).where(users.c.name == name).values(values))
        if tx.execute(select(func.count()).where(users.c.role == Role.ADMIN, ~users.c.disabled)).scalar_one() == 0:
            raise Conflict("last_admin", "至少要保留一名可登录的管理员", "at least one admin must be able to sign in")
        if values.keys() - {"display_name"}:
            _end_sessions(tx, name, keep=None, walls=bool(disabled))
        write_audit(tx, now, actor.name, "user_changed", subject=name, why=_say_changes(values))
        return _known_user(tx, name)


def make_wall_token(records: Engine, now: int, actor: Actor, *, label: str, lasts: int = 365 * DAY) -> SignedIn:
    """A long-lived token for a screen on the wall: it sees what a viewer sees and does nothing."""
    actor.require("wall.issue")
    if not HOUR <= lasts <= MAX_WALL:
        raise Invalid("wall_token_span", "有效期须在 1 小时到 10 年之间", "it must last between 1 hour and 10 years")
    token = secrets.token_urlsafe(32)
    with write(records) as tx:
        csrf = _open_session(tx, now, token, user=actor.name, kind="wall", lasts=lasts, label=label)
        write_audit(tx, now, actor.name, "wall_token_made", subject=label or "wall")
    return SignedIn(token, now + lasts, csrf, Actor(actor.name, Role.VIEWER, read_only=True))


def end_wall_token(records: Engine, now: int, actor: Actor, *, session: int) -> None:
    actor.require("wall.issue")
    with write(records) as tx:
        ended = tx.execute(delete(sessions).where(sessions.c.id == session, sessions.c.kind == "wall")).rowcount
        if not ended:
            raise NotFound("no_such_token", "没有这个大屏令牌", "there is no such wall token")
        write_audit(tx, now, actor.name, "wall_token_ended", subject=str(session))


def ensure_admin(records: Engine, now: int, password: str | None) -> str | None:
    """On the first start, when there is no admin: make `admin`. Returns the password made up where none is given."""
    chosen = secrets.token_urlsafe(12) if password is None else password
    check_password(chosen)
    with records.connect() as tx:
        if _has_admin(tx):
            return None
    hashed = hash_password(chosen)
    with write(records) as tx:
        if _has_admin(tx):
            return None
        if get_user(tx, "admin") is not None:
            raise Conflict("user_exists", "用户 admin 已存在但不是管理员", "there is a user admin who is not an admin")
        _insert_user(tx, now, name="admin", hashed=hashed, role=Role.ADMIN, display_name="管理员")
        write_audit(tx, now, SERVICE, "user_added", subject="admin", why=Role.ADMIN.value)
    return chosen if password is None else None


def open_local_session(records: Engine, now: int) -> str:
    """A token for the command line on this machine, kept in the data folder: whoever may read that folder could write
    the database as well. The one of the last start ends."""
    token = secrets.token_urlsafe(32)
    with write(records) as tx:
        admin = tx.execute(
            select(users.c.name)
            .where(users.c.role == Role.ADMIN, ~users.c.disabled)
            .order_by(users.c.created_at)
            .limit(1)
        ).scalar_one()
        tx.execute(delete(sessions).where(sessions.c.kind == "api", sessions.c.label == LOCAL))
        _open_session(tx, now, token, user=admin, kind="api", lasts=3650 * DAY, label=LOCAL)
    return token


def _has_admin(tx: Connection) -> bool:
    return tx.execute(select(users.c.name).where(users.c.role == Role.ADMIN).limit(1)).first() is not None


def _fail(records: Engine, now: int, name: str) -> None:
    """Count a failure and refuse: the fifth in a row locks the name."""
    with write(records) as tx:
        _refuse_locked(tx, name, now)
        user = get_user(tx, name)
        failures = 1 + (user.failures if user else failures_of(tx, name)[0])
        write_audit(tx, now, NOBODY, SIGN_IN_FAILED, subject=name)
        locked_until = now + LOCKOUT if failures >= FAILURES_ALLOWED else None
        if locked_until is not None:
            write_audit(tx, now, NOBODY, LOCKED_OUT, subject=name, why=str(locked_until))
        values = {"failures": 0 if locked_until else failures, "locked_until": locked_until}
        tx.execute(update(users).where(users.c.name == name).values(values))
    raise _wrong() if locked_until is None else _locked(LOCKOUT)


def _refuse_locked(tx: Connection, name: str, now: int) -> None:
    user = get_user(tx, name)
    locked_until = user.locked_until if user else failures_of(tx, name)[1]
    if locked_until is not None and now < locked_until:
        raise _locked(locked_until - now)


def _locked(left: int) -> NotSignedIn:
    minutes = -(-left // MINUTE)
    return NotSignedIn(
        "locked_out",
        f"连续失败次数过多，该用户名已锁定，请约 {minutes} 分钟后再试",
        f"too many failures in a row: this name is locked, try again in about {minutes} min",
    )


def _wrong() -> NotSignedIn:
    return NotSignedIn("wrong_name_or_password", "用户名或密码错误", "wrong user name or password")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _actor(row: SessionRow) -> Actor:
    return Actor(row.user, Role.VIEWER, read_only=True) if row.kind == "wall" else Actor(row.user, Role(row.role))


def _open_session(tx: Connection, now: int, token: str, *, user: str, kind: str, lasts: int, label: str = "") -> str:
    csrf = secrets.token_urlsafe(32)
    tx.execute(
        insert(sessions).values(
            digest=_digest(token), user=user, kind=kind, csrf=csrf, created_at=now, expires_at=now + lasts, label=label
        )
    )
    return csrf


def _end_sessions(tx: Connection, name: str, *, keep: str | None, walls: bool = False) -> None:
    ended = delete(sessions).where(sessions.c.user == name)
    if keep is not None:
        ended = ended.where(sessions.c.digest != keep)
    tx.execute(ended if walls else ended.where(sessions.c.kind != "wall", sessions.c.label != LOCAL))


def _insert_user(tx: Connection, now: int, *, name: str, hashed: str, role: Role, display_name: str) -> None:
    tx.execute(insert(users).values(name=name, role=role, password=hashed, display_name=display_name, created_at=now))


def _known_user(tx: Connection, name: str) -> UserRow:
    user = get_user(tx, name)
    if user is None:
        raise NotFound("no_such_user", f"没有用户 {name}", f"there is no user {name}")
    return user


def _say_changes(values: dict[str, object]) -> str:
    shown = {k: v for k, v in values.items() if k in {"role", "disabled", "display_name"}}
    return ", ".join([f"{k}={v}" for k, v in shown.items()] + (["password"] if "password" in values else []))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise Invalid(
            "bad_user_name",
            "用户名为 1 到 64 个字母、数字、汉字或 . _ @ -，且不能是保留名",
            "a user name is 1 to 64 letters, digits or . _ @ -, and none of ours",
        )
