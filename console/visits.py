"""Who is looking at a page and in which language: the session cookie, the CSRF token, the way back after signing in.

The surprise: the sign-in form has no session yet, so its token is a cookie of its own that the form repeats.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import Depends, Form, Request, Response

from alerts.refusals import NotAllowed, NotSignedIn
from alerts.roles import Actor
from console.texts import Language
from devices.instants import SECOND
from flow.access import SESSION_COOKIE, session_of
from flow.installation import Installation

FORM_COOKIE: Final = "gw_form"  # the token of forms shown to those who are not signed in
LANGUAGE_COOKIE: Final = "gw_language"
THEME_COOKIE: Final = "gw_theme"
CSRF_HEADER: Final = "x-csrf-token"
THEMES: Final = ("light", "dark")
_YEAR_S = 365 * 86_400
_MAX_PATH = 512


@dataclass(frozen=True, slots=True)
class Visit:
    """`token` and `csrf` are empty and `actor` is None for someone who is not signed in."""

    installation: Installation
    language: Language
    theme: str
    token: str
    csrf: str
    actor: Actor | None

    @property
    def now(self) -> int:
        """Rule time: what alarms, orders and readings are dated by."""
        return self.installation.now()

    def allows(self, act: str) -> bool:
        return self.actor is not None and self.actor.allows(act)


@dataclass(frozen=True, slots=True)
class SignedVisit(Visit):
    """A visit of someone who is signed in."""

    actor: Actor


def visit_of(request: Request) -> Visit:
    """Whoever it is."""
    installation: Installation = request.app.state.installation
    language = Language.EN if request.cookies.get(LANGUAGE_COOKIE) == Language.EN else Language.ZH
    theme = request.cookies.get(THEME_COOKIE, "")
    theme = theme if theme in THEMES else THEMES[0]
    token = request.cookies.get(SESSION_COOKIE, "")
    session = session_of(installation.records, installation.wall(), token) if token else None
    # A token of the API is no key to the pages: it lives in scripts, not in a browser that keeps it HttpOnly.
    if session is None or session.kind not in {"console", "wall"}:
        form = request.cookies.get(FORM_COOKIE, "")
        return Visit(installation, language, theme, token="", csrf=form, actor=None)
    return SignedVisit(installation, language, theme, token=token, csrf=session.csrf, actor=session.actor)


def signed_in(visit: Annotated[Visit, Depends(visit_of)]) -> SignedVisit:
    """Raises NotSignedIn, which the pages answer with the sign-in form and the way back."""
    if not isinstance(visit, SignedVisit):
        raise NotSignedIn("session_over", "请先登录", "please sign in")
    return visit


def posted(
    request: Request, visit: Annotated[Visit, Depends(visit_of)], csrf: Annotated[str, Form()] = ""
) -> SignedVisit:
    """Someone signed in whose form carries the token of his session. Raises NotSignedIn or NotAllowed."""
    visit = signed_in(visit)
    check_csrf(request, visit.csrf, csrf)
    return visit


def check_csrf(request: Request, expected: str, given: str) -> None:
    """The token comes in the form's `csrf` or, from htmx, in a header. Raises NotAllowed."""
    given = request.headers.get(CSRF_HEADER) or given
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise NotAllowed(
            "csrf", "表单已失效，请刷新页面后重试", "this form is no longer valid: reload the page and try again"
        )


def new_form_token() -> str:
    return secrets.token_urlsafe(32)


def keep(request: Request, response: Response, cookie: str, value: str, *, seconds: int | None = _YEAR_S) -> None:
    """Set a cookie of ours; `seconds` None ends with the browser.

    SameSite=Lax, not Strict: with Strict the link in a message to the duty phone would open the sign-in form although
    the officer is signed in. Nothing changes on GET, so Lax lets nothing in.
    """
    response.set_cookie(
        cookie, value, max_age=seconds, path="/", httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )


def forget(request: Request, response: Response, cookie: str) -> None:
    response.delete_cookie(cookie, path="/", httponly=True, samesite="lax", secure=request.url.scheme == "https")


def seconds_left(expires_at: int, now: int) -> int:
    return max(0, (expires_at - now) // SECOND)


def safe_path(to: str | None, otherwise: str = "/") -> str:
    """`to` where it is a path of this site, else `otherwise`: a sign-in must not lead to somebody else's page.

    Browsers read `/\\host`, and `//host` after control characters are dropped, as another site.
    """
    if not to or len(to) > _MAX_PATH or not to.startswith("/") or to.startswith("/sign-"):
        return otherwise
    decoded = unquote(to)
    bad = any(ord(c) < 0x20 or c in "\\\x7f" for c in to + decoded)
    return otherwise if bad or to.startswith("//") or decoded.startswith("//") else to


def path_of(request: Request) -> str:
    """The page as the browser asked for it, to come back to."""
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def is_fragment(headers: Mapping[str, str]) -> bool:
    """htmx asks for a part of the page, not the whole."""
    return headers.get("hx-request") == "true"


Signed = Annotated[SignedVisit, Depends(signed_in)]
Posted = Annotated[SignedVisit, Depends(posted)]
Anyone = Annotated[Visit, Depends(visit_of)]
