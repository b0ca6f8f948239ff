"""Which rules of which user are to be changed, from refusals and slow commands that were seen."""

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tools.access import AclDenial, AclLog
from tools.clients import Clients
from tools.remedies.acl_preview import TAKEN, PreviewAclChangeArguments, is_narrow
from tools.slowlog import Slowlog

if TYPE_CHECKING:
    from agent.arguments import Gap

MOST_RULES = 10


async def acl_change(gap: "Gap") -> dict[str, Any] | None:
    """None where evidence gives no user, or nothing that may be handed over as a line."""
    arguments = _given(gap) if gap.cause == "acl-auth-failures" else _taken(gap)
    try:
        return PreviewAclChangeArguments(**arguments).model_dump() if arguments else None
    except ValidationError:  # a hostile name
        return None


def _given(gap: "Gap") -> dict[str, Any] | None:
    """What the user with most refusals was refused."""
    found = gap.findings.latest(AclLog)
    denials = [one for one in found[0].entries if one.reason != "auth"] if found else []
    if not denials:
        return None
    most = max(denials, key=lambda one: one.count).username
    rules = [rule for one in denials if one.username == most and (rule := _rule(one))]
    return {"user": most, "rules": list(dict.fromkeys(rules))[:MOST_RULES]}


def _rule(denial: AclDenial) -> str:
    if denial.reason == "command":
        rule = f"+{denial.object.lower()}"
    elif denial.reason == "key":
        family, separator, _ = denial.object.rpartition(":")
        rule = f"~{family}{separator}*" if separator else f"~{denial.object}"
    else:
        rule = f"&{denial.object}"
    return rule if is_narrow(rule) else ""


def _taken(gap: "Gap") -> dict[str, Any] | None:
    """The command that walks over everything, from the user that sent it last."""
    slow, clients = gap.findings.latest(Slowlog), gap.findings.latest(Clients)
    if slow is None or clients is None:
        return None
    for entry in slow[0].entries:
        if (command := entry.command.lower()) not in TAKEN:
            continue
        for row in clients[0].largest:
            same = (
                entry.client_name == row.name if entry.client_name else entry.client == row.address
            )
            if same and row.user:
                return {"user": row.user, "rules": [f"-{command}"]}
    return None
