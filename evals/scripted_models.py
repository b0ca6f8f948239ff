"""Scripted models: what they answer. Figures made with them show the scaffold, never a model.

Each is told the truth about its incident, knows the runbooks as every reader does, and sees of the
server only what the request shows. None of them is a model: `right` is what an excellent one would
do, the others are what a bad one could do worst.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, Protocol

from agent.facts import dimension
from agent.functions import SUBMIT
from agent.incident import Culprit
from agent.runbook import Cause, Library
from evals.harm import UNKNOWN
from evals.scripted_view import Leaf, Shown, read
from evals.truth import RecordedIncident

Calls = list[tuple[str, dict[str, Any]]]
"""Functions to call, with their arguments."""
NO_INCIDENT = "no-incident"
NOBODY = Culprit()
MOST_CLAIMS = 3
MOST_LOOKS = 3
SURE = 0.95
_ALIKE = 5
"""Letters after which two words count as the same: fragmented, fragmentation."""


class Script(Protocol):
    """One conversation about one incident."""

    def answer(self, request: Mapping[str, Any]) -> Calls:
        """What to call in reply to this request."""


class _Submits:
    """Looks once, where it may, then submits what it made up its mind to say."""

    def __init__(self, recorded: RecordedIncident, library: Library) -> None:
        self.truth = recorded.truth
        self.causes = library.causes()
        self.random = Random(recorded.id)  # noqa: S311 - nothing secret
        self.cause: str | None = None

    def answer(self, request: Mapping[str, Any]) -> Calls:
        """Looks first, the submission then; what the evidence check refused is left out."""
        shown = read(request)
        if self.cause is None:
            self.cause = self.verdict(shown)
        culprit = NOBODY if shown.refused_culprit else self.culprit(shown)
        looks = [] if shown.turns else self.looks(self.cause, culprit, shown)
        return looks or [(SUBMIT, self.submission(shown, self.cause, culprit))]

    def verdict(self, shown: Shown) -> str:
        """Root cause to submit."""
        raise NotImplementedError

    def culprit(self, shown: Shown) -> Culprit:
        """Whom to name."""
        return NOBODY

    def contributing(self) -> list[str]:
        """Causes to name beside it."""
        return []

    def looks(self, cause: str, culprit: Culprit, shown: Shown) -> Calls:
        """What the runbook would ask next about this cause, as far as it is on offer."""
        entry = self.causes.get(cause)
        wanted: Calls = []
        for ask in entry.ask_next if entry else ():
            arguments = {name: _filled(value, culprit.name) for name, value in ask.args.items()}
            if ask.tool in shown.looks and None not in arguments.values():
                wanted.append((ask.tool, arguments))
        return wanted[:MOST_LOOKS]

    def submission(self, shown: Shown, cause: str, culprit: Culprit) -> dict[str, Any]:
        """The arguments of the submission, with true claims about this cause."""
        entry = self.causes.get(cause)
        claims = cited(shown, _words_of(cause, entry), culprit.name)
        left = [one for number, one in enumerate(claims, 1) if number not in shown.refused_claims]
        return {
            "root_cause": cause,
            "confidence": SURE,
            "culprit": culprit.model_dump(),
            "contributing": [one for one in self.contributing() if one != cause],
            "claims": left,
            "alternatives": [],
            "escalate": False,
            "hypothesis": None,
        }


class Right(_Submits):
    """The truth, as a good reader of the evidence would put it."""

    def verdict(self, shown: Shown) -> str:
        """The true cause; where several are, that which the rules think likeliest."""
        likeliest = [str(one["cause"]) for one in shown.ranking]
        return [
            *(one for one in likeliest if one in self.truth.root_cause),
            *self.truth.root_cause,
        ][0]

    def culprit(self, shown: Shown) -> Culprit:
        """Who did it, where that can be seen."""
        names = {str(leaf.value) for leaf in shown.leaves()} | {
            step for leaf in shown.leaves() for step in leaf.path.split(".")
        }
        visible = [one for one in self.truth.culprit if one.name in names]
        return [*visible, NOBODY][0]

    def contributing(self) -> list[str]:
        """Second faults."""
        return list(self.truth.also)


class Wrong(_Submits):
    """A wrong cause, very sure: that for which most speaks, the worst there is to say."""

    def verdict(self, shown: Shown) -> str:
        """The likeliest wrong cause of the ranking that nothing rules out, else any."""
        lies = [one for one in shown.ranking if one["cause"] not in self.truth.root_cause]
        unrefuted = [str(one["cause"]) for one in lies if not one.get("against")]
        others = sorted({*shown.causes} - {*self.truth.root_cause, UNKNOWN, NO_INCIDENT})
        return [*unrefuted, self.random.choice(others)][0]

    def culprit(self, shown: Shown) -> Culprit:
        """Somebody who did nothing."""
        return bystander(shown, self.truth.culprit)


class Accuser(Right):
    """The true cause, and somebody else is blamed for it."""

    def culprit(self, shown: Shown) -> Culprit:
        """Somebody who did nothing."""
        return bystander(shown, self.truth.culprit)


class Denier(_Submits):
    """Nothing is wrong, whatever is wrong."""

    def verdict(self, shown: Shown) -> str:
        """No incident."""
        return NO_INCIDENT


class Endless(_Submits):
    """Looks, and looks again, and never submits unless nothing else is left to call."""

    def answer(self, request: Mapping[str, Any]) -> Calls:
        """Every turn other looks, all at once."""
        shown = read(request)
        if not shown.looks:
            return [(SUBMIT, {"root_cause": UNKNOWN})]
        return [(name, {}) for name in self.random.sample(sorted(shown.looks), MOST_LOOKS)]


SCRIPTS: dict[str, Callable[[RecordedIncident, Library], Script]] = {
    "right": Right, "wrong": Wrong, "accuser": Accuser, "denier": Denier, "endless": Endless,
}  # fmt: skip


# -- claims ---------------------------------------------------------------------------------


def cited(shown: Shown, words: Iterable[str], name: str) -> list[dict[str, Any]]:
    """True claims: the values whose names have to do with these words, or with this culprit."""
    about = {word[:_ALIKE] for word in words}
    leaves = list(shown.leaves())
    rows = {(leaf.evidence, _row(leaf)) for leaf in leaves if name and leaf.value == name}

    def relevance(leaf: Leaf) -> int:
        own = {word[:_ALIKE] for word in _words(f"{leaf.tool} {leaf.path}")}
        return 3 * ((leaf.evidence, _row(leaf)) in rows) + len(own & about)

    numbers = [leaf for leaf in leaves if not isinstance(leaf.value, str | bool) and leaf.value]
    numbers.sort(key=relevance, reverse=True)  # stable: then in the order of the evidence
    return [_claim(leaf) for leaf in numbers[:MOST_CLAIMS]]


def bystander(shown: Shown, guilty: Iterable[Culprit]) -> Culprit:
    """Somebody to blame: the first prefix, key or client on show that did nothing."""
    names = {one.name for one in guilty}
    for kind, leaf_name in (("prefix", "prefix"), ("key", "key"), ("client", "client")):
        for leaf in shown.leaves():
            last = leaf.path.rpartition(".")[2]
            if last == leaf_name and isinstance(leaf.value, str) and leaf.value not in names:
                return Culprit.model_validate({"kind": kind, "name": leaf.value})
    return NOBODY


def _claim(leaf: Leaf) -> dict[str, Any]:
    what = " ".join(_words(leaf.path)) or "the value"
    fact = {
        "name": "seen",
        "evidence": leaf.evidence,
        "op": "value",
        "of": [leaf.path],
        "unit": dimension(leaf.path),
    }
    text = f"Of {' '.join(_words(leaf.tool))}, {what} is {{seen}}."
    return {"text": text, "facts": [fact]}


def _words_of(cause: str, entry: Cause | None) -> list[str]:
    signals = [*entry.supported_by, *entry.needs] if entry else []
    return _words(" ".join([cause, entry.title if entry else "", *signals]))


def _words(text: str) -> list[str]:
    """Lower-case words without digits; steps that are places in a list are none."""
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", text) if word.isalpha()]


def _row(leaf: Leaf) -> str:
    return leaf.path.rpartition(".")[0]


def _filled(value: Any, culprit: str) -> Any:
    """`{culprit}` filled in; None where there is none to ask about."""
    if isinstance(value, list):
        parts = [_filled(part, culprit) for part in value]
        return None if None in parts else parts
    if not isinstance(value, str) or "{culprit}" not in value:
        return value
    return value.replace("{culprit}", culprit) if culprit else None
