"""Modes that are not in the catalogue: the right answer is `unknown`, and a person is called."""

import contextlib
import socket
from abc import abstractmethod
from random import Random
from typing import ClassVar

from evals.faults.fault import Expected, Fault, Kind, Lab
from evals.faults.keys import FULL
from evals.faults.slow_client import encoded, slow_client
from evals.faults.workload import Pipeline, connect, text

_CHUNK = 1_000


class _Uncatalogued(Fault):
    """Hurts, and is in no catalogue; `hurt` says how."""

    kind: ClassVar[Kind] = "uncatalogued"
    recordings: ClassVar[int] = 2
    everyday: ClassVar[float] = 14
    pressure: ClassVar[tuple[float, float]] = (0.35, 0.6)
    """Share of maxmemory in use, from and to."""

    def inject(self, lab: Lab) -> Expected:
        """Cause it on a server with nothing else wrong."""
        lab.configure(maxmemory_policy=lab.random.choice(["noeviction", "volatile-lru"]))
        self.hurt(lab)
        lab.limit_at(lab.random.uniform(*self.pressure))
        return Expected(frozenset({"unknown"}), contributing=FULL, alert=self.alert(lab))

    @abstractmethod
    def hurt(self, lab: Lab) -> None:
        """What makes this server suffer."""


class PausedWrites(_Uncatalogued):
    """A forgotten failover script pauses all writes again and again."""

    id = "paused-writes"
    builds = ("redis-7.0", "redis-8.2", "valkey-9.1")  # before, statistics do not tell PAUSE
    alerts = ("RedisLatencyHigh", "RedisBlockedClients")

    def hurt(self, lab: Lab) -> None:
        """CLIENT PAUSE WRITE, a little shorter than the next is far."""
        pause = str(lab.random.randint(200, 350))
        lab.act(
            2,
            lambda pipe: pipe.execute_command("CLIENT", "PAUSE", pause, "WRITE"),
            lab.app.client_name("shell"),
        )


class WrongTypes(_Uncatalogued):
    """A deploy writes lists where strings are: its commands are refused."""

    id = "wrong-types"
    alerts = ("RedisErrorsHigh", "RedisWritesFailing")

    def hurt(self, lab: Lab) -> None:
        """LPUSH on strings, many times a second."""
        random = Random(lab.random.getrandbits(32))
        names = [f"{lab.app.spare[0]}:{n}" for n in range(50)]
        for name in names:
            lab.admin.set(name, text(random, 200), ex=86_400)
        lab.act(lab.random.randint(25, 60), lambda pipe: pipe.lpush(random.choice(names), "1"))


class AbortedTransactions(_Uncatalogued):
    """A client library queues a command this server does not know: every transaction aborts."""

    id = "aborted-transactions"
    alerts = ("RedisErrorsHigh", "RedisWritesFailing")

    def hurt(self, lab: Lab) -> None:
        """MULTI, something wrong, EXEC."""
        name = f"{lab.app.spare[0]}:state"

        def aborted(pipe: Pipeline) -> None:
            pipe.execute_command("MULTI")
            pipe.execute_command("SET", name)
            pipe.execute_command("EXEC")

        lab.act(lab.random.randint(15, 30), aborted)


class ConnectionChurn(_Uncatalogued):
    """An application without a pool connects for every request."""

    id = "connection-churn"
    alerts = ("RedisLatencyHigh", "RedisCpuHigh")

    def hurt(self, lab: Lab) -> None:
        """Hundreds of connections a second, each for one PING."""
        port = lab.server.port

        def connected(_: Pipeline) -> None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), 2) as s,
            ):
                s.sendall(encoded("PING"))
                s.recv(16)

        lab.act(lab.random.randint(300, 450), connected)


class TightScripts(_Uncatalogued):
    """Scripts that compute: each is short of the busy threshold, together they fill the core."""

    id = "tight-scripts"
    alerts = ("RedisCpuHigh", "RedisLatencyHigh")

    def hurt(self, lab: Lab) -> None:
        """Loops of tens of milliseconds, one after the other."""
        script = (
            "local x = 0 for i = 1, tonumber(ARGV[1]) do x = (x * 7 + i) % 1000003 end return x"
        )
        turns = lab.random.randint(2_500_000, 3_500_000)
        lab.act(12, lambda pipe: pipe.eval(script, 1, f"{lab.app.spare[0]}:state", turns))


class TrackingTable(_Uncatalogued):
    """Client-side caching tracks far more keys than there are: memory no key explains."""

    id = "tracking-table"
    alerts = ("RedisMemoryHigh",)
    everyday: ClassVar[float] = 10
    pressure = (0.87, 0.93)

    def hurt(self, lab: Lab) -> None:
        """Reads of hundreds of thousands of names, none of which exists."""
        raw = connect(lab.server.port, lab.app.client_name())
        lab.stack.callback(raw.close)
        sink = slow_client(lab, lab.app.client_name())
        sink.sendall(encoded("CLIENT", "ID"))
        own = int(sink.recv(64).strip(b":\r\n"))
        raw.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", str(own))  # type: ignore[no-untyped-call]
        lab.configure(tracking_table_max_keys=0)
        goal = lab.used() + lab.megabytes(22)
        prefix = lab.app.spare[0]
        for start in range(0, 600_000, _CHUNK):
            pipe = raw.pipeline(transaction=False)
            for n in range(start, start + _CHUNK):
                pipe.get(f"{prefix}:{n * 7_919 % 10**8}:{'by-region'}:{n}")
            pipe.execute()
            if start % (20 * _CHUNK) == 0 and lab.used() >= goal:
                return


class ManyPatterns(_Uncatalogued):
    """Tens of thousands of pattern subscriptions: every PUBLISH is matched with each."""

    id = "many-patterns"
    builds = ("redis-7.0", "redis-8.2", "valkey-9.1")  # before, such a match takes for ever
    alerts = ("RedisCpuHigh", "RedisLatencyHigh")

    def hurt(self, lab: Lab) -> None:
        """Patterns that nearly match, and a publisher."""
        prefix = lab.app.spare[0]
        raw = connect(lab.server.port, lab.app.client_name())
        lab.stack.callback(raw.close)
        pubsub = raw.pubsub()  # type: ignore[no-untyped-call]
        lab.stack.callback(pubsub.close)
        count = lab.random.randint(14_000, 18_000)
        for start in range(0, count, _CHUNK):
            names = [f"{prefix}:*1*2*3*4*:{n}" for n in range(start, start + _CHUNK)]
            pubsub.psubscribe(*names)
            for _ in names:
                pubsub.get_message(timeout=5)
        channel = f"{prefix}:" + "1x2x3x4x" * 10 + ":end"
        lab.act(20, lambda pipe: pipe.publish(channel, "1"))


UNCATALOGUED: tuple[Fault, ...] = (
    PausedWrites(), WrongTypes(), AbortedTransactions(), ConnectionChurn(), TightScripts(),
    TrackingTable(), ManyPatterns(),
)  # fmt: skip
