"""Real faults that the rules do not settle: the decisive look is refused, or the sign is faint.

For a suite of their own (`evals/beyond`), which shows what a model is worth where the rules are
not enough. Chosen because the rules fail here: it says nothing about how good the rules are.
"""

from dataclasses import replace
from typing import ClassVar

from evals.faults.buffers import MonitorLeftOn, SlowPubsubCob, UnreadReplyCob
from evals.faults.composition import ModuleMemory
from evals.faults.fault import Expected, Fault, Kind, Lab
from evals.faults.keys import FULL, StreamPelGrowth
from evals.faults.latency import ThpOrSwap
from evals.faults.mixes.blind import seen_by
from evals.faults.replication import FullSyncLoop
from evals.faults.slow_client import encoded, output_bytes, slow_client
from evals.faults.workload import text
from tools.recording_file import Recording

NO_SCAN = ("+@all", "-scan", "-keys")
NO_CLIENTS = ("+@all", "-client")


class _Beyond(Fault):
    """A fault of the catalogue, seen badly."""

    kind: ClassVar[Kind] = "missing-evidence"
    recordings: ClassVar[int] = 2
    cause: ClassVar[str]
    """The catalogue's id of what is wrong."""
    sees: ClassVar[tuple[str, ...] | None] = None
    """ACL rules, after PING and INFO, of the user who looks; None: one who may look at all."""

    def inject(self, lab: Lab) -> Expected:
        """The fault itself, and the eyes to see it with."""
        url = "" if self.sees is None else seen_by(lab, *self.sees)
        caused = super().inject(lab)  # type: ignore[safe-super] # the fault it is mixed into
        # Who cannot look cannot say who did it.
        culprit = caused.culprit | {("none", "")}
        return replace(caused, root_cause=frozenset({self.cause}), culprit=culprit, url=url)


# -- a sign in INFO stands; what would settle it may not be looked at ---------------------------


class PendingWithoutScan(_Beyond, StreamPelGrowth):
    """Entries are delivered and never acknowledged; which stream holds them cannot be seen."""

    id, cause = "pending-without-scan", StreamPelGrowth.id
    recordings: ClassVar[int] = 4
    sees = NO_SCAN


class PendingWithoutSizes(_Beyond, StreamPelGrowth):
    """The same on a server whose MEMORY command is renamed: no stream has a size."""

    id, cause = "pending-without-sizes", StreamPelGrowth.id
    arguments = ("--rename-command", "MEMORY", "")


class PendingWithInfoOnly(_Beyond, StreamPelGrowth):
    """The same, and INFO is all there is: it counts commands."""

    id, cause = "pending-with-info-only", StreamPelGrowth.id
    sees = ()


class ModuleWithoutScan(_Beyond, ModuleMemory):
    """A module holds the memory; that no key explains it cannot be shown without a walk."""

    id, cause = "module-without-scan", ModuleMemory.id
    sees = NO_SCAN


class ModuleWithoutSizes(_Beyond, ModuleMemory):
    """The same where MEMORY is renamed."""

    id, cause = "module-without-sizes", ModuleMemory.id

    def arguments_for(self, build: str) -> tuple[str, ...]:
        """With the module, and without the command."""
        return (*super().arguments_for(build), "--rename-command", "MEMORY", "")


# -- the sign is there, and faint ---------------------------------------------------------------


class ForkUnwatched(_Beyond, ThpOrSwap):
    """Forks stall the server, and latency monitoring is off: the doctor has nothing to say."""

    id, cause = "fork-unwatched", ThpOrSwap.id
    kind: ClassVar[Kind] = "faint"
    everyday: ClassVar[float] = 20
    milliseconds = (120, 200)

    def inject(self, lab: Lab) -> Expected:
        """As the documents have it, but for the doctor."""
        expected = super().inject(lab)
        lab.configure(latency_monitor_threshold=0)
        self._swap = False
        return expected

    def amend(self, recording: Recording) -> None:
        """Slow forks; what the doctor said is left as it was."""
        frames = recording.frames.get((b"LATENCY", b"DOCTOR"), [])
        said = list(frames)
        super().amend(recording)
        frames[:] = said


class ForkWithoutDoctor(ForkUnwatched):
    """The same for a user who may not ask the doctor."""

    id = "fork-without-doctor"
    kind: ClassVar[Kind] = "missing-evidence"
    sees = ("+@all", "-latency")


# -- nothing speaks for one cause alone: the answer stays `unknown`, with a hypothesis ----------


class MonitorWithoutClients(_Beyond, MonitorLeftOn):
    """Clients hold the memory and may not be listed; a MONITOR was counted."""

    id, cause = "monitor-without-clients", MonitorLeftOn.id
    sees = NO_CLIENTS


class RepliesWithoutClients(_Beyond, UnreadReplyCob):
    """The same for somebody who does not read what was asked for."""

    id, cause = "replies-without-clients", UnreadReplyCob.id
    sees = NO_CLIENTS


class SlowSubscribers(_Beyond, SlowPubsubCob):
    """Many subscribers fall behind, none of them far enough to be called large."""

    id, cause = "slow-subscribers", SlowPubsubCob.id
    kind: ClassVar[Kind] = "faint"
    _MANY = 12

    def inject(self, lab: Lab) -> Expected:
        """Publish to all of them until each holds some hundred kilobytes."""
        random = lab.random
        name, channel = lab.app.client_name("notify"), f"{lab.app.spare[0]}:updates"
        lab.configure(client_output_buffer_limit="pubsub 0 0 0")
        for _ in range(self._MANY):
            slow_client(lab, name).sendall(encoded("SUBSCRIBE", channel))
        each, message = lab.megabytes(random.uniform(1.0, 1.1)), text(random, 4_096)
        while output_bytes(lab, name) < each * self._MANY:
            lab.admin.publish(channel, message)
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.86, 0.95))
        return Expected(
            frozenset({self.cause}), frozenset({("client", name)}), FULL, alert=self.alert(lab)
        )


# -- the rules are sure, and wrong --------------------------------------------------------------


class SyncsWithoutConfig(_Beyond, FullSyncLoop):
    """Full synchronisations repeat, and the limit that ends them may not be read."""

    id, cause = "syncs-without-config", FullSyncLoop.id
    sees = ("+@all", "-config")


_ALL: tuple[Fault, ...] = (
    PendingWithoutScan(), PendingWithoutSizes(), PendingWithInfoOnly(), ModuleWithoutScan(),
    ModuleWithoutSizes(), ForkUnwatched(), ForkWithoutDoctor(),
    MonitorWithoutClients(), RepliesWithoutClients(), SlowSubscribers(), SyncsWithoutConfig(),
)  # fmt: skip
BEYOND: dict[str, Fault] = {fault.id: fault for fault in _ALL}
"""What the suite `evals/beyond` is recorded from, by id."""
