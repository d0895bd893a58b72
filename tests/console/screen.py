"""A person in front of a real browser."""

from __future__ import annotations

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

# On a machine that does much else at once; the pages' own background refreshes come later than this.
PATIENCE_MS = 18_000
expect.set_options(timeout=PATIENCE_MS)

SIZES = {"desk": (1366, 768), "wall": (1920, 1080), "phone": (390, 844)}
_CSP = """
document.addEventListener("securitypolicyviolation", event =>
  console.error(`CSP ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


class Screen:
    """`complaints` is what the browser wrote as error or warning, CSP violations included."""

    def __init__(self, browser: Browser, url: str, *, size: str = "desk", language: str = "zh") -> None:
        self.url = url
        self.complaints: list[str] = []
        self.expected: tuple[str, ...] = ()
        width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.context.add_init_script(_CSP)
        self.context.add_cookies([{"name": "gw_language", "value": language, "url": url}])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))

    def expect_complaints(self, *parts: str) -> None:
        """What the test itself provokes, such as a refused connection."""
        self.expected = parts

    def sign_in(self, name: str, password: str) -> None:
        self.open("/sign-in")
        self.page.fill("[name=username]", name)
        self.page.fill("[name=password]", password)
        self.tap("sign-in")
        self.page.wait_for_url(lambda url: "/sign-in" not in url)

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def wait_live(self) -> None:
        """Until the page hears of events and has fetched what happened before it did."""
        expect(self.page.locator("body")).to_have_attribute("data-connection", "live")
        expect(self.page.locator(".htmx-request")).to_have_count(0)

    def get(self, test_id: str) -> Locator:
        return self.page.get_by_test_id(test_id)

    def alarm(self, rule: str, device: str) -> Locator:
        return self.page.locator(f'[data-testid=alarm-row][data-rule="{rule}"][data-device="{device}"]')

    def tap(self, test_id: str) -> None:
        self.get(test_id).click()

    def overflow(self) -> int:
        """Pixels the page is wider than the screen."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def resize(self, size: str) -> None:
        width, height = SIZES[size]
        self.page.set_viewport_size({"width": width, "height": height})

    def close(self) -> None:
        self.context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(part in message.text for part in self.expected):
            self.complaints.append(f"{self.page.url}: {message.text}")
