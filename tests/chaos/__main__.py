"""`python -m tests.chaos --kills 200`: SIGKILL of everything, by seed, while alerts arrive."""

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.installation import Installation, installed
from tests.chaos.onslaught import Onslaught, Result
from tests.chaos.plan import Plan, Variant, plan_of, plans_with

LONGEST_LIFE = 20
"""Rounds on one installation; then comes a fresh one."""
LONGEST_SECONDS = 1_000.0
COUNTS: dict[str, Callable[[Result], int]] = {
    "seeds": lambda _: 1,
    "SIGKILLs": lambda one: sum(one.kills.values()),
    "- of a service": lambda one: one.kills.get("serve", 0),
    "- of a worker": lambda one: one.kills.get("worker", 0),
    "- of the queue server": lambda one: one.kills.get("queue", 0),
    "- of the database server": lambda one: one.kills.get("database", 0),
    "SIGSTOPs past the lease": lambda one: one.frozen,
    "accepted alerts": lambda one: one.alerts,
    "incidents": lambda one: sum(one.incidents.values()),
    "investigations taken over": lambda one: one.continued,
    "approved actions": lambda one: bool(one.approved),
    "started again unstruck": lambda one: one.ended_by_themselves,
    "broken seeds": lambda one: bool(one.broken),
}
KILLS = 200
SPARE = 1.05
"""A process that has just ended by itself cannot be killed: some more are planned."""


async def survived(
    variant: Variant, plans: Sequence[Plan], logs: Path | None = None
) -> list[Result]:
    """The results of these seeds, each said as it comes, on as few installations as it takes.

    After a seed that broke something comes a fresh one: the next shall be judged by itself.
    """
    results: list[Result] = []
    while len(results) < len(plans):
        async with installed(variant) as one:
            for plan in plans[len(results) :]:
                results.append(await _result(one, plan))
                _say(results[-1])
                if results[-1].broken:
                    if logs is not None:
                        for log in one.folder.glob("*.log"):
                            shutil.copy(log, logs / f"{plan.seed}.{log.name}")
                    break
    return results


async def _result(one: Installation, plan: Plan) -> Result:
    onslaught = Onslaught(one, plan)
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            return await onslaught.result()
    except TimeoutError:
        onslaught.broken.append(f"no end within {LONGEST_SECONDS:.0f} s")
    except Exception as error:  # noqa: BLE001 - one seed that cannot be judged does not hide the rest
        onslaught.broken.append(f"it could not be judged: {error!r}")
    return onslaught.told()


def _say(result: Result) -> None:
    verdict = "; ".join(result.broken) or "ok"
    sys.stderr.write(
        f"{result.seed} ({result.variant}) {'; '.join(result.blows)}: {result.alerts} alerts, "
        f"{sum(result.incidents.values())} incidents, {result.continued} continued: {verdict} "
        f"({result.seconds:.1f} s)\n"
    )


async def all_survived(plans: Sequence[Plan], jobs: int, logs: Path | None = None) -> list[Result]:
    """So many installations at a time."""
    by_variant: dict[Variant, list[Plan]] = defaultdict(list)
    for plan in plans:
        by_variant[plan.variant].append(plan)
    lives = [
        (variant, some[first : first + LONGEST_LIFE])
        for variant, some in by_variant.items()
        for first in range(0, len(some), LONGEST_LIFE)
    ]
    free, results = asyncio.Semaphore(jobs), []

    async def live(variant: Variant, some: Sequence[Plan]) -> None:
        async with free:
            results.extend(await survived(variant, some, logs))

    await asyncio.gather(*(live(*life) for life in lives))
    return sorted(results, key=lambda one: one.seed)


def table(results: Sequence[Result]) -> Table:
    """By installation: what was struck, what arrived, and what did not hold."""
    variants = [*dict.fromkeys(one.variant for one in results), "all"]
    columns = [[one for one in results if name in (one.variant, "all")] for name in variants]
    made = Table("", *variants)
    for row, count in COUNTS.items():
        made.add_row(row, *(str(sum(map(count, column))) for column in columns))
    return made


def main() -> int:
    """The command. 1: an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="as many seeds as it takes")
    parser.add_argument("--seeds", type=int, help="so many, however often they kill")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write every result there")
    parser.add_argument("--logs", type=Path, help="keep the logs of broken seeds in that folder")
    told = parser.parse_args()
    plans = (
        [plan_of(seed) for seed in range(told.first, told.first + told.seeds)]
        if told.seeds
        else plans_with(round(SPARE * told.kills), told.first)
    )
    began = time.monotonic()
    results = asyncio.run(all_survived(plans, told.jobs, told.logs))
    if told.json:
        told.json.write_text(json.dumps([asdict(one) for one in results], indent=1))
    Console().print(table(results))
    sys.stderr.write(f"{time.monotonic() - began:.0f} s\n")
    for one in results:
        if one.broken:
            sys.stderr.write(f"seed {one.seed}, {'; '.join(one.blows)}: {'; '.join(one.broken)}\n")
    return int(any(one.broken for one in results))


if __name__ == "__main__":
    sys.exit(main())
