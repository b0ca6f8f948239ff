"""Tells of replication, access and cluster."""

from tests.evals.tells_memory import Tell

TELLS: dict[str, Tell] = {}
