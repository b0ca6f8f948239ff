"""Alerts that start nothing for a while: `silence`, `silences`, `lift`."""

import json
from typing import Annotated, Any

import typer

from api.cli.evals import AsJson


def silence(
    reason: Annotated[str, typer.Option(help="Why; shown in the list of incidents.")],
    target: Annotated[str | None, typer.Option(help="Alerts on this target.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE that they carry, e.g. alertname=RedisDown; repeatable."),
    ] = None,
    duration: Annotated[str, typer.Option("--for", help="30m, 2h or 1d.")] = "2h",
) -> None:
    """Start nothing for such alerts from now on; they are kept."""
    from api.cli.client import call
    from api.cli.gate import minutes
    from api.cli.oneshot import failure

    pairs = [text.partition("=") for text in label or []]
    if any(not name or not sign for name, sign, _ in pairs):
        raise failure("--label: NAME=VALUE is expected", code=2)
    if target is None and not pairs:
        raise failure("name a --target or a --label: not everything can be silenced", code=2)
    body: dict[str, Any] = {
        "reason": reason,
        "minutes": minutes(duration),
        "labels": {name: value for name, _, value in pairs},
    }
    if target is not None:
        body["target"] = target
    made = call("POST", "/v1/silences", body)
    _say(f"{_line(made)}; end it with: redis-oncall lift {made['id']}")
    typer.echo(json.dumps(made, indent=2))


def silences(as_json: AsJson = False) -> None:
    """What is silenced now or will be, declared or by a configured window."""
    from api.cli.client import call

    listed = call("GET", "/v1/silences")
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    if not listed["items"]:
        typer.echo("nothing is silenced", err=True)
    for item in listed["items"]:
        _say(_line(item), stderr=False)


def lift(silence: Annotated[int, typer.Argument(help="Its number, from `silences`.")]) -> None:
    """End a silence; alerts that still fire are looked at now."""
    from api.cli.client import call

    ended = call("POST", f"/v1/silences/{silence}/lift")
    _say(f"lifted: {_line(ended | {'since': None})}")


def _say(text: str, *, stderr: bool = True) -> None:
    from api.cli import render

    render.console(stderr=stderr).print(text, markup=False, soft_wrap=False)


def _line(item: dict[str, Any]) -> str:
    from api.cli.gate import spoken
    from tools.reading import printable

    labels = " ".join(f"{name}={value}" for name, value in item["labels"].items())
    return spoken(item, "silenced", printable(labels, 200))
