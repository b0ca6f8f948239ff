"""Ground truth of a recorded incident: `<name>.truth.yaml` beside `<name>.jsonl.gz`.

Nothing the agent can see names it: neither the recording nor its file name.
"""

import fnmatch
import hashlib
from pathlib import Path

import yaml

from agent.incident import Culprit, Words
from evals.faults import Expected

INCIDENTS = Path(__file__).parent / "incidents"
RECORDING_SUFFIX, TRUTH_SUFFIX = ".jsonl.gz", ".truth.yaml"
HELD_BACK_OF = 3
"""One in so many is never looked at while tuning."""


class Truth(Words):
    """What a good diagnosis of this incident says."""

    root_cause: list[str]
    """Any of these is right."""
    culprit: list[Culprit]
    """Any of these is right."""
    contributing: list[str]
    """May be named as contributing."""
    is_incident: bool
    fault: str
    build: str
    seed: int
    scale: float = 1.0


class RecordedIncident(Words):
    """One incident of the suite."""

    id: str
    recording: Path
    truth: Truth

    @property
    def held_back(self) -> bool:
        """Chosen by a hash of the id, so that nobody chooses."""
        return hashlib.sha256(self.id.encode()).digest()[0] % HELD_BACK_OF == 0


def truth_of(expected: Expected, fault: str, build: str, seed: int, scale: float) -> Truth:
    """What the fault lab says, as it is kept."""
    culprits = sorted(expected.culprit)
    return Truth.model_validate(
        {
            "root_cause": sorted(expected.root_cause),
            "culprit": [{"kind": kind, "name": name} for kind, name in culprits],
            "contributing": sorted(expected.contributing),
            "is_incident": expected.is_incident,
            "fault": fault,
            "build": build,
            "seed": seed,
            "scale": scale,
        }
    )


def write_truth(path: Path, truth: Truth) -> None:
    """Write it as YAML."""
    path.write_text(yaml.safe_dump(truth.model_dump(mode="json"), sort_keys=False), "utf-8")


def incidents(only: str = "*", directory: Path = INCIDENTS) -> list[RecordedIncident]:
    """All recorded incidents whose id matches a glob, by id.

    Raises FileNotFoundError for a recording without its truth, ValueError for a bad one.
    """
    found = []
    for recording in sorted(directory.glob(f"*{RECORDING_SUFFIX}")):
        name = recording.name.removesuffix(RECORDING_SUFFIX)
        if fnmatch.fnmatchcase(name, only):
            text = (directory / f"{name}{TRUTH_SUFFIX}").read_text("utf-8")
            truth = Truth.model_validate(yaml.safe_load(text))
            found.append(RecordedIncident(id=name, recording=recording, truth=truth))
    return found
