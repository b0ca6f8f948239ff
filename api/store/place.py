"""Where an alert belongs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A target, and whose incidents its alerts may join."""

    target: str = ""
    """Empty: no configured target fits."""
    part_of: str = ""
    related: tuple[str, ...] = ()
    """All targets that are part of the same."""

    def lock(self, fingerprint: str = "") -> str:
        """What is excluded while its incidents are chosen. Several are taken in this order."""
        if self.part_of:
            return f"part_of:{self.part_of}"
        return f"target:{self.target}" if self.target else f"alert:{fingerprint}"

    def locks(self, fingerprint: str) -> set[str]:
        """That, and the alert: told of at two places at once, it is still stored by one alone.

        Its row is written while the head of the audit trail is locked: nobody may wait there.
        """
        return {self.lock(fingerprint), f"alert:{fingerprint}"}
