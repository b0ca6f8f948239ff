"""Making the recorded incidents: each fault on real servers, captured under a neutral name.

`python -m evals.record [GLOB]` records those whose fault matches; what exists is kept unless
`--again` is given.
"""

import argparse
import asyncio
import fnmatch
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evals import servers
from evals.faults import FAULTS
from evals.truth import INCIDENTS, RECORDING_SUFFIX, TRUTH_SUFFIX, truth_of, write_truth
from tools.connection import open_for_reading
from tools.recording import CAPTURE_BYTES, capture
from tools.recording_file import write

SCALE = 0.4
"""Small enough that most key tables fit whole into a recording."""
_ADJECTIVES = (
    "amber", "brisk", "calm", "dusty", "early", "faint", "gentle", "hollow", "idle", "jolly",
    "keen", "late", "mellow", "narrow", "olive", "plain", "quiet", "rapid", "silver", "tidy",
    "upper", "vivid", "warm", "young",
)  # fmt: skip
_NOUNS = (
    "anchor", "badger", "canyon", "dune", "ember", "falcon", "grove", "harbor", "inlet",
    "juniper", "kettle", "lantern", "meadow", "nutmeg", "orchard", "pebble", "quarry",
    "river", "sparrow", "thicket", "umber", "valley", "willow", "yarrow",
)  # fmt: skip


@dataclass(frozen=True)
class Take:
    """One recording to be made."""

    fault: str
    build: str
    seed: int

    @property
    def name(self) -> str:
        """A neutral name: the same for the same take, and telling nothing."""
        digest = hashlib.sha256(f"{self.fault}/{self.build}/{self.seed}".encode()).digest()
        first, second = _ADJECTIVES[digest[0] % 24], _NOUNS[digest[1] % 24]
        return f"{first}-{second}-{digest[2]:02x}"


def takes() -> Iterator[Take]:
    """Each fault with as many seeds as it says, on its builds in turn."""
    for place, fault in enumerate(FAULTS.values()):
        for seed in range(1, fault.recordings + 1):
            yield Take(fault.id, fault.builds[(place + seed) % len(fault.builds)], seed)


async def record(take: Take, directory: Path = INCIDENTS, scale: float = SCALE) -> Path:
    """Cause the fault and capture the server. Raises LookupError if the build is missing."""
    path = directory / f"{take.name}{RECORDING_SUFFIX}"
    fault = FAULTS[take.fault]
    with (
        servers.running(take.build, *fault.arguments_for(take.build)) as server,
        fault.prepare(server, take.seed, scale) as expected,
    ):
        connection = await open_for_reading(expected.url or server.url)
        try:
            recording = await capture(
                connection, path, alert=expected.alert, memory_limit=expected.memory_limit
            )
        finally:
            await connection.close()
    if fault.fixture:
        fault.amend(recording)
        write(path, recording, CAPTURE_BYTES)
    truth = truth_of(expected, fault, take.build, take.seed, scale)
    write_truth(directory / f"{take.name}{TRUTH_SUFFIX}", truth)
    return path


async def record_all(only: str, *, again: bool, directory: Path = INCIDENTS) -> None:
    """Record every take whose fault matches, one after another."""
    for take in takes():
        path = directory / f"{take.name}{RECORDING_SUFFIX}"
        if not fnmatch.fnmatchcase(take.fault, only) or (path.exists() and not again):
            continue
        if servers.binary(take.build) is None:
            sys.stderr.write(f"{take.name}: {take.build} is not installed here, left out\n")
            continue
        await record(take, directory)
        size = path.stat().st_size
        sys.stderr.write(f"{take.name}: {take.fault} on {take.build}, {size} bytes\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="*", help="glob over fault ids")
    parser.add_argument("--again", action="store_true", help="replace what exists")
    chosen = parser.parse_args()
    asyncio.run(record_all(chosen.only, again=chosen.again))


if __name__ == "__main__":
    main()
