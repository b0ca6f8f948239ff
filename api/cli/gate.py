"""Deciding: `approve`, `stop`, `freeze`, `freezes`, `thaw`."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from agent.incident import Action, Incident
from api.cli import render
from api.cli.client import Refused, call, harmless, incident_of, path_of
from api.cli.oneshot import failure
from tools.reading import printable

MOVED = (404, 409)
"""Statuses of a refusal because the plan is another one by now."""
_MINUTES = {"m": 1, "h": 60, "d": 1440}


@dataclass(frozen=True)
class Wish:
    """What the person at the terminal wants."""

    comment: str
    yes: bool
    reject: bool = False
    break_glass: bool = False
    confirm: str = ""
    """The target's name, so that nothing is asked."""
    wait: bool | None = None
    """Until it is over; None: where a person reads the answer."""

    @property
    def word(self) -> str:
        """As asked, and as the path ends."""
        return "reject" if self.reject else "approve"

    @property
    def waits(self) -> bool:
        """Is it followed until it is over?"""
        return render.at_terminal() if self.wait is None else self.wait

    @property
    def prints(self) -> bool:
        """Does the answer go to stdout, as JSON? Not below what a person has just watched."""
        return not render.at_terminal() or self.wait is False


def decide(incident: str, action: str, wish: Wish) -> None:
    """Show an action, ask, and approve or reject exactly what was shown."""
    shown = _incident(incident)
    chosen = next((a for a in shown.plan.actions if a.id == action), None)
    if chosen is None:
        names = ", ".join(a.id for a in shown.plan.actions if a.executable) or "none"
        raise failure(f"incident {incident} has no action {action} (executable: {names})", code=2)
    comment = _asked(shown, [chosen], wish)
    body: dict[str, Any] = {"fingerprint": chosen.fingerprint, "comment": comment}
    if wish.break_glass:
        body |= {"break_glass": True}
    path = path_of(incident, "actions", action, wish.word)
    (answer,) = _sent(shown, [chosen], wish, path, body)
    if wish.prints:
        typer.echo(json.dumps(answer, indent=2))


def decide_all(incident: str, wish: Wish) -> None:
    """The same for all that waits for approval, in one step and in the plan's order."""
    if wish.reject or wish.break_glass:
        raise failure("--all goes with neither --reject nor --break-glass", code=2)
    shown = _incident(incident)
    chosen = [a for a in shown.plan.actions if a.executable and a.status == "proposed"]
    if not chosen:
        raise failure(f"nothing of incident {incident} waits for approval", code=2)
    comment = _asked(shown, chosen, wish)
    picked = [{"id": a.id, "fingerprint": a.fingerprint} for a in chosen]
    body = {"actions": picked, "comment": comment}
    answer = _sent(shown, chosen, wish, path_of(incident, "plan", "approve"), body)
    if wish.prints:
        typer.echo(json.dumps(answer, indent=2))


def _incident(incident: str) -> Incident:
    return incident_of(call("GET", path_of(incident)))


def _sent(
    shown: Incident, chosen: Sequence[Action], wish: Wish, path: str, body: dict[str, Any]
) -> list[dict[str, Any]]:
    """Each action as the service has it now; when waiting, as it ended."""
    try:
        answer = call("POST", path, body)
    except Refused as refused:
        if refused.status in MOVED:
            _what_is_now(shown.id, chosen)
        raise
    answers: list[dict[str, Any]] = answer if isinstance(answer, list) else [answer]
    _told(shown, [Action.model_validate(harmless(one)) for one in answers])
    if wish.reject or not wish.waits:
        return answers
    from api.cli.carried_out import follow

    return follow(shown, answers)


def _what_is_now(incident: str, chosen: Sequence[Action]) -> None:
    """After a refusal because the world moved: where it moved to."""
    now = {action.id: action for action in _incident(incident).plan.actions}
    for shown in chosen:
        found = now.get(shown.id)
        if found is None:
            _say(
                f"{shown.id} is no longer in the plan: look at it with redis-oncall show {incident}"
            )
        elif found.fingerprint != shown.fingerprint:
            _say(f"{shown.id} has changed since it was shown. Nothing was decided. Now it is:")
            render.console(stderr=True).print(render.action(found, full=True))
        elif found.status != shown.status:
            because = f": {found.comment}" if found.comment else ""
            _say(f"{found.id} is {found.status.replace('_', ' ')} since it was shown{because}")


def _asked(shown: Incident, chosen: Sequence[Action], wish: Wish) -> str:
    """Show it, ask whether, and why where that matters; the comment."""
    out = render.console(stderr=True)
    out.print(f"On {printable(shown.target)}, exactly this:", markup=False)
    for action in chosen:
        out.print(render.action(action, full=True))
    if len(chosen) > 1:
        out.print("In this order; if one does not end well, the rest is not begun.")
    if wish.break_glass:
        out.print("Break-glass: alone, past freezes and windows. Everybody is paged.")
    names = " ".join(action.id for action in chosen)
    if wish.confirm and wish.confirm != shown.target:
        said = f"--confirm names another target: this is about {printable(shown.target)}"
        raise failure(said, code=2)
    if wish.yes or wish.confirm:
        return wish.comment
    if not _somebody_is_there():
        raise failure(f"to {wish.word} without a terminal, say --yes", code=2)
    _confirmed(shown, chosen, wish, f"{wish.word} {names} on {printable(shown.target)}")
    if wish.comment or not (wish.reject or wish.break_glass):
        return wish.comment
    return str(typer.prompt("why", err=True, default="" if wish.reject else None))


def _confirmed(shown: Incident, chosen: Sequence[Action], wish: Wish, question: str) -> None:
    """A yes; to what cannot be taken back by itself, the name of what it is done to."""
    if wish.reject or all(action.risk in ("R0", "R1") for action in chosen):
        typer.confirm(f"{question}?", abort=True, err=True)
        return
    typed = typer.prompt(f"{question}: type the target's name", err=True, default="",
                         show_default=False)  # fmt: skip
    if typed.strip() != shown.target:
        raise failure(f"that is not {printable(shown.target)}: nothing was decided")


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


def _told(shown: Incident, answers: Sequence[Action]) -> None:
    for action in answers:
        _say(f"{action.id} on {printable(shown.target)}: {_outlook(action)}")


def _say(text: str, *, stderr: bool = True) -> None:
    render.console(stderr=stderr).print(text, markup=False, soft_wrap=False)


def _outlook(action: Action) -> str:
    """What happens now, in one line."""
    if action.status == "proposed":
        said = len(action.approvals)
        if said >= action.approvals_required:
            left = "what comes before it" if action.batch else "more people, by today's policy"
            return f"your yes is kept; it waits for {left}"
        return f"{said} of {action.approvals_required} approvals; it needs another person"
    if action.status != "approved":
        return action.status
    if action.dry_run:
        return "approved; a dry run: it is checked again, and nothing is written"
    if action.not_before is not None:
        return f"approved, not before {action.not_before:%a %H:%M} UTC: {printable(action.comment)}"
    return "approved; it is applied now if its preconditions still hold"


def stop(incident: str, action: str, comment: str) -> None:
    """Do not begin, or end after the present batch."""
    answer = call("POST", path_of(incident, "actions", action, "stop"), {"comment": comment})
    said = (
        "it is not begun"
        if answer["status"] == "lapsed"
        else "it ends after its present batch; that is verified, and undone if it did not help"
    )
    _say(f"{action}: {said}")
    typer.echo(json.dumps(answer, indent=2))


def freeze(target: str | None, duration: str, reason: str) -> None:
    """Nothing is changed there from now on."""
    body: dict[str, Any] = {"reason": reason, "minutes": minutes(duration)}
    if target is not None:
        body["target"] = target
    made = call("POST", "/v1/freezes", body)
    _say(f"{spoken(made, 'frozen')}; end it with: redis-oncall thaw {made['id']}")
    typer.echo(json.dumps(made, indent=2))


def thaw(number: int) -> None:
    """Changes may go on."""
    ended = call("POST", f"/v1/freezes/{number}/thaw")
    _say(f"thawed: {spoken(ended | {'since': None}, 'frozen')}")


def freezes(*, as_json: bool) -> None:
    """What is frozen now, or will be."""
    listed = call("GET", "/v1/freezes")
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    if not listed["items"]:
        typer.echo("nothing is frozen", err=True)
    for item in listed["items"]:
        _say(spoken(item, "frozen"), stderr=False)


def minutes(duration: str) -> int:
    """Of `30m`, `2h` or `1d`; anything else is a usage error."""
    match = re.fullmatch(r"(\d{1,6})([mhd])", duration.strip())
    if match is None:
        raise failure("--for: a time is expected, such as 30m, 2h or 1d", code=2)
    return int(match[1]) * _MINUTES[match[2]]


def spoken(item: dict[str, Any], word: str, also: str = "") -> str:
    """A freeze or a silence in one line. `also`: what else it is about."""
    where = ", ".join([*item["targets"], *item["environments"], *([also] if also else [])])
    where = where or "every target"
    until = item["until"][:16].replace("T", " ") + " UTC" if item["until"] else "further notice"
    if item["active"] or item["since"] is None:
        when = f"until {until}"
    else:
        when = f"from {item['since'][:16].replace('T', ' ')} until {until}"
    name = f"{item['id']}: " if item["id"] is not None else ""
    return f"{name}{where} {word} {when} by {item['by']}: {printable(item['reason'])}"
