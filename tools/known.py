"""What the installation knew of a target, in a recording: so that a replay is told the same."""

import json
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from tools.recording_file import Recording

Known = Callable[[str, str], Awaitable[dict[str, Any]]]
"""Arguments of a tool that only the installation can fill, such as its memory over days, by the
tool's name and the node that is looked at: offered to no model, kept in no evidence."""

LARGEST = 25_000
"""Bytes of one argument, compressed: a recording has room for the server as well."""


def keeping(recording: Recording, known: Known) -> Known:
    """The same answers, kept in the recording: readings, not paths and the like.

    Whoever asks second is told what the first was told: of what grows meanwhile one state is kept.
    What is too large is not kept; a replay then says that it is not known.
    """
    told: dict[str, BaseModel] = {}

    async def asked(tool: str, node: str = "") -> dict[str, Any]:
        found = await known(tool, node)
        for name, value in found.items():
            if not isinstance(value, BaseModel):
                continue
            found[name] = told.setdefault(name, value)
            if found[name] is value:
                kept = value.model_dump(mode="json")
                if len(zlib.compress(json.dumps(kept).encode())) <= LARGEST:
                    recording.known[name] = kept
        return found

    return asked


def known_in(recording: Recording) -> Known:
    """As it was when the recording was made."""

    async def asked(tool: str, node: str = "") -> dict[str, Any]:
        return of_tool(recording, tool)

    return asked


def of_tool(recording: Recording, tool: str) -> dict[str, Any]:
    """The tool's arguments of those that are kept. Raises KeyError for an unknown tool."""
    from tools.reads import READS  # every tool: only needed here

    fields = READS[tool].args.model_fields
    return {name: value for name, value in recording.known.items() if name in fields}
