"""Functions for a model whose endpoint has none: described in the text, called in JSON. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

_HOW = """\
How to call functions. There is no other interface: reply with one JSON object and nothing else,
{"calls": [{"name": "<function>", "arguments": {...}}]}
Several calls may be in one reply. Results come with the next message. The functions:
"""


def in_text(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], must_call: str = ""
) -> list[Message]:
    """The conversation without tools, tool calls and tool messages: roles alternate."""
    named = _names(messages)
    plain: list[Message] = []
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if message.get("tool_calls"):
            content = "\n".join(filter(None, [content, _called(message["tool_calls"])]))
        elif role == "tool":
            call = str(message.get("tool_call_id"))
            role, content = "user", f"Result of {named.get(call, call)}:\n{content}"
        if plain and plain[-1]["role"] == role:
            plain[-1]["content"] += f"\n\n{content}"
        else:
            plain.append({"role": role, "content": content})
    if not plain or plain[0]["role"] != "system":
        plain.insert(0, {"role": "system", "content": ""})
    plain[0]["content"] = f"{plain[0]['content']}\n\n{_HOW}{_described(tools)}".strip()
    if must_call:
        plain[-1]["content"] += f"\n\nReply now with one call of {must_call}, in JSON."
    return plain


def without_system(messages: Sequence[Message]) -> list[Message]:
    """For templates that know only user and assistant: what the system said goes first."""
    system = [str(message["content"]) for message in messages if message["role"] == "system"]
    others = [dict(message) for message in messages if message["role"] != "system"]
    if others and others[0]["role"] == "user":
        others[0]["content"] = "\n\n".join([*system, str(others[0]["content"])])
    else:
        others.insert(0, {"role": "user", "content": "\n\n".join(system)})
    return others


def _described(tools: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(
        f"- {function['name']}: {function.get('description', '')}\n"
        f"  arguments: {json.dumps(function.get('parameters', {}), separators=(',', ':'))}"
        for function in (tool["function"] for tool in tools)
    )


def _called(calls: Sequence[Mapping[str, Any]]) -> str:
    written = [
        {
            "name": call["function"]["name"],
            "arguments": json.loads(call["function"]["arguments"]),  # ours: always valid
        }
        for call in calls
    ]
    return json.dumps({"calls": written}, ensure_ascii=False)


def _names(messages: Sequence[Message]) -> dict[str, str]:
    return {
        str(call["id"]): str(call["function"]["name"])
        for message in messages
        for call in message.get("tool_calls") or []
    }
