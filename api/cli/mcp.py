"""`redis-oncall mcp`: the Model Context Protocol over stdin and stdout, for a client here."""

import asyncio
import contextlib

SECONDS = 120.0
"""Longer than the longest answer in chat."""


def mcp() -> None:
    """Let another agent look, over stdin and stdout (MCP); it can change nothing."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_speak())


async def _speak() -> None:
    """Until stdin ends; a client of REDIS_ONCALL_URL with REDIS_ONCALL_TOKEN."""
    import httpx2
    from mcp.server.stdio import stdio_server

    from api.cli.client import address
    from api.mcp.server import make_server

    url, headers = address("")
    async with (
        httpx2.AsyncClient(base_url=url, headers=headers, timeout=SECONDS) as client,
        stdio_server() as (heard, said),
    ):
        server = make_server(lambda _: contextlib.nullcontext(client))
        await server.run(heard, said, server.create_initialization_options())
