"""One request to a model and what came of it: what a transcript is made of. Pure."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from agent.incident import Usage, Words

Purpose = Literal["investigation", "chat"]


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
    reply: dict[str, Any] | None = None
    """The assistant's message; None if there was no usable one."""
    failure: str = ""
    """Why there was no usable reply, in the words the incident shows; else empty."""
    usage: Usage = Field(default_factory=Usage)
    cached_tokens: int = 0
    """Input tokens that the endpoint says it served from its prompt cache."""
    dollars: float | None = None
    """By the configured prices; None where the model has no price."""
