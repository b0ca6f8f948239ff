"""Replies that arrive in pieces, slowly, in odd ways, or not to their end."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.budget import Budget
from agent.context import ReasonerUnavailable
from agent.model import Model
from agent.retrying import EndpointError
from agent.streaming import LARGEST_REPLY, Assembly, read_reply
from tests.agent.desk import Desk
from tests.agent.endpoint import DONE, END, SUBMISSION, Make, reply, streamed
from tests.agent.wire import Line, Script, serving, whole

PATIENT = 60.0


async def arriving(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(*pieces: bytes) -> dict[str, Any]:
    return await read_reply(arriving(*pieces), PATIENT)


# -- pieces ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 1_000])
async def test_pieces_of_any_size_make_the_same_reply(size: int) -> None:
    spoken = reply(("slowlog", {"count": 7}), DONE, text="Let me see. Größe: 1 €")
    everything = b"".join(streamed(spoken))
    pieces = [everything[at : at + size] for at in range(0, len(everything), size)]
    got = await read(*pieces)
    sent = json.loads(spoken.content)
    message, expected = got["choices"][0]["message"], sent["choices"][0]["message"]
    assert message["content"] == expected["content"]
    assert [call["function"] for call in message["tool_calls"]] == [
        call["function"] for call in expected["tool_calls"]
    ]
    assert [call["id"] for call in message["tool_calls"]] == ["call_0", "call_1"]
    assert got["usage"] == sent["usage"]
    assert got["choices"][0]["finish_reason"] == "tool_calls"


def chunk(**delta: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"


STOP = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'


def one(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk(tool_calls=[one("a", "{}", index=0, id="x"), one("b", "{}", index=1, id="y")])],
        [chunk(tool_calls=[one("a", "{}")]), chunk(tool_calls=[one("b", "{}")])],
        [
            chunk(tool_calls=[one("a", "{}", index=0, id="x")]),
            chunk(tool_calls=[one("b", "{}", index=0, id="y")]),
        ],
        [
            chunk(tool_calls=[one("a", "{", id="x")]),
            chunk(tool_calls=[{"function": {"arguments": "}"}}]),
            chunk(tool_calls=[one("b", {}, id="y")]),
        ],
        [
            chunk(tool_calls=[one("a", "", index=0, id="x")]),
            chunk(tool_calls=[one("b", "{}", index=1, id="y")]),
            chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),
        ],
    ],
    ids=["numbered", "no numbers, no ids", "all numbered 0", "no numbers", "interleaved"],
)
async def test_calls_are_told_apart_however_they_are_numbered(pieces: list[bytes]) -> None:
    message = (await read(*pieces, STOP))["choices"][0]["message"]
    called = [(c["function"]["name"], c["function"]["arguments"]) for c in message["tool_calls"]]
    assert called == [("a", "{}"), ("b", "{}")]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b": keep-alive\n\n", chunk(content="hi"), END], "hi"),
        ([b'data: {"choices": []}\r\n\r\n', chunk(content="hi"), STOP], "hi"),
        ([b"event: x\ndata: not json\n\n", chunk(content="hi"), STOP], "hi"),
        ([chunk(content=[{"type": "text", "text": "hi"}]), STOP], "hi"),
        ([b'data:{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'], "hi"),
        ([b'{"choices": [{"message": {"content', b'": "hi"}}]}'], "hi"),
    ],
)
async def test_odd_streams_and_replies_that_are_not_streamed(
    pieces: list[bytes], text: str
) -> None:
    assert (await read(*pieces))["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ([chunk(content="h")], "dropped the connection"),
        ([chunk(content="h"), b'data: {"choi'], "dropped the connection"),
        ([], "answered nothing"),
        ([b"<html>busy</html>"], "did not answer in JSON"),
        ([b"[" * 100_000], "did not answer in JSON"),
        ([b'data: {"error": {"message": "overloaded"}}\n\n'], "answered with an error"),
        ([b'data: {"error": {"message": "slow down", "code": 429}}\n\n'], "answered 429"),
        ([b"x" * (LARGEST_REPLY + 1)], "too large"),
    ],
)
async def test_what_is_no_reply_says_what_it_is(pieces: list[bytes], says: str) -> None:
    with pytest.raises(EndpointError, match=says):
        await read(*pieces)


def test_calls_without_end_are_bounded() -> None:
    assembly = Assembly()
    for number in range(1_000):
        assembly.line(chunk(tool_calls=[one("a", "{}", index=number)]).strip())
    assert len(assembly.reply()["choices"][0]["message"]["tool_calls"]) <= 64


# -- on a real connection --------------------------------------------------------------------


async def test_a_streamed_submission_is_read_and_counted(desk: Desk, reasoner: Make) -> None:
    async with serving(whole(reply(DONE, usage=(1_234, 56)))) as wire:
        draft = await reasoner(base_url=wire.url).investigate(desk)
    assert draft.root_cause == SUBMISSION["root_cause"]
    assert (desk.usage[0].input_tokens, desk.usage[0].output_tokens) == (1_234, 56)


async def test_a_slow_stream_is_read_to_its_end(reasoner: Make) -> None:
    async def slowly(line: Line) -> None:
        await line.begin()
        for word in ("one ", "two ", "three"):
            await line.piece(chunk(content=word))
            await asyncio.sleep(0.05)  # each arrives alone
        await line.piece(STOP)
        await line.end()

    async with serving(slowly) as wire, asyncio.timeout(PATIENT):
        model: Model = reasoner(base_url=wire.url)._model
        messages = [{"role": "user", "content": "count"}]
        answer = await model.ask(messages, [], Budget(model.settings))
    assert answer.text == "one two three"


async def then_silent(line: Line) -> None:
    """Begins, and never goes on."""
    await line.begin()
    await line.piece(chunk(content="I thi"))
    await line.until_hung_up()


async def then_gone(line: Line) -> None:
    """Begins, and the connection breaks."""
    await line.begin()
    await line.piece(chunk(content="I thi"))


async def closed_early(line: Line) -> None:
    """An HTTP/1.0 server dies: the end of the connection looks like the end of the reply."""
    line.writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + chunk(content="I thi"))
    await line.writer.drain()


async def hung_up(line: Line) -> None:
    """Takes the request and closes."""


@pytest.mark.parametrize("breaks", [then_silent, then_gone, closed_early, hung_up])
async def test_a_reply_that_breaks_off_is_asked_for_once_more(
    desk: Desk, reasoner: Make, breaks: Script
) -> None:
    async with serving(breaks, whole(reply(DONE))) as wire:
        mind = reasoner(base_url=wire.url, idle_seconds=1.0, seconds_per_call=PATIENT)
        assert (await mind.investigate(desk)).root_cause == SUBMISSION["root_cause"]
    assert len(wire.bodies) == 2
    # A provider charges for what it has read, twice if it read it twice.
    assert desk.usage[0].input_tokens == (1_000 if breaks is hung_up else 2_000)


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (then_silent, r"fell silent for 1 s mid-reply, 2 times"),
        (then_gone, "dropped the connection mid-reply, 2 times"),
        (closed_early, "dropped the connection mid-reply, 2 times"),
        (hung_up, "cannot be reached, 2 times"),
    ],
)
async def test_but_not_for_ever(desk: Desk, reasoner: Make, breaks: Script, says: str) -> None:
    async with serving(breaks) as wire:
        mind = reasoner(base_url=wire.url, idle_seconds=1.0, seconds_per_call=PATIENT)
        with pytest.raises(ReasonerUnavailable, match=says):
            await mind.investigate(desk)
    assert len(wire.bodies) == 2
    assert (desk.usage[0].input_tokens > 0) == (breaks is not hung_up)


async def test_before_it_begins_a_model_may_take_its_time(desk: Desk, reasoner: Make) -> None:
    """Reading a long prompt, or thinking, is not silence: only the cap of the call ends it."""

    async def ponder(line: Line) -> None:
        await line.begin()
        await asyncio.sleep(1.5)  # longer than the idle time-out: that is what is tested
        await whole(reply(DONE))(Mute(line.body, line.writer, line.reader))

    async with serving(ponder) as wire:
        mind = reasoner(base_url=wire.url, idle_seconds=1.0, seconds_per_call=PATIENT)
        assert await mind.investigate(desk)
    assert len(wire.bodies) == 1


class Mute(Line):
    """A connection on which the headers have been sent."""

    async def begin(self) -> None:
        """Nothing more."""
