"""Save a snapshot once its disk has room again, so that writes are accepted again."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.remedies.operation import ALONE, Operation
from tools.remedies.parameters import reserve
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.situation import Situation
from tools.remedies.vitals import Vitals, read_vitals, sized

LONGEST_SECONDS = 600.0
LOOK_SECONDS = 0.5
_CHILDREN = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress")


class BackgroundSaveArguments(Arguments):
    """What the machine allows."""

    memory_limit: int | None = Field(default=None, gt=0)
    """Bytes the server may use (a container limit), if host memory does not say."""


class BackgroundSave(Remedy[BackgroundSaveArguments]):
    """BGSAVE, never SAVE."""

    kind: ClassVar[str] = "background_save"
    risk: ClassVar[Risk] = "R1"
    args = BackgroundSaveArguments

    async def preview(self, connection: Connection, args: BackgroundSaveArguments) -> Preview:
        """What the child may need, and what it costs if the disk is not mended."""
        vitals = await read_vitals(connection)
        needs = sized(_needs(vitals)) if vitals.used is not None else "an unknown amount"
        return Preview(
            title="Save a snapshot now, after its disk or directory was mended",
            commands=[["BGSAVE"]],
            predicted_effect="Forks once (a stall of milliseconds to a second by size) and writes "
            f"the snapshot beside the old one; copied pages may take up to {needs}. If it "
            "succeeds, writes are accepted again. If the disk is not mended, it fails, and "
            "all is as before.",
            verification="rdb_last_bgsave_status is ok and rdb_last_save_time has moved on",
            rollback="none needed: a new snapshot takes the old one's place only when it is whole",
            never_touches="keys, configuration, the append-only file",
            blast_radius=f"one child, watched for up to {LONGEST_SECONDS:.0f} s",
        )

    async def preconditions(
        self, connection: Connection, args: BackgroundSaveArguments
    ) -> list[Check]:
        """The last one failed, no child runs, and a child's copies fit."""
        vitals = await read_vitals(connection)
        status = vitals.fields.get("rdb_last_bgsave_status")
        children = [vitals.count(name) for name in _CHILDREN]
        return [
            Check(
                text="The last snapshot failed",
                holds=None if status is None else status == "err",
                because=f"rdb_last_bgsave_status: {status or 'not reported'}",
            ),
            Check(
                text="No other child runs",
                holds=None if None in children else not any(children),
                because=", ".join(
                    f"{name} {'not reported' if count is None else count}"
                    for name, count in zip(_CHILDREN, children, strict=True)
                ),
            ),
            _room(vitals, args.memory_limit),
        ]

    async def capture(
        self, connection: Connection, args: BackgroundSaveArguments
    ) -> dict[str, Any]:
        """When the last one was."""
        vitals = await read_vitals(connection)
        return {
            "rdb_last_save_time": vitals.count("rdb_last_save_time"),
            "rdb_last_bgsave_status": vitals.fields.get("rdb_last_bgsave_status"),
        }

    async def apply(
        self,
        connection: Connection,
        args: BackgroundSaveArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """One BGSAVE, watched to its end. Raises CommandFailure."""
        await connection.execute("BGSAVE")
        waited = 0.0
        done: dict[str, Any] = {"stopped_because": ""}
        while (vitals := await read_vitals(connection)).count("rdb_bgsave_in_progress"):
            stop = await operation.note(done | {"seconds": waited})
            if stop or waited > LONGEST_SECONDS:
                # The child is the server's own, and harmless: only the watching ends.
                done["stopped_because"] = stop or f"it took longer than {LONGEST_SECONDS:.0f} s"
                break
            await connection.wait(LOOK_SECONDS)
            waited += LOOK_SECONDS
        return done | {
            "seconds": waited,
            "rdb_last_bgsave_status": vitals.fields.get("rdb_last_bgsave_status"),
            "rdb_last_cow_size": vitals.count("rdb_last_cow_size"),
        }

    async def verify(
        self, connection: Connection, args: BackgroundSaveArguments, captured: dict[str, Any]
    ) -> Verification:
        """It succeeded, and it is a new one."""
        vitals = await read_vitals(connection)
        status, saved = (
            vitals.fields.get("rdb_last_bgsave_status"), vitals.count("rdb_last_save_time")
        )  # fmt: skip
        measured = {"rdb_last_bgsave_status": status, "rdb_last_save_time": saved}
        before = captured["rdb_last_save_time"]
        if vitals.count("rdb_bgsave_in_progress"):
            because = "the snapshot is still being written"
            return Verification(helped=None, because=because, measured=measured)
        if status is None or saved is None or before is None:
            because = "the server does not report its snapshots"
            return Verification(helped=None, because=because, measured=measured)
        if status != "ok":
            because = "the snapshot failed again: its disk or directory is not mended; see the log"
            return Verification(helped=False, because=because, measured=measured)
        new = _is_newer(vitals, captured)
        because = "the snapshot succeeded" if new else "no snapshot was written since"
        return Verification(helped=new, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: BackgroundSaveArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Nothing to put back."""
        return {"nothing_to_put_back": "a snapshot that failed left the old one in its place"}

    async def verify_undo(
        self, connection: Connection, args: BackgroundSaveArguments, captured: dict[str, Any]
    ) -> Verification:
        """There is nothing that could be otherwise than before."""
        return Verification(helped=True, because="a failed snapshot leaves the old one in place")

    def disturbs(self, args: BackgroundSaveArguments) -> frozenset[str]:
        """A fork stalls for a moment."""
        return frozenset({"latency"})

    async def settle(
        self, connection: Connection, args: BackgroundSaveArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """A child that runs, or a snapshot that is newer; a failed one leaves no sign."""
        vitals = await read_vitals(connection)
        saved, before = vitals.count("rdb_last_save_time"), captured["rdb_last_save_time"]
        if vitals.count("rdb_bgsave_in_progress"):
            return "applied"
        if saved is None or before is None:
            return "unknown"
        return "applied" if _is_newer(vitals, captured) else "not_applied"


def _is_newer(vitals: Vitals, captured: dict[str, Any]) -> bool:
    """The last one failed then: a good one is a new one, whatever the second it was saved in."""
    saved, before = vitals.count("rdb_last_save_time") or 0, captured["rdb_last_save_time"] or 0
    turned = captured["rdb_last_bgsave_status"] == "err"
    return vitals.fields.get("rdb_last_bgsave_status") == "ok" and (turned or saved > before)


def _needs(vitals: Vitals) -> int:
    return reserve(vitals, vitals.used or 0)


def _room(vitals: Vitals, memory_limit: int | None) -> Check:
    text = "The pages that a child copies fit the machine"
    ceiling = Situation("maxmemory", "", "0", vitals, memory_limit=memory_limit).ceiling
    rss = vitals.count("used_memory_rss")
    if ceiling is None or rss is None or vitals.used is None:
        because = "the machine's memory is not known: configure the target's memory_limit"
        return Check(text=text, holds=None, because=because)
    limit, source = ceiling
    needed = _needs(vitals)
    return Check(
        text=text,
        holds=rss + needed <= limit,
        because=f"{sized(rss)} resident + {sized(needed)} copied against {sized(limit)} ({source})",
    )
