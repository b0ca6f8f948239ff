"""What came back from an endpoint: any endpoint, so nothing in it is taken for granted. Pure."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from agent.incident import Usage
from agent.json_in_text import calls_in, without_thoughts
from agent.streaming import text_of

Message = dict[str, Any]
CHARACTERS_PER_TOKEN = 3.0
"""Pessimistic, so that an estimate errs towards stopping early."""
LONGEST_ARGUMENTS = 20_000
LONGEST_REASONING = 20_000
LONGEST_TEXT = 100_000
LONGEST_NAME = 200
"""Of a function and of a call's id."""
MOST_CALLS = 64
MOST_TOKENS = 100_000_000
"""Of one call: what an endpoint reports beyond that is no count, and no database keeps it."""
_CUT = ("length", "max_tokens", "model_length")


@dataclass(frozen=True)
class ToolCall:
    """A function the model wants called; `arguments` is its JSON, as sent."""

    id: str
    name: str
    arguments: str
    extra: dict[str, Any] | None = None
    """What the endpoint hung on the call and wants back with it (Gemini's `extra_content`)."""

    def parsed(self) -> dict[str, Any]:
        """The arguments. Raises ValueError, worded for the model, when they are no JSON object."""
        if len(self.arguments) > LONGEST_ARGUMENTS:
            raise ValueError(f"the arguments are longer than {LONGEST_ARGUMENTS} characters")
        try:
            value = json.loads(self.arguments or "{}")
            value = json.loads(value) if isinstance(value, str) else value  # some encode twice
            value = json.loads(_plain(json.dumps(value, ensure_ascii=False)))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the arguments are not valid JSON: {error}") from error
        if not isinstance(value, dict):
            raise ValueError("the arguments must be a JSON object")  # noqa: TRY004
        return value


@dataclass(frozen=True)
class Answer:
    """One reply of the model."""

    text: str
    calls: list[ToolCall]
    usage: Usage
    cut: bool = False
    """It was ended by the limit on its length."""
    refusal: str = ""
    """Why the model, or a filter behind it, would not answer; else empty."""
    reasoning: str = ""
    in_text: bool = field(default=False, compare=False)
    """The calls were written into the text."""

    def as_came(self) -> Message:
        """The reply for a transcript: malformed arguments and all."""
        message = self.as_message()
        for sent, call in zip(message.get("tool_calls", []), self.calls, strict=False):
            sent["function"]["arguments"] = call.arguments[:LONGEST_ARGUMENTS]
        return message | ({"refusal": self.refusal} if self.refusal else {})

    def as_message(self) -> Message:
        """The reply as it goes back into the conversation."""
        message: Message = {"role": "assistant", "content": "" if self.in_text else self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [_as_sent(call) for call in self.calls]
        return message


def read_answer(reply: Any, estimate: int, functions: Collection[str] = ()) -> Answer:
    """The model's reply.

    `estimate`: input tokens, if the endpoint reports none. `functions`: what was offered; calls
    of these may also be written into the text.
    """
    choice = _first(_in(reply, "choices"))
    message = _in(choice, "message")
    said, thought = without_thoughts(_text(message, "content"))
    reasoning = _text(message, "reasoning_content") or _text(message, "reasoning") or thought
    legacy = _in(message, "function_call")
    listed = _listed(_in(message, "tool_calls")) or ([{"function": legacy}] if legacy else [])
    calls = [
        call for number, raw in enumerate(listed[:MOST_CALLS]) if (call := _tool_call(raw, number))
    ]
    written = [] if calls else calls_in(said, functions)
    for number, (name, arguments) in enumerate(written):
        calls.append(ToolCall(f"call_{number}", name, _as_json(arguments)))
    counted = tokens([said, reasoning, *(call.arguments for call in calls)])
    used = _in(reply, "usage")
    usage = Usage(
        llm_calls=1,
        input_tokens=_counted(_in(used, "prompt_tokens"), estimate),
        output_tokens=_counted(_in(used, "completion_tokens"), counted),
    )
    cached = _counted(_in(_in(used, "prompt_tokens_details"), "cached_tokens"), 0)
    usage.cached_tokens = min(cached, usage.input_tokens)
    ended = _in(choice, "finish_reason")
    refusal = _text(message, "refusal")
    if ended == "content_filter":
        refusal = refusal or "the endpoint's content filter held the reply back"
    return Answer(
        text=said[:LONGEST_TEXT],
        calls=calls,
        usage=usage,
        cut=ended in _CUT,
        refusal=refusal[:400],
        reasoning=reasoning[:LONGEST_REASONING],
        in_text=bool(written),
    )


def _tool_call(raw: Any, number: int) -> ToolCall | None:
    function = _in(raw, "function")
    name, arguments = _in(function, "name"), _in(function, "arguments")
    if not isinstance(name, str) or not name:
        return None
    given, extra = _in(raw, "id"), _in(raw, "extra_content")
    return ToolCall(
        _plain(given)[:LONGEST_NAME] if isinstance(given, str) and given else f"call_{number}",
        _plain(name)[:LONGEST_NAME],
        _as_json(arguments) if arguments is not None else "{}",
        _kept(extra) if isinstance(extra, dict) else None,
    )


def _kept(extra: dict[str, Any]) -> dict[str, Any] | None:
    """What is to be sent back, if it is JSON that an encoder and a database take."""
    try:
        text = json.dumps(extra, ensure_ascii=False, allow_nan=False)
        value = json.loads(_plain(text)) if len(text) <= LONGEST_TEXT else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _as_sent(call: ToolCall) -> Message:
    message: Message = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _valid_json(call)},
    }
    return message | ({"extra_content": call.extra} if call.extra else {})


def _as_json(arguments: Any) -> str:
    return _plain(arguments) if isinstance(arguments, str) else json.dumps(arguments)


def _text(message: Any, name: str) -> str:
    return _plain(text_of(_in(message, name)))


def _plain(text: str) -> str:
    """Text or JSON without what encoders and databases do not take: half characters, and NUL."""
    for nul in ("\0", r"\u0000"):
        text = text.replace(nul, "\ufffd")
    return text.encode("utf-8", "replace").decode("utf-8")


def _in(at: Any, name: str) -> Any:
    return at.get(name) if isinstance(at, dict) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _counted(value: Any, estimate: int) -> int:
    """Tokens as reported; an endpoint that reports none does not make them free."""
    real = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS
    return int(value) if real else estimate


def tokens(value: object) -> int:
    """About how many tokens this is as JSON."""
    return int(len(json.dumps(value, ensure_ascii=False)) / CHARACTERS_PER_TOKEN)


def _valid_json(call: ToolCall) -> str:
    """Some endpoints refuse a conversation that holds malformed arguments."""
    try:
        return json.dumps(call.parsed())
    except ValueError:
        return "{}"
