"""Tells of composition and upkeep."""

from tests.evals.tells_memory import Tell

TELLS: dict[str, Tell] = {}
