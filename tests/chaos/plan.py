"""What a seed does: which processes are struck, how, when, and for how long they are away.

The queue is forgetful or persistent beside PostgreSQL; SQLite has one service that does it all.
"""

import random
from dataclasses import dataclass
from typing import Literal

Variant = Literal["forgetful queue", "persistent queue", "sqlite"]
Kind = Literal["serve", "worker", "queue", "database"]
How = Literal["killed", "frozen", "a child killed"]
VARIANTS: tuple[Variant, ...] = (
    "forgetful queue", "persistent queue",
    "forgetful queue", "persistent queue", "sqlite",
)  # fmt: skip
SERVES, WORKERS, TARGETS = 2, 2, 3
FROZEN_SECONDS = (12.0, 24.0)
"""Past the lease; some also past what PostgreSQL waits for who stops inside of a transaction."""


@dataclass(frozen=True)
class Blow:
    """One process struck once."""

    kind: Kind
    which: int
    how: How
    since: Literal["load", "approval"]
    """From when `after` counts; without an approval: from the beginning of the load."""
    after: float
    away: float
    """Seconds until it is started again, or goes on."""

    def __str__(self) -> str:
        one = f"{self.kind} {self.which}" if self.kind in ("serve", "worker") else self.kind
        return f"{one} {self.how} {self.after:.1f} s into the {self.since}, for {self.away:.1f} s"


@dataclass(frozen=True)
class Plan:
    """One round."""

    seed: int
    variant: Variant
    alerts: int
    approves: bool
    blows: tuple[Blow, ...]


def plan_of(seed: int) -> Plan:
    """The same seed is the same plan. At least one blow of it kills."""
    chance = random.Random(seed)
    variant = VARIANTS[seed % len(VARIANTS)]
    approves = chance.random() < 0.6
    blows = [_blow(chance, variant, "load", "killed")]
    blows += [_blow(chance, variant, "load") for _ in range(chance.choice([0, 1, 2, 2]))]
    if approves and chance.random() < 0.7:
        blows.append(_blow(chance, variant, "approval"))
    return Plan(seed, variant, chance.randint(10, 30), approves, tuple(blows))


def plans_with(kills: int, first: int) -> list[Plan]:
    """As many seeds as it takes for so many SIGKILLs."""
    plans: list[Plan] = []
    planned = 0
    while planned < kills:
        plans.append(plan_of(first + len(plans)))
        planned += sum("killed" in blow.how for blow in plans[-1].blows)
    return plans


def _blow(
    chance: random.Random, variant: Variant, since: Literal["load", "approval"], how: str = ""
) -> Blow:
    kinds: tuple[Kind, ...] = ("serve", "worker", "worker", "queue", "database")
    kind: Kind = "serve" if variant == "sqlite" else chance.choice(kinds)
    ways: list[How] = ["killed", "killed", "frozen"]
    if kind == "database":
        ways.append("a child killed")
    chosen: How = "killed" if how == "killed" else chance.choice(ways)
    away = chance.uniform(*FROZEN_SECONDS) if chosen == "frozen" else chance.uniform(0.0, 2.0)
    which = 0 if variant == "sqlite" else chance.randrange(2)
    return Blow(kind, which, chosen, since, chance.uniform(0.0, 3.5), away)
