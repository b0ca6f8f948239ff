"""What an incident waits for, in a few words: who has to do something now. Pure."""

from agent.incident import CALLS_PEOPLE, Action, Incident

WAITING = frozenset({"queued", "awaiting_approval", "needs_human"})
"""Statuses in which it waits; in others it is being worked on, or over."""
_AT_WORK = ("applying", "applied", "rolling_back")


def waits_for(incident: Incident, held_by: str = "") -> str:
    """Whom or what it waits for, else what is being done; of one that is over its status.

    `held_by`: the other incident that its target is worked on for, if there is one.
    """
    if incident.status == "queued":
        return f"{held_by} on the same target" if held_by else "a worker"
    if incident.status == "needs_human":
        return "a person"
    if incident.status == "awaiting_approval":
        return _at_the_gate([each for each in incident.plan.actions if each.executable])
    at_work = next((a.id for a in incident.plan.actions if a.status in _AT_WORK), "a remedy")
    doing = {"remediating": "applied", "verifying": "verified"}.get(incident.status)
    return f"{at_work} is being {doing}" if doing else incident.status


def _at_the_gate(actions: list[Action]) -> str:
    if urgent := [action.id for action in actions if action.status in CALLS_PEOPLE]:
        return f"a person to look at {', '.join(urgent)}"
    if open_ones := [action for action in actions if action.status == "proposed"]:
        more = f" and {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
        return f"approval of {_wanted(open_ones[0])}{more}"
    for action in actions:
        if action.status == "approved" and action.not_before is not None:
            return f"{action.id}, from {action.not_before:%a %H:%M} UTC"
        if action.status == "approved":
            return f"a worker, for {action.id}"
    return "a decision"


def _wanted(action: Action) -> str:
    needed = action.approvals_required
    said = f", {len(action.approvals)} of {needed}" if needed > 1 else ""
    return f"{action.id} ({action.risk}){said}"
