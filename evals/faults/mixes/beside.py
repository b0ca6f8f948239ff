"""What stands beside a fault, or beside health: idle workers, old errors, an archive, one KEYS."""

from collections.abc import Callable
from typing import Any

from evals.faults.fault import Lab
from evals.faults.keys import add_entries, consume
from evals.faults.slow_client import encoded, slow_client
from evals.faults.workload import Family, Pipeline, text

_JOBS_A_SOCKET = 300
_TINY = 24_000


def once(step: Callable[[Pipeline], object]) -> Callable[[Pipeline], object]:
    """A step that is taken at its first turn only: after the injector's traces are gone."""
    left = [step]

    def first(pipe: Pipeline) -> None:
        if left:
            left.pop()(pipe)

    return first


def waiting_workers(lab: Lab, count: int, jobs_per_second: float) -> None:
    """Workers blocked on an empty queue, as they should be; each job is taken at once."""
    queue = f"{lab.app.spare[3]}:work"
    for _ in range(count):
        worker = slow_client(lab, lab.app.client_name(lab.app.services[1]))
        # Sent ahead: the server blocks it again after every job.
        worker.sendall(encoded("BLPOP", queue, "0") * _JOBS_A_SOCKET)
    random = lab.random
    lab.act(jobs_per_second, lambda pipe: pipe.rpush(queue, text(random, 60)))


def one_keys(lab: Lab) -> None:
    """Somebody looked with KEYS, once; the slow log remembers it."""
    lab.configure(slowlog_log_slower_than=1_000)
    prefix = lab.app.spare[3]
    for start in range(0, _TINY, 2_000):
        lab.admin.mset({f"{prefix}:{n}": n % 89 for n in range(start, start + 2_000)})
        pipe = lab.admin.pipeline(transaction=False)
        for n in range(start, start + 2_000):
            pipe.expire(f"{prefix}:{n}", 86_400)
        pipe.execute()
    lab.act(5, once(lambda pipe: pipe.keys(f"{prefix}:*99")), lab.app.client_name("shell"))


def archive(lab: Lab, share_of_used: float) -> str:
    """A big list that nobody touches; returns its key."""
    key = f"{lab.app.families[0].prefix}:archive"
    target = lab.used() * (1 + share_of_used)
    for _ in range(2_000):
        if lab.used() >= target:
            break
        lab.admin.rpush(key, *(text(lab.random, 90) for _ in range(1_000)))
    return key


def past_errors(lab: Lab) -> None:
    """Errors of a deploy that is over: counted, and not going on."""
    key = f"{lab.app.spare[3]}:counter"
    lab.admin.set(key, "x", ex=86_400)

    def wrong(pipe: Pipeline) -> None:
        for _ in range(300):
            pipe.lpush(key, "1")

    lab.act(5, once(wrong))


def never_expire(lab: Lab) -> None:
    """Make the everyday keys those of a datastore."""
    for keys in lab.app.keys:
        pipe = lab.admin.pipeline(transaction=False)
        for name in keys.names:
            pipe.persist(name)
        pipe.execute()
        old = keys.family
        keys.family = Family(old.prefix, old.type, old.mean_bytes, None, old.share)


def crowd(lab: Lab, count: int) -> None:
    """Pools of several services, mostly idle."""
    for n in range(count):
        slow_client(lab, lab.app.client_name(lab.app.services[n % len(lab.app.services)]))


def bounded_stream(lab: Lab, megabytes: float) -> str:
    """A large stream that is trimmed, and consumed; returns its key."""
    key = f"{lab.app.spare[1]}:events"
    entries = len(add_entries(lab, key, 400, lab.megabytes(megabytes)))
    lab.admin.xgroup_create(key, "mirror", id="$")
    random = lab.random

    def trimmed(pipe: Pipeline) -> Any:
        pipe.xadd(key, {"body": text(random, 400)}, maxlen=entries, approximate=True)

    lab.act(10, trimmed)
    consume(lab, key, "mirror")
    return key
