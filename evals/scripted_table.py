"""What the scaffold makes of good and bad models: the table of `evals/README.md`.

Made by `redis-oncall evals scripted --write-readme`, never by hand.
"""

import asyncio
from pathlib import Path
from typing import Any

from agent.budget import ModelSettings
from agent.runbook import Library
from agent.runbook_library import load_library
from evals import report as reports
from evals.every_answer import Answer, every_answer
from evals.scripted import PREFIX, label
from evals.suite import OPENAI, RULES, OnDone, run_suite
from evals.truth import SUITES, RecordedIncident, incidents

README = Path(__file__).parent / "README.md"
START, END = "<!-- scripted -->", "<!-- /scripted -->"
COMPARED = ("right", "wrong", "accuser", "denier")
"""The scripts that submit something."""
EVERY_ANSWER = """\
Every answer there is, arbitrated (`every_answer.py`): each cause, `no-incident` and `unknown`, as
surely as can be said, with and without a bystander as culprit:
"""
_MEASURES = ("top1", "culprit", "false_positive_rate", "evidence_precision")
_COUNTS = ("harmful_proposed", "hallucinated_evidence", "failures")
_HEAD = (
    "who decides with the rules", "root cause", "culprit", "false positives",
    "evidence precision", "harmful", "hallucinated", "failures", "ece", "escalated",
    "hypotheses",
    "calls", "tokens in a call", "tokens", "cacheable", "s added",
)  # fmt: skip


def total() -> int:
    """Incidents to be worked."""
    return sum(len(incidents(directory=folder)) for folder in SUITES.values()) * (1 + len(COMPARED))


def measured(jobs: int | None = None, on_done: OnDone | None = None) -> str:
    """Both suites by the rules and by each scripted model, as Markdown."""
    parts = []
    for suite, folder in SUITES.items():
        chosen = incidents(directory=folder)
        rows = [_row(RULES, run_suite(chosen, RULES, jobs=jobs, on_done=on_done))]
        for name in COMPARED:
            model = PREFIX + name
            settings = ModelSettings(model=model)
            report = run_suite(chosen, OPENAI, settings=settings, jobs=jobs, on_done=on_done)
            rows.append(_row(label(model), report))
        parts += [f"`evals/{suite}`, {len(chosen)} incidents:", reports.table(_HEAD, rows)]
    return "\n\n".join([*parts, every_answer_told()])


def every_answer_told() -> str:
    """How many of all answers that a model could give change ours, for each suite."""
    library = load_library()
    lines = []
    for suite, folder in SUITES.items():
        answers = asyncio.run(_all_answers(incidents(directory=folder), library))
        changed = [one for one in answers if one.changed]
        lines.append(
            f"- `evals/{suite}`: of {len(answers):,} answers {len(changed)} change ours, "
            f"{sum(one.right for one in changed)} of them to what is true."
        )
    return "\n".join([EVERY_ANSWER, *lines])


async def _all_answers(chosen: list[RecordedIncident], library: Library) -> list[Answer]:
    return [answer for one in chosen for answer in await every_answer(one, library)]


def write(table: str, readme: Path = README) -> None:
    """Renew the table. Raises ValueError if README lacks the markers, OSError."""
    text = readme.read_text("utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{readme} has no {START} … {END}")
    readme.write_text(f"{before}{START}\n{table}\n{END}{after}", "utf-8")


def _row(name: str, report: dict[str, Any]) -> list[str]:
    use = report.get("model_use")
    return [
        name,
        *(reports.rate(report["intervals"][measure])[0] for measure in _MEASURES),
        *(str(report[count]) for count in _COUNTS),
        f"{report['ece']:.3f}",
        str(sum(row["escalated"] for row in report["incidents"])),
        str(sum(row["hypothesis"] is not None for row in report["incidents"])),
        *(_spent(use) if use else ("",) * 5),
    ]


def _spent(use: dict[str, Any]) -> list[str]:
    names = ("calls_an_incident", "input_tokens_in_a_call", "tokens_an_incident")
    spreads = [f"{use[name]['median']:,.0f} (max {use[name]['max']:,.0f})" for name in names]
    seconds = f"{use['seconds_added']['median']:.2f}"
    return [*spreads, f"{use['cacheable_share']:.0%}", seconds]
