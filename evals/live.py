"""The suite on live servers: every mode with a safe executable fix, on each of its builds."""

import fnmatch
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from agent.incident import Action
from agent.runbook import Library
from agent.runbook_library import load_library
from evals import servers
from evals.faults import FAULTS
from evals.live_mode import SCALE, Mode, Outcome, play
from evals.score import summary, wilson
from evals.symptoms import BUILDS, SYMPTOMS


def modes(only: str = "*", builds: Sequence[str] = (), seed: int = 1) -> Iterator[Mode]:
    """Each fault that can be mitigated, on these builds; without any: one build each, in turn."""
    for place, name in enumerate(SYMPTOMS):
        if name not in FAULTS or not fnmatch.fnmatchcase(name, only):
            continue
        possible = BUILDS.get(name, FAULTS[name].builds)
        installed = [build for build in possible if servers.binary(build) is not None]
        if builds:
            chosen = [build for build in installed if build in builds]
        else:
            chosen = installed[(place + seed) % len(installed) :][:1] if installed else []
        yield from (Mode(name, build, seed) for build in chosen)


def run_live(
    chosen: Sequence[Mode],
    *,
    library: Library | None = None,
    scale: float = SCALE,
    jobs: int = 1,
    on_done: Callable[[Outcome], None] | None = None,
) -> dict[str, Any]:
    """Every mode: the JSON of `evals live`. A crash counts as a failure of its mode alone."""
    started = time.monotonic()
    books = library or load_library()
    outcomes: dict[Mode, Outcome] = {}
    for outcome in _played(chosen, books, scale, jobs):
        outcomes[outcome.mode] = outcome
        if on_done is not None:
            on_done(outcome)
    return document([outcomes[mode] for mode in chosen], time.monotonic() - started)


def _played(chosen: Sequence[Mode], library: Library, scale: float, jobs: int) -> Iterator[Outcome]:
    """Side by side in processes of their own: a workload must not wait for another's agent."""
    if jobs == 1:
        yield from (play(mode, library, scale) for mode in chosen)
        return
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, processes, max_tasks_per_child=1) as pool:
        for done in as_completed(pool.submit(play, mode, library, scale) for mode in chosen):
            yield done.result()


def document(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """As `evals run --json`, with what was mitigated and what was harmed."""
    report = summary("rules", [outcome.result for outcome in outcomes], seconds)
    rate = wilson(sum(outcome.mitigated for outcome in outcomes), len(outcomes))
    report |= {"mitigated": rate[0], "collateral": sum(len(o.collateral) for o in outcomes)}
    report["intervals"]["mitigated"] = list(rate)
    for row, outcome in zip(report["incidents"], outcomes, strict=True):
        row |= {
            "fault": outcome.mode.fault,
            "build": outcome.mode.build,
            "seed": outcome.mode.seed,
            "mitigated": outcome.mitigated,
            "remaining": outcome.remaining,
            "collateral": outcome.collateral,
            "lost_to_fault": outcome.lost_to_fault,
            "actions": [_shown(action) for action in outcome.actions],
            "took": round(outcome.seconds, 1),
            "failure": outcome.result.failure,
        }
    return report


def _shown(action: Action) -> dict[str, Any]:
    names = ("id", "kind", "title", "risk", "status", "comment")
    return {name: getattr(action, name) for name in names}
