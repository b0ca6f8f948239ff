"""A question in chat: what may be used to answer it, and an answer in the making."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from agent.conversation import Look
from agent.incident import Claim, Diagnosis, Incident, Words
from agent.runbook import Library
from agent.runbook_search import Passage, RunbookSearch, index_of
from tools.reading import Evidence, printable
from tools.reads import READS

CAN_ASK = (
    "You can ask what is wrong, why, how sure it is, what to do and what that risks, what was "
    "ruled out or not measured, what changed, who approved what, about memory, the biggest keys "
    "and prefixes, clients, latency, errors, streams, replication or persistence, what a metric or "
    "a configuration parameter means, or for the status of all incidents."
)
MOST_CLAIMS = 12
MOST_CITATIONS = 40
LONGEST_ANSWER = 12_000
"""Characters; longer answers are cut between lines."""
LONGEST_LINE = 4_000

Progress = Callable[[str], Awaitable[None]]


class Records(Protocol):
    """What the service has on record, read only."""

    async def recent(self, target: str = "", status: str = "") -> list[Incident]:
        """Incidents, newest first, at most a page; of one target or status if named."""

    async def incident(self, incident_id: str) -> Incident | None:
        """One incident, or None."""

    async def evidence(self, incident_id: str) -> list[Evidence]:
        """Its evidence, oldest first, bounded."""


class NoRecords:
    """Where there is no service: nothing is on record."""

    async def recent(self, target: str = "", status: str = "") -> list[Incident]:
        """None."""
        return []

    async def incident(self, incident_id: str) -> Incident | None:
        """None."""
        return None

    async def evidence(self, incident_id: str) -> list[Evidence]:
        """None."""
        return []


class Citation(Words):
    """What an answer rests on."""

    kind: Literal["evidence", "runbook", "incident", "reference"]
    """reference: what our own documentation says about a name."""
    id: str
    """`E7`, a runbook's id, an incident's id, the name."""
    section: str = ""
    """Of the runbook."""
    text: str = ""
    """What it says there: the look in one line, the quotation."""


@dataclass
class Question:
    """One question with all that may be used to answer it."""

    message: str
    incident: Incident | None
    evidence: list[Evidence]
    library: Library
    look: Look | None
    records: Records = field(default_factory=NoRecords)
    target: str = ""
    """The server it is about, if one is known."""
    targets: Sequence[str] = ()
    """All servers that could be asked about."""
    history: Sequence[Mapping[str, str]] = ()
    progress: Progress | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    consulted: list[Evidence] = field(default_factory=list)
    """What the model was shown of records and runbooks, as evidence it can cite."""

    @property
    def diagnosis(self) -> Diagnosis | None:
        """What the incident's record says is wrong."""
        return self.incident.diagnosis if self.incident else None

    @property
    def general(self) -> bool:
        """Whether it is about no incident and no server."""
        return self.incident is None and self.look is None and not self.evidence

    @property
    def search(self) -> RunbookSearch:
        """The index of the runbooks, made when it is first needed."""
        return index_of(self.library)

    async def fill(self, tools: Sequence[str]) -> None:
        """Look, at once, with the tools of these that nobody has looked with yet."""
        looked = {piece.tool for piece in self.evidence}
        await self.look_again([tool for tool in tools if tool not in looked])

    async def look_again(self, tools: Sequence[str]) -> list[Evidence]:
        """Look with these now, whatever was seen before."""
        if self.look is None:
            return []
        return list(await asyncio.gather(*(self.seen(tool, {}) for tool in tools)))

    async def seen(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        """Look at the server, and keep what was seen for this answer."""
        if self.look is None:
            raise LookupError("no server is attached to this conversation")
        await self.tell(f"looking at {tool}")
        piece = await self.look(tool, arguments)
        if all(known.id != piece.id for known in self.evidence):
            self.evidence.append(piece)
        return piece

    async def tell(self, what: str) -> None:
        """Say what is being done, to whoever waits."""
        if self.progress is not None:
            await self.progress(what)


class Said:
    """An answer in the making: sentences and claims, in order."""

    def __init__(
        self,
        plain: Iterable[str] = (),
        claims: Iterable[Claim] = (),
        citations: Iterable[Citation] = (),
    ) -> None:
        self.parts: list[str | Claim] = [*(line for line in plain if line), *claims]
        self.citations = list(citations)
        """Of the sentences; a claim's facts cite their evidence themselves."""

    def __add__(self, other: "Said") -> "Said":
        """One answer after the other."""
        both = Said(citations=[*self.citations, *other.citations])
        both.parts = [*self.parts, *other.parts]
        return both

    @property
    def claims(self) -> list[Claim]:
        """The claims in it."""
        return [part for part in self.parts if isinstance(part, Claim)]

    @property
    def text(self) -> str:
        """All of it, a line each, with what every line rests on. No control characters."""
        room, lines = LONGEST_ANSWER, list[str]()
        for part in self.parts:
            line = printable(cited(part) if isinstance(part, Claim) else part, LONGEST_LINE)
            room -= len(line) + 1
            if room < 0:
                lines.append("(cut: ask for a part of it)")
                break
            lines.append(line)
        return "\n".join(lines)

    def all_citations(self, evidence: Sequence[Evidence]) -> list[Citation]:
        """Evidence of the claims first, each once."""
        known = {piece.id: piece for piece in evidence}
        names = dict.fromkeys(fact.evidence for c in self.claims for fact in c.facts)
        found = [_source(name, known.get(name)) for name in names]
        unique = {(each.kind, each.id, each.section): each for each in (*found, *self.citations)}
        return list(unique.values())[:MOST_CITATIONS]


def cited(claim: Claim) -> str:
    """A claim with the evidence it rests on: `96.0 MiB are used. [E1]`."""
    sources = ", ".join(dict.fromkeys(fact.evidence for fact in claim.facts))
    return f"{claim.text} [{sources}]" if sources else claim.text


def dont_know(reason: str) -> Said:
    """Honestly, with what could be asked."""
    return Said([f"I don't know: {reason.rstrip('.')}. {CAN_ASK}"])


def quoted(passage: Passage, quote: str) -> Said:
    """A runbook's own words, and where they stand."""
    line = f"Runbook {passage.runbook}, {passage.section}: “{quote}”"
    where = Citation(kind="runbook", id=passage.runbook, section=passage.section, text=quote)
    return Said([line], citations=[where])


def about_incident(incident: Incident) -> Citation:
    """The record of an incident."""
    return Citation(kind="incident", id=incident.id, text=incident.title)


def _source(name: str, piece: Evidence | None) -> Citation:
    if piece is not None and piece.tool not in READS:  # of the record, not of a server
        return Citation(kind="incident", id=name, text=piece.summary)
    return Citation(kind="evidence", id=name, text=look_of(piece) if piece else "")


def look_of(piece: Evidence) -> str:
    """A look in one line: with what, where, when, and what was seen."""
    return f"{piece.tool} on {piece.node}, {piece.taken_at:%Y-%m-%d %H:%M:%S} UTC: {piece.summary}"
