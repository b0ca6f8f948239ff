"""Whoever tries tokens is slowed and on record; whoever has one is served all the same."""

from collections.abc import Callable

import pytest

from api import sign_ins
from api.app import create_app
from api.settings import Settings
from api.sign_ins import MOST_FAILURES, WINDOW_SECONDS, SignIns
from tests.api.serving import as_role, serving
from tests.api.test_audit_service import trail_of
from tests.api.test_incidents_api import service_of


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_guesser_is_asked_to_wait_and_a_colleague_behind_the_same_proxy_is_served(
    settings: Callable[..., Settings],
) -> None:
    app = create_app(settings(), worker=False)
    async with serving(app) as client:
        codes = []
        for number in range(MOST_FAILURES + 3):
            guess = as_role(f"roc_{number}_guess") if number % 2 else {"Authorization": "Basic x"}
            response = await client.get("/v1/incidents", headers=guess)
            codes.append(response.status_code)
        assert codes == [401] * MOST_FAILURES + [429] * 3
        assert response.headers["content-type"] == "application/problem+json"
        assert 0 < int(response.headers["retry-after"]) <= WINDOW_SECONDS
        assert (await client.get("/v1/incidents", headers=as_role("viewer"))).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
        await app.state.sign_ins.write_down(service_of(client).database)
        (row,) = [row for row in await trail_of(client) if row.what == "sign_in_failed"]
        assert row.detail == {"times": MOST_FAILURES + 3, "limited": 3, "of": ["127.0.0.1"]}


def test_after_the_window_it_begins_anew() -> None:
    clock = Clock()
    counted = SignIns(clock=clock)
    assert [counted.fail("192.0.2.1") for _ in range(MOST_FAILURES)] == [None] * MOST_FAILURES
    clock.now += WINDOW_SECONDS - 0.5
    assert counted.fail("192.0.2.1") == 1
    assert counted.fail("192.0.2.2") is None
    clock.now += 0.5
    assert counted.fail("192.0.2.1") is None


def test_a_network_of_ipv6_is_one_sender_and_no_sender_is_remembered_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sign_ins, "MOST_KNOWN", 50)
    counted = SignIns(clock=Clock())
    waits = [counted.fail(f"2001:db8::{number:x}") for number in range(MOST_FAILURES + 1)]
    assert waits[-1] is not None
    for number in range(500):
        counted.fail(f"2001:db8:{number:x}::1%eth0")
        counted.fail(f"not an address {number}" * 100)
    assert len(counted._windows) == 50
    assert len(counted.addresses) == sign_ins.MOST_ADDRESSES
    assert max(map(len, counted._windows)) < 100
    assert counted.fail("::ffff:192.0.2.9") is None
    assert "192.0.2.9" in counted._windows
