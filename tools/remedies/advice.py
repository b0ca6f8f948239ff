"""What only the owner of the data or the application can do, as text with numbers."""

from typing import ClassVar

from pydantic import Field, field_validator

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.remedies.advice_texts import ADVICE
from tools.remedies.remedy import Check, Preview, Remedy, Risk


class AdviseApplicationArguments(Arguments):
    """What about, concerning what, with which numbers."""

    topic: str
    """A key of `advice_texts.ADVICE`; most are ids of root causes."""
    subject: str = Field(default="", max_length=250)
    """The key, prefix, client or parameter."""
    facts: list[str] = Field(default_factory=list, max_length=20)
    """Lines with numbers from evidence."""

    @field_validator("topic")
    @classmethod
    def _known(cls, topic: str) -> str:
        if topic not in ADVICE:
            raise ValueError(f"no advice about '{topic}'")
        return topic


class AdviseApplication(Remedy[AdviseApplicationArguments]):
    """A text to hand over. Never executed."""

    kind: ClassVar[str] = "advise_application"
    risk: ClassVar[Risk] = "R0"
    args = AdviseApplicationArguments
    executable: ClassVar[bool] = False

    async def preview(self, connection: Connection, args: AdviseApplicationArguments) -> Preview:
        """The advice, with the subject and the numbers in it."""
        advice = ADVICE[args.topic]
        subject = args.subject or advice.unnamed
        # Replaced, not formatted: a subject may hold braces.
        steps = [step.replace("{subject}", subject) for step in advice.steps]
        lines = [advice.ask.replace("{subject}", subject), ""]
        if args.facts:
            lines += ["What was measured:", *(f"- {fact}" for fact in args.facts), ""]
        lines += ["Steps:", *(f"{number}. {step}" for number, step in enumerate(steps, 1))]
        if advice.not_this:
            lines += ["", f"Not this: {advice.not_this}"]
        return Preview(
            title=advice.title.replace("{subject}", subject),
            commands=[],
            predicted_effect=advice.effect.replace("{subject}", subject),
            verification="investigate the target again after the change",
            rollback="with the application's own release",
            never_touches="anything: people carry this out",
            artefact="\n".join(lines),
        )

    async def preconditions(
        self, connection: Connection, args: AdviseApplicationArguments
    ) -> list[Check]:
        """None: it is advice."""
        return []
