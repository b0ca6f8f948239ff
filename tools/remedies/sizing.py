"""Propose another instance size. Never executed: a person orders it."""

from typing import ClassVar

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.remedies.remedy import Check, Preview, Remedy, Risk
from tools.remedies.vitals import sized


class ProposeResizeArguments(Arguments):
    """A sizing, as `tools/resize.py` computed it from this server."""

    needed_bytes: int = Field(gt=0)
    recommended_maxmemory: int = Field(gt=0)
    current_limit: int | None = None
    arithmetic: list[str] = Field(default_factory=list, max_length=80)
    """The sum, when the limit is met, and scaling up against sharding out, line by line."""
    sizes: list[str] = Field(default_factory=list, max_length=20)
    """The smallest that fits, one a provider."""
    artefact: str = Field(default="", max_length=12_000)


class ProposeResize(Remedy[ProposeResizeArguments]):
    """An instance size with its arithmetic."""

    kind: ClassVar[str] = "instance_resize"
    risk: ClassVar[Risk] = "R4"
    args = ProposeResizeArguments
    executable: ClassVar[bool] = False

    async def preview(self, connection: Connection, args: ProposeResizeArguments) -> Preview:
        """The arithmetic, the sizes that fit, what to do with them."""
        now = "unknown" if args.current_limit is None else sized(args.current_limit)
        fits = "; ".join(args.sizes) or "no size of the catalogue is large enough: shard instead"
        shown = ["Sizing:", *(f"  {line}" for line in args.arithmetic), f"Fits: {fits}"]
        return Preview(
            title=f"Resize the instance to at least {sized(args.needed_bytes)} (limit now {now})",
            commands=[],
            predicted_effect=f"Needs {sized(args.needed_bytes)} in all, with maxmemory "
            f"{sized(args.recommended_maxmemory)}. Smallest that fits: {fits}.",
            verification="memory_info.pressure on the new instance stays below the target",
            rollback="order the old size again; a resize fails over or restarts the server",
            never_touches="anything: a person carries this out, with a fresh replica or snapshot",
            artefact="\n".join([*shown, "", args.artefact]).strip(),
        )

    async def preconditions(
        self, connection: Connection, args: ProposeResizeArguments
    ) -> list[Check]:
        """None: it is a proposal."""
        return []
