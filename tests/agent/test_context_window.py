"""A prompt that does not fit is made shorter, not given up."""

import json
from typing import Any

import httpx
import pytest
import respx

from agent.budget import Budget, ModelSettings
from agent.context import ReasonerUnavailable
from agent.context_window import says_too_long, window_named
from agent.conversation import SHARES, Conversation
from agent.functions import SUBMIT, submit_function
from agent.keeping import unkept
from agent.model import Model
from agent.retrying import EndpointError, TooLong
from tests.agent.desk import Desk
from tests.agent.endpoint import BASE, DONE, URL, in_text, refused, reply, requests, tool_messages
from tools.reads import READS

OPENAI = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001"
    " tokens. Please reduce the length of the messages."
)


@pytest.mark.parametrize(
    ("status", "body", "window"),
    [
        (400, {"code": "context_length_exceeded", "message": OPENAI}, 8_192),
        (400, {"code": "context_length_exceeded", "message": "too long"}, None),
        (
            400,
            {
                "message": "This model's maximum context length is 32768 tokens. However, you"
                " requested 2500 output tokens and your prompt contains at least 30269 input"
                " tokens, for a total of at least 32769 tokens.",
                "type": "BadRequestError",
            },
            32_768,
        ),
        (
            400,
            {"message": "The decoder prompt (length 5000) is longer than the maximum model length"
             " of 4096. Make sure that `max_model_len` is no smaller"},
            4_096,
        ),
        (
            400,
            {
                "code": 400,
                "message": "the request exceeds the available context size. try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 1_407,
                "n_ctx": 512,
            },
            512,
        ),
        (500, {"message": "the request exceeds the available context size (4096 tokens)"}, 4_096),
        (
            400,
            "Trying to keep the first 10136 tokens when context the overflows. However, the model"
            " is loaded with context length of only 7866 tokens, which is not enough.",
            7_866,
        ),
        (400, "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)", 7_424),
        (
            400,
            "The number of tokens to keep from the initial prompt is greater than the context"
            " length.",
            None,
        ),
        (
            400,
            {"message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with"
             " 32768 maximum context length"},
            32_768,
        ),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", 200_000),
        (
            400,
            "The input token count (1100000) exceeds the maximum number of tokens allowed"
            " (1048576).",
            1_048_576,
        ),
        (
            429,
            "Request too large for gpt-4o on tokens per min (TPM): Limit 30,000, Requested 42000.",
            30_000,
        ),
        (413, "Payload Too Large", None),
    ],
)  # fmt: skip
def test_the_wordings_we_know(status: int, body: Any, window: int | None) -> None:
    error = EndpointError("x", status=status, body=body)
    assert says_too_long(error)
    assert window_named(error) == window


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, "Invalid schema for function 'submit_diagnosis'"),
        (429, "Rate limit reached for requests: Limit 500"),
        (500, "Internal error"),
        (200, OPENAI),
        (400, ""),
    ],
)
def test_other_errors_are_not_about_length(status: int, body: str) -> None:
    assert not says_too_long(EndpointError("x", status=status, body=body))


def characters(body: dict[str, Any]) -> int:
    return len(json.dumps([body["messages"], body.get("tools", [])]))


EVIDENCE = "e" * 40_000


class Talk:
    """A conversation whose opening holds 40,000 characters of evidence, with small tools."""

    def __init__(self, **settings: Any) -> None:
        self.desk = Desk(
            slowlog={f"r{number}": "r" * 200 for number in range(9)},
            modules={f"m{number}": "m" * 200 for number in range(9)},
        )
        self.model = Model(
            ModelSettings("test", "", BASE, **({"max_tokens": 1_000_000} | settings))
        )
        self.shares: list[float] = []

    def opening(self, share: float) -> list[dict[str, Any]]:
        self.shares.append(share)
        return [
            {"role": "system", "content": "Find it."},
            {"role": "user", "content": EVIDENCE[: int(len(EVIDENCE) * share)]},
        ]

    async def run(self) -> Any:
        submission = submit_function(["unknown"])
        try:
            return await Conversation(
                model=self.model,
                budget=Budget(self.model.settings),
                messages=self.opening(1.0),
                submission=submission,
                accept=lambda arguments: arguments,
                look=self.desk.look,
                tools={name: READS[name] for name in ("slowlog", "modules")},
                keep=unkept,
                shorter=self.opening,
            ).run()
        finally:
            await self.model.close()


def window(size: int, *replies: httpx.Response, named: bool = True) -> Any:
    """An endpoint that takes so many characters and then answers so."""
    left = list(replies)

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if characters(body) > size:
            told = f"maximum context length is {size // 3} tokens" if named else "is exceeded"
            return refused(told, 400, code="context_length_exceeded")
        return left.pop(0)

    return answer


@respx.mock
async def test_looks_that_were_read_shrink_first(desk: Desk) -> None:
    """The window takes the opening and one look, and then no more."""
    full = refused("is exceeded", code="context_length_exceeded")
    respx.post(URL).side_effect = [
        reply(("slowlog", {})),
        reply(("modules", {})),
        full,
        reply(DONE),
    ]
    talk = Talk()
    assert await talk.run()
    assert talk.shares == [1.0]
    last = requests()[-1]["messages"]
    old, new = (message["content"] for message in last if message["role"] == "tool")
    assert "its reading was shown before" in old
    assert "slowlog at a glance" in old
    assert "rrrr" not in old
    assert "mmmm" in new


@pytest.mark.parametrize("named", [True, False])
@respx.mock
async def test_then_the_evidence(named: bool) -> None:
    respx.post(URL).mock(
        side_effect=window(22_000, reply(("slowlog", {})), reply(DONE), named=named)
    )
    talk = Talk()
    assert await talk.run()
    assert talk.shares[1:3] == [0.5, 0.25]
    sent = [json.dumps(body["messages"]) for body in requests()]
    assert len(set(sent)) == len(sent)  # nothing is sent again that was too long
    assert all(characters(body) <= 22_000 for body in requests()[-1:])


@respx.mock
async def test_at_the_last_step_there_is_only_the_submission(desk: Desk) -> None:
    respx.post(URL).mock(side_effect=window(9_000, reply(DONE), named=False))
    talk = Talk()
    assert await talk.run()
    assert talk.shares[1:] == list(SHARES)
    assert [tool["function"]["name"] for tool in requests()[-1]["tools"]] == [SUBMIT]


@respx.mock
async def test_a_window_too_small_for_anything_ends_with_its_size() -> None:
    respx.post(URL).mock(side_effect=window(3_000))
    talk = Talk()
    with pytest.raises(ReasonerUnavailable, match="context window of 1,000 tokens"):
        await talk.run()
    assert len(respx.calls) <= 2 + len(SHARES)


@respx.mock
async def test_what_an_error_named_is_known_from_then_on() -> None:
    respx.post(URL).mock(side_effect=window(22_000, reply(DONE), reply(DONE)))
    first = Talk()
    await first.run()
    refusals = len(respx.calls) - 1
    assert refusals >= 1
    again = Talk()
    again.model = first.model
    await again.run()
    assert len(respx.calls) == refusals + 2  # the second was right at once
    assert again.shares[-1] < 1


@respx.mock
async def test_a_configured_window_is_kept_without_asking() -> None:
    respx.post(URL).mock(return_value=reply(DONE))
    talk = Talk(context_window=8_000)
    await talk.run()
    (sent,) = requests()
    assert characters(sent) < 3 * 8_000
    assert sent["max_completion_tokens"] <= 8_000 - characters(sent) / 3 + 500
    tiny = Talk(context_window=600)
    with pytest.raises(TooLong):
        await tiny.run()
    assert len(respx.calls) == 1


@respx.mock
async def test_compaction_works_without_function_calling_too() -> None:
    fits = window(24_000, in_text(("slowlog", {})), in_text(DONE), named=False)

    def no_tools(request: httpx.Request) -> Any:
        if "tools" in json.loads(request.content):
            return refused("this model does not support tools")
        return fits(request)

    respx.post(URL).mock(side_effect=no_tools)
    talk = Talk()
    assert await talk.run()
    assert 0.5 in talk.shares
    assert tool_messages(requests()[-1]) == {}


@respx.mock
async def test_a_prompt_that_leaves_less_for_the_answer_is_not_cut() -> None:
    """Question and answer share the window: a shorter answer is asked for first."""
    talk = Talk()
    limit = 15_800

    def shared(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if characters(body) / 3.2 + body["max_completion_tokens"] > limit:
            message = f"maximum context length is {limit} tokens. However, you requested more"
            return refused(message, 400, code="context_length_exceeded")
        return reply(DONE)

    respx.post(URL).mock(side_effect=shared)
    assert await talk.run()
    first, second = requests()
    assert second["max_completion_tokens"] < first["max_completion_tokens"] == 2_500
    assert second["messages"] == first["messages"]
    assert talk.shares == [1.0]
