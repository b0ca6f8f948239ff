"""What a run tells whoever measures it. Nobody listens unless somebody is told to.

The seam for metrics and traces: neither the agent nor the tools know which there are.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Attribute = str | int | float | bool


class Span(Protocol):
    """Something that takes time, under way."""

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Say more about it: names and counts, never values, texts or names of keys."""

    def rename(self, name: str) -> None:
        """Call it otherwise."""

    def fail(self, kind: str) -> None:
        """It failed, in this way."""


class Telemetry(Protocol):
    """Listens to a run. Must not fail, and must not wait."""

    def span(
        self, name: str, attributes: Mapping[str, Attribute] | None = None
    ) -> AbstractContextManager[Span]:
        """Something that takes as long as the block, part of whatever is under way."""

    def looked(self, tool: str, outcome: str) -> None:
        """A read-only tool was run: `measured`, or the kind of failure."""

    def checked(self, reasoner: str, *, held: bool) -> None:
        """The claims of a submission were checked against the evidence."""


class _Nothing:
    """A span nobody listens to."""

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Nothing."""

    def rename(self, name: str) -> None:
        """Nothing."""

    def fail(self, kind: str) -> None:
        """Nothing."""


NOTHING: Span = _Nothing()
_NO_SPAN: AbstractContextManager[Span] = nullcontext(NOTHING)


class Silent:
    """Nobody listens."""

    def span(
        self, name: str, attributes: Mapping[str, Attribute] | None = None
    ) -> AbstractContextManager[Span]:
        """Nothing."""
        return _NO_SPAN

    def looked(self, tool: str, outcome: str) -> None:
        """Nothing."""

    def checked(self, reasoner: str, *, held: bool) -> None:
        """Nothing."""


SILENT: Telemetry = Silent()
