"""Which target an alert means, and whose incidents it may join: by configuration alone."""

from collections.abc import Sequence

from agent.context import Target
from agent.incident import Alert
from api.store.place import Place


def target_for(alert: Alert, targets: Sequence[Target]) -> Target | None:
    """The target whose `match` labels the alert all carries: the most specific, then the first."""
    fits = [
        target
        for target in targets
        if target.match and target.match.items() <= alert.labels.items()
    ]
    return max(fits, key=lambda target: len(target.match), default=None)


def place_of(target: Target | None, targets: Sequence[Target]) -> Place:
    """Its place among all of them."""
    if target is None:
        return Place()
    if not target.part_of:
        return Place(target.name)
    related = tuple(other.name for other in targets if other.part_of == target.part_of)
    return Place(target.name, target.part_of, related)
