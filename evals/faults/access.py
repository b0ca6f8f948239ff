"""Faults of clients: slots, blocking, credentials."""

import contextlib
import socket
import time
from collections.abc import Callable
from random import Random
from typing import ClassVar

from evals.faults.fault import Expected, Fault, Lab
from evals.faults.slow_client import encoded
from evals.faults.workload import Actor, Pipeline, connect

_ROOM = 30
"""Slots for everyday traffic, until the leak takes what is left of them."""
_REFUSALS = 12
"""Attempts that are turned away before everybody backs off."""
_ATTEMPTS = 200
"""A second."""
_AGE = 2.5
"""Seconds that leaked connections lie idle before anyone looks."""


class _Leak:
    """A pool that opens connections and never gives one back."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self._name = lab, name
        self._held: list[socket.socket] = []
        self._refused = 0
        lab.stack.callback(self.close)

    def open(self) -> bool:
        """One more connection, kept; False if it was refused."""
        raw = socket.create_connection(("127.0.0.1", self._lab.server.port), 5)
        with contextlib.suppress(OSError):  # refused, and closed before it was read
            raw.sendall(encoded("CLIENT", "SETNAME", self._name))
            if raw.recv(64).startswith(b"+OK"):
                self._held.append(raw)
                return True
        raw.close()
        return False

    def grow(self, _: Pipeline) -> None:
        """Take what is left, be turned away some times, then leave the slots of two pods."""
        if self._refused >= _REFUSALS:
            return
        self._refused += not self.open()
        if self._refused == _REFUSALS:
            for raw in self._held[-2:]:
                raw.close()

    def close(self) -> None:
        """Give all of them back."""
        for raw in self._held:
            raw.close()


class MaxclientsLeak(Fault):
    """A pool leaks connections until nobody else gets one."""

    id = "maxclients-leak"
    alerts = ("RedisConnectionsRejected", "RedisTooManyConnections")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """Open idle connections; what is left of the slots is taken when traffic begins."""
        leaked = lab.random.randint(70, 140)
        name = lab.app.client_name()
        lab.configure(maxclients=leaked + _ROOM, timeout=0)
        leak = _Leak(lab, name)
        for _ in range(leaked):
            leak.open()
        time.sleep(_AGE)
        lab.act(_ATTEMPTS, leak.grow)
        return Expected(
            frozenset({self.id}), frozenset({("client", name)}), alert=self.alert(lab, "critical")
        )


class BlockedClients(Fault):
    """The producers of a queue fell silent; its workers wait."""

    id = "blocked-clients"
    alerts = ("RedisBlockedClients",)
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """Workers that block on an empty queue, and a producer that stops after some jobs."""
        random = lab.random
        queue = f"{lab.app.spare[0]}:{random.choice(['jobs', 'tasks', 'queue'])}"
        service = random.choice(lab.app.services)
        command = random.choice(["BLPOP", "BRPOP"])
        wait_for_jobs(lab, service, queue, command, random.randint(12, 30))
        left = [random.randint(60, 120)]

        def produce(pipe: Pipeline) -> None:
            if left[0] > 0:
                left[0] -= 1
                pipe.rpush(queue, f"{random.getrandbits(64):x}")

        lab.act(400, produce)
        return Expected(frozenset({self.id}), alert=self.alert(lab))


def wait_for_jobs(lab: Lab, service: str, queue: str, command: str, workers: int) -> None:
    """Worker processes: each takes a job, forgets it, and waits for the next."""
    for _ in range(workers):
        raw = socket.create_connection(("127.0.0.1", lab.server.port), 5)
        lab.stack.enter_context(contextlib.closing(raw))
        raw.sendall(encoded("CLIENT", "SETNAME", lab.app.client_name(service)))
        raw.recv(64)
        # Asked ahead: a worker whose job has come waits for the next one without our help.
        raw.sendall(encoded(command, queue, "0") * 60)


class AclAuthFailures(Fault):
    """After a rotation one application has a wrong password, or a rule too few."""

    id = "acl-auth-failures"
    alerts = ("RedisErrorsHigh", "RedisWritesFailing")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """A user of the application's own; what it presents or does is refused."""
        random = lab.random
        service = random.choice(lab.app.services)
        name, password = lab.app.client_name(service), f"{random.getrandbits(96):x}"
        prefix = lab.app.spare[0]
        case = random.choice(["password", "command", "key"])
        allowed = {
            "password": (f"~{prefix}:*", "+@all", "-@dangerous"),
            "command": (f"~{prefix}:*", "+@read", "+@connection"),
            "key": (f"~{lab.app.spare[1]}:*", "+@all", "-@dangerous"),
        }[case]
        lab.admin.execute_command("ACL", "SETUSER", service, "on", f">{password}", *allowed)  # type: ignore[no-untyped-call]
        rate = random.uniform(3, 8)
        if case == "password":
            lab.act(rate, _logging_in(lab, service, f"{random.getrandbits(96):x}"))
        else:
            client = connect(lab.server.port, name, user=service, password=password)
            lab.stack.callback(client.close)
            step = _writing(Random(random.getrandbits(32)), prefix)
            lab.actors.append(Actor(client, rate, step))
        return Expected(
            frozenset({self.id}),
            frozenset({("client", service), ("client", name)}),
            alert=self.alert(lab),
        )


def _writing(random: Random, prefix: str) -> Callable[[Pipeline], object]:
    return lambda pipe: pipe.set(f"{prefix}:{random.randrange(500)}", "1", ex=600)


def _logging_in(lab: Lab, user: str, password: str) -> Callable[[Pipeline], None]:
    def try_again(_: Pipeline) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", lab.server.port), 5) as raw,
        ):
            raw.sendall(encoded("AUTH", user, password))
            raw.recv(128)

    return try_again


ACCESS_FAULTS: tuple[Fault, ...] = (MaxclientsLeak(), BlockedClients(), AclAuthFailures())
