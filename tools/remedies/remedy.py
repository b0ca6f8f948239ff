"""What every remedy declares. A remedy never decides whether it may run: `agent/policy.py` does."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.remedies.operation import ALONE, Operation

Risk = Literal["R0", "R1", "R2", "R3", "R4"]
Need = Literal["backups", "resize_hook"]
A = TypeVar("A", bound=Arguments)


class Check(BaseModel):
    """A precondition, evaluated."""

    model_config = ConfigDict(frozen=True)

    text: str
    holds: bool | None
    """None: could not be measured; counts as not holding when it is time to apply."""
    because: str


class Preview(BaseModel):
    """What would happen, with numbers, before anybody decides."""

    model_config = ConfigDict(frozen=True)

    title: str
    commands: list[list[str]]
    """The exact commands; a batch shows its pattern (`EXPIRE <key of session:*> 86400 NX`)."""
    predicted_effect: str
    verification: str
    rollback: str
    never_touches: str
    blast_radius: str = ""
    """The most that can go wrong, with numbers, and where it stops by itself."""
    artefact: str = ""


class Verification(BaseModel):
    """Did it help? Judged on the live server."""

    model_config = ConfigDict(frozen=True)

    helped: bool | None
    """None: cannot be measured."""
    because: str
    measured: dict[str, Any] = Field(default_factory=dict)
    effect_within_seconds: float | None = None
    """What it is for shows within so many seconds from now; None: it shows at once."""


class Remedy(ABC, Generic[A]):
    """One typed change. Every method reads the live server; only apply and undo write.

    Order: preconditions -> capture -> (journal) -> apply -> verify -> undo if it did not help.
    `captured` is JSON: what undo and settle need, and the numbers from before. Never a value.
    """

    kind: ClassVar[str]
    risk: ClassVar[Risk]
    args: type[A]
    executable: ClassVar[bool] = True
    """False: a proposal or advice; apply is never called."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What of `Operation` must be configured, else it is no more than a proposal."""
    restarts: ClassVar[bool] = False
    """Others carry it out, and the server restarts or fails over meanwhile: its run_id may change,
    and `settle` alone says what became of it, asked again until its `patience` is over."""
    while_busy: ClassVar[bool] = False
    """It is for a server that answers BUSY, and so cannot say before who it is."""
    hold_seconds: ClassVar[float] = 30.0
    """How long its effect is watched in production before it counts as verified: some seconds of
    a client's reconnecting, and enough looks that one stall is no verdict."""

    @abstractmethod
    async def preview(self, connection: Connection, args: A) -> Preview:
        """Title, exact commands, predicted effect with numbers, undo, what it never touches."""

    @abstractmethod
    async def preconditions(self, connection: Connection, args: A) -> list[Check]:
        """What must hold; re-checked immediately before applying."""

    async def capture(self, connection: Connection, args: A) -> dict[str, Any]:
        """Old values and the numbers from before, taken before the first write."""
        raise NotImplementedError(f"{self.kind} is not executable")

    async def apply(
        self,
        connection: Connection,
        args: A,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Write. Returns what was done (counts, values). Raises CommandFailure.

        What takes several batches calls `operation.note` after each and stops when told to.
        """
        raise NotImplementedError(f"{self.kind} is not executable")

    async def verify(
        self, connection: Connection, args: A, captured: dict[str, Any]
    ) -> Verification:
        """Read the server again: did it do what was predicted, and did nothing get worse?"""
        raise NotImplementedError(f"{self.kind} is not executable")

    async def undo(
        self,
        connection: Connection,
        args: A,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Put back what was captured. Repeatable. Raises CommandFailure."""
        raise NotImplementedError(f"{self.kind} is not executable")

    def patience(self, args: A) -> float:
        """Seconds from the intent in which the target may still come to show the change."""
        return 0.0

    def disturbs(self, args: A) -> frozenset[str]:
        """Metrics of `agent/watched_metrics.py` that it is predicted to move: not held against it.

        `errors` or `errors.NOSCRIPT`; a name covers those below it.
        """
        return frozenset()

    async def verify_undo(
        self, connection: Connection, args: A, captured: dict[str, Any]
    ) -> Verification:
        """Is everything as it was before? Read from the server after undo.

        `captured` as undo had it, and `undone`: what undo returned.
        """
        settled = await self.settle(connection, args, captured)
        said = {
            "not_applied": (True, "the target shows nothing of the change any more"),
            "applied": (False, "the target still shows the change"),
            "unknown": (None, "the target does not say whether the change is undone"),
        }
        helped, because = said[settled]
        return Verification(helped=helped, because=because)

    async def settle(
        self, connection: Connection, args: A, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """After a crash between write and outcome: what does the target itself say?"""
        return "unknown"
