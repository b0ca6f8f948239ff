"""Runbooks: markdown for people and the model, front matter for the rules."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from agent.incident import Severity, Words


class Matches(Words):
    """What makes this runbook the one for an alert."""

    alerts: list[str] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    words: list[str] = Field(default_factory=list)


class AskNext(Words):
    """A discriminating look: a tool of READS, and what to ask it for."""

    tool: str
    args: dict[str, Any] = Field(default_factory=dict)
    """Values may be `{culprit}`: the name the supporting signal found."""


class ProposedRemedy(Words):
    """A remedy of REMEDIES and where its arguments come from."""

    kind: str
    args: dict[str, Any] = Field(default_factory=dict)
    """Literals, or `{culprit}`; a planner in `agent/planning.py` fills what only evidence knows."""
    relief: Literal["immediate", "long_term"] = "immediate"
    for_causes: list[str] = Field(default_factory=list)
    """In FrontMatter.remedies: proposed only when one of these is the cause (or contributes)."""


class Cause(Words):
    """One root cause: what supports it, what rules it out, what to do."""

    id: str
    title: str
    kind: Literal["cause", "condition", "not_incident"] = "cause"
    """condition: what a full server does; contributes when a cause is evidenced."""
    needs: list[str] = Field(default_factory=list)
    """Signals without which this cause is not considered at all."""
    asked: dict[str, list[str]] = Field(default_factory=dict)
    """signal -> words: it counts for this cause only if the alert or question holds one of them."""
    supported_by: dict[str, float] = Field(default_factory=dict)
    ruled_out_by: dict[str, float] = Field(default_factory=dict)
    ask_next: list[AskNext] = Field(default_factory=list)
    remedies: list[str | ProposedRemedy] = Field(default_factory=list)
    prevention: list[str] = Field(default_factory=list)


class Prevention(Words):
    """A prevention item with numbers from this server (`agent/prevention.py` puts them in)."""

    text: str = Field(max_length=600)
    """`{<tool>.<path>:<unit>}` is read from evidence: `{memory_info.used_memory_peak:bytes}`."""
    otherwise: list[Annotated[str, Field(max_length=600)]] = Field(default_factory=list)
    """Said instead when a number of `text` was not measured: the first that has all of its own,
    else the last; none: `text` says which is not. One may stand without a list."""

    @field_validator("otherwise", mode="before")
    @classmethod
    def _one_without_a_list(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given


class AlertThreshold(Words):
    """An alert this runbook asks for, e.g. memory above 75 % for 5 minutes."""

    when: str
    """`<tool>.<path>`, e.g. `memory_info.pressure`"""
    above: float | None = None
    below: float | None = None
    equals: str | None = None
    """For states, e.g. `persistence.rdb_last_bgsave_status` equals err."""
    for_: str = Field(default="0s", alias="for")
    severity: Severity = "warning"


class ChecklistCheck(Words):
    """How one `- [ ]` line of the Production Checklist is evaluated, if the line does not say so
    itself (`<!-- check: <name> -->`).
    """  # noqa: D205

    item: str
    """Words that the line contains."""
    check: str
    """Name of a check in `agent/checklist.py`."""


class FrontMatter(Words):
    """The machine-readable head of a runbook."""

    id: str
    title: str
    severity: Severity = "warning"
    matches: Matches = Field(default_factory=Matches)
    baseline: list[str] = Field(default_factory=list)
    """Tools of READS that `observe` runs."""
    causes: list[Cause] = Field(default_factory=list)
    alerts: list[AlertThreshold] = Field(default_factory=list)
    checklist: list[ChecklistCheck] = Field(default_factory=list)
    remedies: list[ProposedRemedy] = Field(default_factory=list)
    """Options of the runbook itself, whichever of `for_causes` it is; a planner adds them to
    those of the cause and drops repeated ones."""
    prevention: list[str | Prevention] = Field(default_factory=list)


class Runbook(Words):
    """One runbook, whole."""

    front: FrontMatter
    body: str
    """The markdown after the front matter."""
    path: str
    prose_only: bool = False
    """A team's own markdown without front matter."""

    @property
    def id(self) -> str:
        """Its id."""
        return self.front.id


class Problem(Words):
    """What is wrong with a runbook file, where, and what to do about it."""

    file: str
    line: int | None = None
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """One line: file:line, field, what is wrong, what to do."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.field}: {self.message}; {self.remedy}"


class Library(Words):
    """All runbooks that were loaded."""

    runbooks: list[Runbook]
    problems: list[Problem] = Field(default_factory=list)
    """Files of configured folders that could not be loaded; the others are used."""

    def causes(self) -> dict[str, Cause]:
        """Every catalogued cause by id."""
        return {cause.id: cause for book in self.runbooks for cause in book.front.causes}
