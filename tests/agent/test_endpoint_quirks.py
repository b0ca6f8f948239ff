"""Endpoints that cannot do something: each works, and is not asked for it twice."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import respx

from agent.endpoint_quirks import Manners, lesson
from agent.functions import SUBMIT
from agent.retrying import EndpointError
from tests.agent.desk import Desk
from tests.agent.endpoint import DONE, SUBMISSION, URL, Make, in_text, refused, reply, requests

Body = dict[str, Any]
Refusal = Callable[[Body], bool]


def offered(name: str) -> Refusal:
    return lambda body: name in body


def strict(body: Body) -> bool:
    return any("strict" in tool["function"] for tool in body.get("tools", []))


def one_named(body: Body) -> bool:
    return isinstance(body.get("tool_choice"), dict)


def a_system_role(body: Body) -> bool:
    roles = [message["role"] for message in body["messages"]]
    alternate = all(one != other for one, other in itertools.pairwise(roles))
    return not alternate or not set(roles) <= {"user", "assistant"}


def anything_but_the_plainest(body: Body) -> bool:
    return bool(set(body) - {"model", "messages", "max_tokens"})


FASTAPI = httpx.Response(
    422,
    json={
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "parallel_tool_calls"],
                "msg": "Extra inputs are not permitted",
            }
        ]
    },
)
QUIRKS: dict[str, tuple[Refusal, httpx.Response]] = {
    "OpenAI: a schema that strict mode does not take": (
        strict,
        refused(
            "Invalid schema for function 'submit_diagnosis': In context=(), 'additionalProperties'"
            " is required to be supplied and to be false.",
            type="invalid_request_error",
            param="tools[0].function.parameters",
            code="invalid_function_parameters",
        ),
    ),
    "llama.cpp: a grammar it cannot make": (
        strict,
        refused("Failed to parse grammar", 400, type="invalid_request_error"),
    ),
    "DeepSeek: no function can be named": (
        one_named,
        refused("deepseek-reasoner does not support this tool_choice"),
    ),
    "Qwen: no call can be demanded": (
        offered("tool_choice"),
        refused(
            "The tool_choice parameter does not support being set to required or object in"
            " thinking mode"
        ),
    ),
    "OpenRouter: no provider takes this tool_choice": (
        offered("tool_choice"),
        refused("No endpoints found that support the provided 'tool_choice' value.", 404, code=404),
    ),
    "a server of FastAPI: an extra field": (offered("parallel_tool_calls"), FASTAPI),
    "Mistral: no stream_options": (
        offered("stream_options"),
        httpx.Response(422, json={"detail": [{"loc": ["body", "stream_options"], "msg": "extra"}]}),
    ),
    "no streaming": (offered("stream"), refused("Streaming is not supported for this model.")),
    "an older server: only max_tokens": (
        offered("max_completion_tokens"),
        refused(
            "Unsupported parameter: 'max_completion_tokens'", param="max_completion_tokens"
        ),
    ),
    "no limit at all": (
        lambda body: bool({"max_tokens", "max_completion_tokens"} & set(body)),
        refused("Unknown field max_tokens, max_completion_tokens"),
    ),
    "OpenAI: reasoning models take no temperature": (
        offered("temperature"),
        refused(
            "Unsupported value: 'temperature' does not support 0 with this model.",
            param="temperature",
            code="unsupported_value",
        ),
    ),
    "Ollama: a model without tools": (
        offered("tools"),
        refused("registry.ollama.ai/library/llama3:latest does not support tools", 400),
    ),
    "llama.cpp: started without templates": (
        offered("tools"),
        refused("tools param requires --jinja flag", 500, code=500, type="server_error"),
    ),
    "vLLM: started without a parser of tool calls": (
        offered("tools"),
        refused(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        ),
    ),
    "OpenRouter: no provider with tools": (
        offered("tools"),
        refused("No endpoints found that support tool use.", 404, code=404),
    ),
    "no response_format and no tools": (
        lambda body: bool({"tools", "response_format"} & set(body)),
        refused("Unrecognized request arguments supplied: tools, response_format"),
    ),
    "Gemma: a template of user and assistant": (
        a_system_role,
        refused("System role not supported"),
    ),
    "Mistral: roles must alternate": (
        a_system_role,
        refused(
            "After the optional system message, conversation roles must alternate"
            " user/assistant/user/assistant/...",
        ),
    ),
    "an error that names nothing": (
        anything_but_the_plainest,
        httpx.Response(400, text="Bad Request"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("quirk", QUIRKS)
@respx.mock
async def test_it_works_and_what_was_refused_is_not_tried_again(reasoner: Make, quirk: str) -> None:
    refuses, response = QUIRKS[quirk]

    def picky(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if refuses(body):
            return response
        return reply(DONE) if "tools" in body else in_text(DONE)

    respx.post(URL).mock(side_effect=picky)
    mind = reasoner(max_tool_calls=0, options={"temperature": 0})  # so that a call is demanded
    assert await mind.investigate(Desk())
    first = len(respx.calls)
    assert 2 <= first <= 8
    assert not refuses(requests()[-1])
    other = Desk()
    other.incident.id = "I2"
    assert await mind.investigate(other)
    assert len(respx.calls) == first + 1


@respx.mock
async def test_the_most_is_asked_for_at_first(desk: Desk, reasoner: Make) -> None:
    respx.post(URL).mock(return_value=reply(DONE))
    await reasoner(max_tool_calls=0).investigate(desk)
    (sent,) = requests()
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": SUBMIT}}
    assert sent["parallel_tool_calls"] is False
    assert strict(sent)


@respx.mock
async def test_a_plain_request_that_is_refused_too_changes_nothing(
    desk: Desk, reasoner: Make
) -> None:
    respx.post(URL).side_effect = [
        httpx.Response(400, text="Bad Request"),
        httpx.Response(400, text="Bad Request"),
        reply(DONE),
    ]
    mind = reasoner()
    with pytest.raises(Exception, match="Bad Request"):
        await mind.investigate(desk)
    assert await mind.investigate(desk)
    assert "tools" in requests()[-1]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "Internal error: function handler crashed while streaming"),
        (429, "Rate limit reached for tools"),
        (404, "The model `tools-1` was not found"),
        (400, ""),
    ],
)
def test_failures_that_only_sound_like_it_teach_nothing(status: int, said: str) -> None:
    sent = {"tools": [], "stream": True, "tool_choice": "required"}
    assert lesson(Manners(), EndpointError("x", status=status, body=said), sent) is None


# -- functions described in the text ---------------------------------------------------------


def no_tools(*replies: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    """An endpoint without function calling, whose model answers so."""
    left = list(replies)

    def answer(request: httpx.Request) -> httpx.Response:
        if "tools" in json.loads(request.content):
            return refused("this model does not support tools")
        return left.pop(0)

    return answer


@respx.mock
async def test_without_function_calling_the_model_looks_and_submits_in_json(
    desk: Desk, reasoner: Make
) -> None:
    respx.post(URL).mock(
        side_effect=no_tools(
            in_text(("slowlog", {}), ("modules", {}), ("flushall", {})), in_text(DONE)
        )
    )
    draft = await reasoner().investigate(desk)
    assert draft.root_cause == SUBMISSION["root_cause"]
    assert [tool for tool, _ in desk.looks] == ["slowlog", "modules"]
    _, first, second = requests()
    assert "- slowlog: " in first["messages"][0]["content"]
    assert f"- {SUBMIT}: " in first["messages"][0]["content"]
    assert first["response_format"] == {"type": "json_object"}
    assert [message["role"] for message in second["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert json.loads(second["messages"][2]["content"])["calls"][0]["name"] == "slowlog"
    results = second["messages"][3]["content"]
    assert "Result of slowlog:" in results
    assert "E5 was kept" in results
    assert "Result of modules:" in results
    assert not any("tool_calls" in message for message in second["messages"])


@respx.mock
async def test_an_endpoint_that_ignores_functions_is_found_out(desk: Desk, reasoner: Make) -> None:
    """It takes `tools`, and its model never hears of them: it can only chat."""

    def deaf(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        told = f"- {SUBMIT}: " in body["messages"][0]["content"]
        return in_text(DONE) if told else reply(text="Happy to help! What is it about?")

    respx.post(URL).mock(side_effect=deaf)
    mind = reasoner()
    assert (await mind.investigate(desk)).root_cause == SUBMISSION["root_cause"]
    assert len(respx.calls) == 3
    other = Desk()
    other.incident.id = "I2"
    await mind.investigate(other)
    assert len(respx.calls) == 4


WRITTEN = [
    f"```json\n{json.dumps(SUBMISSION)}\n```\nThat is my answer.",
    f"Let me think: {{not json}} [1]. {json.dumps(SUBMISSION)}",
    json.dumps([{"tool": SUBMIT, "arguments": SUBMISSION}]),
    json.dumps({"function": {"name": SUBMIT, "arguments": SUBMISSION}}),
    json.dumps({SUBMIT: SUBMISSION}),
    json.dumps({"name": SUBMIT, "parameters": json.dumps(SUBMISSION)}),
    f"<tool_call>\n{json.dumps({'name': SUBMIT, 'arguments': SUBMISSION})}\n</tool_call>",
    f'<think>{{"root_cause": "no"}}</think>{json.dumps(SUBMISSION)}',
    f"of course it may also be {{}}</think>{json.dumps(SUBMISSION)}",
]


@pytest.mark.parametrize("text", WRITTEN)
@respx.mock
async def test_a_submission_is_read_however_it_is_written(
    desk: Desk, reasoner: Make, text: str
) -> None:
    respx.post(URL).mock(return_value=reply(text=text))
    assert (await reasoner(max_calls=1).investigate(desk)).root_cause == SUBMISSION["root_cause"]


@respx.mock
async def test_a_look_written_into_the_text_is_taken(desk: Desk, reasoner: Make) -> None:
    text = 'First: [{"tool": "slowlog", "arguments": {}}, {"tool": "rm", "arguments": {}}]'
    respx.post(URL).side_effect = [reply(text=text), reply(DONE)]
    await reasoner().investigate(desk)
    assert desk.looks == [("slowlog", {})]


# -- what replies may look like --------------------------------------------------------------


def message(**parts: Any) -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": parts}]})


def call(**parts: Any) -> httpx.Response:
    return message(content=None, tool_calls=[parts])


SHAPES = {
    "the older function_call": message(
        content=None, function_call={"name": SUBMIT, "arguments": json.dumps(SUBMISSION)}
    ),
    "content in parts": message(content=[{"type": "text", "text": json.dumps(SUBMISSION)}]),
    "arguments as an object": call(function={"name": SUBMIT, "arguments": SUBMISSION}),
    "arguments encoded twice": call(
        id="", function={"name": SUBMIT, "arguments": json.dumps(json.dumps(SUBMISSION))}
    ),
    "no content, no usage": call(
        id="c", function={"name": SUBMIT, "arguments": json.dumps(SUBMISSION)}
    ),
    "reasoning beside it": message(
        reasoning_content="It may be {} …",
        reasoning="the same",
        content=json.dumps(SUBMISSION),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@respx.mock
async def test_replies_of_any_shape_are_read(desk: Desk, reasoner: Make, shape: str) -> None:
    respx.post(URL).mock(return_value=SHAPES[shape])
    draft = await reasoner(max_calls=1).investigate(desk)
    assert draft.root_cause == SUBMISSION["root_cause"]


THINKING = {
    "role": "assistant",
    "content": "",
    "reasoning_content": "The slow log would tell.",
    "tool_calls": [
        {
            "id": "a",
            "type": "function",
            "function": {"name": "slowlog", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "c2ln"}},
        }
    ],
}


@respx.mock
async def test_reasoning_is_not_sent_back(desk: Desk, reasoner: Make) -> None:
    respx.post(URL).side_effect = [
        httpx.Response(200, json={"choices": [{"message": THINKING}]}),
        reply(DONE),
    ]
    await reasoner().investigate(desk)
    assert "would tell" not in json.dumps(requests()[1])
    # Gemini refuses a conversation whose calls have lost what it hung on them.
    sent = requests()[1]["messages"][2]["tool_calls"][0]
    assert sent["extra_content"] == THINKING["tool_calls"][0]["extra_content"]  # type: ignore[index]


@respx.mock
async def test_an_endpoint_that_wants_its_reasoning_back_gets_it(
    desk: Desk, reasoner: Make
) -> None:
    respx.post(URL).side_effect = [
        httpx.Response(200, json={"choices": [{"message": THINKING}]}),
        refused("Missing `reasoning_content` field in the assistant message at message index 2"),
        reply(DONE),
    ]
    await reasoner().investigate(desk)
    assert requests()[2]["messages"][2]["reasoning_content"] == "The slow log would tell."


@respx.mock
async def test_an_error_with_status_200_is_an_error(desk: Desk, reasoner: Make) -> None:
    respx.post(URL).mock(
        return_value=httpx.Response(200, json={"error": {"message": "overloaded", "code": 503}})
    )
    with pytest.raises(Exception, match="answered 503, 3 times"):
        await reasoner().investigate(desk)
