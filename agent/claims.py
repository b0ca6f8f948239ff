"""The evidence check: a submitted diagnosis becomes a Diagnosis, or a list of what does not hold.

Pure. A claim is text with named facts; code computes every number and puts it into the text.
What cannot be computed from evidence is not said.
"""

import re
from collections.abc import Collection, Sequence

from agent import wording
from agent.culprits import culprit_mismatches
from agent.facts import FactRefused, Index, compute, index, leaves, paths, print_share, printed
from agent.incident import (
    Claim,
    ClaimDraft,
    Diagnosis,
    DiagnosisDraft,
    Fact,
    Hypothesis,
)
from agent.runbook import Cause, Library
from tools.reading import Evidence, printable

__all__ = ["check", "check_claim", "literal_names", "paths"]

UNKNOWN, NO_INCIDENT = "unknown", "no-incident"
RULES = "rules"
UNCATALOGUED: dict[str, str] = {UNKNOWN: "Cause unknown", NO_INCIDENT: "No incident found"}
LONGEST_FREE_TEXT = 400
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_FACT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")


def check(
    draft: DiagnosisDraft, evidence: Sequence[Evidence], library: Library
) -> Diagnosis | list[str]:
    """The diagnosis with every number computed, or each mismatch as one exact sentence."""
    known = index(evidence)
    causes = library.causes()
    names = literal_names(evidence)
    mismatches = [
        *_cause_mismatches(draft, causes),
        *culprit_mismatches(draft.culprit, evidence),
        *_free_text_mismatches(draft, names),
    ]
    ours = draft.reasoner == RULES

    def checked(drafts: Sequence[ClaimDraft], what: str) -> list[Claim]:
        claims = []
        for number, claim in enumerate(drafts, 1):
            result = check_claim(claim, known, names, ours=ours)
            if isinstance(result, Claim):
                claims.append(result)
            else:
                mismatches.extend(f"{what} {number}: {mismatch}" for mismatch in result)
        return claims

    claims = checked(draft.claims, "claim")
    hypothesis = None
    if draft.hypothesis is not None:
        suspected = checked(draft.hypothesis.claims, "hypothesis claim")
        hypothesis = Hypothesis(title=printable(draft.hypothesis.title), claims=suspected)
    return mismatches or _diagnosis(draft, causes, claims, hypothesis)


def check_claim(
    draft: ClaimDraft, evidence: Index, names: Collection[str] = (), *, ours: bool = False
) -> Claim | list[str]:
    """The claim with its numbers put in, or why it cannot be said.

    `ours`: code wrote the sentence. "Half of the keys" then says what a median means.
    """
    facts, mismatches = _facts(draft, evidence)
    used = _PLACEHOLDER.findall(draft.text)
    plain = _PLACEHOLDER.sub(" ", draft.text)
    drafted = [fact.name for fact in draft.facts]
    mismatches += [
        f"{{{printable(name, 60)}}} has no fact"
        for name in dict.fromkeys(used)
        if name not in drafted
    ]
    mismatches += [
        f"the fact '{printable(name, 60)}' is not used in the text"
        for name in drafted
        if name not in used
    ]
    if "{" in plain or "}" in plain:
        mismatches.append("a brace in the text belongs to no {placeholder}")
    mismatches += [
        f"'{number}' in the text is no fact: cite evidence for it, or leave it out"
        for number in _numbers(plain, {*names, *evidence}, ours)
    ]
    if not ours:
        own = wording.without_names(plain, names)
        mismatches += [*wording.oddities(own), *wording.around(draft.text, facts)]
        if not mismatches and (unsupported := wording.unsupported_share(plain, [*facts.values()])):
            mismatches.append(unsupported)
    if mismatches:
        return mismatches
    # One pass: what a value holds is never read as a placeholder again.
    text = _PLACEHOLDER.sub(lambda found: printed(facts[found[1]]), draft.text)
    return Claim(text=printable(" ".join(text.split()), 2_000), facts=list(facts.values()))


def _numbers(text: str, names: Collection[str], ours: bool = False) -> list[str]:
    """Words that state a number without a fact. Names known from evidence are not numbers."""
    own = wording.without_names(text, names)
    return wording.digits(own) if ours else wording.numbers(own)


def literal_names(evidence: Sequence[Evidence]) -> set[str]:
    """Names from evidence that may stand in a text as they are, e.g. `user:42:`.

    Only words that start with a letter, and addresses: a key called "96" or "9 MiB" must not pass
    a number off as a name.
    """
    return {
        name
        for piece in evidence
        for path, name in leaves(piece.reading)
        if isinstance(name, str)
        and _ANY_NAME.search(path)
        and (name[:1].isalpha() or wording.ADDRESS.fullmatch(name))
        and not any(map(str.isspace, name))
    }


# -- claims ---------------------------------------------------------------------------------


def _facts(draft: ClaimDraft, evidence: Index) -> tuple[dict[str, Fact], list[str]]:
    facts: dict[str, Fact] = {}
    mismatches = []
    seen: set[str] = set()
    for fact in draft.facts:
        name = printable(fact.name, 60)
        if not _FACT_NAME.fullmatch(fact.name):
            mismatches.append(f"'{name}' is no fact name: letters, digits and _ only")
        if fact.name in seen:
            mismatches.append(f"two facts are called '{name}'")
        seen.add(fact.name)
        try:
            facts[fact.name] = compute(fact, evidence)
        except FactRefused as refused:
            mismatches.append(f"fact '{name}': {refused}")
    return facts, mismatches


# -- cause and culprit ----------------------------------------------------------------------


def _cause_mismatches(draft: DiagnosisDraft, causes: dict[str, Cause]) -> list[str]:
    root = draft.root_cause
    named = [
        ("root_cause", [root]),
        ("contributing", draft.contributing),
        ("alternative", [other.root_cause for other in draft.alternatives]),
    ]
    mismatches = [
        f"{where} '{printable(cause, 60)}' is not in the catalogue of causes"
        for where, listed in named
        for cause in listed
        if cause not in causes and (where == "contributing" or cause not in UNCATALOGUED)
    ]
    if root in draft.contributing:
        mismatches.append(f"'{printable(root, 60)}' cannot contribute to itself")
    if root == NO_INCIDENT and draft.contributing:
        mismatches.append("no-incident has no contributing causes")
    if root == NO_INCIDENT and draft.culprit.kind != "none":
        mismatches.append("no-incident has no culprit: kind none")
    if draft.hypothesis is not None and root != UNKNOWN:
        mismatches.append("a hypothesis goes only with root_cause 'unknown'")
    if draft.hypothesis is not None and not draft.hypothesis.claims:
        mismatches.append("a hypothesis needs at least one claim with facts from evidence")
    if not draft.claims and root not in UNCATALOGUED:
        mismatches.append("a cause needs at least one claim with facts from evidence")
    return mismatches


_ANY_NAME = re.compile(
    r"(^|\.)(key|prefix|name|label|address|client|client_name|client_address|user|username"
    r"|command|object|event|code|encoding|library|master_host)$"
)


def _free_text_mismatches(draft: DiagnosisDraft, names: Collection[str]) -> list[str]:
    """Text without facts may hold no number; the rules' text is written by code, with its own."""
    if draft.reasoner == RULES:
        return []
    texts = [("why_not", other.why_not) for other in draft.alternatives]
    if draft.hypothesis is not None:
        texts.append(("hypothesis title", draft.hypothesis.title))
    return [f"{where}: {wrong}" for where, text in texts for wrong in _free_text(text, names)]


def _free_text(text: str, names: Collection[str]) -> list[str]:
    if len(text) > LONGEST_FREE_TEXT:
        return [f"longer than {LONGEST_FREE_TEXT} characters"]
    if "{" in text or "}" in text:
        return ["no placeholder can stand here: say it without numbers"]
    return [
        *(f"'{number}' is a number without a fact" for number in _numbers(text, names)),
        *wording.oddities(wording.without_names(text, names)),
    ]


# -- the diagnosis --------------------------------------------------------------------------


def _diagnosis(
    draft: DiagnosisDraft,
    causes: dict[str, Cause],
    claims: list[Claim],
    hypothesis: Hypothesis | None,
) -> Diagnosis:
    root = draft.root_cause
    title = causes[root].title if root in causes else UNCATALOGUED[root]
    no_incident = root == NO_INCIDENT or (root in causes and causes[root].kind == "not_incident")
    diagnosis = Diagnosis(
        root_cause=root,
        title=title,
        is_incident=not no_incident,
        confidence=draft.confidence,
        summary="",
        contributing=list(dict.fromkeys(draft.contributing)),
        culprit=draft.culprit,
        claims=claims,
        alternatives=[
            other.model_copy(update={"why_not": printable(other.why_not, 400)})
            for other in draft.alternatives
        ],
        not_measured=draft.not_measured,
        escalate=draft.escalate or root == UNKNOWN,
        hypothesis=hypothesis,
        reasoner=draft.reasoner,
    )
    return diagnosis.model_copy(update={"summary": summary_of(diagnosis)})


def summary_of(diagnosis: Diagnosis) -> str:
    """What, who, how sure; then the first claim."""
    first = f" {diagnosis.claims[0].text}" if diagnosis.claims else ""
    if diagnosis.root_cause == UNKNOWN:
        return f"The cause is unknown: a person has to look.{first}"
    culprit = diagnosis.culprit
    who = f": {culprit.kind} “{printable(culprit.name)}”" if culprit.kind != "none" else ""
    return f"{diagnosis.title.rstrip('.')}{who} ({how_sure(diagnosis.confidence)}).{first}"


def how_sure(confidence: float) -> str:
    """A confidence in words and as printed: `fairly sure, 72.0 %`."""
    words = (
        "very sure" if confidence >= 0.85
        else "fairly sure" if confidence >= 0.6
        else "not sure" if confidence >= 0.35
        else "a guess"
    )  # fmt: skip
    return f"{words}, {print_share(confidence)}"
