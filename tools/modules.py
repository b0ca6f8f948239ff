"""Loaded modules. Source: MODULE LIST."""

from tools.reading import Reading


class ModuleRow(Reading):
    """One module."""

    name: str
    version: int


class Modules(Reading):
    """All loaded modules."""

    modules: list[ModuleRow]
