"""Faults of which part of the evidence cannot be had.

What is expected is what an honest expert could still say: the condition that INFO proves, the
cause where enough of it shows, else `unknown` with nobody accused.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from evals.faults.buffers import SlowPubsubCob
from evals.faults.fault import Expected, Fault, Kind, Lab
from evals.faults.keys import FULL, MissingTtlPrefixLeak, SingleBigkey
from evals.faults.limits import Healthy
from evals.servers import Server

_NOBODY = frozenset({("none", "")})
_LIMIT = frozenset({("none", ""), ("config", "maxmemory"), ("config", "maxmemory-policy")})


def seen_by(lab: Lab, *rules: str) -> str:
    """The URL of a user who may do this and nothing else."""
    password = f"{lab.random.getrandbits(64):016x}"
    lab.admin.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "sre", "on", f">{password}", "~*", "-@all", "+ping", "+info", *rules
    )
    return f"redis://sre:{password}@127.0.0.1:{lab.server.port}"


class _Blind(Fault):
    """Part of the evidence is missing."""

    kind: ClassVar[Kind] = "missing-evidence"
    recordings: ClassVar[int] = 2


class LeakWithoutScan(_Blind, MissingTtlPrefixLeak):
    """A leak, looked at by a user who may not walk the keys: the condition is what shows."""

    id = "leak-without-scan"
    alerts = ("RedisMemoryHigh", "RedisOutOfMemoryErrors")

    def inject(self, lab: Lab) -> Expected:
        """Writes fail; which keys fill the memory cannot be seen."""
        url = seen_by(lab, "+config|get", "+role")
        expected = MissingTtlPrefixLeak.inject(self, lab)
        return replace(
            expected,
            root_cause=frozenset({"noeviction-oom"}),
            culprit=_LIMIT,
            contributing=FULL | {"organic-growth", "missing-ttl-prefix-leak"},
            url=url,
        )


class KeyWithoutScan(_Blind, SingleBigkey):
    """A key holds the memory, and INFO is all there is: memory is high, and nothing says why."""

    id = "key-without-scan"

    def inject(self, lab: Lab) -> Expected:
        """Nobody may be accused on INFO alone."""
        url = seen_by(lab)
        return replace(
            SingleBigkey.inject(self, lab),
            root_cause=frozenset({"unknown"}),
            culprit=_NOBODY,
            url=url,
        )


class BufferWithoutClients(_Blind, SlowPubsubCob):
    """A subscriber holds the memory, and clients may not be listed: which one cannot be seen."""

    id = "buffer-without-clients"

    def inject(self, lab: Lab) -> Expected:
        """INFO shows that clients hold the memory; whether by replies or messages, it does not."""
        url = seen_by(
            lab, "+scan", "+type", "+pttl", "+memory", "+object", "+strlen", "+xlen", "+hlen",
            "+llen", "+scard", "+zcard", "+slowlog|get", "+config|get", "+role", "+dbsize",
        )  # fmt: skip
        return replace(
            SlowPubsubCob.inject(self, lab),
            root_cause=frozenset({"unknown", "slow-pubsub-cob"}),
            culprit=_NOBODY,
            url=url,
        )


class LeakWithoutSizes(_Blind, MissingTtlPrefixLeak):
    """A leak on a server whose MEMORY command is disabled: names and times to live still show."""

    id = "leak-without-sizes"
    arguments = ("--rename-command", "MEMORY", "")
    alerts = ("RedisMemoryHigh", "RedisOutOfMemoryErrors")

    def inject(self, lab: Lab) -> Expected:
        """The prefix that never expires and grows can be named, its size cannot."""
        expected = MissingTtlPrefixLeak.inject(self, lab)
        return replace(
            expected,
            root_cause=frozenset({"missing-ttl-prefix-leak", "noeviction-oom"}),
            culprit=expected.culprit | _LIMIT,
        )


class QuietWithInfoOnly(_Blind, Healthy):
    """A healthy server of which only INFO may be read: that is enough, with less confidence."""

    id = "quiet-with-info-only"

    def inject(self, lab: Lab) -> Expected:
        """Room to spare, as INFO shows."""
        url = seen_by(lab)
        return replace(Healthy.inject(self, lab), url=url)


class Frozen(_Blind):
    """The process is stopped: it accepts connections and answers nothing."""

    id = "frozen"
    alerts = ("RedisDown", "RedisLatencyHigh")

    def inject(self, lab: Lab) -> Expected:
        """An ordinary server, until somebody looks."""
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(lab.random.uniform(0.4, 0.6))
        return Expected(frozenset({"unknown"}), _NOBODY, alert=self.alert(lab, "critical"))

    @contextlib.contextmanager
    def prepare(self, server: Server, seed: int = 1, scale: float = 1.0) -> Iterator[Expected]:
        """Stop the process for as long as anybody looks."""
        with super().prepare(server, seed, scale) as expected:
            os.kill(server.pid, signal.SIGSTOP)
            try:
                yield expected
            finally:
                os.kill(server.pid, signal.SIGCONT)


BLIND: tuple[Fault, ...] = (
    LeakWithoutScan(), KeyWithoutScan(), BufferWithoutClients(), LeakWithoutSizes(),
    QuietWithInfoOnly(), Frozen(),
)  # fmt: skip
