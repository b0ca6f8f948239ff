"""What a request shows its model, read back from the messages: evidence, ranking, functions.

Pure. A scripted model knows the incident only through this, as a real one does.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.functions import SUBMIT

_WRONG_CLAIM = re.compile(r"\bclaim ([0-9]{1,3}):")
_TABLE = re.compile(r"(.+)\.N\.\{(.*)\}")
"""`rows.N.{a,b}`: rows as lists of values by their number (`agent/digest.py`)."""
_NO_VALUE = ("not measured: ", "(")
"""How a reading in a prompt begins where it shows no value: a refusal, or rows that were cut."""
_NO_VALUES = ("not measured", "too_large_to_show")
"""Members of a reading that are about values and hold none."""


@dataclass(frozen=True)
class Leaf:
    """One value that may be cited."""

    evidence: str
    tool: str
    path: str
    value: str | float | bool


@dataclass
class Shown:
    """A request as its model sees it."""

    readings: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Tool and reading by id of evidence."""
    ranking: list[dict[str, Any]] = field(default_factory=list)
    """The rules' second opinion: `cause`, signals `for` and `against`, best first."""
    causes: list[str] = field(default_factory=list)
    """What may be submitted as root cause."""
    looks: set[str] = field(default_factory=set)
    """Read-only functions on offer."""
    turns: int = 0
    """Replies of the model that this conversation already holds."""
    refused_claims: set[int] = field(default_factory=set)
    """Numbers of the claims that failed the evidence check."""
    refused_culprit: bool = False

    def leaves(self) -> Iterator[Leaf]:
        """Every value on show that a fact may name."""
        for evidence, (tool, reading) in self.readings.items():
            for path, value in _leaves(reading, ""):
                if path and not (isinstance(value, str) and value.startswith(_NO_VALUE)):
                    yield Leaf(evidence, tool, path, value)


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, list):
        node = {str(place): item for place, item in enumerate(node)}
    if not isinstance(node, dict):
        if node is not None:
            yield path, node
        return
    for name, part in node.items():
        if table := _TABLE.fullmatch(name):
            rows = {at: dict(zip(table[2].split(","), row)) for at, row in part.items()}  # noqa: B905
            yield from _leaves(
                {at: row for at, row in rows.items() if at.isdigit()}, f"{path}{table[1]}."
            )
        elif name not in _NO_VALUES:
            yield from _leaves(
                part, f"{path}{name}." if isinstance(part, dict | list) else path + name
            )


def read(request: Mapping[str, Any]) -> Shown:
    """What this request shows."""
    shown = Shown()
    for function in _functions(request):
        if function.get("name") == SUBMIT:
            shown.causes = list(function["parameters"]["properties"]["root_cause"]["enum"])
        else:
            shown.looks.add(str(function.get("name")))
    for message in request.get("messages", ()):
        shown.turns += message.get("role") == "assistant"
        content = message.get("content")
        if message.get("role") == "system" or not isinstance(content, str):
            continue
        for document in _documents(content):
            _take_in(document, shown)
    return shown


def _functions(request: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [tool.get("function", {}) for tool in request.get("tools", ())]


def _documents(text: str) -> Iterator[Any]:
    """The JSON objects in a text, one after another."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            document, end = decoder.raw_decode(text, at)
            yield document
        except ValueError:
            end = at + 1
        at = text.find("{", end)


def _take_in(node: Any, shown: Shown) -> None:
    """Find evidence and ranking wherever the prompt puts them."""
    if isinstance(node, list):
        for item in node:
            _take_in(item, shown)
        return
    if not isinstance(node, dict):
        return
    if isinstance(node.get("evidence"), str) and "tool" in node and "reading" in node:
        shown.readings[node["evidence"]] = (str(node["tool"]), node["reading"])
        return
    ranking = node.get("rules_ranking")
    if isinstance(ranking, list):
        shown.ranking = [one for one in ranking if isinstance(one, dict) and "cause" in one]
    for mismatch in node.get("mismatches", ()):
        shown.refused_claims |= {int(found) for found in _WRONG_CLAIM.findall(str(mismatch))}
        shown.refused_culprit |= "culprit" in str(mismatch)
    for part in node.values():
        _take_in(part, shown)
