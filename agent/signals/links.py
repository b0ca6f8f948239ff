"""Signals of the link between a primary and its replicas: broken, or synchronised in full anew."""

from agent.incident import Culprit
from agent.signals.seen import Finding, Look, Seen, measured, scaled, signal
from tools.configuration import Configuration
from tools.reading import number
from tools.replication import Replication
from tools.stats import ErrorStats, Stats

LINK_DOWN_SECONDS = 10
READONLY_PER_SECOND = 0.2
"""As of the other errors that hurt; a single stray write is none of them."""
SYNC_EACH_SECONDS = 600
"""A full sync is an event: a replica that needs one every ten minutes does not stay connected."""
SYNCS_LEAST = 2
STORM_SYNCS = 5
LASTS_SECONDS = 60
"""repl-timeout is 60 s: what does not last that long does not outlast any usual interruption."""
STREAM_FLOOR = 10 * 1024
"""Bytes a second: with hardly any writes a small buffer lasts long enough for somebody to look."""
_SYNCING = frozenset({"wait_bgsave", "send_bulk", "send_bulk_and_stream", "bg_transfer"})


@signal("symptom")
def replication_link_down(seen: Seen) -> Finding | None:
    """This replica has lost its primary."""
    replication = seen.look(Replication)
    reading = replication.reading
    down = number(reading.master_link_down_since_seconds) or 0
    if measured(reading.role) != "slave" or reading.master_link_status != "down":
        return None
    if 0 <= down < LINK_DOWN_SECONDS or reading.master_sync_in_progress:
        return None  # a link that is being made
    status = replication.fact("status", "master_link_status", unit="text")
    if reading.primary is None:
        return Finding("The link to the primary is {status}.", [status])
    return Finding(
        "The link to the primary, {primary}, is {status}.",
        [replication.fact("primary", "primary", unit="text"), status],
        1.0,
        Culprit(kind="host", name=reading.primary),
    )


@signal("symptom")
def writes_meet_a_replica(seen: Seen) -> Finding | None:
    """Applications write to a server that is a replica."""
    replication, errors = seen.look(Replication), seen.look(ErrorStats)
    if measured(replication.reading.role) != "slave":
        return None
    for index, row in enumerate(errors.reading.errors):
        if row.code == "READONLY" and row.per_second >= READONLY_PER_SECOND:
            at = f"errors.{index}"
            return Finding(
                "This server's role is {role}, and writes are refused with {code} at {rate}.",
                [
                    replication.fact("role", "role", unit="text"),
                    errors.fact("code", f"{at}.code", unit="text"),
                    errors.fact("rate", f"{at}.per_second", unit="per_second"),
                ],
            )
    return None


@signal("symptom")
def full_syncs_repeat(seen: Seen) -> Finding | None:
    """Replicas are synchronised in full again and again."""
    stats, replication = seen.look(Stats), seen.look(Replication)
    syncs = measured(stats.reading.sync_full)
    replicas = number(replication.reading.connected_slaves) or 0
    # Each replica needs one when it is new.
    if syncs < SYNCS_LEAST or syncs <= replicas:
        return None
    uptime = measured(stats.reading.uptime_in_seconds)
    now = measured(stats.reading.sync_full_per_second) > 0
    if not now and (syncs < STORM_SYNCS or uptime > syncs * SYNC_EACH_SECONDS):
        return None
    return Finding(
        "{syncs} full synchronisations were counted in {uptime}, {rate} of them while we looked.",
        [
            stats.fact("syncs", "sync_full", unit="count"),
            stats.fact("uptime", "uptime_in_seconds", unit="seconds"),
            stats.fact("rate", "sync_full_per_second", unit="per_second"),
        ],
    )


@signal("trait")
def partial_syncs_fail(seen: Seen) -> Finding | None:
    """Replicas that come back ask for what the backlog does not hold any more."""
    stats = seen.look(Stats)
    failed, syncs = measured(stats.reading.sync_partial_err), measured(stats.reading.sync_full)
    if failed < SYNCS_LEAST or 2 * failed < syncs:
        return None
    return Finding(
        "{failed} attempts to continue from the backlog were refused.",
        [stats.fact("failed", "sync_partial_err", unit="count")],
    )


@signal("trait")
def backlog_is_short(seen: Seen) -> Finding | None:
    """The replication backlog holds less than a minute of writes."""
    stats, replication = seen.look(Stats), seen.look(Replication)
    stream = measured(stats.reading.replicated_bytes_per_second)
    size = measured(replication.reading.repl_backlog_size)
    if stream < STREAM_FLOOR or size <= 0 or size >= LASTS_SECONDS * stream:
        return None
    return Finding(
        "The backlog has {size}, and {stream} are written to it.",
        [
            replication.fact("size", "repl_backlog_size", unit="bytes"),
            stats.fact("stream", "replicated_bytes_per_second", unit="bytes_per_second"),
        ],
        scaled(-size / stream, -LASTS_SECONDS, -LASTS_SECONDS / 10),
        Culprit(kind="config", name="repl-backlog-size"),
    )


@signal("trait")
def replica_limit_is_short(seen: Seen) -> Finding | None:
    """A replica is cut off after less than a minute of writes that it has not read."""
    stats, settings = seen.look(Stats), seen.look(Configuration)
    stream = measured(stats.reading.replicated_bytes_per_second)
    lasts = _lasts(settings, stream)
    if stream < STREAM_FLOOR or lasts is None or lasts >= LASTS_SECONDS:
        return None
    return Finding(
        "The output buffers are limited to '{limits}', and {stream} are written for each replica.",
        [
            settings.fact("limits", "parameters.client-output-buffer-limit", unit="text"),
            stats.fact("stream", "replicated_bytes_per_second", unit="bytes_per_second"),
        ],
        scaled(-lasts, -LASTS_SECONDS, -LASTS_SECONDS / 10),
        Culprit(kind="config", name="client-output-buffer-limit"),
    )


def _lasts(settings: Look[Configuration], stream: float) -> float | None:
    """Seconds of writes until the limit of replicas is met; None if there is no limit."""
    words = settings.reading.parameters.get("client-output-buffer-limit", "").split()
    names = [word.replace("slave", "replica") for word in words]
    if stream <= 0 or "replica" not in names:
        return None
    at = names.index("replica")
    numbers = [int(word) for word in words[at + 1 : at + 4] if word.isdecimal()]
    if len(numbers) < 3:
        return None
    hard, soft, patience = numbers
    times = [hard / stream] if hard else []
    times += [soft / stream + patience] if soft else []
    return min(times, default=None)


@signal("trait")
def replica_mid_sync(seen: Seen) -> Finding | None:
    """A replica waits for its full synchronisation."""
    return _in_state(seen, "The replica {address} is in state {state}.", _SYNCING)


@signal("trait")
def replica_online(seen: Seen) -> Finding | None:
    """A replica is connected and receives writes."""
    return _in_state(seen, "The replica {address} is {state}.", frozenset({"online"}))


def _in_state(seen: Seen, text: str, states: frozenset[str]) -> Finding | None:
    replication = seen.look(Replication)
    for index, row in enumerate(replication.reading.replicas):
        if row.state in states:
            at = f"replicas.{index}"
            return Finding(
                text,
                [
                    replication.fact("address", f"{at}.address", unit="text"),
                    replication.fact("state", f"{at}.state", unit="text"),
                ],
            )
    return None


@signal("trait")
def clients_cut_off(seen: Seen) -> Finding | None:
    """Clients were disconnected for what they left unread."""
    stats = seen.look(Stats)
    if not measured(stats.reading.client_output_buffer_limit_disconnections):
        return None
    return Finding(
        "{count} clients were disconnected for what they had not read.",
        [stats.fact("count", "client_output_buffer_limit_disconnections", unit="count")],
    )
