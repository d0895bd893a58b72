"""Signing in: who gets in, who is locked out, what ends a session, and that all of it is written down."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from alerts.refusals import Conflict, Invalid, NotAllowed, NotFound, NotSignedIn, Refusal
from alerts.roles import Actor, Role
from devices.instants import DAY, HOUR, MINUTE
from flow import access, passwords
from flow.passwords import needs_new_hash
from store.records.database import migrate, open_records, write
from store.records.tables import audit, sessions, users
from tests.api.centre import Centre

NOW = 1_782_864_000_000_000
ADMIN = Actor("admin", Role.ADMIN)
PASSWORD = "correct horse"


@pytest.fixture
def records(tmp_path: Path) -> Engine:
    migrate(tmp_path / "records.sqlite")
    records = open_records(tmp_path / "records.sqlite")
    assert access.ensure_admin(records, NOW, PASSWORD) is None
    access.add_user(records, NOW, ADMIN, name="李明", password=PASSWORD, role=Role.HANDLER)
    return records


def sign_in(records: Engine, name: str = "李明", password: str = PASSWORD, now: int = NOW) -> access.SignedIn:
    return access.sign_in(records, now, name, password, "api")


def refusal(records: Engine, name: str, password: str = "wrong", now: int = NOW) -> Refusal:
    with pytest.raises(NotSignedIn) as refused:
        sign_in(records, name, password, now)
    return refused.value


def acts(records: Engine, subject: str) -> list[str]:
    with records.connect() as tx:
        return list(tx.execute(select(audit.c.act).where(audit.c.subject == subject).order_by(audit.c.id)).scalars())


def test_a_token_opens_until_it_expires(records: Engine) -> None:
    made = sign_in(records)
    assert made.expires_at == NOW + 12 * HOUR
    assert access.actor_of(records, made.expires_at - 1, made.token) == Actor("李明", Role.HANDLER)
    assert access.actor_of(records, made.expires_at, made.token) is None
    assert access.actor_of(records, NOW, made.token + "x") is None
    assert acts(records, "李明") == ["user_added", "signed_in"]


def test_neither_password_nor_token_is_kept(records: Engine) -> None:
    made = sign_in(records)
    with records.connect() as tx:
        kept = str(tx.execute(select(users)).all()) + str(tx.execute(select(sessions)).all())
        kept += str(tx.execute(select(audit)).all())
    assert PASSWORD not in kept
    assert made.token not in kept
    assert "$argon2id$" in kept


@pytest.mark.parametrize("name", ["李明", "somebody-else", "x" * 500])
def test_five_failures_lock_a_name_whether_or_not_anyone_has_it(records: Engine, name: str) -> None:
    codes = [refusal(records, name).code for _ in range(6)]
    assert codes == ["wrong_name_or_password"] * 4 + ["locked_out"] * 2
    assert refusal(records, name, PASSWORD, NOW + 15 * MINUTE - 1).code == "locked_out"
    assert refusal(records, name, "wrong", NOW + 15 * MINUTE).code == "wrong_name_or_password"
    assert acts(records, name[:64]).count("locked_out") == 1


def test_what_is_told_does_not_tell_who_exists(records: Engine) -> None:
    told = [[(r.code, r.zh, r.en) for r in (refusal(records, name) for _ in range(6))] for name in ("李明", "nobody2")]
    assert told[0] == told[1]


def test_a_wrong_name_costs_as_much_as_a_wrong_password(records: Engine) -> None:
    def cost(name: str) -> float:
        begun = time.thread_time()
        refusal(records, name)
        return time.thread_time() - begun

    cost("warm-up")
    known = min(cost("李明") for _ in range(3))
    unknown = min(cost(f"unknown-{i}") for i in range(3))
    assert 0.4 < unknown / known < 2.5


def test_success_forgets_the_failures(records: Engine) -> None:
    for _ in range(2):
        assert [refusal(records, "李明").code for _ in range(4)] == ["wrong_name_or_password"] * 4
        assert sign_in(records).actor == Actor("李明", Role.HANDLER)


def test_guessing_in_parallel_wins_nothing(records: Engine) -> None:
    """Ten wrong guesses and the right one at once, after four failures: whatever the order, the lock holds."""
    for _ in range(4):
        refusal(records, "李明")
    with ThreadPoolExecutor(11) as pool:
        codes = list(pool.map(lambda i: refusal(records, "李明", f"guess {i}").code, range(10)))
    assert set(codes) == {"locked_out"}
    assert refusal(records, "李明", PASSWORD).code == "locked_out"
    assert acts(records, "李明").count("locked_out") == 1


@pytest.mark.parametrize("meanwhile", [{"locked_until": NOW + 1}, {"password": "changed"}, {"disabled": True}])
def test_what_changes_while_a_password_is_being_checked_counts(records: Engine, meanwhile: dict[str, object]) -> None:
    """The right password, but by the time it is found right the name is locked, disabled or has another one."""
    with ThreadPoolExecutor(1) as pool:
        with passwords._hashing, passwords._hashing:
            attempt = pool.submit(refusal, records, "李明", PASSWORD)
            time.sleep(0.2)  # it has read the user and waits to hash
            with write(records) as tx:
                tx.execute(update(users).where(users.c.name == "李明").values(meanwhile))
        assert attempt.result(10).status == 401


def test_a_session_of_a_disabled_user_opens_nothing(records: Engine) -> None:
    made = sign_in(records)
    with write(records) as tx:
        tx.execute(update(users).where(users.c.name == "李明").values(disabled=True))
    assert access.actor_of(records, NOW, made.token) is None


def test_signing_out_ends_the_session(records: Engine) -> None:
    made = sign_in(records)
    access.sign_out(records, NOW, made.token)
    access.sign_out(records, NOW, made.token)
    assert access.actor_of(records, NOW, made.token) is None
    assert acts(records, "李明")[-1:] == ["signed_out"]


def test_a_new_password_ends_the_other_sessions_but_not_the_wall(records: Engine) -> None:
    mine, other = sign_in(records, "admin"), sign_in(records, "admin")
    wall = access.make_wall_token(records, NOW, ADMIN, label="大厅")
    access.change_password(records, NOW, ADMIN, old=PASSWORD, new="another horse", keep=mine.token)
    assert access.actor_of(records, NOW, mine.token) == ADMIN
    assert access.actor_of(records, NOW, other.token) is None
    assert access.actor_of(records, NOW, wall.token) is not None
    assert refusal(records, "admin", PASSWORD).code == "wrong_name_or_password"
    assert sign_in(records, "admin", "another horse").actor == ADMIN


def test_a_stolen_session_is_no_place_to_guess_the_password(records: Engine) -> None:
    mine = sign_in(records)
    codes = []
    for i in range(6):
        with pytest.raises(NotSignedIn) as refused:
            access.change_password(records, NOW, mine.actor, old=f"guess {i}", new="another horse", keep=mine.token)
        codes.append(refused.value.code)
    assert codes[-1] == "locked_out"


def test_a_wall_token_lasts_and_looks_only(records: Engine) -> None:
    wall = access.make_wall_token(records, NOW, ADMIN, label="大厅")
    actor = access.actor_of(records, NOW + 364 * DAY, wall.token)
    assert actor == Actor("admin", Role.VIEWER, read_only=True)
    assert not actor.allows("users.manage")
    assert actor.allows("see")
    with pytest.raises(NotAllowed):
        access.make_wall_token(records, NOW, actor, label="x")
    with pytest.raises(NotAllowed):
        access.change_password(records, NOW, actor, old=PASSWORD, new="another horse", keep=wall.token)
    session = access.session_of(records, NOW, wall.token)
    assert session is not None
    access.end_wall_token(records, NOW, ADMIN, session=session.id)
    assert access.actor_of(records, NOW, wall.token) is None
    with pytest.raises(NotFound):
        access.end_wall_token(records, NOW, ADMIN, session=session.id)


def test_disabling_a_user_ends_everything_of_theirs(records: Engine) -> None:
    made = sign_in(records)
    access.change_user(records, NOW, ADMIN, name="李明", disabled=True)
    assert access.actor_of(records, NOW, made.token) is None
    assert refusal(records, "李明", PASSWORD).code == "wrong_name_or_password"


def test_a_password_set_by_the_admin_ends_the_lockout(records: Engine) -> None:
    for _ in range(5):
        refusal(records, "李明")
    access.change_user(records, NOW, ADMIN, name="李明", password="a new one 2")
    assert sign_in(records, "李明", "a new one 2").actor.role is Role.HANDLER


def test_the_last_admin_stays(records: Engine) -> None:
    with pytest.raises(Conflict):
        access.change_user(records, NOW, ADMIN, name="admin", role=Role.VIEWER)
    with pytest.raises(Conflict):
        access.change_user(records, NOW, ADMIN, name="admin", disabled=True)
    assert access.actor_of(records, NOW, sign_in(records, "admin").token) == ADMIN


def test_a_name_stands_once_and_ours_are_not_to_be_had(records: Engine) -> None:
    with pytest.raises(Conflict):
        access.add_user(records, NOW, ADMIN, name="李明", password=PASSWORD, role=Role.VIEWER)
    for name in ("service", "nobody", "", "a b", "x" * 65, "a/b", "a\n"):
        with pytest.raises(Invalid):
            access.add_user(records, NOW, ADMIN, name=name, password=PASSWORD, role=Role.VIEWER)
    with pytest.raises(Invalid):
        access.add_user(records, NOW, ADMIN, name="short", password="1234567", role=Role.VIEWER)


def test_only_an_admin_manages_users(records: Engine) -> None:
    for role in set(Role) - {Role.ADMIN}:
        with pytest.raises(NotAllowed):
            access.add_user(records, NOW, Actor("x", role), name="new", password=PASSWORD, role=Role.ADMIN)


def test_the_first_start_makes_an_admin_once(tmp_path: Path) -> None:
    migrate(tmp_path / "fresh.sqlite")
    records = open_records(tmp_path / "fresh.sqlite")
    made = access.ensure_admin(records, NOW, None)
    assert made is not None
    assert sign_in(records, "admin", made).actor == ADMIN
    assert access.ensure_admin(records, NOW, None) is None


def test_hashes_have_todays_parameters(records: Engine) -> None:
    with records.connect() as tx:
        stored = tx.execute(select(users.c.password)).scalars().all()
    assert not any(needs_new_hash(hashed) for hashed in stored)
    assert needs_new_hash("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43)


def test_wall_tokens_and_grids_come_in_pages(centre: Centre) -> None:
    for label in ("一", "二", "三"):
        centre.post("officer", "/tokens", {"label": label}, status=201)
    for path in ("/tokens", "/grids"):
        whole = centre.get("officer", path)
        assert (len(whole["items"]), whole["next"]) == (3, None)
        first = centre.get("officer", path, limit=2)
        rest = centre.get("officer", path, limit=2, cursor=first["next"])
        assert ([*first["items"], *rest["items"]], rest["next"]) == (whole["items"], None)
        assert len({item["id"] for item in whole["items"]}) == 3
        for bad in ("limit=501", "cursor=garbage"):
            assert centre.ask("GET", f"/api/v1{path}?{bad}", token=centre.token("officer")).status_code == 422
