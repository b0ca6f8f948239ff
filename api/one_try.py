"""A try that is waited for so long and no longer, even if it does not let itself be cut off."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class OneTry(Generic[T]):
    """One at a time: whoever asks while it is under way waits for the same.

    It is left alone, not cancelled: a driver that is cut off in a query waits for its server to say
    so, and one that hangs says nothing. Nobody adds another one to it that would hang, too.
    """

    def __init__(self, what: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._what = what
        self._seconds = seconds
        self._trying: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        """What it comes to. Raises TimeoutError, and whatever it raises."""
        if self._trying is None:
            self._trying = asyncio.ensure_future(self._what())
            self._trying.add_done_callback(self._ended)
        trying = self._trying
        await asyncio.wait({trying}, timeout=self._seconds)
        if not trying.done():
            raise TimeoutError
        return trying.result()

    def _ended(self, trying: asyncio.Future[T]) -> None:
        self._trying = None
        if not trying.cancelled():
            trying.exception()  # nobody may be left to hear of it
