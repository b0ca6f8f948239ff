"""`python -m tests.torture --seeds 300`: every blow at every step, on real servers."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.torture.run import Result, bench
from tests.torture.scenes import BUILDS


def share(build: str, seeds: Sequence[int]) -> list[Result]:
    """The results of these seeds on one build, each said as it comes."""
    results = []
    with bench(build) as made:
        for seed in seeds:
            started = time.monotonic()
            result = made.seed(seed)
            results.append(result)
            broken = "; ".join(result.broken) or "ok"
            line = f"{seed} {build} {result.scene}: {result.blow}: {result.status}: {broken}"
            seconds = time.monotonic() - started
            sys.stderr.write(f"{line} ({seconds:.1f} s)\n")
    return results


def table(results: Sequence[Result]) -> Table:
    """By remedy: how its runs ended, and what did not hold."""
    ends = ("verified", "failed", "lapsed", "rolled_back", "rollback_failed", "outcome_unknown")
    made = Table("remedy", "runs", *(end.replace("_", " ") for end in ends), "broken")
    for scene in [*dict.fromkeys(result.scene for result in results), "all"]:
        mine = [one for one in results if scene in (one.scene, "all")]
        counts = Counter(one.status for one in mine)
        broken = sum(bool(one.broken) for one in mine)
        made.add_row(scene, str(len(mine)), *(str(counts[end]) for end in ends), str(broken))
    return made


def main() -> int:
    """The command. 1: an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write every result there")
    told = parser.parse_args()
    seeds = range(told.first, told.first + told.seeds)
    builds = [BUILDS[job % len(BUILDS)] for job in range(told.jobs)]
    with ProcessPoolExecutor(told.jobs) as pool:
        shares = pool.map(share, builds, [seeds[job :: told.jobs] for job in range(told.jobs)])
        results = sorted((one for part in shares for one in part), key=lambda one: one.seed)
    if told.json:
        told.json.write_text(json.dumps([asdict(one) for one in results], indent=1))
    Console().print(table(results))
    for one in results:
        if one.broken:
            what = f"seed {one.seed}, {one.scene}, {one.blow}: {'; '.join(one.broken)}"
            sys.stderr.write(f"{what}\n")
    return int(any(one.broken for one in results))


if __name__ == "__main__":
    sys.exit(main())
