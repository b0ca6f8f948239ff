"""Making the recorded incidents: each fault on real servers, captured under a neutral name."""

import fnmatch
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evals import servers
from evals.faults import FAULTS, Fault
from evals.faults.beyond import BEYOND
from evals.truth import RECORDING_SUFFIX, SUITES, TRUTH_SUFFIX, Suite, truth_of, write_truth
from tools.capture import CAPTURE_BYTES, capture
from tools.opening import open_for_reading
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


LABS: dict[Suite, dict[str, Fault]] = {"incidents": FAULTS, "beyond": BEYOND}
"""What each suite is recorded from."""


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
        first, second = self._word(_ADJECTIVES, digest[0]), self._word(_NOUNS, digest[1])
        return f"{first}-{second}-{digest[2]:02x}"

    def _word(self, words: tuple[str, ...], place: int) -> str:
        """The word at this place, or the next one that is no word of the fault's id."""
        told = self.fault.split("-")
        following = (words[(place + step) % len(words)] for step in range(len(words)))
        return next(word for word in following if word not in told)

    @property
    def files(self) -> tuple[str, str]:
        """Names of its recording and of its truth."""
        return f"{self.name}{RECORDING_SUFFIX}", f"{self.name}{TRUTH_SUFFIX}"


def fault_of(take: Take) -> Fault:
    """The fault of a take, whichever suite it is for. Raises KeyError."""
    return {**FAULTS, **BEYOND}[take.fault]


def takes(only: str = "*", suite: Suite = "incidents") -> Iterator[Take]:
    """Each fault with as many seeds as it says, on its builds in turn.

    `only` is a glob over ids of faults and names of recordings. Where a fault begins among its
    builds depends on nothing but its id: further faults rename no recording.
    """
    for fault in LABS[suite].values():
        first = hashlib.sha256(fault.id.encode()).digest()[0]
        for seed in range(1, fault.recordings + 1):
            take = Take(fault.id, fault.builds[(first + seed) % len(fault.builds)], seed)
            if fnmatch.fnmatchcase(fault.id, only) or fnmatch.fnmatchcase(take.name, only):
                yield take


async def record(take: Take, directory: Path = SUITES["incidents"], scale: float = SCALE) -> Path:
    """Cause the fault and capture the server. Raises LookupError if the build is missing."""
    path, truth_path = (directory / name for name in take.files)
    fault = fault_of(take)
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
    write_truth(truth_path, truth_of(expected, fault, take.build, take.seed, scale))
    return path
