"""`python -m tests.endurance`: a day of `watch` every minute, in a few minutes."""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import structlog

from tests.endurance.run import MOST_GROWN, Moment, day


def said(moment: Moment) -> None:
    """A line for each hour."""
    if moment.minute % 60:
        return
    rows = ", ".join(f"{count:,} {name}" for name, count in sorted(moment.rows.items()))
    sys.stdout.write(
        f"hour {moment.minute // 60:>2}: Python {moment.python_bytes / 1024:,.0f} KiB, "
        f"RSS {moment.rss_bytes / 1024**2:.1f} MiB, {moment.descriptors} descriptors, "
        f"{moment.threads} threads, {moment.tasks} tasks, files "
        f"{moment.file_bytes / 1024:,.0f} KiB and logs {moment.log_bytes / 1024:,.0f}\n"
        f"         {rows}\n"
    )
    sys.stdout.flush()


def main() -> int:
    """The command. 1: something grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--keep", type=int, default=6, help="hours that anything is kept")
    parser.add_argument("--json", type=Path, help="write everything measured there")
    told = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    started = time.monotonic()
    done = asyncio.run(day(60 * told.hours, timedelta(hours=told.keep), said))
    seconds = time.monotonic() - started
    if told.json:
        told.json.write_text(json.dumps([asdict(moment) for moment in done.moments], indent=1))
    broken = done.broken()
    for sentence in broken:
        sys.stderr.write(f"{sentence}\n")
    slopes = (
        ", ".join(f"{name} {done.slope(name) / 1024:+.1f} KiB an hour" for name in MOST_GROWN)
        if len(done.warm()) > 1
        else "no slope"
    )
    sys.stdout.write(
        f"{done.looks:,} looks, {len(done.alerts)} alerts, {told.hours} hours in {seconds:.0f} s: "
        f"{slopes}; {'it grew' if broken else 'nothing grew'}\n"
    )
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
