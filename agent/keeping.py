"""Every request of a conversation with a model is handed on for keeping, redacted."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.exchange import Exchange, Purpose
from agent.incident import Usage
from agent.model_reply import Answer, Message
from agent.redaction import redact_tree

Keep = Callable[[Exchange], Awaitable[None]]


async def unkept(exchange: Exchange) -> None:
    """Nobody keeps it."""


@dataclass
class Asked:
    """One request on its way; `finish` makes an Exchange of it."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    options: dict[str, Any] = field(default_factory=dict)
    """The other parameters, as they were sent last."""


@dataclass
class Transcript:
    """One conversation's requests. Messages that were sent before are counted, not repeated."""

    keep: Keep = unkept
    purpose: Purpose = "investigation"
    _sent: list[Message] = field(default_factory=list, init=False)

    async def add(
        self, model: str, asked: Asked, seconds: float, came: Answer | None, failure: str = ""
    ) -> None:
        """Keep a request with its reply, or with why there was none."""
        earlier = _alike(self._sent, asked.messages)
        self._sent = list(asked.messages)
        exchange = Exchange(
            purpose=self.purpose,
            model=model,
            at=asked.at,
            seconds=round(seconds, 3),
            earlier_messages=earlier,
            messages=redact_tree(list(asked.messages[earlier:])),
            tools=[str(tool["function"]["name"]) for tool in asked.tools],
            options=redact_tree(asked.options),
            reply=redact_tree(came.as_message()) if came else None,
            failure=failure,
            usage=came.usage if came else Usage(llm_calls=1),
        )
        await self.keep(exchange)


def _alike(before: Sequence[Message], now: Sequence[Message]) -> int:
    """How many messages at the start are the same."""
    for at, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            return at
    return min(len(before), len(now))
