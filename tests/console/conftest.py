from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import CHROMIUM
from tests.console.screen import Screen
from tests.console.township import Township
from tests.installed import PASSWORD

ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture
def township(tmp_path: Path) -> Iterator[Township]:
    township = Township(tmp_path).open()
    yield township
    township.close()


@pytest.fixture
def visitor(township: Township) -> Iterator[Callable[..., httpx.Client]]:
    """Somebody with an HTTP client instead of a browser; signed in where a name is given."""
    if not township.url:
        township.serve()
    clients: list[httpx.Client] = []

    def visitor(name: str = "") -> httpx.Client:
        client = httpx.Client(base_url=township.url, follow_redirects=False, timeout=10)
        clients.append(client)
        if name:
            client.post("/sign-in", data={"username": name, "password": PASSWORD, "csrf": token_of(client, "/sign-in")})
            assert "gw_session" in client.cookies
        return client

    yield visitor
    for client in clients:
        client.close()


def token_of(client: httpx.Client, path: str) -> str:
    """The CSRF token of the first form of the page."""
    return client.get(path).text.partition('name="csrf" value="')[2].partition('"')[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module, not of the session: while it lives no test of this process can run an event loop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture
def open_screen(township: Township, browser: Browser) -> Iterator[Callable[..., Screen]]:
    """A browser of one person, signed in; what it complains of fails the test at the end."""
    if not township.url:
        township.serve()
    screens: list[Screen] = []

    def open_screen(name: str = "wang", **how: object) -> Screen:
        screen = Screen(browser, township.url, **how)  # type: ignore[arg-type]
        screens.append(screen)
        if name:
            screen.sign_in(name, PASSWORD)
        return screen

    yield open_screen
    for screen in screens:
        screen.close()
    assert not [complaint for screen in screens for complaint in screen.complaints]
