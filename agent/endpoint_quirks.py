"""What an endpoint cannot do, learned from what it refuses; each lesson is learned once. Pure.

Every endpoint is asked for the most at first: streaming, strict schemas, one named function,
function calling at all. An error that names one of these takes it away, for good: there are
fewer steps than parameters, so it ends.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agent.functions_in_text import Message, in_text, without_system
from agent.retrying import EndpointError

Choice = Literal["named", "required", "auto"]
_LESS: dict[Choice, Choice] = {"named": "required", "required": "auto"}
OPTIONAL = frozenset(
    {
        "stream_options",
        "parallel_tool_calls",
        "response_format",
        "max_completion_tokens",
        "max_tokens",
    }
)
_REASONING = ("reasoning_content", "reasoning", "extra_content")
_TELLS = frozenset({400, 404, 422, 500, 501})
"""Statuses whose text may say what was wrong with the request."""
_UNSUPPORTED = re.compile(
    r"(?i)not support|unsupported|not (?:available|implemented|allowed|enabled)|requires?\b"
    r"|no endpoints found|jinja|template"
)
_SCHEMA = re.compile(r"(?i)\bstrict\b|schema|grammar|additionalProperties")
_CHOICE = re.compile(r"(?i)tool[_ ]?choice|function_call\b")
_ROLES = re.compile(
    r"(?i)system role|role:? ?['\"`]?system|only user|roles? must alternate|supported roles?"
)
_FUNCTIONS = re.compile(r"(?i)\btools?\b|\bfunctions?\b|\btool[_ ](?:calls?|use)|function.call")
_STREAM = re.compile(r"(?i)\bstream(?:ing|ed)?\b")
_NEEDS_REASONING = re.compile(r"(?i)reasoning_content|thought_signature")


@dataclass(frozen=True)
class Manners:
    """How an endpoint wants to be asked."""

    refused: frozenset[str] = frozenset()
    """Parameters it does not know, by name."""
    configured: bool = True
    """The parameters of `model.options`."""
    strict: bool = True
    """Arguments that must fit their schema."""
    choice: Choice = "named"
    """How a call can be demanded."""
    functions: bool = True
    """Function calling; without it, functions are described in the text."""
    stream: bool = True
    system: bool = True
    """A system role, and roles in any order."""
    reasoning_back: bool = False
    """It wants to read its own reasoning again, within a conversation."""


PLAINEST = Manners(
    refused=OPTIONAL - {"max_tokens"},
    configured=False,
    strict=False,
    choice="auto",
    functions=False,
    stream=False,
)
"""What the simplest endpoint takes."""


@dataclass(frozen=True)
class Question:
    """One request, before it is known how this endpoint wants to be asked."""

    model: str
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    must_call: str = ""
    room: int = 1_000
    """Tokens of the answer."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More parameters, as configured."""


def parameters(question: Question, manners: Manners) -> dict[str, Any]:
    """The request as it is sent."""
    limit = "max_tokens" if "max_completion_tokens" in manners.refused else "max_completion_tokens"
    options: dict[str, Any] = {**question.options} if manners.configured else {}
    options[limit] = question.room
    if manners.stream:
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    messages = [_without_reasoning(message, manners) for message in question.messages]
    if question.tools and not manners.functions:
        messages = in_text(messages, question.tools, question.must_call)
        options["response_format"] = _form(question, manners)
    elif question.tools:
        options["tools"] = [_as_strict_as(tool, manners) for tool in question.tools]
        if question.must_call:
            options |= _demanded(question.must_call, manners)
    if not manners.system:
        messages = without_system(messages)
    kept = {name: value for name, value in options.items() if name not in manners.refused}
    return {"model": question.model, "messages": messages, **kept}


def lesson(manners: Manners, error: EndpointError, sent: Mapping[str, Any]) -> Manners | None:
    """What the error says about how to ask; None if nothing that we could do otherwise."""
    said = error.said
    if error.status not in _TELLS or not said:
        return None
    if error.status not in (400, 422) and not _UNSUPPORTED.search(said):
        return None  # a failure of its own, in words that happen to sound like this
    for learn in _LESSONS:
        learned = learn(manners, said, sent)
        if learned is not None and learned != manners:
            return learned
    return None


def _answer_form(manners: Manners, said: str, sent: Mapping[str, Any]) -> Manners | None:
    """A schema for the text; any JSON object may still be asked for."""
    form = sent.get("response_format") or {}
    refused = form.get("type") == "json_schema" and re.search(r"response_format|schema", said)
    return replace(manners, strict=False) if refused else None


def _parameter(manners: Manners, said: str, sent: Mapping[str, Any]) -> Manners | None:
    """A parameter that may be left out."""
    known = {"model", "messages", "tools", "tool_choice", "stream"}
    named = {name for name in sent if name not in known and re.search(rf"\b{name}\b", said)}
    return replace(manners, refused=manners.refused | named) if named else None


def _reasoning(manners: Manners, said: str, _: Mapping[str, Any]) -> Manners | None:
    """Reasoning that is missed in the conversation."""
    return replace(manners, reasoning_back=True) if _NEEDS_REASONING.search(said) else None


def _schema(manners: Manners, said: str, sent: Mapping[str, Any]) -> Manners | None:
    return replace(manners, strict=False) if "tools" in sent and _SCHEMA.search(said) else None


def _choice(manners: Manners, said: str, sent: Mapping[str, Any]) -> Manners | None:
    if "tool_choice" not in sent or not _CHOICE.search(said):
        return None
    return replace(manners, choice=_LESS.get(manners.choice, "auto"))


def _roles(manners: Manners, said: str, _: Mapping[str, Any]) -> Manners | None:
    """A template that knows user and assistant, in turn, knows no tools either."""
    return replace(manners, system=False, functions=False) if _ROLES.search(said) else None


def _streaming(manners: Manners, said: str, sent: Mapping[str, Any]) -> Manners | None:
    return replace(manners, stream=False) if "stream" in sent and _STREAM.search(said) else None


def _functions(manners: Manners, said: str, sent: Mapping[str, Any]) -> Manners | None:
    return (
        replace(manners, functions=False) if "tools" in sent and _FUNCTIONS.search(said) else None
    )


_LESSONS = (
    _answer_form, _parameter, _reasoning, _schema, _choice, _roles, _streaming, _functions,
)  # fmt: skip


def _form(question: Question, manners: Manners) -> dict[str, Any]:
    """JSON in the text: by the schema of the one function that is left to call, if it is strict."""
    function = question.tools[0]["function"]
    if not (question.must_call and manners.strict and function.get("strict")):
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {
            "name": function["name"],
            "strict": True,
            "schema": function["parameters"],
        },
    }


def _demanded(name: str, manners: Manners) -> dict[str, Any]:
    choices: dict[Choice, dict[str, Any]] = {
        "named": {"tool_choice": {"type": "function", "function": {"name": name}}},
        "required": {"tool_choice": "required"},
        "auto": {},
    }
    return choices[manners.choice] | {"parallel_tool_calls": False}


def _as_strict_as(tool: Mapping[str, Any], manners: Manners) -> Mapping[str, Any]:
    if manners.strict or "strict" not in tool["function"]:
        return tool
    function = {name: part for name, part in tool["function"].items() if name != "strict"}
    return {**tool, "function": function}


def _without_reasoning(message: Message, manners: Manners) -> Message:
    if manners.reasoning_back:
        return message
    return {name: part for name, part in message.items() if name not in _REASONING}
