"""Models that decline, break off, contradict themselves, or think too long to answer."""

import json
from typing import Any

import httpx
import pytest
import respx

from agent.context import ReasonerUnavailable
from agent.functions import SUBMIT
from tests.agent.desk import Desk
from tests.agent.endpoint import (
    DONE,
    SUBMISSION,
    URL,
    Make,
    every_call_is_answered,
    reply,
    requests,
)


def ended(response: httpx.Response, reason: str, **message: Any) -> httpx.Response:
    """The reply with another finish_reason, and more in its message."""
    body = json.loads(response.content)
    body["choices"][0]["finish_reason"] = reason
    body["choices"][0]["message"] |= message
    return httpx.Response(200, json=body)


CUT = ended(reply((SUBMIT, json.dumps(SUBMISSION)[:90])), "length")
EMPTY = ended(reply(text=""), "length")
DECLINES = ended(reply(text=None), "stop", refusal="I'm sorry, I can't help with that.")
FILTERED = ended(reply(text="The pass"), "content_filter")


def said_last() -> str:
    return str(requests()[-1]["messages"][-1]["content"])


@respx.mock
async def test_a_reply_that_was_cut_off_is_asked_for_again_shorter(
    desk: Desk, reasoner: Make
) -> None:
    respx.post(URL).side_effect = [CUT, reply(DONE)]
    assert (await reasoner().investigate(desk)).root_cause == SUBMISSION["root_cause"]
    assert "cut off at the limit of its length: submit fewer, shorter claims" in said_last()
    assert every_call_is_answered(requests()[-1])


@respx.mock
async def test_a_model_that_thinks_its_answer_away_gets_more_room(
    desk: Desk, reasoner: Make
) -> None:
    respx.post(URL).side_effect = [EMPTY, reply(DONE), reply(DONE)]
    mind = reasoner()
    assert await mind.investigate(desk)
    first, second = (body["max_completion_tokens"] for body in requests())
    assert first == 2_500
    assert second == 4 * first
    other = Desk()
    other.incident.id = "I2"
    await mind.investigate(other)  # remembered: nothing is thought away again
    assert requests()[-1]["max_completion_tokens"] == 4 * first


@pytest.mark.parametrize("declined", [DECLINES, FILTERED], ids=["the model", "a filter"])
@respx.mock
async def test_a_refusal_is_answered_once(
    desk: Desk, reasoner: Make, declined: httpx.Response
) -> None:
    respx.post(URL).side_effect = [declined, reply(DONE)]
    assert await reasoner().investigate(desk)
    assert said_last().startswith("These are measurements of our own server")
    last = requests()[-1]
    assert last["tool_choice"]["function"]["name"] == SUBMIT
    assert all(message["content"] for message in last["messages"])  # no empty message


@pytest.mark.parametrize(
    ("replies", "says", "calls"),
    [
        ([DECLINES], "the model refused to answer: I'm sorry, I can't help with that.", 2),
        ([FILTERED], "refused to answer: the endpoint's content filter held the reply back", 2),
        ([CUT], "the model's reply was cut off at the limit of its length", 3),
        ([EMPTY], "the model's reply was cut off at the limit of its length", 3),
    ],
)
@respx.mock
async def test_every_end_says_why(
    desk: Desk, reasoner: Make, replies: list[httpx.Response], says: str, calls: int
) -> None:
    respx.post(URL).mock(side_effect=lambda _: replies[0])
    with pytest.raises(ReasonerUnavailable) as ended:
        await reasoner(max_calls=3).investigate(desk)
    assert says in str(ended.value)
    assert len(respx.calls) == calls


@respx.mock
async def test_a_reply_that_contradicts_itself_is_no_answer(desk: Desk, reasoner: Make) -> None:
    other = SUBMISSION | {"root_cause": "noeviction-oom"}
    respx.post(URL).side_effect = [reply(DONE, (SUBMIT, other)), reply(DONE, DONE)]
    assert (await reasoner().investigate(desk)).root_cause == SUBMISSION["root_cause"]
    assert "several submissions that differ: make one" in said_last()
    assert every_call_is_answered(requests()[-1])


@respx.mock
async def test_characters_that_are_none_do_no_harm(desk: Desk, reasoner: Make) -> None:
    """Half a surrogate pair cannot be encoded, and PostgreSQL takes no NUL."""

    def spoiled(response: httpx.Response) -> httpx.Response:
        return httpx.Response(200, content=response.content.replace(b"BAD", rb"\ud800 \u0000"))

    submission = json.dumps(SUBMISSION | {"culprit": {"kind": "prefix", "name": "BAD:"}})
    respx.post(URL).side_effect = [
        spoiled(reply(("slowlog", {}), ("BAD", {}), text="I see BAD")),
        reply((SUBMIT, submission.replace("BAD", r"\ud800 \u0000"))),
        reply(DONE),
    ]
    draft = await reasoner().investigate(desk)
    assert draft.root_cause == SUBMISSION["root_cause"]
    draft.model_dump_json().encode()
    for request in respx.calls:
        assert "\0" not in json.dumps(json.loads(request.request.content), ensure_ascii=False)


@respx.mock
async def test_a_client_that_breaks_costs_no_incident_its_diagnosis(
    desk: Desk, reasoner: Make
) -> None:
    respx.post(URL).mock(side_effect=KeyError("a bug of a library"))
    with pytest.raises(ReasonerUnavailable, match="the model's client failed: KeyError"):
        await reasoner().investigate(desk)


@respx.mock
async def test_what_is_not_offered_cannot_be_set_by_naming_it(desk: Desk, reasoner: Make) -> None:
    """A limit that was made up would come back as evidence, and a path would be opened."""
    made_up = {"memory_limit": 1, "catalogue": "/etc/sizes.yaml", "horizon_days": 7}
    respx.post(URL).side_effect = [reply(("instance_resize", made_up)), reply(DONE)]
    await reasoner().investigate(desk)
    assert desk.looks == [("instance_resize", {"horizon_days": 7})]


@respx.mock
async def test_a_reply_without_bounds_is_cut(desk: Desk, reasoner: Make) -> None:
    flood = reply(*[("x" * 300, {})] * 2_000, text="y" * 500_000)
    respx.post(URL).side_effect = [flood, reply(DONE)]
    mind = reasoner(max_tokens=10_000_000)
    assert (await mind.investigate(desk)).root_cause == SUBMISSION["root_cause"]
    assert len(json.dumps(requests()[-1]["messages"])) < 300_000
    assert every_call_is_answered(requests()[-1])


@respx.mock
async def test_a_count_of_tokens_that_is_none_is_estimated(desk: Desk, reasoner: Make) -> None:
    """No database has a column for it, and no budget survives it."""
    absurd = json.loads(reply(DONE).content) | {"usage": {"prompt_tokens": 10**30}}
    respx.post(URL).mock(return_value=httpx.Response(200, json=absurd))
    await reasoner().investigate(desk)
    assert 0 < desk.usage[0].input_tokens < 100_000


@pytest.mark.parametrize(
    ("hung_on", "sent_back"),
    [
        (rb'{"google": {"thought_signature": "abc"}}', {"google": {"thought_signature": "abc"}}),
        (rb'{"n": NaN}', None),
        (rb'{"s": "\u0000\ud800"}', {"s": "\ufffd?"}),
    ],
)
@respx.mock
async def test_what_an_endpoint_hangs_on_a_call_is_sent_back_if_it_can_be(
    desk: Desk, reasoner: Make, hung_on: bytes, sent_back: dict[str, Any] | None
) -> None:
    """NaN is not JSON to PostgreSQL, and half a character cannot be encoded."""
    told = reply(("slowlog", {})).content
    spoiled = told.replace(b'"function": {', b'"extra_content": ' + hung_on + b', "function": {')
    spoiled = spoiled.replace(b'"function":{', b'"extra_content":' + hung_on + b',"function":{')
    assert spoiled != told
    respx.post(URL).side_effect = [httpx.Response(200, content=spoiled), reply(DONE)]
    assert (await reasoner().investigate(desk)).root_cause == SUBMISSION["root_cause"]
    (exchange, _) = desk.ledger.exchanges
    assert exchange.reply is not None
    assert exchange.reply["tool_calls"][0].get("extra_content") == sent_back
