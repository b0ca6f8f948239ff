"""`python -m tests.chaos --seeds 200`: SIGKILL of everything, by seed, while alerts arrive."""

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.installation import Installation, installed
from tests.chaos.onslaught import Onslaught, Result
from tests.chaos.plan import Plan, Variant, plan_of

LONGEST_LIFE = 20
"""Rounds on one installation; then comes a fresh one."""
LONGEST_SECONDS = 500.0
SEEDS = 100
"""Enough for 200 SIGKILLs."""


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
                        shutil.copy(one.log, logs / f"{plan.seed}.log")
                    break
    return results


async def _result(one: Installation, plan: Plan) -> Result:
    onslaught = Onslaught(one, plan)
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            return await onslaught.result()
    except TimeoutError:
        onslaught.broken.append(f"no end within {LONGEST_SECONDS:.0f} s")
        return onslaught.told()


def _say(result: Result) -> None:
    verdict = "; ".join(result.broken) or "ok"
    sys.stderr.write(
        f"{result.seed} ({result.variant}) {'; '.join(result.blows)}: {result.alerts} alerts, "
        f"{sum(result.incidents.values())} incidents: {verdict} ({result.seconds:.1f} s)\n"
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
    kinds = ("serve", "worker", "queue", "database")
    made = Table("installation", "seeds", *kinds, "alerts", "incidents", "broken", title="SIGKILLs")
    for variant in [*dict.fromkeys(one.variant for one in results), "all"]:
        mine = [one for one in results if variant in (one.variant, "all")]
        killed = sum((Counter(one.kills) for one in mine), Counter[str]())
        incidents = sum(sum(one.incidents.values()) for one in mine)
        broken = sum(bool(one.broken) for one in mine)
        made.add_row(
            variant, str(len(mine)), *(str(killed[kind]) for kind in kinds),
            str(sum(one.alerts for one in mine)), str(incidents), str(broken),
        )  # fmt: skip
    return made


def main() -> int:
    """The command. 1: an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write every result there")
    parser.add_argument("--logs", type=Path, help="keep the logs of broken seeds in that folder")
    told = parser.parse_args()
    plans = [plan_of(seed) for seed in range(told.first, told.first + told.seeds)]
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
