"""`redis-oncall report`: what happened and what it changed, to hand on."""

from pathlib import Path

import httpx2
import typer

from api.cli.client import SECONDS, address, no_answer, refusal
from api.cli.oneshot import failure


def report(incident: str, output: str, *, html: bool) -> None:
    """Fetch the report and print it, or write it to a file."""
    url, headers = address(f"/v1/incidents/{incident}/report")
    params = {"format": "html" if html else "markdown"}
    try:
        response = httpx2.get(url, headers=headers, params=params, timeout=SECONDS)
    except httpx2.HTTPError as error:
        raise failure(no_answer(error)) from None
    if not response.is_success:
        raise failure(refusal(response))
    if output == "-":
        typer.echo(response.text.encode("utf-8"), nl=False)
        return
    try:
        Path(output).write_text(response.text, encoding="utf-8")
    except OSError as error:
        raise failure(f"{output} cannot be written: {error.strerror}") from None
    typer.echo(f"written to {output}", err=True)
