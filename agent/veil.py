"""Hashed names for the model: what it is sent holds other names, what it says gets the true ones.

Keys, clients, users, groups, hosts and targets become names of the same structure (`session:42` as
`qhzmkwe:830115`), the same for the same as long as the key is. The way back is a table in this
process: neither it nor the key is sent or stored with an incident.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agent.context import Case
from agent.exchange import Ledger
from agent.incident import Alert, DiagnosisDraft, Incident
from agent.runbook import Library
from tools.reading import Evidence
from tools.reads import READS
from tools.recording_privacy import Pseudonyms
from tools.summaries import summarize

NAMES = frozenset(
    {
        "address", "client", "client_address", "client_name", "functions", "host", "key", "keys",
        "label", "master_host", "name", "node", "node_after", "node_before", "object",
        "prefix", "primary", "running_script", "target", "user", "username",
    }
)  # fmt: skip
"""Fields of readings and records that hold a name from the server or of a server."""
PLAIN_TOOLS = frozenset({"instance_resize", "modules", "config_get"})
"""Readings in which `name` is a word of ours, of a provider or of a public module."""
_PLAIN_LISTS = frozenset({"by_type", "by_command"})
PROSE = frozenset({"because", "not_measured", "text"})
"""Fields of readings with sentences that may quote a name."""
MOST_NAMES = 20_000
_UNCHANGED = frozenset({"", "default", "none"})
_REDACTED = re.compile(r"(\[redacted [a-z0-9 -]{1,40}\]|\(unnamed\))")
_WORD = re.compile(r"\S{1,400}")
_AROUND = "\"'`“”‘’()[]{}<>,.;!?"  # noqa: RUF001
_NAME_LIKE = re.compile(
    r"(?=[^A-Za-z]{0,400}[A-Za-z]).{0,400}?[A-Za-z0-9][:._@/|#-]+[A-Za-z0-9]|\d+(?:\.\d+){3}"
)
_SHORTEST = 3


class Veil:
    """The two ways: names to hashes, and back. One per process and key."""

    def __init__(self, key: bytes | None = None) -> None:
        self._pseudonyms = Pseudonyms(key)
        self._hidden: dict[str, str] = {}

    def name(self, name: str) -> str:
        """A name by its other one."""
        if name in _UNCHANGED:
            return name
        if name not in self._hidden:
            if len(self._hidden) >= MOST_NAMES:
                # The oldest alone: those of this case are still to be found in its sentences.
                del self._hidden[next(iter(self._hidden))]
            self._hidden[name] = "".join(
                part if _REDACTED.fullmatch(part) else self._other(part)
                for part in _REDACTED.split(name)
            )
        return self._hidden[name]

    def _other(self, part: str) -> str:
        return self._pseudonyms.name(part.encode("utf-8", "surrogateescape")).decode()

    def text(self, text: str) -> str:
        """A sentence, with the names in it that evidence has shown."""
        there = {
            form: _quoted(other) if form != name else other
            for name, other in self._hidden.items()
            if len(name) >= _SHORTEST
            for form in ((name, _quoted(name)) if '"' in name else (name,))
            if form in text
        }
        if not there:
            return text
        either = "|".join(map(_whole, sorted(there, key=len, reverse=True)))
        return re.sub(either, lambda found: there[found[0]], text)

    def said(self, text: str) -> str:
        """What a person or an alert said: also whatever looks like a name, known or not."""
        return _WORD.sub(lambda found: self._like_a_name(found[0]), self.text(text))

    def _like_a_name(self, word: str) -> str:
        core = word.strip(_AROUND)
        if not _NAME_LIKE.search(core) or core in self._hidden.values():
            return word
        return word.replace(core, self.name(core), 1)

    def reveal(self, value: Any) -> Any:
        """JSON with the true names in every text."""
        if isinstance(value, str):
            raw = value.encode("utf-8", "surrogateescape")
            return self._pseudonyms.true(raw).decode("utf-8", "replace")
        if isinstance(value, Mapping):
            return {name: self.reveal(part) for name, part in value.items()}
        return [self.reveal(part) for part in value] if isinstance(value, list) else value

    def evidence(self, piece: Evidence) -> Evidence:
        """A piece of evidence by other names, its summary told anew."""
        own = piece.tool in READS
        reading = self._tree(piece.reading, own, plain=piece.tool in PLAIN_TOOLS)
        return piece.model_copy(
            update={
                "reading": reading,
                "args": self._tree(piece.args, own, plain=piece.tool in PLAIN_TOOLS),
                "target": self.name(piece.target),
                "node": self.node(piece.node),
                "summary": self._summary(piece, reading),
            }
        )

    def node(self, node: str) -> str:
        """`host:port (role)` with another host and port."""
        host, space, role = node.partition(" ")
        return self.name(host) + space + role

    def _summary(self, piece: Evidence, reading: dict[str, Any]) -> str:
        tool = READS.get(piece.tool)
        if tool is None or not piece.measured:
            return self.text(piece.summary)
        try:
            return summarize(tool.reading.model_validate(reading))
        except ValidationError:
            return ""

    def _tree(self, value: Any, own: bool, field: str = "", plain: bool = False) -> Any:
        """`own`: a reading of ours, where every field that is no name or prose is a plain word."""
        if isinstance(value, dict):
            return {
                name: self._tree(part, own, name, plain or name in _PLAIN_LISTS)
                for name, part in value.items()
            }
        if isinstance(value, list):
            return [self._tree(part, own, field, plain) for part in value]
        if not isinstance(value, str):
            return value
        if field in NAMES and not plain:
            return self.name(value)
        if not own and field == "title":  # what an alert was called: its names are in no evidence
            return self.said(value)
        return self.text(value) if field in PROSE or not own else value

    def incident(self, incident: Incident) -> Incident:
        """The record of an incident by other names."""
        self.name(incident.target)
        record = incident.model_dump(mode="json", exclude={"alerts", "title", "question"})
        other = {
            "alerts": [self._alert(alert).model_dump(mode="json") for alert in incident.alerts],
            "title": self.said(incident.title),
            "question": self.said(incident.question),
        }
        return Incident.model_validate(self._record(record) | other)

    def _record(self, value: Any, field: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._record(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [self._record(part, field) for part in value]
        if not isinstance(value, str) or field in ("id", "status", "evidence", "of", "fingerprint"):
            return value
        if field in ("target", "node"):
            return self.name(value) if field == "target" else self.node(value)
        return self.text(value)

    def _alert(self, alert: Alert) -> Alert:
        kept = ("alertname", "severity")
        labels = {n: v if n in kept else self.name(v) for n, v in alert.labels.items()}
        notes = {n: self.said(v) for n, v in alert.annotations.items()}
        about = {"target": self.name(alert.target) if alert.target else ""}
        return alert.model_copy(update={"labels": labels, "annotations": notes, **about})

    def library(self, library: Library) -> Library:
        """Runbooks: those that a team wrote may name what evidence has shown."""
        books = [
            book.model_copy(update={"body": self.text(book.body)}) for book in library.runbooks
        ]
        return Library(runbooks=books)

    def draft(self, draft: DiagnosisDraft) -> DiagnosisDraft:
        """A submission of true names, as it was made."""
        hidden = self._record(draft.model_dump(mode="json"))
        hidden["culprit"]["name"] = self.name(draft.culprit.name)
        return DiagnosisDraft.model_validate(hidden)


class VeiledCase:
    """A case of which a model sees no true name."""

    def __init__(self, case: Case, veil: Veil) -> None:
        self._case = case
        self._veil = veil
        self._pieces: dict[str, Evidence] = {}
        _ = self.evidence  # names known from it are found in texts
        self.incident = veil.incident(case.incident)
        self.runbooks = veil.library(case.runbooks)

    @property
    def evidence(self) -> list[Evidence]:
        """All of it, by other names."""
        for piece in self._case.evidence:
            if piece.id not in self._pieces:
                self._pieces[piece.id] = self._veil.evidence(piece)
        return [self._pieces[piece.id] for piece in self._case.evidence]

    async def look(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        """A look with the true names, shown by the others."""
        piece = await self._case.look(tool, self._veil.reveal(arguments))
        return self._pieces.setdefault(piece.id, self._veil.evidence(piece))

    @property
    def ledger(self) -> Ledger:
        """Where calls are counted and kept: as they were sent."""
        return self._case.ledger


def _quoted(name: str) -> str:
    """As it stands between the quotes of a claim (`printed` of `agent/facts.py`)."""
    return name.replace('"', '\\"')


def _whole(name: str) -> str:
    """The name as a pattern; `user` is not found in `username`, `user:` is in `user:7`."""
    before = r"(?<![A-Za-z0-9])" if name[0].isalnum() else ""
    after = r"(?![A-Za-z0-9])" if name[-1].isalnum() else ""
    return f"{before}{re.escape(name)}{after}"
