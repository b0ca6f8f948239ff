"""Lists: a page, and the cursor of the next."""

from typing import Annotated, Generic, TypeVar

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, Field

from agent.redaction import redact
from api.alerts.parsed import clean

T = TypeVar("T")
_ID = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"
IncidentId = Annotated[str, Path(pattern=_ID, description="The incident's id")]
ActionId = Annotated[str, Path(pattern=_ID, description="The action's id, such as A1")]
EvidenceId = Annotated[str, Path(pattern=r"^E[1-9][0-9]{0,8}$", description="Such as E7")]
ThreadId = Annotated[str, Path(pattern=_ID, description="The thread's id")]
Limit = Annotated[int, Query(ge=1, le=100, description="Items of a page")]
Cursor = Annotated[str | None, Query(pattern=_ID, description="`next_cursor` of the page before")]
Comment = Annotated[str, Field(max_length=2_000), AfterValidator(lambda t: redact(clean(t)))]
"""Text of a person: printable, bounded and without passwords, since it is kept and shown."""


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next_cursor: str | None = None
