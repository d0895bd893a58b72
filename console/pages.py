"""Rendering: Jinja with autoescape, the words and formats every template may use, refusals as messages in place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from alerts.refusals import NotSignedIn, Refusal
from console import words
from console.standing import standing_of
from console.texts import Language, say, say_or
from console.visits import SignedVisit, Visit, is_fragment, path_of, safe_path
from devices.instants import to_datetime

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"
# The order of the tabs is the order of a flood night; the phone's dock shows the first four.
TABS: Final = (
    ("board", "/"), ("pumps", "/pumps"), ("orders", "/orders"), ("devices", "/devices"),
    ("map", "/map"), ("intake", "/intake"), ("modes", "/modes"), ("rules", "/rules"), ("wall", "/wall"),
)  # fmt: skip
# Texts that the scripts of the pages need.
_CLIENT_TEXTS: Final = (
    "span.days", "span.hours", "span.minutes", "span.seconds", "left.in", "left.over", "title.unacknowledged",
    "act.not_sent",
)  # fmt: skip

_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@cache
def asset(path: str) -> str:
    """The address of a static file, with a digest of its content: kept by browsers for a year, never stale."""
    digest = hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:12]
    return f"/static/{path}?v={digest}"


def render(visit: Visit, template: str, request: Request, /, **values: object) -> str:
    """The template as text, with what every page has."""
    return _templates.get_template(template).render(_context(visit, request) | values)


def page(
    request: Request, visit: Visit, template: str, *, here: str = "", status: int = 200, **values: object
) -> HTMLResponse:
    """A whole page; `here` is the tab it belongs to."""
    shown = dict(values)
    if isinstance(visit, SignedVisit):
        shown["standing"] = standing_of(visit)
    return HTMLResponse(render(visit, template, request, here=here, **shown), status)


def part(request: Request, visit: Visit, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """A fragment for htmx."""
    return HTMLResponse(render(visit, template, request, here="", **values), status)


def page_or_part(
    request: Request, visit: Visit, template: str, fragment: str, *, here: str, **values: Any
) -> HTMLResponse:
    """The whole page for a browser, only what changes of it for htmx."""
    if is_fragment(request.headers):
        return part(request, visit, fragment, **values)
    return page(request, visit, template, here=here, **values)


def refusal(request: Request, visit: Visit, refused: Refusal, *, status: int | None = None) -> Response:
    """What a person is told when an act is not done: the sign-in form, a message in place, or a page of its own.
    `status` is HTTP's where the refusal is not one of ours."""
    status = status or refused.status
    fragment = is_fragment(request.headers)
    if isinstance(refused, NotSignedIn):
        to = sign_in_path(request)
        return Response(status_code=401, headers={"HX-Redirect": to}) if fragment else RedirectResponse(to, 303)
    if fragment:
        answer = part(request, visit, "parts/notice.html", status=status, refused=refused, done=None)
        # A background refresh that is refused must not replace what it wanted to refresh.
        answer.headers["HX-Retarget"], answer.headers["HX-Reswap"] = "#notices", "afterbegin"
        return answer
    return page(request, visit, "refused.html", status=status, refused=refused, back=_came_from(request))


def sign_in_path(request: Request) -> str:
    """The sign-in form, and from there back to the page that was wanted."""
    if request.method in {"GET", "HEAD"} and not is_fragment(request.headers):
        back = safe_path(path_of(request))
    else:
        back = _came_from(request)
    return "/sign-in" if back == "/" else f"/sign-in?to={quote(back, safe='/')}"


def _came_from(request: Request) -> str:
    """The page a form or a refresh belongs to; browsers and htmx send its whole address."""
    address = request.headers.get("hx-current-url") or request.headers.get("referer", "")
    return safe_path("/" + address.partition("://")[2].partition("/")[2])


def done(request: Request, visit: Visit, key: str, /, **values: object) -> Markup:
    """A message that something was done, for the end of a fragment."""
    return Markup(render(visit, "parts/done.html", request, here="", message=say(visit.language, key, **values)))


def _context(visit: Visit, request: Request) -> dict[str, object]:
    zone, language = visit.installation.zone, visit.language
    offset = to_datetime(visit.now).astimezone(zone).utcoffset() or timedelta()
    zh, en = visit.installation.site_name
    return {
        "t": partial(say, language),
        "visit": visit,
        "allows": visit.allows,
        "language": language.value,
        "theme": visit.theme,
        "asset": asset,
        "now": visit.now,
        "zone": zone.key,
        "zone_offset": int(offset.total_seconds() // 60),
        "site": zh if language is Language.ZH else en or zh,
        "tabs": TABS,
        "path": path_of(request) if request.method == "GET" else "/",
        "words": json.dumps({key: say(language, key) for key in _CLIENT_TEXTS}, ensure_ascii=False),
    }


def _filter(write: Callable[..., object]) -> Callable[..., object]:
    """A filter that knows who is looking: `write` gets the visit first."""

    @pass_context
    def apply(context: Context, *values: object) -> object:
        return write(context["visit"], *values)

    return apply


_templates.filters |= {
    "span": _filter(lambda visit, length: words.span(length, visit.language)),
    "lasting": _filter(lambda visit, length: words.length(length, visit.language)),
    "clock": _filter(lambda visit, at: words.clock(at, visit.installation.zone)),
    "moment": _filter(lambda visit, at: words.moment(at, visit.installation.zone, visit.now)),
    "full": _filter(lambda visit, at: words.full_moment(at, visit.installation.zone)),
    "left": _filter(lambda visit, until: words.left(until, visit.now, visit.language)),
    "quantity": _filter(lambda visit, value, code="": words.quantity(value, code, visit.language)),
    "kind": _filter(lambda visit, kind: words.kind_name(kind, visit.language)),
    "metric": _filter(lambda visit, name, kind: words.metric_name(kind, name, visit.language)),
    "word": _filter(lambda visit, name, group: say_or(visit.language, f"{group}.{name}", str(name))),
    "number": lambda value, code="", decimals=None: words.number(value, code, decimals),
    "unit": words.unit,
    "telephone": lambda number: re.sub(r"[^0-9+]", "", number),
}
