"""Which processes of this installation are alive."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from api.store.tables import Table


class ProcessRow(Table):
    """One process. Time is in seconds of the database's own clock."""

    __tablename__ = "processes"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    """Host, process id and a random part: of one life of one process."""
    part: Mapped[str] = mapped_column(String(16))
    """serve: it answers requests; worker: it also sweeps and works on incidents."""
    version: Mapped[str] = mapped_column(String(64))
    expires: Mapped[float]
    """Unless it says again before then that it lives, it does not."""
