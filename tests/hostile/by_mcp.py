"""What another agent gets to see of an incident and its server, by MCP."""

import contextlib
from typing import Any

from httpx2 import AsyncClient
from mcp import Client

from api.mcp.server import make_server

RECORD = ("list_incidents", "get_incident", "get_plan", "get_report")
LOOKS = ("clients", "slowlog", "acl_log", "bigkeys", "stream_info", "keyspace")


async def seen_by_an_agent(client: AsyncClient, incident: dict[str, Any]) -> dict[str, str]:
    """Every answer, by what it was the answer to."""
    shown: dict[str, str] = {}
    async with Client(make_server(lambda _: contextlib.nullcontext(client))) as speaking:
        wanted = [(name, {"incident_id": incident["id"]}) for name in RECORD[1:]]
        wanted += [(RECORD[0], {}), *((name, {"target": incident["target"]}) for name in LOOKS)]
        wanted += [
            ("get_evidence", {"incident_id": incident["id"], "evidence_id": piece["id"]})
            for piece in incident["evidence"]
        ]
        for tool, arguments in wanted:
            result = await speaking.call_tool(tool, arguments)
            (content,) = result.content
            assert not result.is_error, content
            shown[f"mcp {tool} {arguments}"] = content.text  # type: ignore[union-attr]
        listed = await speaking.list_resources()
        shown["mcp resources"] = listed.model_dump_json()
        for resource in listed.resources:
            if "runbooks/" not in resource.uri:  # a team's own are shown as they are
                (part,) = (await speaking.read_resource(resource.uri)).contents
                shown[f"mcp {resource.uri}"] = part.text  # type: ignore[union-attr]
    return shown
