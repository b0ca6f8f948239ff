"""Below which confidence are the rules unsure? Asked of the suite with one look taken away.

As recorded, the suite holds too few wrong answers to tell. So each incident is judged again with
each of its looks refused in turn, as on a server whose ACL user may not: what the rules then name,
how sure, and whether it is right. `python -m evals.unsure` writes the table (`unsure.json`);
`agent.arbitration.UNSURE_BELOW` is read off it, and a test holds it to that; the held-back third
is counted apart, and only confirms.

The same answers tell what the worst model could do: whatever cause it names, in every one of them,
as surely as can be said (`any_cause`: how often it would take the place of a right answer, and how
often a true cause that of a wrong one).

From the bins two verdicts are left out: `unknown`, which is no answer, and `no-incident`, whose
confidence says little of this kind: whatever it was, one in six was wrong, mostly where the look
that shows the harm was missing. There a model that is sure and differs brings a person
(`agent.arbitration.is_disputed`).
"""

import asyncio
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent.arbitration import arbitrate
from agent.claims import NO_INCIDENT, UNKNOWN
from agent.incident import Diagnosis, Incident
from agent.rules import conclude, rank, said
from agent.runbook import Library
from agent.runbook_library import load_library
from agent.signals import detect
from agent.standing import standing_of
from evals.run import diagnose
from evals.truth import RecordedIncident, Truth, incidents
from tools.reading import Evidence, NotMeasured

TABLE = Path(__file__).parent / "unsure.json"
EDGES = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
"""Bins of confidence; below 0.4 there are too few answers for more."""
TOO_OFTEN = 0.1
"""Wrong more often than this is unsure."""
KEPT_BELOW = 0.6
"""Answers less sure than this are listed one by one."""


@dataclass(frozen=True)
class Answer:
    """What the rules name of one incident with one look refused."""

    incident: str
    without: str
    cause: str
    confidence: float
    right: bool
    harmful: tuple[str, ...] = ()
    """Wrong causes that would take the place of this right answer if a sure model named them."""
    helpful: tuple[str, ...] = ()
    """Right causes that would take the place of this wrong answer."""


async def answers(recorded: RecordedIncident, library: Library) -> list[Answer]:
    """One answer for every tool of its evidence."""
    incident, evidence = await diagnose(recorded, library)
    tools = sorted({piece.tool for piece in evidence if piece.measured})
    return [_answer(recorded, without, incident, evidence, library) for without in tools]


def _answer(
    recorded: RecordedIncident,
    without: str,
    incident: Incident,
    evidence: Sequence[Evidence],
    library: Library,
) -> Answer:
    left = [_refused(piece) if piece.tool == without else piece for piece in evidence]
    signals = detect(left)
    ranked = rank(signals, library, said(incident))
    draft = conclude(signals, ranked, {one.tool: "NOPERM" for one in left if not one.measured})
    rules = _diagnosis(draft.model_dump(), library)
    true = _right(recorded.truth)
    taken = [
        cause
        for cause in library.causes()
        if cause != rules.root_cause
        and arbitrate(
            rules,
            _diagnosis({"root_cause": cause, "confidence": 1.0, "reasoner": "openai:any"}, library),
            standing_of(cause, rules.root_cause, signals, ranked, library),
        ).root_cause
        == cause
    ]
    right = rules.root_cause in true
    return Answer(
        recorded.id,
        without,
        rules.root_cause,
        rules.confidence,
        right,
        harmful=tuple(cause for cause in taken if right and cause not in true),
        helpful=tuple(cause for cause in taken if not right and cause in true),
    )


def _diagnosis(draft: dict[str, Any], library: Library) -> Diagnosis:
    """As far as arbitration looks at one."""
    cause = library.causes().get(draft["root_cause"])
    healthy = draft["root_cause"] == NO_INCIDENT or (cause and cause.kind == "not_incident")
    words = {"title": draft["root_cause"], "summary": "", "is_incident": not healthy}
    known = {name: value for name, value in draft.items() if name not in ("claims", "hypothesis")}
    return Diagnosis.model_validate(known | words)


def _right(truth: Truth) -> set[str]:
    """With less to see, what contributes is as good as can be said."""
    return {*truth.root_cause, *truth.contributing}


def _refused(piece: Evidence) -> Evidence:
    gone = NotMeasured(not_measured=piece.tool, because="NOPERM", failure="refused")
    return piece.model_copy(update={"measured": False, "reading": gone.model_dump(mode="json")})


def table(given: Sequence[Answer], held_back: Collection[str] = ()) -> dict[str, Any]:
    """`bins` of confidence with how many were wrong, those of incidents that nobody tunes on
    apart; the `unsure` answers one by one.
    """  # noqa: D205
    named = [one for one in given if one.cause not in (UNKNOWN, NO_INCIDENT)]
    healthy = [one for one in given if one.cause == NO_INCIDENT]
    unsure: dict[str, dict[str, list[Any]]] = {}
    for one in named:
        if one.confidence < KEPT_BELOW:
            row = [one.cause, one.confidence, one.right]
            unsure.setdefault(one.incident, {})[one.without] = row
    return {
        "bins": list(_bins([one for one in named if one.incident not in held_back])),
        "held_back": list(_bins([one for one in named if one.incident in held_back])),
        "no_incident": {"n": len(healthy), "wrong": sum(not one.right for one in healthy)},
        "any_cause": {
            "answers": len(given),
            "helped": sum(bool(one.helpful) for one in given),
            "incidents_helped": len({one.incident for one in given if one.helpful}),
            "harmed": [[one.incident, one.without, *one.harmful] for one in given if one.harmful],
        },
        "unsure": unsure,
    }


def _bins(named: Sequence[Answer]) -> Iterator[dict[str, Any]]:
    for low, high in pairwise(EDGES):
        inside = [one for one in named if low <= one.confidence < high]
        wrong = [one for one in inside if not one.right]
        yield {
            "from": low,
            "n": len(inside),
            "wrong": len(wrong),
            "incidents": len({one.incident for one in inside}),
            "wrong_incidents": len({one.incident for one in wrong}),
        }


def threshold(bins: Sequence[dict[str, Any]]) -> float:
    """Where the first bin begins whose answers are not wrong too often."""
    return float(
        next(row["from"] for row in bins if row["n"] and row["wrong"] / row["n"] < TOO_OFTEN)
    )


async def _all() -> dict[str, Any]:
    library, chosen = load_library(), incidents()
    given = [answer for one in chosen for answer in await answers(one, library)]
    made = table(given, {one.id for one in chosen if one.held_back})
    return {"suite": len(chosen)} | made


if __name__ == "__main__":
    TABLE.write_text(json.dumps(asyncio.run(_all()), indent=1) + "\n")
