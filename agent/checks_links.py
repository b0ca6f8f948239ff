"""Checks of replication, connections, access and the cluster. Pure; they never guess."""

from agent.checks import Check, Verdict, judged
from agent.facts import print_bytes, print_share
from agent.figures import Look, Unmeasured, printed

OUTAGE_SECONDS = 60
"""An interruption that a backlog should outlast: repl-timeout's default."""
MOST_SLOTS_USED = 0.9
MOST_IN_ONE_SLOT = 0.3
ERRORS_PER_SECOND = 0.2


def primary_reached(look: Look) -> Verdict:
    """A replica is connected to its primary."""
    role = look.text("replication.role")
    if role != "slave":
        return "pass", f"this server's role is {role}"
    status = look.text("replication.master_link_status")
    return judged(status == "up", f"the link to the primary is {status}")


def backlog_outlasts(look: Look) -> Verdict:
    """The backlog holds a minute of what is written."""
    if not look.number("replication.repl_backlog_active"):
        return "pass", "there is no backlog: no replica is or was connected"
    size = look.number("replication.repl_backlog_size")
    stream = look.number("stats.replicated_bytes_per_second")
    said = f"{print_bytes(size)} for {printed(stream, 'bytes_per_second')}"
    if stream <= 0:
        return "pass", f"{said}: nothing is written"
    return judged(size >= OUTAGE_SECONDS * stream, f"{said}: {size / stream:.0f} s")


def syncs_rare(look: Look) -> Verdict:
    """Replicas are not synchronised in full while we look."""
    now, total = look.number("stats.sync_full_per_second"), look.number("stats.sync_full")
    said = f"{total:.0f} full synchronisations counted, {printed(now, 'per_second')} now"
    return judged(now == 0, said)


def connections_left(look: Look) -> Verdict:
    """Connection slots are left."""
    used, most = look.number("clients.connected"), look.number("clients.maxclients")
    share = used / most if most else 1.0
    return judged(share < MOST_SLOTS_USED, f"{used:.0f} of {most:.0f}: {print_share(share)}")


def access_granted(look: Look) -> Verdict:
    """Nobody's logins or commands are refused."""
    rows = look.rows("error_stats.errors")
    codes = ("NOPERM", "WRONGPASS", "NOAUTH")
    rates = {row["code"]: float(row["per_second"]) for row in rows if row["code"] in codes}
    worst = max(rates, key=lambda code: rates[code], default="")
    said = f"{worst} at {printed(rates[worst], 'per_second')}" if worst else "none is counted"
    return judged(not worst or rates[worst] < ERRORS_PER_SECOND, said)


def writes_accepted(look: Look) -> Verdict:
    """No write is sent to a replica."""
    rows = look.rows("error_stats.errors")
    rate = sum(float(row["per_second"]) for row in rows if row["code"] == "READONLY")
    return judged(rate < ERRORS_PER_SECOND, f"READONLY at {printed(rate, 'per_second')}")


def slots_even(look: Look) -> Verdict:
    """No hash slot holds a large part of this node's keys."""
    rows = look.rows("cluster.fullest")
    if not rows:
        if not look.value("cluster.enabled"):
            return "pass", "cluster mode is off"
        if look.number("cluster.keys"):
            raise Unmeasured("there are keys, but those of no slot could be counted")
        return "pass", "this node holds no keys"
    share = float(rows[0]["share_of_keys"])
    said = f"slot {rows[0]['slot']} holds {print_share(share)} of the keys"
    return judged(share < MOST_IN_ONE_SLOT, said)


LINK_CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        primary_reached, backlog_outlasts, syncs_rare, connections_left, access_granted,
        writes_accepted, slots_even,
    )
}  # fmt: skip
