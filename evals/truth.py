"""Ground truth of a recorded incident: `<name>.truth.yaml` beside `<name>.jsonl.gz`.

Nothing the agent can see names it: neither the recording nor its file name.
"""

import fnmatch
import hashlib
from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import Field

from agent.incident import Culprit, Words
from evals.faults import Expected, Fault
from evals.faults.fault import Kind
from tools.plain_yaml import read_yaml

Suite = Literal["incidents", "beyond"]
SUITES: dict[Suite, Path] = {name: Path(__file__).parent / name for name in get_args(Suite)}
"""The incidents that scores are made of; and those chosen because the rules fail on them."""
INCIDENTS = SUITES["incidents"]
RECORDING_SUFFIX, TRUTH_SUFFIX = ".jsonl.gz", ".truth.yaml"
HELD_BACK_DRAW = "second draw"
"""The first third was looked at while the replay was debugged."""
HELD_BACK_OF = 3
"""One in so many is never looked at while tuning."""


class Truth(Words):
    """What a good diagnosis of this incident says."""

    root_cause: list[str]
    """Any of these is right."""
    culprit: list[Culprit]
    """Any of these is right; without any nobody said, and it is not judged."""
    contributing: list[str]
    """May be named as contributing."""
    also: list[str] = Field(default_factory=list)
    """Second faults: each has to be named, as root cause or as contributing."""
    is_incident: bool
    kind: Kind = "single"
    fixture: str = ""
    """The document it was made after, where the mode cannot be caused here."""
    fault: str
    build: str
    seed: int
    scale: float = 1.0
    comment: str = ""
    """What the person said who judged it, if one did."""


class RecordedIncident(Words):
    """One incident of the suite."""

    id: str
    recording: Path
    truth: Truth

    @property
    def held_back(self) -> bool:
        """Chosen by a hash of the id, so that nobody chooses."""
        drawn = hashlib.sha256(f"{HELD_BACK_DRAW}/{self.id}".encode()).digest()
        return drawn[0] % HELD_BACK_OF == 0


def truth_of(expected: Expected, fault: Fault, build: str, seed: int, scale: float) -> Truth:
    """What the fault lab says, as it is kept."""
    culprits = sorted(expected.culprit)
    return Truth.model_validate(
        {
            "root_cause": sorted(expected.root_cause),
            "culprit": [{"kind": kind, "name": name} for kind, name in culprits],
            "contributing": sorted(expected.contributing),
            "also": sorted(expected.also),
            "is_incident": expected.is_incident,
            "kind": fault.kind,
            "fixture": fault.fixture,
            "fault": fault.id,
            "build": build,
            "seed": seed,
            "scale": scale,
        }
    )


def write_truth(path: Path, truth: Truth) -> None:
    """Write it as YAML."""
    path.write_text(yaml.safe_dump(truth.model_dump(mode="json"), sort_keys=False), "utf-8")


def incidents(only: str = "*", directory: Path = INCIDENTS) -> list[RecordedIncident]:
    """All recorded incidents of which a glob matches the id or the fault, by id.

    Raises FileNotFoundError for a recording without its truth, ValueError for a bad one.
    """
    found = []
    for recording in sorted(directory.glob(f"*{RECORDING_SUFFIX}")):
        name = recording.name.removesuffix(RECORDING_SUFFIX)
        text = (directory / f"{name}{TRUTH_SUFFIX}").read_text("utf-8")
        truth = Truth.model_validate(read_yaml(text))
        if fnmatch.fnmatchcase(name, only) or fnmatch.fnmatchcase(truth.fault, only):
            found.append(RecordedIncident(id=name, recording=recording, truth=truth))
    return found
