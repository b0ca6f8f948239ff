"""Who may be blamed: names that occur in evidence as what they are said to be. Pure."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from agent.facts import leaves
from agent.incident import Culprit, CulpritKind
from tools.permissions import CONFIG_SETTABLE
from tools.reading import Evidence, printable

MOST_COMPARED = 500
"""Names that a misspelt one is compared with."""
_GROUPS = re.compile(r"(^|\.)by_(type|name|address|command)\.\d+\.key$")
_FORMS: tuple[tuple[CulpritKind, re.Pattern[str]], ...] = (
    ("key", re.compile(r"(^|\.)(key|object)$")),
    ("prefix", re.compile(r"(^|\.)prefix$")),
    (
        "client",
        re.compile(
            r"by_(name|address)\.\d+\.key$|largest\.\d+\.name$"
            r"|(^|\.)(label|address|client|client_name|client_address|user|username)$"
        ),
    ),
    ("replica", re.compile(r"(^|\.)(address|master_host)$")),
)


def culprit_mismatches(culprit: Culprit, evidence: Sequence[Evidence]) -> list[str]:
    """Why this one cannot be blamed: no such name in evidence, and which there may be instead."""
    name = printable(culprit.name, 80)
    if culprit.kind == "none":
        return (
            [f"a culprit of kind none has no name, but '{name}' is given"] if culprit.name else []
        )
    if not culprit.name:
        return [f"a culprit of kind {culprit.kind} needs a name from evidence, or kind none"]
    known = list(dict.fromkeys(one for piece in evidence for one in _named(piece)))
    if (culprit.kind, culprit.name) in known:
        return []
    return [
        f"the culprit '{name}' occurs in no evidence as a {culprit.kind}{_hint(culprit, known)}"
    ]


def _hint(culprit: Culprit, known: Sequence[tuple[CulpritKind, str]]) -> str:
    """The one that may have been meant: another kind, another spelling, or a name much like it."""
    same = [(kind, name) for kind, name in known if name == culprit.name]
    alike = [
        (kind, name)
        for kind, name in known
        if kind == culprit.kind and _bare(name) == _bare(culprit.name)
    ]
    of_kind = [name for kind, name in known if kind == culprit.kind][:MOST_COMPARED]
    close = difflib.get_close_matches(culprit.name[:200], of_kind, 1, 0.8)
    meant = [*same, *alike, *((culprit.kind, name) for name in close)]
    return f"; did you mean the {meant[0][0]} '{printable(meant[0][1], 80)}'?" if meant else ""


def _bare(name: str) -> str:
    return name.casefold().strip(" *:{}\"'`")


def _named(piece: Evidence) -> Iterator[tuple[CulpritKind, str]]:
    """Everybody that this evidence names, and as what."""
    for host in (piece.node, piece.node.partition(" ")[0], piece.target):
        yield "host", host
    if not piece.measured:
        return
    reading = piece.reading
    if isinstance(followed := reading.get("primary"), str):
        yield "host", followed
    parameters = reading.get("parameters")
    for parameter in CONFIG_SETTABLE:
        if (isinstance(parameters, dict) and parameter in parameters) or (
            parameter.replace("-", "_") in reading
        ):
            yield "config", parameter
    values = dict(leaves(reading))
    for path, name in values.items():
        if isinstance(name, str) and name:
            yield from ((kind, name) for kind in _kinds(path, values, piece.tool))


def _kinds(path: str, values: dict[str, Any], tool: str) -> Iterator[CulpritKind]:
    row, _, field = path.rpartition(".")
    for kind, form in _FORMS:
        if not form.search(path) or (kind == "key" and _GROUPS.search(path)):
            continue
        if field == "object" and values.get(f"{row}.reason") != "key":
            continue  # a command or a channel that was refused
        yield kind
        if kind == "key" and (tool == "stream_info" or values.get(f"{row}.type") == "stream"):
            yield "stream"
