"""A case on a live server: the real tools, with samples one second apart."""

import asyncio
from typing import Any

from agent.incident import Alert, Incident
from agent.memory_journal import MemoryLedger
from agent.redaction import redact_tree
from agent.runbook import Library
from tests.agent.readings import AT
from tools.connection import LiveConnection
from tools.opening import open_for_reading
from tools.reading import Evidence, NotMeasured
from tools.reads import READS


class LiveCase:
    """Looks at a server; repeated looks are answered from evidence."""

    def __init__(self, connection: Any, library: Library, alert: str = "") -> None:
        alerts = [Alert(source="generic", name=alert, fingerprint="f", starts_at=AT)]
        self.incident = Incident(
            id="I1",
            status="investigating",
            severity="warning",
            title="",
            target="cache-1",
            opened_at=AT,
            updated_at=AT,
            alerts=alerts if alert else [],
        )
        self.runbooks = library
        self.evidence: list[Evidence] = []
        self.ledger = MemoryLedger()
        self._connection = connection

    @classmethod
    async def opened(cls, url: str, library: Library, alert: str = "") -> "LiveCase":
        """With the diagnosis identity's connection."""
        return cls(await open_for_reading(url), library, alert)

    async def close(self) -> None:
        """Close the connection."""
        connection: LiveConnection = self._connection
        await connection.close()

    async def observe(self) -> None:
        """The seed runbook's baseline, concurrently, as the graph does."""
        baseline = next(b for b in self.runbooks.runbooks if b.id == "memory-pressure")
        await asyncio.gather(*(self.look(tool, {}) for tool in baseline.front.baseline))

    async def look(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        """Run the tool, faster than by default."""
        chosen = READS[tool]
        for piece in self.evidence:
            if piece.tool == tool and piece.args == arguments:
                return piece
        fast = {"seconds": 1.0} if tool in FAST else {}
        reading = await chosen.call(self._connection, fast | arguments)
        piece = Evidence(
            id=f"E{len(self.evidence) + 1}",
            tool=tool,
            args=arguments,
            reading=redact_tree(reading.model_dump(mode="json")),
            measured=not isinstance(reading, NotMeasured),
            taken_at=self._connection.now(),
            target="cache-1",
            node=self._connection.node,
        )
        self.evidence.append(piece)
        return piece


FAST = frozenset({"stats", "command_stats", "error_stats", "stream_info", "instance_resize"})
