"""README's scores: written by `evals run --write-readme`, never by hand.

`scores.json` keeps what the table was made of, with one short row for each incident.
"""

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals import report as reports
from evals.truth import RecordedIncident

Report = dict[str, Any]
SCORES = Path(__file__).parent / "scores.json"
README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- scores -->", "<!-- /scores -->"
_LEFT_OUT = frozenset({"incidents", "repeats"})
_ROW = ("id", "got", "right", "culprit")
_KIND = "kind:"
"""Slices whose name begins so are README's lines by kind of incident."""


def short(report: Report, chosen: Sequence[RecordedIncident]) -> Report:
    """What is kept of a report: its figures, what was recorded, and short rows."""
    figures = {name: value for name, value in report.items() if name not in _LEFT_OUT}
    truths = [one.truth for one in chosen]
    builds = Counter(truth.build for truth in truths)
    return figures | {
        "slices": {name: part for name, part in report["slices"].items() if name.startswith(_KIND)},
        "recorded": {
            "faults": len({truth.fault for truth in truths}),
            "builds": dict(sorted(builds.items())),
            "kinds": dict(sorted(Counter(truth.kind for truth in truths).items())),
            "fixtures": sum(bool(truth.fixture) for truth in truths),
        },
        "incidents": [{name: row[name] for name in _ROW} for row in report["incidents"]],
    }


def write(scores: Report, readme: Path = README, kept: Path = SCORES) -> None:
    """Renew both files. Raises ValueError if README lacks the markers, OSError."""
    text = readme.read_text("utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{readme} has no {START} … {END}")
    readme.write_text(f"{before}{START}\n{block(scores)}\n{END}{after}", "utf-8")
    rows = ",\n".join(json.dumps(row) for row in scores["incidents"])
    head = json.dumps({k: v for k, v in scores.items() if k != "incidents"}, indent=1)
    kept.write_text(f'{head[:-2]},\n "incidents": [\n{rows}\n]}}\n', "utf-8")


def read(kept: Path = SCORES) -> Report:
    """The scores that README shows. Raises OSError, ValueError."""
    loaded: Report = json.loads(kept.read_text("utf-8"))
    return loaded


def block(scores: Report) -> str:
    """What README says between the markers."""
    recorded = scores["recorded"]
    builds = ", ".join(f"{count} on {name}" for name, count in recorded["builds"].items())
    made = (
        f", {recorded['fixtures']} of them after a document, where it cannot be caused here"
        if recorded["fixtures"]
        else ""
    )
    baseline, best = max(scores["baselines"].items(), key=lambda each: each[1])
    rows = [
        *(_rate(scores, name) for name in scores["intervals"]),
        ("root cause, held-back third", *_rate(scores["held_back"], "top1")[1:]),
        *_counted(scores),
        (f"best trivial baseline ({baseline.replace('_', ' ')}), top-1", f"{best:.1%}", ""),
    ]
    introduction = (
        f"`redis-oncall evals run` on {scores['n']} incidents recorded from real servers "
        f"({recorded['faults']} faults and mixes of faults{made}; {builds}). "
        f"Reasoner `{scores['reasoner']}`, {scores['seconds']:.0f} s on {scores['machine']}."
    )
    measures = reports.table(("measure", "value", "95 % interval (Wilson)"), rows)
    return "\n\n".join([textwrap.fill(introduction, 99), measures, _kinds(scores["slices"])])


def _rate(part: Mapping[str, Any], name: str) -> tuple[str, str, str]:
    return reports.title(name), *reports.rate(part["intervals"][name])


_COUNTS = ("harmful_proposed", "hallucinated_evidence")
_QUALITY = ("ece", "auroc", "brier")


def _counted(scores: Report) -> list[tuple[str, str, str]]:
    counts = [(reports.title(name), f"{scores[name]:d}", "") for name in _COUNTS]
    quality = [
        (reports.title(name), f"{scores[name]:.3f}", "")
        for name in _QUALITY
        if scores.get(name) is not None
    ]
    return counts + quality


def _kinds(slices: Mapping[str, Any]) -> str:
    rows = [
        (name.removeprefix(_KIND), str(part["n"]), f"{part['top1']:.1%}", f"{part['culprit']:.1%}")
        for name, part in slices.items()
    ]
    return reports.table(("kind of incident", "n", "root cause", "culprit"), rows)
