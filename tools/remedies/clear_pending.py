"""Clear what is pending in a group: references to nothing, or what an owner decides about."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.remedies.operation import ALONE, Operation
from tools.remedies.pace import OWN_PAGES
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification

MOST_KEPT = 50_000
"""Pending entries that one action moves or acknowledges: each is kept for the undo."""


class ClearPendingArguments(Arguments):
    """Which pending entries of which group, and what becomes of them."""

    key: str = Field(min_length=1, max_length=1_000)
    group: str = Field(min_length=1, max_length=1_000)
    how: Literal["gone", "claim", "acknowledge"] = "gone"
    """gone: acknowledge those whose entry was trimmed away; claim: hand those of a dead consumer
    to one that its owner names; acknowledge: those that the owner confirmed are obsolete."""
    consumer: str = Field(default="", max_length=1_000)
    """Whose they are (claim, acknowledge)."""
    to_consumer: str = Field(default="", max_length=1_000)
    """Who is to process them (claim); must read its own pending entries."""
    min_idle_seconds: int = Field(default=3_600, ge=60, le=366 * 86_400)
    """Only what was handed out so long ago (claim, acknowledge)."""
    owner_confirmed: bool = False
    """The owner said that these need not be processed any more (acknowledge)."""
    max_entries: int = Field(default=MOST_KEPT, ge=1, le=MOST_KEPT)
    """Of claim and acknowledge."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.how != "gone" and not self.consumer:
            raise ValueError("consumer is needed: whose entries are meant")
        if self.how == "claim" and self.to_consumer in ("", self.consumer):
            raise ValueError("to_consumer is needed: another consumer, named by the owner")
        if self.how == "acknowledge" and not self.owner_confirmed:
            raise ValueError("owner_confirmed is needed: they will never be processed")
        return self

    @property
    def names(self) -> tuple[bytes, bytes]:
        """Key and group, as the server has them."""
        return self.key.encode(), self.group.encode()

    @property
    def min_idle_ms(self) -> int:
        """The same in milliseconds."""
        return self.min_idle_seconds * 1000


Part = Remedy[ClearPendingArguments]


class ClearPending(Remedy[ClearPendingArguments]):
    """XACK and XCLAIM by id, in pages. Never XGROUP DESTROY or DELCONSUMER: both lose entries."""

    kind: ClassVar[str] = "clear_pending"
    risk: ClassVar[Risk] = "R3"
    args = ClearPendingArguments

    def __init__(self, gone: Part, idle: Part) -> None:
        self._gone = gone
        self._idle = idle

    def _part(self, args: ClearPendingArguments) -> Part:
        return self._gone if args.how == "gone" else self._idle

    async def preview(self, connection: Connection, args: ClearPendingArguments) -> Preview:
        """How many, whose, and what happens to them."""
        return await self._part(args).preview(connection, args)

    async def preconditions(
        self, connection: Connection, args: ClearPendingArguments
    ) -> list[Check]:
        """They are there still, as they were seen."""
        return await self._part(args).preconditions(connection, args)

    async def capture(self, connection: Connection, args: ClearPendingArguments) -> dict[str, Any]:
        """What the undo needs: ids, when and how often they were handed out."""
        return await self._part(args).capture(connection, args)

    async def apply(
        self,
        connection: Connection,
        args: ClearPendingArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """In pages; each looks again before it writes."""
        return await self._part(args).apply(connection, args, captured, operation)

    async def verify(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Verification:
        """They are pending there no more."""
        return await self._part(args).verify(connection, args, captured)

    async def undo(
        self,
        connection: Connection,
        args: ClearPendingArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Back to the consumer that had them."""
        return await self._part(args).undo(connection, args, captured, operation)

    def disturbs(self, args: ClearPendingArguments) -> frozenset[str]:
        """Its XPENDING and XACK count with everybody's."""
        return OWN_PAGES

    async def verify_undo(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Verification:
        """They are pending for the consumer that had them."""
        return await self._part(args).verify_undo(connection, args, captured)

    async def settle(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """Who has them pending now?"""
        return await self._part(args).settle(connection, args, captured)
