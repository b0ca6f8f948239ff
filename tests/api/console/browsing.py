"""A real browser, signed in as somebody, on the console of a real service."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.api.process import PEOPLE, Oncall

PICTURES = Path(os.environ.get("REDIS_ONCALL_PICTURES", Path(__file__).parents[3] / "var/pictures"))
"""Screenshots: artefacts of CI."""
WIDTHS = {"desk": (1440, 900), "phone": (360, 740)}
SECONDS = 30
expect.set_options(timeout=SECONDS * 1_000)
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's. As root it cannot have a sandbox; nothing but our own pages is opened in it."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not installed here (Debian package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def signed_in(
    browser: Browser, oncall: Oncall, name: str, *, javascript: bool = True
) -> Iterator[Page]:
    """A page of a person who has typed their token; nothing may go wrong in it unseen."""
    # What moves is drawn sixty times a second, without a graphics card by a core of its own.
    context = browser.new_context(java_script_enabled=javascript, reduced_motion="reduce")
    context.set_default_timeout(SECONDS * 1_000)
    page = context.new_page()
    wrong = _watched(context, page)
    page.goto(f"{oncall.client.base_url}/sign-in?next=/incidents")
    page.get_by_label("Your token").fill(PEOPLE[name])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/incidents")
    yield page
    context.close()
    assert wrong == []


def _watched(context: BrowserContext, page: Page) -> list[str]:
    """Errors of scripts, what the policy refused, what another host was asked for, and dialogs."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on(
        "console",
        lambda told: wrong.append(told.text) if "Content Security Policy" in told.text else None,
    )

    def asked(url: str) -> None:
        if not url.startswith("http://127.0.0.1:"):
            wrong.append(url)

    context.on("request", lambda request: asked(request.url))
    return wrong


def must_be_accessible(page: Page) -> None:
    """By the rules of axe-core, all of them."""
    found = Axe().run(page)
    told = [
        f"{rule['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]
    assert told == [], "\n".join(told)


def in_every_look(page: Page) -> Iterator[str]:
    """The page as wide as a desk and a phone, light and dark; the name of each."""
    for device, (width, height) in WIDTHS.items():
        for scheme in SCHEMES:
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            yield f"{device}-{scheme}"


def must_fit(page: Page) -> None:
    """Nothing reaches beyond the sides."""
    wide, room = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= room


def take(page: Page, name: str) -> None:
    """A screenshot of all of it, kept."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
