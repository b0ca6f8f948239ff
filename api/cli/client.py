"""Commands that speak to a running service, with REDIS_ONCALL_URL and REDIS_ONCALL_TOKEN."""

import json
from typing import Any

import httpx2
import typer

from agent.incident import Incident
from api.cli import render
from api.cli.oneshot import failure, settings_or_exit
from tools.reading import printable

SECONDS = 30.0


def call(method: str, path: str, body: dict[str, Any] | None = None, **query: str | None) -> Any:
    """One request; a refusal is one sentence on stderr and exit 1."""
    url, headers = address(path)
    try:
        response = httpx2.request(
            method,
            url,
            json=body,
            params={name: value for name, value in query.items() if value is not None},
            headers=headers,
            timeout=SECONDS,
        )
    except httpx2.HTTPError as error:
        raise failure(no_answer(error)) from None
    if response.is_success:
        return response.json()
    raise failure(refusal(response))


def address(path: str) -> tuple[str, dict[str, str]]:
    """The URL of a path of the service, and the headers that authenticate."""
    settings = settings_or_exit()
    secret = settings.token.get_secret_value() if settings.token else ""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return settings.service_url.rstrip("/") + path, headers


def no_answer(error: httpx2.HTTPError) -> str:
    """That the service cannot be reached, and what to do."""
    return (
        f"no answer from {settings_or_exit().service_url} ({type(error).__name__}); start it with "
        "`redis-oncall serve`, or set REDIS_ONCALL_URL"
    )


def refusal(response: httpx2.Response) -> str:
    """What the service says is wrong with a request, in one sentence."""
    try:
        problem = response.json()
        detail = problem.get("detail") or problem.get("title") or ""
        fields = "; ".join(f"{e['field']}: {e['message']}" for e in problem.get("errors", []))
    except (ValueError, KeyError, TypeError, AttributeError):
        detail, fields = response.text[:300], ""
    hint = "; set REDIS_ONCALL_TOKEN" if response.status_code == 401 else ""
    return f"the service said {response.status_code}: {detail} {fields}".rstrip() + hint


def incidents(incident: str | None, status: str | None, *, as_json: bool, full: bool) -> None:
    """A list of incidents, or one."""
    if incident is not None:
        shown = call("GET", f"/v1/incidents/{incident}")
        if as_json:
            typer.echo(json.dumps(shown, indent=2))
        else:
            render.console().print(render.incident(Incident.model_validate(shown), full=full))
        return
    listed = call("GET", "/v1/incidents", status=status, limit="50")
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    if not listed["items"]:
        typer.echo("no incidents", err=True)
    for item in listed["items"]:
        diagnosis = item.get("diagnosis") or {}
        cause = diagnosis.get("root_cause", "")
        typer.echo(f"{item['id']}  {item['status']:<17} {item['target']:<16} {cause}".rstrip())
        if item["silenced_until"] is not None or item["follows"]:
            typer.echo(f"  {_quiet(item)}")


def _quiet(item: dict[str, Any]) -> str:
    until = (item["silenced_until"] or "")[:16].replace("T", " ")
    said = [f"silenced by {printable(item['silenced_by'], 40)} until {until} UTC"] if until else []
    return ", ".join(said + ([f"follows {item['follows']}"] if item["follows"] else []))
