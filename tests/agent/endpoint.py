"""A scripted endpoint of an OpenAI-compatible model."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import respx

from agent.functions import SUBMIT
from agent.reasoner import OpenAIReasoner

BASE = "http://127.0.0.1:9/v1"
URL = f"{BASE}/chat/completions"
KEY = "sk-test-0123456789abcdefghij"


def fact(name: str, evidence: str, path: str, unit: str) -> dict[str, Any]:
    return {"name": name, "evidence": evidence, "op": "value", "of": [path], "unit": unit}


SUBMISSION: dict[str, Any] = {
    "root_cause": "missing-ttl-prefix-leak",
    "confidence": 0.8,
    "culprit": {"kind": "prefix", "name": "session:"},
    "contributing": [],
    "claims": [
        {
            "text": "{prefix} holds {bytes}.",
            "facts": [
                fact("prefix", "E2", "prefixes.0.prefix", "text"),
                fact("bytes", "E2", "prefixes.0.bytes", "bytes"),
            ],
        }
    ],
    "alternatives": [],
    "escalate": False,
    "hypothesis": None,
}  # fmt: skip


def reply(
    *calls: tuple[str, Any], text: str | None = None, usage: Any = (1_000, 50)
) -> httpx.Response:
    """A chat completion that calls these functions."""
    tool_calls = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": args if isinstance(args, str) else json.dumps(args),
            },
        }
        for number, (name, args) in enumerate(calls)
    ]  # fmt: skip
    body: dict[str, Any] = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "test",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls" if calls else "stop",
                "message": {"role": "assistant", "content": text, "tool_calls": tool_calls or None},
            }
        ],
    }
    if usage:
        body["usage"] = {
            "prompt_tokens": usage[0],
            "completion_tokens": usage[1],
            "total_tokens": sum(usage),
        }
    return httpx.Response(200, json=body)


DONE = (SUBMIT, SUBMISSION)


def in_text(*calls: tuple[str, Any], usage: Any = (1_000, 50)) -> httpx.Response:
    """A reply of a model that has no functions and was told how to call them in JSON."""
    written = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return reply(text=json.dumps({"calls": written}), usage=usage)


def refused(message: str, status: int = 400, **more: Any) -> httpx.Response:
    """An error as OpenAI words it."""
    return httpx.Response(status, json={"error": {"message": message, **more}})


def streamed(whole: httpx.Response, size: int = 7) -> list[bytes]:
    """A completion as server-sent events, its texts in pieces of `size` characters."""
    body = json.loads(whole.content)
    choice = body["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    text = message.get("content") or ""
    deltas += [{"content": text[at : at + size]} for at in range(0, len(text), size)]
    for index, call in enumerate(message.get("tool_calls") or []):
        arguments = call["function"]["arguments"]
        deltas.append(
            {
                "tool_calls": [
                    call | {"index": index, "function": call["function"] | {"arguments": ""}}
                ]
            }
        )
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + size]}}]}
            for at in range(0, len(arguments), size)
        ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    ended: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    chunks.append({"choices": [ended]})
    if "usage" in body:
        chunks.append({"choices": [], "usage": body["usage"]})
    return [*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), END]


END = b"data: [DONE]\n\n"


Make = Callable[..., OpenAIReasoner]


def requests() -> list[dict[str, Any]]:
    return [json.loads(call.request.content) for call in respx.calls]


def tool_messages(request: dict[str, Any]) -> dict[str, str]:
    return {
        message["tool_call_id"]: message["content"]
        for message in request["messages"]
        if message["role"] == "tool"
    }


def every_call_is_answered(request: dict[str, Any]) -> bool:
    """Every tool_call id of a conversation gets exactly one tool message, right behind it."""
    messages = request["messages"]
    for at, message in enumerate(messages):
        ids = [call["id"] for call in message.get("tool_calls") or []]
        behind = [m.get("tool_call_id") for m in messages[at + 1 : at + 1 + len(ids)]]
        if ids != behind:
            return False
    return True
