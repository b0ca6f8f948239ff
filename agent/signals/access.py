"""Signals of access: slots that a pool leaked, workers without work, refused requests."""

from collections import Counter
from collections.abc import Sequence

from agent.incident import Culprit
from agent.signals.seen import Finding, Look, Seen, clamp, measured, scaled, signal
from tools.access import AclDenial, AclLog
from tools.clients import UNNAMED, ClientGroup, Clients
from tools.connection import CLIENT_NAME
from tools.stats import CommandStats, ErrorStats, Stats

SLOTS_SHARE = 0.3
SLOTS_LEAST = 20
"""A pool of one process holds some tens of connections; far more than others is no pool size."""
SLOTS_NEAR = 0.75
"""Of maxclients: below that, nobody is turned away soon."""
IDLE_SHARE = 0.8
"""A leaked connection has said nothing since it was opened: idle as long as it is old."""
BLOCKED_LEAST = 10
"""Fewer workers waiting is any queue on any day (the usual alert's threshold)."""
PUSHES_EXPECTED = 5.0
"""Jobs that should have come while we looked: that none did has then a chance below 1 %
(Poisson, e^-5)."""
DENIED_LEAST = 3
DENIED_SECONDS = 300
ERRORS_PER_SECOND = 0.2
"""As of the other errors that hurt; one mistyped login is none of them."""
LIFETIME_MEAN = 0.5
"""A batch that is over looks the same: the mean since the start is half a proof."""
_LOGIN_ERRORS = ("WRONGPASS", "NOAUTH")
_PRODUCERS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("blpop", "brpop", "blmove", "brpoplpush", "blmpop"),
        frozenset({"lpush", "rpush", "lpushx", "rpushx", "linsert", "lmove", "rpoplpush"}),
    ),
    **dict.fromkeys(("bzpopmin", "bzpopmax", "bzmpop"), frozenset({"zadd", "zincrby"})),
    **dict.fromkeys(("xread", "xreadgroup"), frozenset({"xadd"})),
}
"""What wakes a client that waits in this command (commands.json: group, blocking)."""


def _leaking(clients: Look[Clients], most: int) -> tuple[str, ClientGroup] | None:
    """The group that holds the slots and does nothing with them; without names, the host."""
    named = _idle_group(clients.reading.by_name, most)
    if named is None:
        return None
    if named[1].key != UNNAMED:
        return f"by_name.{named[0]}", named[1]
    host = _idle_group(clients.reading.by_address, most)
    return (f"by_address.{host[0]}", host[1]) if host else None


def _idle_group(groups: Sequence[ClientGroup], most: int) -> tuple[int, ClientGroup] | None:
    for index, group in enumerate(groups):
        idle = group.median_idle_seconds >= max(1, IDLE_SHARE * group.median_age_seconds)
        if idle and group.count >= max(SLOTS_LEAST, SLOTS_SHARE * most):
            return index, group
    return None


@signal("symptom")
def slots_held_idle(seen: Seen) -> Finding | None:
    """Connections of one client take most slots and have been idle since they were opened."""
    clients = seen.look(Clients)
    most = measured(clients.reading.maxclients)
    reading = clients.reading
    if most <= 0 or reading.connected + 1 < SLOTS_NEAR * most:
        return None
    if 2 * (reading.blocked + reading.pubsub) >= reading.connected:
        return None  # waiting is their work
    found = _leaking(clients, most)
    if found is None:
        return None
    at, group = found
    return Finding(
        "{client} holds {count} of {most} connection slots; they have been idle for {idle} and "
        "are {age} old (medians).",
        [
            clients.fact("client", f"{at}.key", unit="text"),
            clients.fact("count", f"{at}.count", unit="count"),
            clients.fact("most", "maxclients", unit="count"),
            clients.fact("idle", f"{at}.median_idle_seconds", unit="seconds"),
            clients.fact("age", f"{at}.median_age_seconds", unit="seconds"),
        ],
        scaled(group.count / most, SLOTS_SHARE, 0.6),
        Culprit(kind="client", name=group.key),
    )


def _waiting(clients: Look[Clients]) -> tuple[int, ClientGroup] | None:
    groups = enumerate(clients.reading.by_command)
    return next((found for found in groups if found[1].key in _PRODUCERS), None)


@signal("trait")
def workers_wait(seen: Seen) -> Finding | None:
    """Many clients wait in a blocking command."""
    clients = seen.look(Clients)
    found = _waiting(clients)
    if clients.reading.blocked < BLOCKED_LEAST or found is None:
        return None
    return Finding(
        "{blocked} clients are blocked, most of them in {command}.",
        [
            clients.fact("blocked", "blocked", unit="count"),
            clients.fact("command", f"by_command.{found[0]}.key", unit="text"),
        ],
    )


@signal("trend")
def producers_silent(seen: Seen) -> Finding | None:
    """Nothing wakes the waiting workers any more, though it did before."""
    clients, commands = seen.look(Clients), seen.look(CommandStats)
    stats = seen.look(Stats)
    found = _waiting(clients)
    if clients.reading.blocked < BLOCKED_LEAST or found is None:
        return None
    wake = _PRODUCERS[found[1].key]
    rows = [(i, r) for i, r in enumerate(commands.reading.commands) if r.command in wake]
    uptime = max(measured(stats.reading.uptime_in_seconds), 1)
    expected = sum(row.calls for _, row in rows) / uptime * commands.reading.seconds
    if expected < PUSHES_EXPECTED or any(row.calls_per_second > 0 for _, row in rows):
        return None
    index, _ = max(rows, key=lambda found: found[1].calls)
    at = f"commands.{index}"
    return Finding(
        "{command} was called {calls} times in {uptime}, and {rate} while we looked: nobody "
        "queues work for those who wait.",
        [
            commands.fact("command", f"{at}.command", unit="text"),
            commands.fact("calls", f"{at}.calls", unit="count"),
            commands.fact("rate", f"{at}.calls_per_second", unit="per_second"),
            stats.fact("uptime", "uptime_in_seconds", unit="seconds"),
        ],
        LIFETIME_MEAN,
    )


def _refused(log: AclLog) -> tuple[int, AclDenial, int] | None:
    """The freshest kind of refusal of somebody else, and how often they were refused in all."""
    entries = [
        (index, entry)
        for index, entry in enumerate(log.entries)
        if entry.client_name != CLIENT_NAME and entry.age_seconds <= DENIED_SECONDS
    ]
    counts = Counter[str]()
    for _, entry in entries:
        counts[entry.username] += entry.count
    if not counts:
        return None
    user, times = counts.most_common(1)[0]
    index, entry = max(
        (found for found in entries if found[1].username == user), key=lambda found: found[1].count
    )
    return (index, entry, times) if times >= DENIED_LEAST else None


def _who(entry: AclDenial) -> Culprit:
    """A user of its own names the application better than one of its many connections."""
    user = entry.username if entry.username != "default" else ""
    return Culprit(kind="client", name=user or entry.client_name or entry.client_address)


@signal("symptom")
def access_refused(seen: Seen) -> Finding | None:
    """Logins or commands of an application are refused."""
    log = seen.optional(AclLog)
    if log is None:
        return _login_errors(seen)
    found = _refused(log.reading)
    if found is None:
        return _login_errors(seen)
    index, entry, times = found
    at = f"entries.{index}"
    return Finding(
        "'{user}' is refused ({reason}: {object}), {count} times in one entry of the log, last "
        "{age} ago.",
        [
            log.fact("user", f"{at}.username", unit="text"),
            log.fact("reason", f"{at}.reason", unit="text"),
            log.fact("object", f"{at}.object", unit="text"),
            log.fact("count", f"{at}.count", unit="count"),
            log.fact("age", f"{at}.age_seconds", unit="seconds"),
        ],
        clamp(0.7 + times / 50),
        _who(entry),
    )


def _login_errors(seen: Seen) -> Finding | None:
    return _rising(seen, "Logins are refused with {code} at {rate}.", *_LOGIN_ERRORS)


def _rising(seen: Seen, text: str, *codes: str) -> Finding | None:
    errors = seen.look(ErrorStats)
    for index, row in enumerate(errors.reading.errors):
        if row.code in codes and row.per_second >= ERRORS_PER_SECOND:
            at = f"errors.{index}"
            return Finding(
                text,
                [
                    errors.fact("code", f"{at}.code", unit="text"),
                    errors.fact("rate", f"{at}.per_second", unit="per_second"),
                ],
            )
    return None


@signal("trait")
def refusals_counted(seen: Seen) -> Finding | None:
    """The server counts refused logins or commands, perhaps our own among them."""
    return _rising(seen, "{code} errors are counted at {rate}.", "NOPERM", *_LOGIN_ERRORS)
