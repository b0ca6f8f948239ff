"""The resources: the same things by address, whole, for whoever attaches them to a conversation."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from mcp_types import ListResourcesResult, Resource, ResourceTemplate

from agent.digest import inert
from agent.redaction import redact_tree
from api.mcp.asking import Api, Refused
from api.mcp.tools import row
from tools.reading import printable

SCHEME = "redis-oncall://"
JSON, MARKDOWN = "application/json", "text/markdown"
LISTED = 20
"""Incidents of a page."""


@dataclass(frozen=True)
class Kind:
    """Resources of one form."""

    template: str
    """What follows the scheme; `{…}` stands for one part."""
    name: str
    title: str
    mime: str
    read: Callable[..., Awaitable[str]]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Of the whole address."""
        parts = re.split(r"\{\w+\}", self.template)
        return re.compile(re.escape(SCHEME) + "([^/?#]{1,600})".join(map(re.escape, parts)))


def _whole(value: Any) -> str:
    return inert(redact_tree(value), ascii_only=True)


async def _incidents(api: Api) -> str:
    page = await api.get("incidents", limit=LISTED)
    return _whole([row(incident) for incident in page["items"]])


async def _targets(api: Api) -> str:
    return _whole(await api.get("targets"))


async def _runbooks(api: Api) -> str:
    return _whole(await api.get("runbooks"))


async def _incident(api: Api, incident: str) -> str:
    return _whole(await api.get("incidents", incident))


async def _report(api: Api, incident: str) -> str:
    return await api.text("incidents", incident, "report")


async def _evidence(api: Api, incident: str, evidence: str) -> str:
    return _whole(await api.get("incidents", incident, "evidence", evidence))


async def _runbook(api: Api, runbook: str) -> str:
    return await api.text("runbooks", runbook)


KINDS = (
    Kind("targets", "targets", "Servers that may be looked at", JSON, _targets),
    Kind("incidents", "incidents", "The newest incidents", JSON, _incidents),
    Kind("runbooks", "runbooks", "Runbooks that are loaded", JSON, _runbooks),
    Kind("incidents/{id}", "incident", "An incident, whole", JSON, _incident),
    Kind("incidents/{id}/report", "report", "The report about an incident", MARKDOWN, _report),
    Kind("incidents/{id}/evidence/{eid}", "evidence", "A piece of evidence", JSON, _evidence),
    Kind("runbooks/{id}", "runbook", "A runbook, whole", MARKDOWN, _runbook),
)
FIXED = [kind for kind in KINDS if "{" not in kind.template]
TEMPLATES = [
    ResourceTemplate(
        uri_template=SCHEME + kind.template, name=kind.name, title=kind.title, mime_type=kind.mime
    )
    for kind in KINDS
    if kind not in FIXED
]


async def listed(api: Api, cursor: str | None) -> ListResourcesResult:
    """What is fixed and the runbooks on the first page, incidents on each. Raises Refused."""
    page = await api.get("incidents", limit=LISTED, cursor=cursor)
    found = [] if cursor else [_listed(SCHEME + k.template, k.name, k.title, k.mime) for k in FIXED]
    if not cursor:
        for book in (await api.get("runbooks"))["items"]:
            address = f"{SCHEME}runbooks/{quote(book['id'], safe='')}"
            found.append(_listed(address, f"runbook {book['id']}", book["title"], MARKDOWN))
    for incident in page["items"]:
        address, name = f"{SCHEME}incidents/{incident['id']}", incident["id"]
        title = f"{incident['title']} ({incident['status']})"
        found.append(_listed(address, name, title, JSON))
        found.append(_listed(f"{address}/report", f"report {name}", f"Report: {title}", MARKDOWN))
    return ListResourcesResult(resources=found, next_cursor=page["next_cursor"])


def _listed(address: str, name: str, title: str, mime: str) -> Resource:
    return Resource(uri=address, name=name, title=printable(title, 300), mime_type=mime)


async def read(api: Api, address: str) -> tuple[str, str]:
    """The text at an address, and its kind. Raises Refused."""
    for kind in KINDS:
        if found := kind.pattern.fullmatch(address):
            return await kind.read(api, *map(unquote, found.groups())), kind.mime
    raise Refused("there is no such resource; resources/list and resources/templates/list have all")
