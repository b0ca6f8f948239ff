"""What a piece of advice consists of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """One piece of advice."""

    title: str
    ask: str
    steps: tuple[str, ...]
    effect: str
    not_this: str = ""
    unnamed: str = "the data"
    """What it is about where no culprit is known."""
