"""What changed since healthy times, said with a diagnosis: what, from what to what, when. Pure.

That something changed is no proof that it is the cause: nothing here moves a ranking. Each sentence
goes through the evidence check, as every other.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from agent.claims import check_claim
from agent.facts import index
from agent.incident import Claim, ClaimDraft, Culprit, Diagnosis, FactDraft
from tools.reading import Evidence, printable

SERVER, KEYS = "server_changes", "key_changes"
MOST, MOST_OF_A_KIND = 8, 3
"""Sentences that are added to a diagnosis."""
_WHEN = "between {last_before} and {first_after}"
_LEVELS = {
    "commands_per_second": ("Commands", "per_second"),
    "connections_per_second": ("New connections", "per_second"),
    "input_bytes_per_second": ("What clients send", "bytes_per_second"),
    "output_bytes_per_second": ("What is sent to clients", "bytes_per_second"),
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
    """What the newest looks tell: what is about the culprit, then by kind, a few of each."""
    known = index(evidence)
    name = culprit.name if culprit is not None else ""
    told: list[tuple[bool, Claim]] = []
    for tool, say in _KINDS:
        piece = next((p for p in reversed(evidence) if p.tool == tool and p.measured), None)
        if piece is None:
            continue
        drafts = sorted(say(piece), key=lambda one: not _is_about(one[0], name))
        for named, draft in islice(drafts, MOST_OF_A_KIND):
            claim = check_claim(draft, known, ours=True)
            if isinstance(claim, Claim):
                told.append((not _is_about(named, name), claim))
    return [claim for _, claim in sorted(told, key=lambda one: one[0])]


def _is_about(named: str, culprit: str) -> bool:
    """The same name, or a prefix of it, or the population that a client belongs to."""
    head = named.partition("*")[0]
    return culprit != "" and head != "" and culprit.startswith(head)


Drafts = Iterator[tuple[str, ClaimDraft]]
"""What each is about, and the sentence."""


def _process(piece: Evidence) -> Drafts:
    if piece.reading.get("answers"):
        text = f"Another server answers since it changed {_WHEN}: it was {{a}} and is {{b}}."
        yield "", _draft(piece, "answers", text, _NODES)
    if piece.reading.get("restarted_at"):
        fact = FactDraft(name="at", evidence=piece.id, of=["restarted_at"])
        yield "", ClaimDraft(text="The server was started again at {at}.", facts=[fact])
    if piece.reading.get("version"):
        yield "", _draft(piece, "version", f"The version went from {{a}} to {{b}} {_WHEN}.")


def _roles(piece: Evidence) -> Drafts:
    if piece.reading.get("role"):
        yield "", _draft(piece, "role", f"The role went from {{a}} to {{b}} {_WHEN}.")
    if piece.reading.get("primary"):
        yield "", _draft(piece, "primary", f"Its primary went from {{a}} to {{b}} {_WHEN}.", _NODES)


def _parameters(piece: Evidence) -> Drafts:
    for name in piece.reading.get("parameters") or {}:
        text = f"The parameter {printable(name, 80)} went from {{a}} to {{b}} {_WHEN}."
        yield name, _draft(piece, f"parameters.{name}", text)


def _clients(piece: Evidence) -> Drafts:
    places = ("clients_before", "clients_after")
    for at, row in enumerate(piece.reading.get("clients") or []):
        text = f"Connections of {{name}} went from {{a}} to {{b}} {_WHEN}."
        yield row["client"], _draft(piece, f"clients.{at}", text, places, "count", "client")


def _commands(piece: Evidence) -> Drafts:
    places = ("before_per_second", "after_per_second")
    for at, row in enumerate(piece.reading.get("commands") or []):
        text = f"Calls of {{name}} went from {{a}} to {{b}} {_WHEN}."
        yield row["command"], _draft(piece, f"commands.{at}", text, places, "per_second", "command")


def _levels(piece: Evidence) -> Drafts:
    for name in piece.reading.get("levels") or {}:
        label, unit = _LEVELS[name]
        text = f"{label} went from {{a}} to {{b}} {_WHEN}."
        yield "", _draft(piece, f"levels.{name}", text, unit=unit)


def _databases(piece: Evidence) -> Drafts:
    places = ("keys_before", "keys_after")
    for at, _ in enumerate(piece.reading.get("databases") or []):
        text = f"The number of keys in database {{db}} went from {{a}} to {{b}} {_WHEN}."
        yield "", _draft(piece, f"databases.{at}", text, places, "count", more=("db",))


def _prefixes(piece: Evidence) -> Drafts:
    places = ("before_share", "after_share")
    for at, row in enumerate(piece.reading.get("prefixes") or []):
        text = f"The share of keys with the prefix {{name}} went from {{a}} to {{b}} {_WHEN}."
        yield row["prefix"], _draft(piece, f"prefixes.{at}", text, places, "ratio", "prefix")


def _encodings(piece: Evidence) -> Drafts:
    for at, row in enumerate(piece.reading.get("encodings") or []):
        text = f"The encoding of {{name}} ({{type}}) went from {{a}} to {{b}} {_WHEN}."
        yield row["prefix"], _draft(piece, f"encodings.{at}", text, name="prefix", more=("type",))


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
    places: tuple[str, str] = ("before", "after"),
    unit: str = "",
    name: str = "",
    more: tuple[str, ...] = (),
) -> ClaimDraft:
    wanted = {"a": (places[0], unit), "b": (places[1], unit)}
    wanted |= {field: (field, "") for field in ("last_before", "first_after", *more)}
    if name:
        wanted["name"] = (name, "")
    facts = [
        FactDraft(name=fact, evidence=piece.id, of=[f"{path}.{field}"], unit=is_in)
        for fact, (field, is_in) in wanted.items()
    ]
    return ClaimDraft(text=text, facts=facts)
