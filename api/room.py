"""How many are answered at a time: of one person, and in all."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from api.problems import busy
from api.store.audit import Person


@dataclass
class Room:
    """For what costs a target or a model something. Whoever finds none is told to come again."""

    what: str
    """`questions`: as the refusal calls them, which says that they `are being answered`."""
    most: int
    most_of_one: int
    taken: Counter[str] = field(default_factory=Counter, init=False)

    def check(self, person: Person) -> None:
        """Is there room for one more of theirs? Raises Problem."""
        if self.taken.total() >= self.most:
            raise busy(f"{self.most} {self.what} are being answered already")
        if self.taken[person.name] >= self.most_of_one:
            raise busy(f"{self.most_of_one} {self.what} of yours are being answered already")

    @contextlib.contextmanager
    def entered(self, person: Person) -> Iterator[None]:
        """Be answered until the block ends. Raises Problem."""
        self.check(person)
        self.taken[person.name] += 1
        try:
            yield
        finally:
            self.taken[person.name] -= 1
            if not self.taken[person.name]:
                del self.taken[person.name]
