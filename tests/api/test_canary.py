"""No text of anybody's makes the service connect somewhere: a canary listens, and hears nothing."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from httpx2 import AsyncClient
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.app import create_app
from api.notifications import Notifier
from api.settings import Settings
from api.wording import Message
from evals import servers
from tests.answering import answering
from tests.api.serving import as_role, serving, until
from tests.api.test_openapi import documented

SCHEMES = ("http", "https", "redis", "rediss", "gopher", "file", "ws", "ldap")


@dataclass
class Canary:
    """A port that nobody has a reason to connect to."""

    port: int
    heard: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def words(self) -> str:
        """Every way to say its address."""
        urls = [f"{scheme}://{self.address}/x" for scheme in SCHEMES]
        host = "2130706433"  # 127.0.0.1, as some parsers read it
        return " ".join(
            [*urls, self.address, f"//{self.address}", f"http://{host}:{self.port}",
             f"http://[::ffff:127.0.0.1]:{self.port}", f"![x](http://{self.address})",
             f"<img src=http://{self.address}>", f"${{jndi:ldap://{self.address}/x}}",
             f"MOVED 1 {self.address}", f"{{{{http://{self.address}}}}}"]
        )  # fmt: skip


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    canary = Canary(0)

    async def arrived(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        canary.heard.append(await reader.read(200))

    async with answering(arrived) as canary.port:
        yield canary


async def test_the_canary_hears(canary: Canary) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", canary.port))) as link:
        link.sendall(b"hello")
        await until(lambda: _true(canary.heard == [b"hello"]))


async def _true(value: bool) -> bool:
    return value


@pytest.fixture
def poisoned(
    start_server: Callable[..., servers.Server], canary: Canary
) -> Iterator[servers.Server]:
    """A server whose keys, clients, slow commands and errors name the canary."""
    server = start_server(servers.BUILDS[-1])
    with redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.client_setname(canary.address)
        for url in canary.words().split(" "):
            client.set(url, url)
            client.xadd(f"stream:{url}", {"url": url})
            client.publish(url, url)
            with contextlib.suppress(redis.RedisError):
                client.execute_command("AUTH", url, url)
        yield server


def everywhere(schema: Any, document: Any, text: str, depth: int = 0) -> Any:
    """A body as the document has it, with the text wherever a text may be."""
    schema = schema or {}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return everywhere(document["components"]["schemas"][name], document, text, depth)
    options = schema.get("anyOf") or schema.get("oneOf") or []
    if options:
        return everywhere(options[0], document, text, depth)
    match schema.get("type"):
        case "object":
            told = {
                name: everywhere(part, document, text, depth + 1)
                for name, part in schema.get("properties", {}).items()
            }
            extra = {} if schema.get("additionalProperties") is False else {"x": text}
            return told | extra
        case "array":
            return [everywhere(schema.get("items"), document, text, depth + 1)]
        case "boolean":
            return False
        case "integer" | "number":
            return 1
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("format") == "date-time":
        return "2026-01-31T03:00:00Z"
    return text[: schema.get("maxLength", len(text))]


async def say_it_everywhere(
    client: AsyncClient, app: Any, canary: Canary, known: dict[str, str]
) -> None:
    """In every field of every operation, in its query, its path and its headers."""
    text = canary.words()
    headers = {
        name: f"http://{canary.address}/"
        for name in ("Referer", "Origin", "X-Forwarded-Host", "X-Original-URL", "Forwarded",
                     "X-Callback-URL", "Link", "From")
    } | {"Host": canary.address}  # fmt: skip
    document = app.openapi()
    for (method, path), operation in documented(app).items():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        body = everywhere(content.get("schema"), document, text) if content else None
        for names in (known, dict.fromkeys(known, canary.address)):
            url = path.format(**names)
            if url.endswith("/events") and names is known:
                continue  # it would end when its incident does
            query = [f"{p['name']}={text[:200]}" for p in operation.get("parameters", ())]
            for asked in (url, f"{url}?{'&'.join(query)}", f"{url}?url=http://{canary.address}"):
                answer = await client.request(method, asked, json=body, headers=headers)
                assert answer.status_code < 500, (method, path, answer.text)


@pytest.mark.timeout(240)
async def test_nothing_that_anybody_says_is_connected_to(
    settings: Callable[..., Settings], poisoned: servers.Server, canary: Canary
) -> None:
    """Alerts, questions, comments, names of incidents: while investigations really run."""
    target = {"name": "cache", "url": f"redis://127.0.0.1:{poisoned.port}",
              "environment": "staging", "match": {"instance": "cache"}}  # fmt: skip
    app = create_app(settings(targets=[target]))
    async with serving(app) as client:
        text = canary.words()
        labels = {"alertname": "RedisMemoryHigh", "instance": "cache", "addr": canary.address,
                  "runbook_url": f"http://{canary.address}", "target": canary.address}  # fmt: skip
        alert = {
            "status": "firing", "labels": labels, "startsAt": "2026-01-31T03:00:00Z",
            "generatorURL": f"http://{canary.address}", "fingerprint": canary.address,
            "annotations": dict.fromkeys(("runbook_url", "summary", "dashboard", "image"), text),
        }  # fmt: skip
        urls = dict.fromkeys(("externalURL", "dashboardURL", "panelURL", "silenceURL"), text)
        posted = await client.post("/v1/alerts/alertmanager", json={"alerts": [alert]} | urls)
        (one,) = posted.json()["incidents"]

        async def ended() -> bool:
            told = (await client.get(f"/v1/incidents/{one['id']}")).json()
            return told["status"] not in ("queued", "investigating")

        await until(ended, 60, "the investigation ends")
        for question in (text, f"what is at http://{canary.address}?", "what is the biggest key?"):
            body = {"message": question[:2_000], "incident_id": one["id"]}
            assert (await client.post("/v1/chat", json=body)).status_code == 200
        known = {"incident_id": one["id"], "action_id": "A1", "evidence_id": "E1",
                 "thread_id": "t-1", "freeze_id": "1", "silence_id": "1",
                 "runbook_id": "memory-pressure", "name": "cache-eu"}  # fmt: skip
        await say_it_everywhere(client, app, canary, known)
        for path in ("/report", "/report?format=html", "/transcript"):
            await client.get(f"/v1/incidents/{one['id']}{path}", headers=as_role("viewer"))
    assert canary.heard == []


async def test_a_page_does_not_follow_a_redirect_to_another_server(
    settings: Callable[..., Settings], canary: Canary
) -> None:
    """Whoever takes over the pager's address does not get our request sent on."""
    asked: list[bytes] = []

    async def redirecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        location = f"Location: http://{canary.address}/x".encode()
        writer.write(b"HTTP/1.1 307 x\r\nContent-Length: 0\r\n" + location + b"\r\n\r\n")
        await writer.drain()

    async with answering(redirecting) as port:
        notifier = Notifier(settings(pages={"to": [f"json://127.0.0.1:{port}/"]}))
        (address,) = notifier.addresses.values()
        assert not (await address.take(Message("x", "x", "info"))).accepted
    assert asked
    assert canary.heard == []
