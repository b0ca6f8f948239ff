"""The console in a real browser: a real service, real servers, a real fault."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, Page, Route, expect

from evals import servers
from evals.faults import FAULTS
from tests.api.console.browsing import (
    chromium,
    in_every_look,
    must_be_accessible,
    must_fit,
    signed_in,
    take,
)
from tests.api.process import Oncall, setting_of
from tests.close_samples import LONGEST_WAIT

FAULT = FAULTS["missing-ttl-prefix-leak"]
OPEN = "window.loaded_once = true"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def oncall(tmp_path: Path) -> Iterator[Oncall]:
    """The demo's server and fault."""
    build, binary = servers.demo_binary()
    with contextlib.ExitStack() as stack:
        server = servers.start(build, binary, FAULT.arguments_for(build))
        stack.callback(servers.stop, server)
        stack.enter_context(FAULT.prepare(server, 7))
        yield stack.enter_context(started(tmp_path, server.port))


@contextlib.contextmanager
def started(folder: Path, port: int) -> Iterator[Oncall]:
    oncall = Oncall(folder, port, {"verify_for": "2s"}, **{LONGEST_WAIT: "1"})
    oncall.start()
    try:
        yield oncall
    finally:
        oncall.stop()


# The others share a service: they stay with one worker, which tests that are long do not.
@pytest.mark.long
def test_an_incident_from_its_alert_to_its_verified_remedy(
    oncall: Oncall, browser: Browser
) -> None:
    with signed_in(browser, oncall, "alice") as page:
        expect(page.get_by_text("Nothing burns.")).to_be_visible()
        page.evaluate(OPEN)
        incident_id = oncall.alert()
        # The list and then the incident fill by themselves.
        page.locator("#burning .incident a").click()
        page.wait_for_url(f"**/incidents/{incident_id}")
        page.evaluate(OPEN)
        expect(page.locator("ol.timeline li.evidence").first).to_be_visible()
        plan = page.get_by_role("region", name="Plan")
        expect(plan).to_be_visible()
        must_not_have_loaded_again(page)
        incident = oncall.reaches(incident_id, "awaiting_approval")
        assert incident.diagnosis is not None
        expect(page.get_by_role("heading", level=1)).to_have_text(incident.diagnosis.title)
        must_be_all_of_the_memory(page, oncall, incident_id)
        for look in in_every_look(page):
            must_fit(page)
            if look in ("desk-light", "phone-dark"):
                must_be_accessible(page)
            take(page, f"incident-{look}")

        setting, ttl = setting_of(incident), "A3"
        must_be_typed_first(page, ttl)
        with signed_in(browser, oncall, "bob", javascript=False) as other:
            other.goto(page.url)
            page.locator(f"#{ttl}").get_by_role("button", name="Reject").click()
            expect(page.locator(f"#{ttl}")).to_contain_text("Rejected by alice")
            # Bob's page is from before that, and stays as it is.
            other.locator(f"#{ttl}-target").fill("cache")
            other.get_by_role("button", name=f"Approve {ttl}").click()
            expect(other.get_by_role("alert")).to_contain_text("rejected")
            expect(other.locator(f"#{ttl}")).to_contain_text("Rejected by alice")

        page.get_by_role("button", name=f"Approve {setting.id}").click()
        expect(page.get_by_text(f"Your yes to {setting.id} is kept.")).to_be_visible()
        page.evaluate(OPEN)
        expect(page.locator(f"article#{setting.id}.verified")).to_be_visible()
        expect(page.locator("ol.timeline")).to_contain_text(f"{setting.id} applied")
        expect(page.get_by_role("region", name="Before and after", exact=True)).to_be_visible()
        must_not_have_loaded_again(page)
        must_be_accessible(page)
        take(page, "incident-verified")


def test_a_viewer_sees_everything_and_decides_nothing(gate: Oncall, browser: Browser) -> None:
    incident = gate.incident(the_only(gate))
    action = setting_of(incident)
    with signed_in(browser, gate, "vera") as page:
        page.goto(f"{gate.client.base_url}/incidents/{incident.id}")
        expect(page.locator(f"#{action.id}")).to_contain_text("You are a viewer")
        assert page.locator("button").all_inner_texts() == ["Sign out"]
        # Whatever a page offers: the service decides.
        said = page.evaluate(
            """async ([path, fingerprint]) => (await fetch(path, {
              method: "POST", redirect: "manual", body: new URLSearchParams({
                fingerprint, csrf: document.querySelector("[name=csrf]").value})})).status""",
            [f"/incidents/{incident.id}/actions/{action.id}/approve", action.fingerprint],
        )
        assert said == 403
    assert gate.action(incident.id, action.id).status == "proposed"


def test_an_answer_cites_evidence_that_opens_over_the_page(gate: Oncall, browser: Browser) -> None:
    with signed_in(browser, gate, "alice") as page:
        page.goto(f"{gate.client.base_url}/incidents/{the_only(gate)}")
        page.get_by_label("Your question").fill("Why is memory full?")
        page.get_by_role("button", name="Ask").click()
        cited = page.locator(".turn .answer a.cite").first
        number = cited.inner_text()
        cited.click()
        look = page.get_by_role("dialog")
        expect(look).to_contain_text(number)
        expect(look).to_contain_text("Read with")
        expect(look).to_contain_text("127.0.0.1")
        must_be_accessible(page)
        page.keyboard.press("Escape")
        expect(look).to_be_hidden()
        expect(cited).to_be_focused()


def test_hostile_names_are_only_text(gate: Oncall, browser: Browser) -> None:
    with signed_in(browser, gate, "alice") as page:
        page.goto(f"{gate.client.base_url}/incidents/{the_only(gate)}")
        page.locator("#looks summary").click()
        page.locator("#memory-table summary").click()
        shown = page.inner_text("main")
        assert "<script>pwned(1)</script>:" in shown
        assert "<img src=x onerror=pwned(2)>:" in shown
        assert "🦊:" in shown
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
        assert "\\u202e" in shown
        assert "\\x1b[31m" in shown
        assert "\\x00" in shown
        assert max(map(len, shown.split())) < 1_000
        must_hold_no_element_of_theirs(page)
        for _ in in_every_look(page):
            must_fit(page)
        must_be_accessible(page)
        for evidence in gate.incident(the_only(gate)).evidence:
            if evidence.tool in ("bigkeys", "keyspace", "clients"):
                page.goto(
                    f"{gate.client.base_url}/incidents/{the_only(gate)}/evidence/{evidence.id}"
                )
                assert (
                    page.evaluate("document.querySelectorAll('main script, main img').length") == 0
                )
                must_fit(page)
                must_be_accessible(page)


def test_targets_runbooks_and_the_trail_are_for_everybody_everywhere(
    gate: Oncall, browser: Browser
) -> None:
    with signed_in(browser, gate, "alice") as page:
        for path, looked_at in (
            ("/targets", "desk-light"), ("/targets/cache", "phone-dark"),
            ("/runbooks", "desk-dark"), ("/runbooks/noeviction-oom", "phone-light"),
            ("/audit", "phone-dark"),
        ):  # fmt: skip
            page.goto(f"{gate.client.base_url}{path}")
            must_hold_no_element_of_theirs(page)
            for look in in_every_look(page):
                must_fit(page)
                if look == looked_at:
                    must_be_accessible(page)
                    take(page, f"{path.strip('/').replace('/', '-')}-{look}")
        page.goto(f"{gate.client.base_url}/targets")
        page.get_by_role("link", name="cache", exact=True).click()
        page.get_by_role("button", name="Investigate now").click()
        page.wait_for_url(f"**/incidents/{the_only(gate)}")
        page.get_by_role("link", name="memory-pressure").first.click()
        page.get_by_role("link", name="Immediate Remediation").click()
        expect(page.locator(":target")).to_have_text("Immediate Remediation")


def test_with_the_keyboard_alone_an_action_is_approved(gate: Oncall, browser: Browser) -> None:
    with signed_in(browser, gate, "alice") as page:
        page.goto(f"{gate.client.base_url}/incidents/{the_only(gate)}")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "top"
        reached = set()
        for _ in range(120):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.textContent.trim()"))
        assert f"Approve {setting_of(gate.incident(the_only(gate))).id}" in reached
        assert "Ask" in reached


def must_hold_no_element_of_theirs(page: Page) -> None:
    assert page.locator("main script, main img, main b").count() == 0


def must_not_have_loaded_again(page: Page) -> None:
    assert page.evaluate("window.loaded_once") is True


def must_be_all_of_the_memory(page: Page, oncall: Oncall, incident_id: str) -> None:
    looks = [e for e in oncall.incident(incident_id).evidence if e.tool == "memory_info"]
    path = f"/v1/incidents/{incident_id}/evidence/{looks[-1].id}"
    used = oncall.client.get(path).json()["reading"]["used_memory"]
    for shape in ("wide", "tall"):
        drawn = page.locator(f"svg.treemap.{shape} g[data-bytes]").evaluate_all(
            """parts => parts.map(part => [Number(part.dataset.bytes),
              part.querySelector("rect").width.baseVal.value
              * part.querySelector("rect").height.baseVal.value])"""
        )
        total = sum(size for size, _ in drawn)
        assert total == pytest.approx(used, rel=0.01)
        area = sum(each for _, each in drawn)
        for size, each in drawn:
            if size > total / 1_000:
                assert each / area == pytest.approx(size / total, rel=0.05, abs=0.001)


def must_be_typed_first(page: Page, action_id: str) -> None:
    page.locator(f"#{action_id}-target").fill("another")
    page.get_by_role("button", name=f"Approve {action_id}").click()
    expect(page.get_by_role("alert")).to_contain_text("type the target's name, cache")


def the_only(oncall: Oncall) -> str:
    (incident,) = oncall.client.get("/v1/incidents").json()["items"]
    return str(incident["id"])


HOSTILE = (
    b"<script>pwned(1)</script>:", b"<img src=x onerror=pwned(2)>:", "‮gnp.exe:".encode(),
    "🦊:".encode(), b"\x00nul:", b"\x1b[31mred\x1b]0;title\x07:", b"L" * 10_240 + b":",
)  # fmt: skip


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oncall]:
    """An incident that waits for an approval, on a server full of hostile names."""
    build, binary = servers.demo_binary()
    with contextlib.ExitStack() as stack:
        server = servers.start(build, binary, ("--maxmemory", "12mb"))
        stack.callback(servers.stop, server)
        client = stack.enter_context(redis.Redis(port=server.port))
        client.client_setname("<b>client</b>")
        fill_with_hostile_names(client)
        folder = tmp_path_factory.mktemp("gate")
        oncall = stack.enter_context(started(folder, server.port))
        oncall.reaches(oncall.alert(), "awaiting_approval")
        yield oncall


def fill_with_hostile_names(client: "redis.Redis") -> None:
    value = b"x" * 3_000
    for number in range(4_000):
        pipeline = client.pipeline(transaction=False)
        for family, prefix in enumerate(HOSTILE):
            if family == 0 or number % 20 == 0:
                pipeline.set(prefix + str(number).encode(), value)
        if any(isinstance(reply, redis.ResponseError) for reply in pipeline.execute(False)):
            return


def test_a_part_that_is_new_keeps_what_a_person_is_at(gate: Oncall, browser: Browser) -> None:
    """And says only what it has from the service: how long ago, and whether that still answers."""
    incident = gate.incident(the_only(gate))
    action = setting_of(incident)
    with signed_in(browser, gate, "alice") as page:
        changes: dict[str, str] = {}

        def changed(route: Route) -> None:
            html = route.fetch().text()
            for old, new in changes.items():
                assert old in html or re.search(old, html), old
                html = re.sub(old, new, html)
            route.fulfill(body=html, content_type="text/html")

        page.goto(f"{gate.client.base_url}/incidents/{incident.id}?said=again")
        assert page.url.endswith(incident.id)
        page.route(f"**/incidents/{incident.id}*", changed)
        approve = page.get_by_role("button", name=f"Approve {action.id}")
        why, glass = page.locator(f"#{action.id}-why"), page.locator(f"#{action.id}-glass")
        glass.check()
        changes['id="plan" '] = 'id="plan" lang="en" '
        approve.focus()
        page.evaluate("refresh()")
        expect(page.locator("#plan[lang]")).to_be_visible()
        expect(approve).to_be_focused()
        expect(glass).to_be_checked()
        why.fill("because")
        page.evaluate("document.activeElement.setSelectionRange(2, 4)")
        # What was ticked for another action than is shown now confirms nothing.
        changes['lang="en" '], changes[action.fingerprint] = 'lang="fr" ', "f" * 64
        changes[r"\d+ (s|min) ago"], changes['name="csrf" value="[^"]*"'] = (
            "5 d ago", 'name="csrf" value="new"',
        )  # fmt: skip
        page.evaluate("refresh()")
        expect(page.locator("#plan[lang=fr]")).to_be_visible()
        expect(why).to_be_focused()
        assert page.evaluate("document.activeElement.selectionEnd") == 4
        expect(why).to_have_value("because")
        expect(glass).not_to_be_checked()
        expect(page.locator("#summary .head time")).to_have_text("5 d ago")
        expect(page.locator("#chat [name=csrf]")).to_have_value("new")
        page.unroute_all()
        page.route(f"**/incidents/{incident.id}*", lambda route: route.fulfill(status=503))
        page.evaluate("refresh()")
        expect(page.locator("body.stale")).to_be_visible()
        expect(page.locator("#said")).to_contain_text("Not up to date")
