"""The `retention:` section of the configuration: how long what is over is kept."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from api.entries import Duration, Entry

SHORTEST = timedelta(days=30)
"""The next investigation of a target reads what came of earlier plans for so long."""


class RetentionEntry(Entry):
    """Ages, counted from the last change. The audit trail has its own, `audit.keep`."""

    incidents: Annotated[Duration, Field(ge=SHORTEST)] = timedelta(days=400)
    """Of what is resolved, closed or failed, with all its parts; of chat, too."""
    judged: Annotated[Duration, Field(ge=SHORTEST)] | None = None
    """Of incidents on which a person gave a verdict; None: for ever."""
