"""Whose X-Forwarded-For is believed: nobody's, unless a proxy is configured."""

import pytest
from starlette.types import Receive, Scope, Send

from api.peer import Peers, peer_of
from api.settings import load_settings


@pytest.mark.parametrize(
    ("proxies", "asks"),
    [(None, "127.0.0.1"), ("", "127.0.0.1"), ("10.9.9.9", "127.0.0.1"), ("127.0.0.1", "6.6.6.6")],
)
async def test_who_asks_is_whoever_is_connected_unless_that_is_a_proxy_of_ours(
    proxies: str | None, asks: str
) -> None:
    """uvicorn's own default believes this machine: any program here could be anybody."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {
        "type": "http", "client": ("127.0.0.1", 5), "scheme": "http",
        "headers": [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-proto", b"https")],
    }  # fmt: skip
    environment = {} if proxies is None else {"FORWARDED_ALLOW_IPS": proxies}
    trusted = load_settings(environment).forwarding_proxies
    await Peers(app, trusted)(scope, None, None)  # type: ignore[arg-type]
    assert seen[0]["client"][0] == asks
    assert peer_of(seen[0]) == "127.0.0.1", "a header never makes a proxy"
