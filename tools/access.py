"""Refused logins, commands and keys. Source: ACL LOG."""

from tools.reading import Reading


class AclDenial(Reading):
    """One entry. Names are untrusted text."""

    count: int
    reason: str
    """auth, command, key, channel"""
    context: str
    object: str
    username: str
    client_address: str
    age_seconds: float


class AclLog(Reading):
    """Newest 64 entries of ACL LOG."""

    entries: list[AclDenial]
    total_denials: int
    """Sum of counts."""
