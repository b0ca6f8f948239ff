"""Whose managed service a server is, as far as its host name tells. Pure.

Managed services keep commands to themselves (CONFIG, parts of CLIENT, DEBUG, …): what they refuse
is not measured, and settings are changed in their own console.
"""

import re

_ENDPOINTS: tuple[tuple[str, str], ...] = (
    (r"\.cache\.amazonaws\.com(\.cn)?", "AWS ElastiCache"),
    (r"\.memorydb\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", "AWS MemoryDB"),
    (r"\.redis\.cache\.windows\.net", "Azure Cache for Redis"),
    (r"\.redis\.azure\.net|\.redisenterprise\.cache\.azure\.net", "Azure Managed Redis"),
    (r"\.(redis-cloud|redislabs|rlrcp)\.com", "Redis Cloud"),
    (r"\.upstash\.io", "Upstash"),
    (r"\.aivencloud\.com", "Aiven"),
)
"""Endings of the endpoints that each provider's documentation shows. Memorystore has addresses."""


def provider_of(node: str) -> str | None:
    """The provider of `host:port (role)`; None: unknown, or nobody's."""
    host = node.partition(" ")[0].rpartition(":")[0].lower().rstrip(".")
    return next((name for form, name in _ENDPOINTS if re.search(f"({form})$", host)), None)
