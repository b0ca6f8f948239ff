"""An incident that the service worked, as a recorded incident of a suite."""

from ipaddress import ip_address
from pathlib import Path

from agent.incident import Culprit
from agent.runbook import Library
from evals.truth import RECORDING_SUFFIX, TRUTH_SUFFIX, Truth, write_truth
from tools import recording_file
from tools.recording_file import Recording
from tools.recording_names import hashed
from tools.recording_privacy import Pseudonyms

PRODUCTION = "production"
_ADDRESSED = ("replica", "host")


def export(
    directory: Path,
    name: str,
    recording: Recording,
    truth: Truth,
    *,
    hash_names: bool = False,
) -> Path:
    """Write recording and truth into the directory. Raises OSError.

    With `hash_names` the same names are replaced in both, and the comment is left out.
    """
    if hash_names:
        names = Pseudonyms()
        recording = hashed(recording, names)
        culprits = [_renamed(culprit, names) for culprit in truth.culprit]
        truth = truth.model_copy(update={"culprit": culprits, "comment": ""})
    path = directory / f"{name}{RECORDING_SUFFIX}"
    recording_file.write(path, recording)
    write_truth(directory / f"{name}{TRUTH_SUFFIX}", truth)
    return path


def truth_by_verdict(
    root_cause: str, culprit: Culprit | None, comment: str, flavour: str, library: Library
) -> Truth:
    """What a person said it was. Who named no culprit leaves it unjudged.

    A verdict is one cause; what a full server does may always be named beside it.
    """
    cause = library.causes().get(root_cause)
    conditions = {known.id for known in library.causes().values() if known.kind == "condition"}
    healthy = root_cause == "no-incident" or (cause is not None and cause.kind == "not_incident")
    return Truth(
        root_cause=[root_cause],
        culprit=[culprit] if culprit else [],
        contributing=[] if healthy else sorted(conditions - {root_cause}),
        is_incident=not healthy,
        kind=PRODUCTION,
        fault=PRODUCTION,
        build=_build(flavour),
        seed=0,
        comment=comment,
    )


def _build(flavour: str) -> str:
    """`redis 7.0.15` is of the build `redis-7.0`."""
    product, _, version = flavour.partition(" ")
    return "-".join(filter(None, (product, ".".join(version.split(".")[:2]))))


def _renamed(culprit: Culprit, names: Pseudonyms) -> Culprit:
    if culprit.kind in ("config", "none"):
        return culprit
    raw = culprit.name.encode()
    other = names.address(raw) if _is_address(culprit) else names.name(raw)
    return culprit.model_copy(update={"name": other.decode("utf-8", "replace")})


def _is_address(culprit: Culprit) -> bool:
    """Clients without a name go by their address; `worker:1` is a name."""
    if culprit.kind != "client":
        return culprit.kind in _ADDRESSED
    try:
        ip_address(culprit.name.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
