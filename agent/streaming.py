"""A reply as it arrives: in pieces (server-sent events), or whole as JSON. Bounded.

The library can put pieces together too (`lib.streaming.chat`), for endpoints that number their
tool calls and send every field of a chunk; many do neither, so this takes what there is.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agent.retrying import EndpointError, broke_off

LARGEST_REPLY = 2_000_000
"""Bytes."""
MOST_CALLS = 64
Message = dict[str, Any]


async def read_reply(arriving: AsyncIterator[bytes], idle_seconds: float) -> dict[str, Any]:
    """The whole reply, as if it had not been streamed.

    `idle_seconds`: longest silence once the reply has begun. Before that a model may be thinking,
    or reading a long prompt, and only the cap of the call bounds it. Raises EndpointError.
    """
    whole = bytearray()
    assembly = Assembly()
    unread = 0
    while not assembly.done and (piece := await _next(arriving, idle_seconds, begun=bool(whole))):
        whole += piece
        if len(whole) > LARGEST_REPLY:
            raise EndpointError("the model's reply is too large")
        end = whole.rfind(b"\n") + 1
        for line in bytes(whole[unread:end]).splitlines():
            assembly.line(line)
        unread = max(unread, end)
    assembly.line(bytes(whole[unread:]))
    if not assembly.streamed:
        return _whole(bytes(whole))
    if not assembly.done and not assembly.finished:
        raise broke_off()
    return assembly.reply()


async def _next(arriving: AsyncIterator[bytes], idle_seconds: float, *, begun: bool) -> bytes:
    """The next bytes; empty at the end."""
    try:
        async with asyncio.timeout(idle_seconds if begun else None):
            return await anext(arriving, b"")
    except TimeoutError as error:
        raise broke_off(f"fell silent for {idle_seconds:g} s") from error


def _whole(content: bytes) -> dict[str, Any]:
    """A reply that was not streamed."""
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError) as error:
        if not content.strip():
            raise EndpointError("the model's endpoint answered nothing", broken=True) from error
        raise EndpointError("the model's endpoint did not answer in JSON") from error
    return checked(reply)


def checked(reply: Any) -> dict[str, Any]:
    """The reply, unless it is an error sent with status 200 or in a stream."""
    said = reply.get("error") if isinstance(reply, dict) else None
    if said and not (isinstance(reply, dict) and reply.get("choices")):
        code = said.get("code") if isinstance(said, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 0
        words = f"the model's endpoint answered {status or 'with an error'}"
        raise EndpointError(words, status=status or 500, body=said)
    return reply if isinstance(reply, dict) else {}


class Assembly:
    """Puts the pieces of a streamed reply together."""

    def __init__(self) -> None:
        self.streamed = False
        self.done = False
        """`[DONE]` came."""
        self.finished: Any = None
        """Why the model stopped, if it said so."""
        self._texts: dict[str, list[str]] = {}
        self._calls: list[Message] = []
        self._usage: Any = None

    def line(self, line: bytes) -> None:
        """Take one line."""
        if not line.startswith(b"data:"):
            return
        self.streamed = True
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            return  # a line of a multi-line event, or nonsense: what is missing will be noticed
        self._chunk(checked(chunk))

    def reply(self) -> dict[str, Any]:
        """The whole, as an endpoint that does not stream would have sent it."""
        message: dict[str, Any] = {name: "".join(texts) for name, texts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"message": message, "finish_reason": self.finished}
        return {"choices": [choice], "usage": self._usage}

    def _chunk(self, chunk: dict[str, Any]) -> None:
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        self.finished = choice.get("finish_reason") or self.finished
        delta = choice.get("delta") or choice.get("message")
        if not isinstance(delta, dict):
            return
        for raw in delta.get("tool_calls") or []:
            self._call(raw)
        if isinstance(delta.get("function_call"), dict):
            self._call({"index": 0, "function": delta["function_call"]})
        for name in ("content", "refusal", "reasoning_content", "reasoning"):
            if text := text_of(delta.get(name)):
                self._texts.setdefault(name, []).append(text)

    def _call(self, raw: Any) -> None:
        """A piece of a call: a new one, or more of the arguments of one that was begun."""
        function = raw.get("function") if isinstance(raw, dict) else None
        if not isinstance(function, dict):
            return
        call = self._begun(raw, function)
        if call is None:
            return
        if isinstance(raw.get("id"), str) and raw["id"]:
            call["id"] = raw["id"]
        if isinstance(raw.get("extra_content"), dict):
            call["extra_content"] = raw["extra_content"]
        if isinstance(function.get("name"), str) and function["name"]:
            call["function"]["name"] = function["name"]
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        call["function"]["arguments"] += arguments if isinstance(arguments, str) else ""

    def _begun(self, raw: Message, piece: Message) -> Message | None:
        """The call this is a piece of. Some endpoints number none of them, or all of them 0."""
        given, index = raw.get("id"), raw.get("index")
        for call in reversed(self._calls):
            same = call["index"] == index if index is not None else True
            other = given and call["id"] and given != call["id"]
            restarted = index is None and not given and piece.get("name")
            if same and not other and not restarted:
                return call
            if index is None:
                break
        if len(self._calls) >= MOST_CALLS:
            return None
        function = {"name": "", "arguments": ""}
        new: Message = {"index": index, "id": "", "type": "function", "function": function}
        self._calls.append(new)
        return new


def text_of(content: Any) -> str:
    """Text, from text or from a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))
