"""What the chat can say about a server without a model: sentences over readings, by topic. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agent.chat_sentences import ON_DEMAND, TOPICS, Sentence
from agent.claims import check_claim, literal_names
from agent.facts import index
from agent.incident import Claim, ClaimDraft, FactDraft
from tools.configuration import Configuration
from tools.permissions import CONFIG_PARAMETERS
from tools.reading import Evidence, Reading, printable
from tools.reads import READS
from tools.stats import CommandStats, ErrorStats, Stats

SLOW: frozenset[type[Reading]] = frozenset({Stats, CommandStats, ErrorStats})
"""Looks that take seconds: told about if somebody has looked, not taken for every question."""
ROWS = 5
"""Rows of a table that an answer names."""
_IN_BYTES = frozenset(
    {
        "maxmemory", "repl-backlog-size", "client-query-buffer-limit", "proto-max-bulk-len",
        "auto-aof-rewrite-min-size", "active-defrag-ignore-bytes", "stream-node-max-bytes",
    }
)  # fmt: skip
_PLACE = re.compile(r"\{([\w.-]+):([a-z_]*)\}")


def kinds_of(topic: str) -> list[type[Reading]]:
    """The readings a topic rests on."""
    return list(dict.fromkeys(sentence.kind for sentence in TOPICS[topic]))


def tools_for(topic: str) -> list[str]:
    """The looks to take for a question about a topic."""
    kinds = [kind for kind in kinds_of(topic) if topic in ON_DEMAND or kind not in SLOW]
    return [tool_of(kind) for kind in kinds]


def tool_of(kind: type[Reading]) -> str:
    """The read-only tool that yields this reading."""
    return next(name for name, tool in READS.items() if tool.reading is kind)


def latest(evidence: Sequence[Evidence], kind: type[Reading]) -> Evidence | None:
    """The newest measured evidence of this kind; without one, the newest that was not measured."""
    tool = tool_of(kind)
    pieces = [piece for piece in evidence if piece.tool == tool]
    measured = [piece for piece in pieces if piece.measured]
    return next(reversed(measured or pieces), None)


def say(topic: str, evidence: Sequence[Evidence]) -> tuple[list[Claim], list[str]]:
    """What can be said about a topic, and what was not measured for it."""
    claims: list[Claim] = []
    gaps: list[str] = []
    names = literal_names(evidence)
    known = index(evidence)
    for kind in kinds_of(topic):
        piece = latest(evidence, kind)
        if piece is None:
            gaps += [] if kind in SLOW else [f"{tool_of(kind)} was not run"]
        elif not piece.measured:
            gaps.append(_reason(piece))
        else:
            for sentence in (each for each in TOPICS[topic] if each.kind is kind):
                for draft in _drafts(sentence, piece):
                    result = check_claim(draft, known, names, ours=True)
                    if isinstance(result, Claim):
                        claims.append(result)
                    else:
                        gaps += [reason for reason in result if "was not measured" in reason]
    return claims, list(dict.fromkeys(gaps))


def _drafts(sentence: Sentence, piece: Evidence) -> Iterator[ClaimDraft]:
    if not sentence.rows:
        yield draft_of(sentence.text, piece.id)
        return
    rows = piece.reading.get(sentence.rows)
    for at in range(sentence.first, min(ROWS, len(rows) if isinstance(rows, list) else 0)):
        yield draft_of(sentence.text, piece.id, f"{sentence.rows}.{at}.")


def draft_of(text: str, evidence: str, prefix: str = "") -> ClaimDraft:
    """A claim from text in which `{path:unit}` and `{path-path:unit}` stand for facts."""
    facts: dict[str, FactDraft] = {}

    def placed(found: re.Match[str]) -> str:
        paths, unit = found[1].split("-"), found[2]
        name = re.sub(r"\W", "_", found[1])
        facts[name] = FactDraft(
            name=name,
            evidence=evidence,
            op="difference" if len(paths) == 2 else "value",
            of=[f"{prefix}{path}" for path in paths],
            unit=unit,
        )
        return f"{{{name}}}"

    return ClaimDraft(text=_PLACE.sub(placed, text), facts=list(facts.values()))


def because(piece: Evidence) -> str:
    """Why a piece of evidence measured nothing."""
    return printable(str(piece.reading.get("because", "no reason")), 200)


def _reason(piece: Evidence) -> str:
    return f"{piece.tool} was not measured: {because(piece)}"


def asked_parameter(message: str) -> str:
    """The configuration parameter a question names, or empty.

    Parameters of one plain word (`save`, `timeout`) only where a parameter is asked for.
    """
    words = message.lower().replace("_", "-")
    spellings = {"eviction policy": "maxmemory-policy", "memory limit": "maxmemory"}
    for spoken, name in spellings.items():
        words = words.replace(spoken, name)
    named = [name for name in re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", words) if name in _PARAMETERS]
    if not _ASKS_PARAMETER.search(words):
        named = [name for name in named if name not in _PLAIN_WORDS]
    return max(named, key=len, default="")


_PARAMETERS = frozenset(CONFIG_PARAMETERS)
_PLAIN_WORDS = frozenset({"save", "timeout", "databases"})
_ASKS_PARAMETER = re.compile(
    r"config|parameter|setting|(what('s| is)|value of) (the )?(save|timeout|databases)\W*$"
)


def say_parameter(name: str, evidence: Sequence[Evidence]) -> Claim | list[str]:
    """The value of one parameter, or why it cannot be said."""
    for piece in reversed(evidence):
        values: Any = piece.reading.get("parameters") if piece.measured else None
        if piece.tool == tool_of(Configuration) and isinstance(values, dict) and name in values:
            number = str(values[name]).lstrip("-").isdigit()
            unit = "bytes" if number and name in _IN_BYTES else ""
            fact = FactDraft(name="value", evidence=piece.id, of=[f"parameters.{name}"], unit=unit)
            draft = ClaimDraft(text=f"{name} is {{value}}.", facts=[fact])
            return check_claim(draft, index([piece]), {name}, ours=True)
    failed = [_reason(p) for p in evidence if p.tool == tool_of(Configuration) and not p.measured]
    return failed[-1:] or [f"the configuration parameter {name} was not read"]
