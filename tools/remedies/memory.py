"""Give freed pages back to the operating system."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.remedies.operation import ALONE, Operation
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.vitals import MIB, Vitals, read_vitals, sized


class MemoryPurgeArguments(Arguments):
    """How much must be in it to be worth a stall."""

    min_gain_bytes: int = Field(default=10 * MIB, ge=0)


class MemoryPurge(Remedy[MemoryPurgeArguments]):
    """MEMORY PURGE. Dirty pages of jemalloc only; fragmentation is not touched by it."""

    kind: ClassVar[str] = "memory_purge"
    risk: ClassVar[Risk] = "R1"
    args = MemoryPurgeArguments
    hold_seconds: ClassVar[float] = 10.0  # what it gives back, a growing server soon takes again

    async def preview(self, connection: Connection, args: MemoryPurgeArguments) -> Preview:
        """How much the allocator holds beyond what is active."""
        gain = (await read_vitals(connection)).count("allocator_rss_bytes")
        shown = sized(gain) if gain is not None else "an unknown amount"
        return Preview(
            title="Return freed memory to the operating system",
            commands=[["MEMORY", "PURGE"]],
            predicted_effect=f"Up to {shown} of resident memory goes back to the system; a stall "
            "of milliseconds. used_memory and keys stay as they are.",
            verification="used_memory_rss falls",
            rollback="none needed: the allocator asks for pages again when it needs them",
            never_touches="keys, clients, configuration",
        )

    async def preconditions(
        self, connection: Connection, args: MemoryPurgeArguments
    ) -> list[Check]:
        """The allocator is jemalloc, and there is something to give back."""
        vitals = await read_vitals(connection)
        return [_on_jemalloc(vitals), _worth_it(vitals, args.min_gain_bytes)]

    async def capture(self, connection: Connection, args: MemoryPurgeArguments) -> dict[str, Any]:
        """Resident memory."""
        return {"used_memory_rss": (await read_vitals(connection)).count("used_memory_rss")}

    async def apply(
        self,
        connection: Connection,
        args: MemoryPurgeArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """One MEMORY PURGE."""
        await connection.execute("MEMORY", "PURGE")
        return {}

    async def verify(
        self, connection: Connection, args: MemoryPurgeArguments, captured: dict[str, Any]
    ) -> Verification:
        """Resident memory fell."""
        after = (await read_vitals(connection)).count("used_memory_rss")
        before = captured["used_memory_rss"]
        if after is None or before is None:
            return Verification(helped=None, because="used_memory_rss is not reported")
        because = f"resident memory went from {sized(before)} to {sized(after)}"
        measured = {"used_memory_rss": after}
        return Verification(helped=after < before, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: MemoryPurgeArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Nothing to put back."""
        return {"nothing_to_put_back": "the allocator takes pages again when it needs them"}

    async def settle(
        self, connection: Connection, args: MemoryPurgeArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """By resident memory: either answer is safe, since there is nothing to undo or repeat."""
        after = (await read_vitals(connection)).count("used_memory_rss")
        before = captured["used_memory_rss"]
        if after is None or before is None:
            return "unknown"
        return "applied" if after < before else "not_applied"


def _on_jemalloc(vitals: Vitals) -> Check:
    allocator = vitals.fields.get("mem_allocator")
    return Check(
        text="The allocator is jemalloc: others have nothing to purge",
        holds=None if allocator is None else allocator.startswith("jemalloc"),
        because=f"mem_allocator: {allocator or 'not reported'}",
    )


def _worth_it(vitals: Vitals, floor: int) -> Check:
    gain = vitals.count("allocator_rss_bytes")
    return Check(
        text=f"At least {sized(floor)} can be given back",
        holds=None if gain is None else gain >= floor,
        because="allocator_rss_bytes: " + ("not reported" if gain is None else sized(gain)),
    )
