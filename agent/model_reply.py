"""What came back from an endpoint: any endpoint, so nothing in it is taken for granted. Pure."""

import json
from dataclasses import dataclass
from typing import Any

from agent.incident import Usage

Message = dict[str, Any]
CHARACTERS_PER_TOKEN = 3.0
"""Pessimistic, so that an estimate errs towards stopping early."""
LONGEST_ARGUMENTS = 20_000


@dataclass(frozen=True)
class ToolCall:
    """A function the model wants called; `arguments` is its JSON, as sent."""

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, Any]:
        """The arguments. Raises ValueError, worded for the model, when they are no JSON object."""
        if len(self.arguments) > LONGEST_ARGUMENTS:
            raise ValueError(f"the arguments are longer than {LONGEST_ARGUMENTS} characters")
        try:
            value = json.loads(self.arguments or "{}")
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

    def as_message(self) -> Message:
        """The reply as it goes back into the conversation."""
        message: Message = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": _valid_json(call)},
                }
                for call in self.calls
            ]
        return message


def read_answer(reply: Any, estimate: int) -> Answer:
    """The model's reply. `estimate`: input tokens, if the endpoint reports none."""
    message = _in(_first(_in(reply, "choices")), "message")
    text = _in(message, "content")
    calls = [
        call
        for number, raw in enumerate(_listed(_in(message, "tool_calls")))
        if (call := _tool_call(raw, number))
    ]
    text = text if isinstance(text, str) else ""
    written = tokens([text, *(call.arguments for call in calls)])
    used = _in(reply, "usage")
    usage = Usage(
        llm_calls=1,
        input_tokens=_counted(_in(used, "prompt_tokens"), estimate),
        output_tokens=_counted(_in(used, "completion_tokens"), written),
    )
    cached = _counted(_in(_in(used, "prompt_tokens_details"), "cached_tokens"), 0)
    usage.cached_tokens = min(cached, usage.input_tokens)
    return Answer(text, calls, usage)


def _tool_call(raw: Any, number: int) -> ToolCall | None:
    function = _in(raw, "function")
    name, arguments = _in(function, "name"), _in(function, "arguments")
    if not isinstance(name, str) or not name:
        return None
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments) if arguments is not None else "{}"
    given = _in(raw, "id")
    return ToolCall(
        given if isinstance(given, str) and given else f"call_{number}", name, arguments
    )


def _in(at: Any, name: str) -> Any:
    return at.get(name) if isinstance(at, dict) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _counted(value: Any, estimate: int) -> int:
    """Tokens as reported; an endpoint that reports none does not make them free."""
    real = isinstance(value, int) and not isinstance(value, bool) and value > 0
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
