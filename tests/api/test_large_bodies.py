"""Large bodies: nobody can hold others' up who has no right to send any."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from api import limits
from api.app import create_app
from api.settings import Settings
from tests.api.senders import NEW, signature
from tests.api.serving import as_role, listening, until

PATH = "/v1/alerts/generic"
MIB = 1 << 20


def alert(*, large: bool = True) -> bytes:
    one = {"name": "slow", "starts_at": "2026-01-31T03:00:00Z", "labels": {"instance": "cache-eu"}}
    return json.dumps({"alerts": [one]}).encode() + b" " * limits.LARGEST_OF_ANYBODY * large


@contextlib.asynccontextmanager
async def hanging(url: str, connections: int, size: int, *headers: str) -> AsyncIterator[list[str]]:
    """Connections that send so much of a larger message, and wait; the codes of the answers."""
    address, codes = httpx2.URL(url), list[str]()

    async def hold() -> None:
        lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", *headers,
                 f"Content-Length: {limits.LARGEST_ALERTS}", "", ""]  # fmt: skip
        code = "503"
        while code == "503":  # somebody else has the room at this moment
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write("\r\n".join(lines).encode() + b" " * size)
            try:
                code = (await reader.readline()).split()[1].decode()
            finally:
                writer.close()
        codes.append(code)

    holding = [asyncio.create_task(hold()) for _ in range(connections)]
    try:
        yield codes
    finally:
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)


async def post(url: str, body: bytes, **headers: str) -> int:
    async with httpx2.AsyncClient() as client:
        return (await client.post(url + PATH, content=body, headers=headers)).status_code


@pytest.mark.parametrize("header", [[], ["Authorization: Bearer roc_nobody_x"]])
async def test_who_has_no_valid_token_is_refused_before_a_large_body_is_there(
    settings: Callable[..., Settings], header: list[str]
) -> None:
    told = settings()
    enough = limits.LARGEST_BODIES // limits.LARGEST_ALERTS + 2
    async with (
        listening(create_app(told, worker=False), told) as url,
        hanging(url, enough, limits.LARGEST_ALERTS - 1, *header) as codes,
    ):

        async def all_answered() -> bool:
            return len(codes) == enough

        await until(all_answered, what="every one is answered")
        assert set(codes) == {"401", "429"}
        assert await post(url, alert(), **as_role("admin")) == 202


async def test_whom_only_a_signature_can_prove_leaves_room_for_who_has_a_token(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGEST_UNKNOWN", 2 * MIB)
    told = settings(sources=[{"name": "signed", "kind": "generic", "hmac": {"secrets": [NEW]}}])
    large, small = alert(), alert(large=False)
    async with listening(create_app(told, worker=False), told) as url:

        async def is_answered(code: int) -> bool:
            return await post(url, large, **{"X-Signature": signature(large, NEW)}) == code

        assert await is_answered(202)
        async with hanging(url, 2, MIB):
            await until(lambda: is_answered(503), what="there is no more room for them")
            assert await post(url, small, **{"X-Signature": signature(small, NEW)}) == 202
            assert await post(url, large, **as_role("admin")) == 202
        await until(lambda: is_answered(202), what="their room is given back")
