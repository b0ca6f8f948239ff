"""Loaded modules. Source: MODULE LIST."""

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.reading import Reading
from tools.replies import integer, items, mapping, text


class ModuleRow(Reading):
    """One module."""

    name: str
    version: int


class Modules(Reading):
    """All loaded modules."""

    modules: list[ModuleRow]


class ModulesArguments(Arguments):
    """None."""


MOST_MODULES = 100


async def modules(connection: Connection, args: ModulesArguments) -> Modules:
    """Loaded modules and their version numbers; never their arguments. Source: MODULE LIST."""
    reply = items(await connection.execute("MODULE", "LIST"))
    rows = [mapping(raw) for raw in reply[:MOST_MODULES]]
    return Modules(
        modules=[ModuleRow(name=text(r.get("name")), version=integer(r.get("ver"))) for r in rows]
    )
