"""A remedy on something whose name is redacted: shown so, carried out on the true name only."""

from collections.abc import Callable

import pytest
import redis

from agent import executor, rollback, verification
from agent.case import CaseFile
from agent.redaction import redact
from agent.runbook import Library
from agent.true_names import SeenNames, true_prefix
from evals.servers import BUILDS, Server
from tests.agent.operating import Desk
from tests.agent.test_planning import LOOKS, Case, carry_out, diagnosis
from tools.connection import CommandFailure, Connection

JANE, JOHN = "mail:jane.doe@example.com:", "mail:john.roe@example.com:"
SHOWN = "mail:[redacted e-mail]:"


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server(BUILDS[-1])


def fill(client: "redis.Redis", prefix: str, keys: int = 3_000) -> None:
    pipeline = client.pipeline(transaction=False)
    for number in range(keys):
        pipeline.set(f"{prefix}{number}", "x" * 50)
    pipeline.execute()


async def test_keys_of_a_person_get_an_expiry_and_their_address_is_shown_nowhere(
    server: Server, client: "redis.Redis", reading: Connection
) -> None:
    fill(client, JANE)
    fill(client, "mail:archive:", 50)
    case = Case(server.url, reading, environment="staging")
    plan = await case.plan(diagnosis("missing-ttl-prefix-leak", "prefix", SHOWN), *LOOKS)
    (expiry,) = [action for action in plan.actions if action.kind == "expire_prefix"]
    assert expiry.arguments["prefix"] == SHOWN
    assert not any("jane" in action.model_dump_json() for action in plan.actions)
    await carry_out(case, plan, expiry.id)
    assert client.info("keyspace")["db0"]["expires"] == 3_000
    assert client.ttl("mail:archive:1") == -1
    actions = (await case.journal.incident()).plan.actions
    (ended,) = [action for action in actions if action.id == expiry.id]
    assert ended.status == "verified"
    assert "jane" not in ended.model_dump_json()


async def test_of_two_names_that_are_shown_alike_neither_is_touched(
    server: Server, client: "redis.Redis", reading: Connection
) -> None:
    fill(client, JANE, 200)
    fill(client, JOHN, 200)
    case = Case(server.url, reading, environment="staging")
    plan = await case.plan(diagnosis("missing-ttl-prefix-leak", "prefix", SHOWN), *LOOKS)
    assert [action for action in plan.actions if action.kind == "expire_prefix"] == []
    desk = Desk(server)
    approved = await desk.approved("expire_prefix", {"prefix": SHOWN, "ttl_seconds": 3_600})
    context = await desk.context()
    ended = await executor.apply(context, approved)
    assert (ended.status, "several names" in ended.comment) == ("lapsed", True), ended.comment
    assert client.info("keyspace")["db0"]["expires"] == 0
    assert desk.reading is not None
    await desk.reading.close()


async def test_undone_on_the_same_keys(server: Server, client: "redis.Redis") -> None:
    fill(client, JANE, 200)
    desk = Desk(server)
    approved = await desk.approved("expire_prefix", {"prefix": SHOWN, "ttl_seconds": 3_600})
    context = await desk.context()
    applied = await executor.apply(context, approved)
    assert applied.status == "applied", applied.comment
    assert client.info("keyspace")["db0"]["expires"] == 200
    undone = await rollback.roll_back(context, applied)
    assert undone.status == "rolled_back", undone.comment
    assert client.info("keyspace")["db0"]["expires"] == 0
    assert "jane" not in undone.model_dump_json()
    assert desk.reading is not None
    await desk.reading.close()


async def test_a_client_named_after_a_person_is_disconnected(
    server: Server, client: "redis.Redis"
) -> None:
    named = redis.Redis(port=server.port, protocol=2)
    named.client_setname("worker-jane.doe@example.com")
    found = next(row for row in client.client_list() if row["name"].startswith("worker-"))
    desk = Desk(server)
    arguments = {
        "id": int(found["id"]), "name": redact(found["name"]), "address": found["addr"],
        "type": "normal",
    }  # fmt: skip
    context = await desk.context()
    ended = await executor.apply(context, await desk.approved("kill_client", arguments))
    assert ended.status == "applied", ended.comment
    ended = await verification.verify(context, ended, hold_seconds=0)
    assert ended.status == "verified", ended.comment
    assert "jane" not in ended.model_dump_json()
    assert not any(row["name"].startswith("worker-") for row in client.client_list())
    named.close()
    assert desk.reading is not None
    await desk.reading.close()


@pytest.mark.parametrize(
    ("keys", "shown", "true"),
    [
        ([f"{JANE}1", "other:1"], SHOWN, JANE),
        (["cart:4111111111111111:7", "cart:9:7"], "cart:[redacted card]:",
         "cart:4111111111111111:"),
        (["a*b:x@y.example.com:1", "acb:z@y.example.com:1"], "a*b:[redacted e-mail]:",
         "a*b:x@y.example.com:"),
    ],
)  # fmt: skip
async def test_the_name_is_found_by_what_is_shown(
    client: "redis.Redis", reading: Connection, keys: list[str], shown: str, true: str
) -> None:
    for key in keys:
        client.set(key, 1)
    assert await true_prefix(reading, shown) == true


async def test_a_name_that_is_gone_is_not_found(reading: Connection) -> None:
    with pytest.raises(CommandFailure, match="no such name is left"):
        await true_prefix(reading, SHOWN)


async def test_a_look_at_what_was_shown_redacted_sees_it(
    server: Server, client: "redis.Redis"
) -> None:
    client.xadd("feed:jane.doe@example.com", {"a": 1})
    client.xadd("feed:jane.doe@example.com", {"a": 2})
    desk = Desk(server)
    context = await desk.context()
    case = CaseFile(context, await desk.journal.incident(), Library(runbooks=[]), [])
    first = await case.look("stream_info", {"seconds": 0})
    (shown,) = [row["key"] for row in first.reading["streams"]]
    assert shown == "feed:[redacted e-mail]"
    again = await case.look("stream_info", {"keys": [shown], "seconds": 0})
    assert [row["length"] for row in again.reading["streams"]] == [2]
    assert "jane" not in again.model_dump_json()
    assert desk.reading is not None
    await desk.reading.close()


def test_of_several_names_shown_alike_none_is_guessed() -> None:
    seen = SeenNames()
    seen.learn({"rows": [{"key": f"{JANE}1"}, {"key": f"{JOHN}1"}, {"key": f"{JOHN}2"}]})
    assert seen.true({"keys": [f"{SHOWN}1", f"{SHOWN}2"]}) == {"keys": [f"{SHOWN}1", f"{JOHN}2"]}
