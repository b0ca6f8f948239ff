"""The keys used most, where the server counts it; and a server that a script blocks."""

import asyncio
import socket

from evals.servers import Server
from tests.tools.looking import client_of, not_measured, opened, read
from tools.hotkeys import HotKeys
from tools.reading import NotMeasured
from tools.scripts import Scripts


async def test_the_hot_key_leads_under_an_lfu_policy(server: Server) -> None:
    admin = client_of(server)
    admin.config_set("maxmemory-policy", "allkeys-lfu")
    for number in range(300):
        admin.set(f"cold:{number}", "x")
    admin.set("hot", "x")
    for _ in range(20):
        pipe = admin.pipeline(transaction=False)
        for _ in range(500):
            pipe.get("hot")
        pipe.execute()
    async with opened(server.url) as connection:
        seen = await read(connection, "hot_keys", HotKeys)
    assert (seen.keys_seen, seen.complete, seen.lookups) == (301, True, 301)
    assert seen.hottest[0].key == "hot"
    assert seen.hottest[0].frequency > 2 * seen.hottest[1].frequency
    assert len(seen.hottest) == 10


async def test_without_an_lfu_policy_nobody_counts(server: Server) -> None:
    async with opened(server.url) as connection:
        seen = await not_measured(connection, "hot_keys")
    assert seen.failure == "disabled"
    assert "noeviction" in seen.because


async def test_a_busy_server_says_so(build: str, server: Server) -> None:
    limit = "lua-time-limit" if build == "redis-6.2" else "busy-reply-threshold"
    client_of(server).config_set(limit, 50)
    link = socket.create_connection(("127.0.0.1", server.port), 5)
    link.sendall(b"EVAL 'while true do end' 0\r\n")
    killer = client_of(server)
    try:
        await asyncio.sleep(0.3)
        async with opened(server.url) as connection:
            seen = await read(connection, "scripts", Scripts)
        assert seen.blocked_by == "BUSY"
        assert isinstance(seen.running_script, NotMeasured)  # FUNCTION STATS tells functions only
    finally:
        killer.script_kill()
        link.close()
