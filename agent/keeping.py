"""Every request of a conversation with a model is handed on for keeping, redacted. No I/O."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.endpoint_quirks import Manners, Question
from agent.exchange import Exchange, Purpose
from agent.incident import Usage
from agent.model_reply import Answer, Message
from agent.redaction import redact_tree

Keep = Callable[[Exchange], Awaitable[None]]
_NOT_OPTIONS = ("model", "messages", "tools")


async def unkept(exchange: Exchange) -> None:
    """Nobody keeps it."""


@dataclass
class Asked:
    """One request on its way."""

    question: Question
    estimate: int = 0
    """Tokens of the question, pessimistically."""
    window: int = 0
    """Tokens of the endpoint's context window; 0: not known."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    manners: Manners = field(default_factory=Manners)
    unanswered: int = 0
    """How often it was read and no reply came of it: a provider charges for that."""
    sent: dict[str, Any] = field(default_factory=dict)
    """As it was sent last, with those manners."""


@dataclass
class Transcript:
    """One conversation's requests. Messages that were sent before are counted, not repeated."""

    keep: Keep = unkept
    purpose: Purpose = "investigation"
    _sent: list[Message] = field(default_factory=list, init=False)

    async def add(
        self,
        model: str,
        asked: Asked,
        seconds: float,
        came: Answer | None,
        failure: str = "",
        used: Usage | None = None,
    ) -> None:
        """Keep a request with its reply, or with why there was none and what that has cost."""
        messages = list(asked.sent.get("messages", asked.question.messages))
        earlier = _alike(self._sent, messages)
        self._sent = messages
        options = {name: value for name, value in asked.sent.items() if name not in _NOT_OPTIONS}
        exchange = Exchange(
            purpose=self.purpose,
            model=model,
            at=asked.at,
            seconds=round(seconds, 3),
            earlier_messages=earlier,
            messages=redact_tree(messages[earlier:]),
            tools=[str(tool["function"]["name"]) for tool in asked.question.tools],
            options=redact_tree(options),
            window=asked.window,
            manners=asdict(asked.manners) | {"refused": sorted(asked.manners.refused)},
            reply=redact_tree(came.as_came()) if came else None,
            failure=failure,
            usage=came.usage if came else used or Usage(llm_calls=1),
        )
        await self.keep(exchange)


def _alike(before: Sequence[Message], now: Sequence[Message]) -> int:
    """How many messages at the start are the same."""
    for at, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            return at
    return min(len(before), len(now))
