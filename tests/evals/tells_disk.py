"""Tells of persistence and latency."""

from tests.evals.tells_memory import Tell

TELLS: dict[str, Tell] = {}
