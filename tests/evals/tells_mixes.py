"""Tells of mixes."""

from tests.evals.tells_memory import Tell

TELLS: dict[str, Tell] = {}
