"""One request to a model and what came of it: what a transcript is made of. Pure."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from pydantic import Field

from agent.incident import Usage, Words

Purpose = Literal["investigation", "chat"]

MOST_CHARACTERS = 200_000
"""Of one exchange, as JSON: several times what fits into the cap of tokens of an incident."""
_LONGEST_TEXTS = (60_000, 20_000, 4_000, 500)
"""Characters of a single text, tried in this order until the exchange fits."""
_MOST_MEMBERS = 64
"""Of one list or object of an exchange that is too large."""


class Exchange(Words):
    """A request as it was sent and the reply as it came, both redacted.

    Kept whether the call succeeded or not: a transcript without its failures explains nothing.
    """

    purpose: Purpose
    model: str
    at: datetime
    """When the request was sent, UTC."""
    seconds: float
    """Until the reply was whole, or the call was given up."""
    earlier_messages: int = 0
    """How many messages of the conversation were sent before and are the same again."""
    messages: list[dict[str, Any]] = Field(default_factory=list)
    """The messages that are new in this request."""
    tools: list[str] = Field(default_factory=list)
    """Names of the functions that were offered."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The other parameters of the request, such as `tool_choice`."""
    window: int = 0
    """Tokens of the endpoint's context window, as far as it was known; else 0."""
    manners: dict[str, Any] = Field(default_factory=dict)
    """How the endpoint had taught us to ask it, as `agent/endpoint_quirks.py` has it."""
    reply: dict[str, Any] | None = None
    """The assistant's message; None if there was no usable one."""
    failure: str = ""
    """Why there was no usable reply, in the words the incident shows; else empty."""
    usage: Usage = Field(default_factory=Usage)


class KeptExchange(Exchange):
    """An exchange in its transcript."""

    id: int
    attempt: int = 1
    """Of the incident."""
    evidence: list[str] = Field(default_factory=list)
    """What was known when the request was sent: ids of the attempt's evidence, oldest first."""


class Ledger(Protocol):
    """Where the calls of one investigation or chat thread are counted and kept.

    What a call may cost is reserved before it and settled by its exchange, so calls that run side
    by side cannot together exceed a cap, and a process that dies has spent what it reserved.
    """

    async def spent(self) -> Usage:
        """In this attempt or thread so far, calls of processes that died included."""

    async def reserve(self, model: str, most: Usage) -> None:
        """Set aside what a call may cost. Raises ReasonerUnavailable if the day cannot pay it."""

    async def keep(self, exchange: Exchange) -> None:
        """Keep the exchange; what it cost takes the place of what was reserved."""


def bounded(exchange: Exchange) -> Exchange:
    """The same exchange within MOST_CHARACTERS; what is left out says how much it was."""
    for longest in (None, *_LONGEST_TEXTS):
        content = exchange.model_dump(mode="json", include={"messages", "options", "reply"})
        if longest is not None:
            content = _shortened(content, longest)
        if len(json.dumps(content, ensure_ascii=False)) <= MOST_CHARACTERS:
            return exchange if longest is None else exchange.model_copy(update=content)
    left_out = [{"role": "note", "content": "[left out: larger than a transcript may be]"}]
    return exchange.model_copy(update={"messages": left_out, "options": {}, "reply": None})


def _shortened(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        over = len(value) - longest
        return value if over <= 0 else f"{value[:longest]}[… {over} characters left out]"
    if not isinstance(value, dict | list | tuple):
        return value
    more = len(value) - _MOST_MEMBERS
    rest = {"left_out": f"{more} more"}
    if isinstance(value, dict):
        some = list(value.items())[:_MOST_MEMBERS]
        shown = {str(name)[:200]: _shortened(part, longest) for name, part in some}
        return shown | rest if more > 0 else shown
    parts = [_shortened(part, longest) for part in value[:_MOST_MEMBERS]]
    return [*parts, rest] if more > 0 else parts


def total(usages: Sequence[Usage]) -> Usage:
    """All of them together."""
    whole = Usage()
    for usage in usages:
        whole = whole.plus(usage)
    return whole
