"""The other nodes of a deployment: each opened once, when it is first asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from tools.failures import CommandFailure
from tools.reading import printable
from tools.target_url import is_address

MOST_OTHERS = 64
"""Other nodes that one connection leads to."""


class _Closing(Protocol):
    async def close(self) -> None:
        """Close it. Repeatable."""


T = TypeVar("T", bound=_Closing)


class Siblings(Generic[T]):
    """`opening`: opens the node at host:port; None: credentials are sent to no other node."""

    def __init__(self, opening: Callable[[str], Awaitable[T]] | None) -> None:
        self._opening = opening
        self._known: dict[str, asyncio.Task[T]] = {}

    async def at(self, address: str) -> T:
        """That node; one that could not be opened is tried again. Raises CommandFailure."""
        tried = f"connect to {printable(address, 80)}"
        if self._opening is None:
            raise CommandFailure(
                "not_allowed",
                tried,
                "the target's URL names one node, and credentials are sent to no other",
                "use redis-cluster:// or redis-sentinel://, or let walks go to replicas (walk_on)",
            )
        if not is_address(address):
            raise CommandFailure("error", tried, "that is no host:port")
        known = self._known.get(address)
        if known is None or _has_failed(known):
            if len(self._known) >= MOST_OTHERS:
                raise CommandFailure("budget", tried, f"{MOST_OTHERS} other nodes were looked at")
            known = self._known[address] = asyncio.ensure_future(self._opening(address))
        return await asyncio.shield(known)

    async def close(self) -> None:
        """Close what was opened. Repeatable."""
        for opening in self._known.values():
            if not opening.done():
                opening.cancel()
            elif not _has_failed(opening):
                await opening.result().close()


def _has_failed(opening: "asyncio.Task[T]") -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)
