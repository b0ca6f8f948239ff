"""Who writes next, where there can be only one writer."""

import asyncio
from collections import deque


class Turns:
    """First come, first served; the urgent go first, and never twice in a row while others wait."""

    def __init__(self) -> None:
        self._taken = False
        self._last_was_urgent = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def take(self, *, urgent: bool = False) -> None:
        """Wait for a turn. It lasts until `end`."""
        if not self._taken:
            self._taken, self._last_was_urgent = True, urgent
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.end()  # it had come, and nobody will use it
            raise
        self._last_was_urgent = urgent

    def end(self) -> None:
        """The next one's turn."""
        while self._urgent or self._others:
            skip = self._last_was_urgent and self._others
            queue = self._others if skip or not self._urgent else self._urgent
            following = queue.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._taken = False
