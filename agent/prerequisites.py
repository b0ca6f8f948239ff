"""What must have proved itself in the same plan before an action may follow."""

from agent.incident import Action
from agent.work import Stopped, Work

AFTER = {"rewrite_config": ("set_config", ("parameter", "value"))}
"""Kind -> the kind that comes before it, and the arguments in which they agree."""


async def must_have_proved_itself(work: Work) -> None:
    """Raises Stopped where the action before it was not carried out and verified."""
    if work.action.kind not in AFTER:
        return
    before, names = AFTER[work.action.kind]
    plan = (await work.context.journal.incident()).plan
    if not any(_is_it(known, before, names, work.action) for known in plan.actions):
        subject = " ".join(str(work.action.arguments.get(name)) for name in names)
        reason = f"no verified {before} of {subject} in this incident: approve that first, and "
        raise Stopped("lapsed", f"{reason}this once it is verified")


def _is_it(known: Action, kind: str, names: tuple[str, ...], action: Action) -> bool:
    same = all(str(known.arguments.get(n)) == str(action.arguments.get(n)) for n in names)
    return known.kind == kind and known.status == "verified" and same
