"""Judging an incident, and taking it along as a recorded incident of a suite."""

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Any, get_args

import typer

from agent.incident import Culprit, CulpritKind
from api.cli.client import call
from api.cli.oneshot import failure, settings_or_exit


def give(incident: str, root_cause: str, culprit: str, comment: str) -> None:
    """Post the verdict and say what was understood."""
    body: dict[str, Any] = {"root_cause": root_cause, "comment": comment}
    if culprit:
        body["culprit"] = _culprit(culprit).model_dump()
    call("POST", f"/v1/incidents/{incident}/verdict", body)
    typer.echo(f"{incident} was {root_cause}" + (f", {culprit}" if culprit else ""), err=True)


def _culprit(text: str) -> Culprit:
    """`prefix:session:` is the prefix `session:`."""
    kind, _, name = text.partition(":")
    if kind not in get_args(CulpritKind) or bool(name) == (kind == "none"):
        kinds = ", ".join(get_args(CulpritKind))
        raise failure(f"--culprit: KIND:NAME, or none; kinds are {kinds}", code=2)
    return Culprit.model_validate({"kind": kind, "name": name})


def export_incident(incident: str, output: str, *, hash_names: bool) -> None:
    """Write `<incident>.jsonl.gz` and its truth into a folder."""
    from agent.runbook_library import load_library
    from evals.export import export, truth_by_verdict
    from tools import recording_file

    directory = Path(output)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(f"--output: {directory}: {error.strerror}", code=2) from None
    kept = call("GET", f"/v1/incidents/{incident}/recording")
    said = kept["verdict"]
    with tempfile.TemporaryDirectory() as folder:
        received = Path(folder) / f"{incident}.jsonl.gz"
        try:
            received.write_bytes(base64.b64decode(kept["recording"], validate=True))
            recording = recording_file.read(received)
        except (binascii.Error, recording_file.RecordingUnreadable) as error:
            raise failure(f"the service sent no recording: {error}") from None
    truth = truth_by_verdict(
        said["root_cause"],
        Culprit.model_validate(said["culprit"]) if said["culprit"] else None,
        said["comment"],
        kept["flavour"],
        load_library(settings_or_exit().runbooks),
    )
    path = export(directory, incident, recording, truth, hash_names=hash_names)
    size = path.stat().st_size / 1024
    typer.echo(
        f"{path}: {size:.0f} KiB; look at it with `replay {path}`, score it with "
        f"`evals run --directory {directory}`",
        err=True,
    )
