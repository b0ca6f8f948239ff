"""What changed since healthy times, said with a diagnosis: what, from what to what, when. Pure.

That something changed is no proof that it is the cause: nothing here moves a ranking. Each sentence
goes through the evidence check, as every other.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from agent.claims import check_claim
from agent.facts import index
from agent.incident import Claim, ClaimDraft, Culprit, Diagnosis, FactDraft
from tools.departures import LEAST_BEFORE
from tools.reading import Evidence, printable

SERVER, KEYS = "server_changes", "key_changes"
MOST, MOST_OF_A_KIND = 8, 3
"""Sentences that are added to a diagnosis."""
_WHEN = "between {changed_after} and {changed_by}"
_WENT = f"went from {{changed_from}} to {{changed_to}} {_WHEN}"
_PLACES = ("before", "after")
_LEVELS = {
    "commands_per_second": ("Commands", "per_second"),
    "connections_per_second": ("New connections", "per_second"),
    "input_bytes_per_second": ("What it receives", "bytes_per_second"),
    "output_bytes_per_second": ("What it sends", "bytes_per_second"),
    "evicted_keys_per_second": ("Evictions", "per_second"),
    "expired_keys_per_second": ("Keys that expire", "per_second"),
}


def told_of_changes(diagnosis: Diagnosis, evidence: Sequence[Evidence]) -> Diagnosis:
    """The diagnosis, with what changed: what is about its culprit first."""
    found = changes(evidence, diagnosis.culprit)[:MOST]
    if not found:
        return diagnosis
    return diagnosis.model_copy(update={"claims": [*diagnosis.claims, *found]})


def changes(evidence: Sequence[Evidence], culprit: Culprit | None = None) -> list[Claim]:
    """What the newest looks tell: about the culprit, of this day, then by kind, a few of each."""
    known = index(evidence)
    name = culprit.name if culprit is not None else ""
    told: list[tuple[bool, bool, Claim]] = []
    for tool, say in _KINDS:
        piece = next((p for p in reversed(evidence) if p.tool == tool and p.measured), None)
        if piece is None:
            continue
        drafts = sorted(say(piece), key=lambda one: not _is_about(one[0], name))
        for named, draft in islice(drafts, MOST_OF_A_KIND):
            claim = check_claim(draft, known, ours=True)
            if isinstance(claim, Claim):
                told.append((not _is_about(named, name), _is_old(claim, piece), claim))
    return [claim for *_, claim in sorted(told, key=lambda one: one[:2])]


def _is_old(claim: Claim, piece: Evidence) -> bool:
    """Each is told for as long as looks are kept: what is of this day is told before."""
    moments = (str(f.value) for f in claim.facts if f.name in ("changed_by", "changed_at"))
    last = datetime.fromisoformat(next(moments))
    until = piece.reading.get("until")
    return until is not None and datetime.fromisoformat(until) - last > timedelta(days=1)


def nothing_told(evidence: Sequence[Evidence]) -> str:
    """That nothing is different, from what, and what was not compared; empty: nothing was."""
    newest = {p.tool: p for p in evidence if p.tool in (SERVER, KEYS)}
    compared = [p for p in newest.values() if p.measured and "looks" in p.reading]
    if not compared:
        return ""
    looks = max(piece.reading["looks"] for piece in compared)
    since = min(datetime.fromisoformat(piece.reading["since"]) for piece in compared)
    few = ", too few to tell a change of traffic, clients or keys" if looks < LEAST_BEFORE else ""
    unseen = [
        f"{one['not_measured']} ({one['because']})"
        for piece in compared
        for one in piece.reading.get("not_compared") or ()
    ]
    unseen += [tool for tool in (SERVER, KEYS) if newest.get(tool) not in compared]
    return (
        f"Nothing is different from {looks} looks since {since:%Y-%m-%d %H:%M} UTC in which "
        f"nothing was wrong{few}." + (f" Not compared: {'; '.join(unseen)}." if unseen else "")
    )


def _is_about(named: str, culprit: str) -> bool:
    """The same name, or a prefix of it, or the population that a client belongs to."""
    head = named.partition("*")[0]
    return culprit != "" and head != "" and culprit.startswith(head)


Drafts = Iterator[tuple[str, ClaimDraft]]
"""What each is about, and the sentence."""


def _process(piece: Evidence) -> Drafts:
    if nodes := piece.reading.get("answers"):
        if nodes["node_before"] == nodes["node_after"]:
            text = f"Another server answers at {{changed_to}} than before: it changed {_WHEN}."
        else:
            text = f"Another server answers: it {_WENT}."
        yield "", _draft(piece, "answers", text, _NODES)
    if piece.reading.get("restarted_at"):
        fact = FactDraft(name="changed_at", evidence=piece.id, of=["restarted_at"])
        yield "", ClaimDraft(text="The server was started again at {changed_at}.", facts=[fact])
    if piece.reading.get("version"):
        yield "", _draft(piece, "version", f"The version {_WENT}.")


def _roles(piece: Evidence) -> Drafts:
    if piece.reading.get("role"):
        yield "", _draft(piece, "role", f"The role {_WENT}.")
    if piece.reading.get("primary"):
        yield "", _draft(piece, "primary", f"Its primary {_WENT}.", _NODES)


def _parameters(piece: Evidence) -> Drafts:
    for name, row in (piece.reading.get("parameters") or {}).items():
        text = f"The parameter {printable(name, 80)} {_WENT}."
        for value, fact in ((row["before"], "{changed_from}"), (row["after"], "{changed_to}")):
            if value == "":
                text = text.replace(fact, "nothing")
            elif (name, value) == ("maxmemory", "0"):
                text = text.replace(fact, "no limit")
        yield name, _draft(piece, f"parameters.{name}", text)


def _clients(piece: Evidence) -> Drafts:
    places = ("clients_before", "clients_after")
    for at, row in enumerate(piece.reading.get("clients") or []):
        text = f"Connections of {{name}} {_moved(piece, row, places)}."
        yield row["client"], _draft(piece, f"clients.{at}", text, places, "count", "client")


def _commands(piece: Evidence) -> Drafts:
    places = ("before_per_second", "after_per_second")
    for at, row in enumerate(piece.reading.get("commands") or []):
        text = f"Calls of {{name}} {_moved(piece, row, places)}."
        yield row["command"], _draft(piece, f"commands.{at}", text, places, "per_second", "command")


def _levels(piece: Evidence) -> Drafts:
    for name, row in (piece.reading.get("levels") or {}).items():
        if name not in _LEVELS:  # a later version's
            continue
        label, unit = _LEVELS[name]
        text = f"{label} {_moved(piece, row)}."
        yield "", _draft(piece, f"levels.{name}", text, unit=unit)


def _databases(piece: Evidence) -> Drafts:
    places = ("keys_before", "keys_after")
    for at, row in enumerate(piece.reading.get("databases") or []):
        text = f"The number of keys in database {{db}} {_moved(piece, row, places)}."
        yield "", _draft(piece, f"databases.{at}", text, places, "count")


def _prefixes(piece: Evidence) -> Drafts:
    places = ("before_share", "after_share")
    for at, row in enumerate(piece.reading.get("prefixes") or []):
        text = f"The share of keys with the prefix {{name}} {_moved(piece, row, places)}."
        yield row["prefix"], _draft(piece, f"prefixes.{at}", text, places, "ratio", "prefix")


def _encodings(piece: Evidence) -> Drafts:
    for at, row in enumerate(piece.reading.get("encodings") or []):
        text = f"The encoding of {{name}} ({{type}}) {_WENT}."
        yield row["prefix"], _draft(piece, f"encodings.{at}", text, name="prefix")


def _moved(piece: Evidence, row: dict[str, Any], places: tuple[str, str] = _PLACES) -> str:
    """The numbers are the nearest ones of several looks, but for nothing, and for that of now."""
    was, now = (row[place] for place in places)
    exact = row["first_after"] == piece.reading.get("until")
    verb, near, far = ("rose", "at most ", "at least ") if now > was else (
        "fell", "at least ", "at most "
    )  # fmt: skip
    before = f"{near if was else ''}{{changed_from}}"
    after = f"{'' if exact or not now else far}{{changed_to}}"
    return f"{verb} from {before} to {after} {_WHEN}"


_NODES = ("node_before", "node_after")
_KINDS: tuple[tuple[str, Callable[[Evidence], Drafts]], ...] = (
    (SERVER, _process), (SERVER, _roles), (SERVER, _parameters), (KEYS, _prefixes),
    (KEYS, _encodings), (SERVER, _clients), (SERVER, _commands), (SERVER, _databases),
    (SERVER, _levels),
)  # fmt: skip


def _draft(
    piece: Evidence,
    path: str,
    text: str,
    places: tuple[str, str] = _PLACES,
    unit: str = "",
    name: str = "name",
) -> ClaimDraft:
    """With the facts that the text has places for. `name`: the field that has it."""
    wanted = {
        "changed_from": (places[0], unit), "changed_to": (places[1], unit),
        "changed_after": ("last_before", ""), "changed_by": ("first_after", ""),
        "name": (name, ""), "db": ("db", ""), "type": ("type", ""),
    }  # fmt: skip
    facts = [
        FactDraft(name=fact, evidence=piece.id, of=[f"{path}.{field}"], unit=is_in)
        for fact, (field, is_in) in wanted.items()
        if f"{{{fact}}}" in text
    ]
    return ClaimDraft(text=text, facts=facts)
