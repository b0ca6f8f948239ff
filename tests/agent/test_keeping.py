"""What is kept of a conversation with a model: every request, whole, once, without secrets."""

import json

import httpx
import pytest
import respx

from agent.budget import Budget, ModelSettings
from agent.context import ReasonerUnavailable
from agent.conversation import Conversation
from agent.exchange import Exchange
from agent.functions import SUBMIT, may_be_asked_for, submit_function
from agent.model import Model
from tests.agent.desk import Desk
from tests.agent.endpoint import BASE, DONE, KEY, URL, reply
from tools.reads import READS

HELLO = [{"role": "system", "content": "Find it."}, {"role": "user", "content": f"key {KEY}"}]


async def kept_of(desk: Desk, *replies: httpx.Response | Exception) -> list[Exchange]:
    """The exchanges of one conversation with an endpoint that answers so."""
    respx.post(URL).side_effect = list(replies)
    model = Model(ModelSettings("test", KEY, BASE))
    kept: list[Exchange] = []

    async def keep(exchange: Exchange) -> None:
        kept.append(exchange)

    conversation = Conversation(
        model=model,
        budget=Budget(model.settings),
        messages=list(HELLO),
        submission=submit_function(["unknown"]),
        accept=lambda arguments: arguments,
        look=desk.look,
        tools=READS,
        keep=keep,
    )
    try:
        await conversation.run()
    except ReasonerUnavailable:
        pass
    finally:
        await model.close()
    return kept


@respx.mock
async def test_each_message_is_kept_once_and_the_conversation_can_be_put_together(
    desk: Desk,
) -> None:
    looked = reply(("slowlog", {}), ("modules", {}))
    first, second = await kept_of(desk, looked, reply(DONE))
    sent = [json.loads(call.request.content)["messages"] for call in respx.calls]
    assert (first.earlier_messages, second.earlier_messages) == (0, 2)
    assert [len(first.messages), len(second.messages)] == [2, 3]
    whole = [*first.messages[: second.earlier_messages], *second.messages]
    assert whole[2:] == sent[1][2:]
    assert first.tools == [*may_be_asked_for(READS), SUBMIT]
    assert first.reply is not None
    assert [call["function"]["name"] for call in first.reply["tool_calls"]] == [
        "slowlog",
        "modules",
    ]
    assert first.usage.llm_calls == 1
    assert first.usage.input_tokens == 1_000
    assert first.options
    assert first.purpose == "investigation"


@respx.mock
async def test_no_secret_is_kept(desk: Desk) -> None:
    told = httpx.Response(400, json={"error": {"message": f"bad key {KEY}"}})
    kept = await kept_of(desk, told, told)
    assert KEY not in kept[0].model_dump_json()
    assert "[redacted" in kept[0].messages[1]["content"]


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (httpx.Response(401, text="no"), "the API key was refused"),
        (httpx.Response(200, text="<html>"), "did not answer in JSON"),
    ],
)
@respx.mock
async def test_a_failed_request_is_kept_with_its_reason(
    desk: Desk, response: httpx.Response, failure: str
) -> None:
    (kept,) = await kept_of(desk, response)
    assert failure in kept.failure
    assert kept.reply is None
    assert kept.usage.llm_calls == 1


@respx.mock
async def test_a_request_that_was_sent_and_not_answered_has_cost_its_tokens(desk: Desk) -> None:
    slow = httpx.ReadTimeout("slow")
    kept = await kept_of(desk, slow, slow, slow)
    assert "did not answer within" in kept[-1].failure
    assert kept[-1].usage.input_tokens > 1_000
    (refused,) = await kept_of(desk, httpx.Response(401, text="no"))
    assert refused.usage.input_tokens == 0


@respx.mock
async def test_tokens_from_the_prompt_cache_are_counted(desk: Desk) -> None:
    cached = reply(DONE)
    body = json.loads(cached.content)
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 640}
    (kept,) = await kept_of(desk, httpx.Response(200, json=body))
    assert kept.usage.cached_tokens == 640
