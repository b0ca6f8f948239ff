"""JSON that a model wrote into its text: fenced or not, with words around it. Pure, bounded."""

import json
import re
from collections.abc import Collection
from typing import Any

MOST_TEXT = 100_000
MOST_STARTS = 40
"""Places where JSON might begin that are tried."""
MOST_CALLS = 32
_NAMES = ("name", "tool", "function", "tool_name", "function_name")
_ARGUMENTS = ("arguments", "args", "parameters", "input", "tool_input")
_MANY = ("calls", "tool_calls", "tools", "functions")
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL)
_END_OF_THOUGHT = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL)
_DECODER = json.JSONDecoder()


def without_thoughts(text: str) -> tuple[str, str]:
    """The text without what a reasoning model thought aloud, and what that was."""
    if "</think" not in text and "<think" not in text and "reasoning>" not in text:
        return text, ""
    # Some chat templates open the thought themselves: then only its end is in the reply.
    said = _END_OF_THOUGHT.sub("", _THOUGHT.sub("", text)).strip()
    return said, text.removesuffix(said).strip() if said else text


def values_in(text: str) -> list[Any]:
    """The JSON objects and arrays in a text, outermost first, in their order."""
    text = text[:MOST_TEXT]
    found: list[Any] = []
    at = 0
    for _ in range(MOST_STARTS):
        starts = [start for mark in "{[" if (start := text.find(mark, at)) >= 0]
        if not starts:
            break
        at = min(starts)
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        found.append(value)
    return found


def objects_in(text: str) -> list[dict[str, Any]]:
    """The JSON objects in a text that may be a submission: the last is the most considered."""
    return [value for value in values_in(text) if isinstance(value, dict)]


def calls_in(text: str, names: Collection[str]) -> list[tuple[str, Any]]:
    """Calls of these functions in a text, with their arguments."""
    return [call for value in values_in(text) for call in _calls(value, names)][:MOST_CALLS]


def _calls(value: Any, names: Collection[str], depth: int = 0) -> list[tuple[str, Any]]:
    if depth > 3:
        return []
    if isinstance(value, list):
        return [call for item in value for call in _calls(item, names, depth + 1)]
    if not isinstance(value, dict):
        return []
    for many in _MANY:
        if isinstance(value.get(many), list):
            return _calls(value[many], names, depth + 1)
    if isinstance(value.get("function"), dict):
        return _calls(value["function"], names, depth + 1)
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), "")
    if name in names:
        return [(name, next((value[key] for key in _ARGUMENTS if key in value), {}))]
    if len(value) == 1:
        ((name, arguments),) = value.items()
        if name in names and isinstance(arguments, dict):
            return [(name, arguments)]
    return []
