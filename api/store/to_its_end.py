"""Waiting for what must not be left halfway."""

import asyncio
from typing import Any


async def to_its_end(step: "asyncio.Future[Any]") -> None:
    """Until it is done, also while the caller is being cancelled, however often."""
    cancelled: asyncio.CancelledError | None = None
    while not step.done():
        try:
            await asyncio.wait({step})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        step.cancelled() or step.exception()  # it was looked at: asyncio need not log it
        raise cancelled
    step.result()
