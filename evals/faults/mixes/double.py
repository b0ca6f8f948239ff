"""Two faults at once."""

from typing import ClassVar

from evals.faults.allocator import OversizedBacklog
from evals.faults.buffers import MonitorLeftOn, QueryBufferBloat, SlowPubsubCob, UnreadReplyCob
from evals.faults.fault import Expected, Fault, Kind, Lab
from evals.faults.keys import MissingTtlPrefixLeak, SingleBigkey, StreamUnbounded


class _Two(Fault):
    """Two faults that have nothing to do with each other; either may be called the root."""

    kind: ClassVar[Kind] = "two-faults"
    recordings: ClassVar[int] = 2
    alerts = ("RedisMemoryHigh",)
    both: ClassVar[tuple[Fault, Fault]]

    def inject(self, lab: Lab) -> Expected:
        """One after the other; the limit is set by the second."""
        first = self.both[0].inject(lab)
        lab.configure(maxmemory=0)
        second = self.both[1].inject(lab)
        causes = first.root_cause | second.root_cause
        return Expected(
            causes,
            first.culprit | second.culprit,
            first.contributing | second.contributing,
            also=causes,
            alert=self.alert(lab),
        )


class MonitorAndLeak(_Two):
    """A MONITOR was left on while a family without expiry grew."""

    id = "monitor-and-leak"
    both = (MissingTtlPrefixLeak(), MonitorLeftOn())
    everyday: ClassVar[float] = 4


class KeyAndSubscriber(_Two):
    """One key grows, and a subscriber does not read."""

    id = "key-and-subscriber"
    both = (SingleBigkey(), SlowPubsubCob())
    everyday: ClassVar[float] = 8


class StreamAndReplies(_Two):
    """A stream is never trimmed, and a client does not read its replies."""

    id = "stream-and-replies"
    both = (StreamUnbounded(), UnreadReplyCob())
    everyday: ClassVar[float] = 8


class BacklogAndReplies(_Two):
    """The backlog takes the memory, and so does a client that does not read."""

    id = "backlog-and-replies"
    both = (OversizedBacklog(), UnreadReplyCob())
    everyday: ClassVar[float] = 8


class KeyAndRequest(_Two):
    """One key grows, and a client left a huge request unfinished."""

    id = "key-and-request"
    both = (SingleBigkey(), QueryBufferBloat())
    everyday: ClassVar[float] = 8


DOUBLE: tuple[Fault, ...] = (
    MonitorAndLeak(), KeyAndSubscriber(), StreamAndReplies(), BacklogAndReplies(),
    KeyAndRequest(),
)  # fmt: skip
