"""The event stream: complete, in order, resumable, and it ends."""

import asyncio
import json
from typing import Any

import pytest
from httpx2 import AsyncClient

from api.store.journal import SqlJournal
from tests.api.test_incidents_api import journal_of, opened, service_of


async def read(client: AsyncClient, incident_id: str, after: int | None = None) -> list[Any]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    response = await client.get(f"/v1/incidents/{incident_id}/events", headers=headers, timeout=20)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


@pytest.fixture
async def journal(client: AsyncClient) -> SqlJournal:
    return await journal_of(client, (await opened(client))["id"])


async def finish(journal: SqlJournal) -> str:
    await journal.set_status("investigating")
    await journal.add_evidence("memory_info", {}, {}, measured=True, node="n", summary="5 MiB")
    await journal.set_status("needs_human", "nothing helps")
    await journal.event("end", {"status": "needs_human", "ended_because": "nothing helps"})
    return (await journal.incident()).id


async def test_all_events_in_order_and_an_end(client: AsyncClient, journal: SqlJournal) -> None:
    incident_id = await finish(journal)
    events = await read(client, incident_id)
    assert [number for number, _, _ in events] == [1, 2, 3, 4, 5]
    assert [kind for _, kind, _ in events] == ["status", "status", "evidence", "status", "end"]
    assert events[2][2]["summary"] == "5 MiB"
    assert events[-1][2] == {"status": "needs_human", "ended_because": "nothing helps"}


async def test_resumed_after_each_event_nothing_is_missed_or_repeated(
    client: AsyncClient, journal: SqlJournal
) -> None:
    incident_id = await finish(journal)
    whole = await read(client, incident_id)
    for number in range(len(whole)):
        assert await read(client, incident_id, number) == whole[number:]


async def test_events_arrive_while_they_happen(client: AsyncClient, journal: SqlJournal) -> None:
    reading = asyncio.create_task(read(client, (await journal.incident()).id))
    await asyncio.sleep(0.4)  # it has read what there is, and waits
    assert not reading.done()
    await finish(journal)
    assert [kind for _, kind, _ in await reading][-1] == "end"


async def test_an_end_that_was_followed_by_another_attempt_ends_nothing(
    client: AsyncClient, journal: SqlJournal
) -> None:
    incident_id = await finish(journal)
    assert (await client.post(f"/v1/incidents/{incident_id}/reinvestigate")).status_code == 202
    again = SqlJournal(service_of(client).database, incident_id, 2, journal.lease)
    reading = asyncio.create_task(read(client, incident_id, 3))
    await again.set_status("investigating")
    await again.set_status("resolved", "by itself")
    events = await reading
    assert [kind for _, kind, _ in events].count("end") == 1
    assert events[-1][2]["ended_because"] == "by itself"


@pytest.mark.parametrize("header", ["-1", "x", "1e9", "99999999999999999999"])
async def test_a_last_event_id_that_is_none_is_told(client: AsyncClient, header: str) -> None:
    one = await opened(client)
    response = await client.get(
        f"/v1/incidents/{one['id']}/events", headers={"Last-Event-ID": header}
    )
    assert response.status_code == 422


async def test_too_many_streams_push_back(
    client: AsyncClient, journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident_id = await finish(journal)
    monkeypatch.setattr("api.events.MOST_STREAMS", 0)
    response = await client.get(f"/v1/incidents/{incident_id}/events")
    assert response.status_code == 503
    assert "retry-after" in response.headers
