"""Which node to speak to now, where a URL names several: asked again whenever a link is made."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import redis.exceptions as errors
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from tools.cluster_view import (
    ClusterNode,
    View,
    cluster_view,
    clusters,
    members,
    named_by,
    newest,
    successor,
)
from tools.connection import CommandFailure, Reply, failure_of
from tools.link import CONNECT_SECONDS
from tools.reading import printable
from tools.target_url import (
    Deployment,
    address_of,
    is_address,
    sentinel_credentials,
    url_at,
    with_known_options,
)

MOST_ASKED = 8
"""Nodes that are asked for their view of the cluster, at the same time."""
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
"""redis-py, of a reply that is no Sentinel's."""


class SentinelRoute:
    """The primary that Sentinels name at this moment."""

    def __init__(self, url: str, deployment: Deployment) -> None:
        self._url = url
        self._name = deployment.master_name
        self._sentinels = [
            (host.strip("[]"), int(port))
            for host, _, port in (address.rpartition(":") for address in deployment.addresses)
        ]

    def takes(self, role: str) -> bool:
        """Sentinels name the old primary until the new one is promoted."""
        return role in ("master", "")

    async def url(self) -> str:
        """Ask them, and take whom most of them name. Raises CommandFailure.

        Of two that as many name, the one of the later failover: the others have not heard of it.
        """
        tried = f"ask {len(self._sentinels)} Sentinels for '{printable(self._name, 80)}'"
        answers = await asyncio.gather(*map(self._named_by, self._sentinels))
        known = [answer for answer in answers if not isinstance(answer, CommandFailure)]
        if not known:
            said = [
                f"{address_of(*one)}: {answer.failed}"
                for one, answer in zip(self._sentinels, answers, strict=True)
                if isinstance(answer, CommandFailure)
            ]
            raise CommandFailure(
                "unreachable",
                tried,
                printable("; ".join(said), 300),
                "check master_name and the Sentinels' addresses; they may be electing a new one",
            )
        named = Counter(address for address, _ in known)
        address, _ = max(known, key=lambda one: (named[one[0]], one[1]))
        return url_at(self._url, address)

    async def _named_by(self, sentinel: tuple[str, int]) -> tuple[str, int] | CommandFailure:
        """host:port of the primary and the epoch of the failover that made it one.

        Or why this one names none: it does not keep the others.
        """
        options: dict[str, object] = {
            **_tls_options(url_at(self._url, address_of(*sentinel))),
            **sentinel_credentials(self._url),
            "ssl": self._url.startswith("rediss"),
            "socket_timeout": CONNECT_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        asked = Sentinel([sentinel], sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        (client,) = asked.sentinels
        try:
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                masters: Any = await client.sentinel_masters()
                state = masters.get(self._name)
                if state is None or not asked.check_master_state(state, self._name):
                    return CommandFailure("unreachable", "", "knows no such primary that is well")
                address = address_of(str(state["ip"]), state["port"])
                if not is_address(address):
                    return CommandFailure("error", "", "names something that is no address")
                return address, int(state.get("config-epoch", 0))
        except (errors.RedisError, OSError) as error:
            return failure_of(error, "")
        except _MALFORMED:
            return CommandFailure("error", "", "its reply is no Sentinel's")
        finally:
            with contextlib.suppress(errors.RedisError, OSError):
                await client.aclose()


def _tls_options(url: str) -> dict[str, object]:
    """redis-py's `ssl_…` options of a node's URL, in their own types."""
    options = parse_url(with_known_options(url))
    return {name: value for name, value in options.items() if name.startswith("ssl_")}


Ask = Callable[[str], Awaitable[Reply]]
"""CLUSTER NODES of the node with this URL. Raises CommandFailure."""
Trouble = Callable[[Sequence[str]], Awaitable[str | None]]
"""Of the nodes at these addresses the one to look at. None: none could be looked at."""


@dataclass
class ClusterRoute:
    """The node of a cluster that is in trouble; once chosen, whoever serves its slots."""

    cluster_url: str
    seeds: Sequence[str]
    """host:port"""
    ask: Ask
    stands_out: Trouble
    wanted: Sequence[str] = ()
    """What may name the node: `host:port (role)` of an earlier look, an alert's labels."""
    _chosen: ClusterNode | None = None
    _known: Sequence[str] = ()
    _members: Set[str] = frozenset()
    """Ids of the cluster's nodes, as they were last."""

    def takes(self, role: str) -> bool:
        """A replica is looked at where it was named."""
        return self._chosen is None or not self._chosen.is_primary or role in ("master", "")

    async def url(self) -> str:
        """Ask the nodes for their view, and choose. Raises CommandFailure."""
        view = await self._view()
        if self._chosen is None:
            self._chosen = await self._choose(view)
        node: ClusterNode | None = self._chosen
        if self._chosen.is_primary and (node := successor(self._chosen, view)) is None:
            raise CommandFailure(
                "unreachable",
                f"find who serves the slots of {self._chosen.address}",
                "it has failed, and no replica has taken over",
                "look at its replicas: CLUSTER NODES, CLUSTER FAILOVER",
            )
        assert node is not None  # noqa: S101 - one of the two branches
        self._chosen = node
        return url_at(self.cluster_url, node.address)

    async def _view(self) -> Sequence[ClusterNode]:
        asked = [*dict.fromkeys([*self.seeds, *self._known])][:MOST_ASKED]
        replies = await asyncio.gather(
            *(self.ask(url_at(self.cluster_url, address)) for address in asked),
            return_exceptions=True,
        )
        by_name = self.cluster_url.startswith("rediss")
        views = [
            cluster_view(reply, by_name=by_name, asked=address)
            for address, reply in zip(asked, replies, strict=True)
            if isinstance(reply, bytes)
        ]
        if not any(views):
            failures = (r for r in replies if isinstance(r, BaseException))
            raise next(failures, None) or CommandFailure(
                "error", "read CLUSTER NODES of the cluster", "the reply names no node"
            )
        # A node that was reset is a cluster without slots.
        serving = [view for view in views if any(node.slots for node in view)]
        view = newest(self._of_one_cluster(serving or [view for view in views if view]))
        self._members = members([view])
        self._known = [node.address for node in view if node.is_primary and node.address]
        return view

    def _of_one_cluster(self, views: Iterable[View]) -> Sequence[View]:
        """The views of ours. Raises CommandFailure: nobody knows which one that is."""
        found = clusters(views)
        tried = "read CLUSTER NODES of the cluster"
        remedy = "name nodes of one cluster in the target's URL"
        if self._members:
            found = [group for group in found if members(group) & self._members]
            if not found:
                raise CommandFailure("unreachable", tried, "another cluster answers", remedy)
        if len(found) > 1 and len(found[0]) == len(found[1]):
            failed = f"they are nodes of {len(found)} different clusters"
            raise CommandFailure("error", tried, failed, remedy)
        return found[0]

    def _named(self, view: Sequence[ClusterNode]) -> ClusterNode | None:
        named = named_by([text.partition(" ")[0] for text in self.wanted], view)
        was_primary = any(text.endswith("(master)") for text in self.wanted)
        if named is None or named.is_primary or not was_primary:
            return named
        return next((node for node in view if node.id == named.primary_id), None)

    async def _choose(self, view: Sequence[ClusterNode]) -> ClusterNode:
        if (named := self._named(view)) is not None and not named.is_failing:
            return named
        primaries = [node for node in view if node.is_primary and node.slots and node.address]
        found = await self.stands_out([node.address for node in primaries if not node.is_failing])
        chosen = next((node for node in primaries if node.address == found), None)
        if chosen is None:
            raise CommandFailure(
                "unreachable",
                f"choose one of {len(primaries)} primaries of the cluster",
                "none of those that hold slots answers",
                "check that their addresses can be reached from here",
            )
        return chosen
