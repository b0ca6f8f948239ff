"""What `/metrics` answers: what this process counted, and how the store stands."""

from collections.abc import Iterable, Iterator

import structlog
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from api import shared_metrics
from api.metrics import REGISTRY
from api.one_try import OneTry
from api.store.database import Database
from api.store.standing import standing

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STORE_SECONDS = 3.0
"""How long the store is waited for: Prometheus gives up after 10 s, and would learn nothing."""
log = structlog.get_logger(__name__)
_PROCESS = CollectorRegistry()
ProcessCollector(registry=_PROCESS)


def asking(database: Database) -> OneTry[CollectorRegistry]:
    """How the store stands."""
    return OneTry(lambda: standing(database), STORE_SECONDS)


async def exposition(store: OneTry[CollectorRegistry]) -> bytes:
    """The metrics in Prometheus' text format.

    While the store cannot be read, its gauges are absent, not zero, and
    `redis_oncall_store_up` is 0.
    """
    up = CollectorRegistry()
    readable = Gauge("redis_oncall_store_up", "1: the store could be read.", registry=up)
    try:
        stored = await store()
        readable.set(1)
    except Exception as error:  # noqa: BLE001 - what the process counted is worth showing
        log.warning("store_unreadable", error=type(error).__name__)
        stored = CollectorRegistry()
    registries = (_counted(), _PROCESS, up, stored)
    return b"".join(generate_latest(registry) for registry in registries)


def _counted() -> CollectorRegistry:
    """By this process, and by the worker beside it if there is one."""
    if (folder := shared_metrics.folder()) is None:
        return REGISTRY
    added_up = CollectorRegistry()
    added_up.register(_AddedUp(folder))
    return added_up


class _AddedUp(Collector):
    """What all processes of a folder counted, and the names of what none of them has met yet."""

    def __init__(self, folder: str) -> None:
        self._shared = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Each family once, in the order in which they are declared."""
        shared: Iterable[Metric] = self._shared.collect()  # type: ignore[no-untyped-call]
        found = {family.name: family for family in shared}
        for family in REGISTRY.collect():
            yield found.get(family.name, family)
