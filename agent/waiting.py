"""What an incident waits for, in a few words: who has to do something now. Pure."""

from agent.incident import CALLS_PEOPLE, Action, Incident

_RUNNING = {
    "investigating": "is being investigated",
    "remediating": "is being changed",
    "verifying": "is watched after a change",
}


def waits_for(incident: Incident, held_by: str = "") -> str:
    """Of what is not over; empty otherwise.

    `held_by`: the other incident that its target is worked on for, if there is one.
    """
    if incident.status == "queued":
        return f"waits for {held_by} on the same target" if held_by else "waits for a worker"
    if incident.status == "awaiting_approval":
        return _at_the_gate(incident)
    if incident.status == "needs_human":
        return "waits for a person"
    return _RUNNING.get(incident.status, "")


def _at_the_gate(incident: Incident) -> str:
    actions = [action for action in incident.plan.actions if action.executable]
    if urgent := [action.id for action in actions if action.status in CALLS_PEOPLE]:
        return f"waits for a person to look at {', '.join(urgent)}"
    open_ones = [action for action in actions if action.status == "proposed"]
    if open_ones:
        return "waits for an approval: " + ", ".join(map(_wanted, open_ones))
    later = [action for action in actions if action.status == "approved"]
    if later and later[0].not_before is not None:
        return f"{later[0].id} waits until {later[0].not_before:%a %H:%M} UTC"
    return "goes on" if later else "waits for a person"


def _wanted(action: Action) -> str:
    said = f", {len(action.approvals)} of {action.approvals_required}"
    return f"{action.id} ({action.risk}{said if action.approvals_required > 1 else ''})"
