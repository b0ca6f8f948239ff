"""Faults, and healthy servers, beside something striking that is harmless."""

from typing import ClassVar

from evals.faults.buffers import UnreadReplyCob
from evals.faults.fault import Expected, Fault, Kind, Lab
from evals.faults.keys import MissingTtlPrefixLeak, SingleBigkey, StreamUnbounded
from evals.faults.limits import Healthy
from evals.faults.mixes.beside import archive, once, one_keys, past_errors, waiting_workers
from evals.faults.mixes.look_alikes import like
from evals.faults.workload import MIB, Pipeline, text


class _Herring(Fault):
    kind: ClassVar[Kind] = "red-herring"
    recordings: ClassVar[int] = 2


class LeakAndOneKeys(_Herring, MissingTtlPrefixLeak):
    """A leak, and somebody who ran KEYS once."""

    id = "leak-and-one-keys"

    def inject(self, lab: Lab) -> Expected:
        """The slow log has its one entry."""
        one_keys(lab)
        return like(MissingTtlPrefixLeak.inject(self, lab), "missing-ttl-prefix-leak")


class StreamAndArchive(_Herring, StreamUnbounded):
    """A stream that is never trimmed, and a harmless list of a few percent."""

    id = "stream-and-archive"

    def inject(self, lab: Lab) -> Expected:
        """The list is the largest of all other keys."""
        archive(lab, 0.1)
        return like(StreamUnbounded.inject(self, lab), "stream-unbounded")


class RepliesAndWorkers(_Herring, UnreadReplyCob):
    """A client that does not read, among workers that wait for jobs as they should."""

    id = "replies-and-workers"

    def inject(self, lab: Lab) -> Expected:
        """A dozen and more are blocked."""
        waiting_workers(lab, lab.random.randint(12, 18), 8)
        return like(UnreadReplyCob.inject(self, lab), "unread-reply-cob")


class KeyAndPastErrors(_Herring, SingleBigkey):
    """One key holds the memory; hundreds of errors of a deploy that is over are still counted."""

    id = "key-and-past-errors"

    def inject(self, lab: Lab) -> Expected:
        """Errors without a rate."""
        past_errors(lab)
        return like(SingleBigkey.inject(self, lab), "single-bigkey")


class QuietAfterOom(_Herring, Healthy):
    """Writes were refused until somebody gave it more memory; now there is room."""

    id = "quiet-after-oom"
    alerts = ("RedisOutOfMemoryErrors", "RedisMemoryHigh", "RedisErrorsHigh")

    def inject(self, lab: Lab) -> Expected:
        """The counter of refusals stays, the refusals do not."""
        expected = Healthy.inject(self, lab)
        limit = int(str(lab.admin.config_get("maxmemory")["maxmemory"]))
        policy = lab.admin.config_get("maxmemory-policy")["maxmemory-policy"]
        name, value = f"{lab.app.spare[0]}:state", text(lab.random, 500)

        def refused(pipe: Pipeline) -> None:
            pipe.config_set("maxmemory-policy", "noeviction")
            pipe.config_set("maxmemory", MIB)
            for _ in range(120):
                pipe.set(name, value, ex=3_600)
            pipe.config_set("maxmemory", limit)
            pipe.config_set("maxmemory-policy", policy)

        lab.act(5, once(refused), lab.app.client_name("shell"))
        return expected


HERRINGS: tuple[Fault, ...] = (
    LeakAndOneKeys(), StreamAndArchive(), RepliesAndWorkers(), KeyAndPastErrors(),
    QuietAfterOom(),
)  # fmt: skip
