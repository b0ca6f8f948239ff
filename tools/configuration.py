"""CONFIG GET of the allow-list (`tools/permissions.py`); never a password."""

from tools.reading import Reading


class Parameter(Reading):
    """One parameter as the server prints it; sizes in bytes."""

    name: str
    value: str


class Configuration(Reading):
    """CONFIG GET of allowed parameters; those this build lacks are in `unknown`."""

    parameters: dict[str, str]
    """parameter -> value, e.g. {"maxmemory": "104857600"}. Names hold no dots: safe in paths."""
    unknown: list[str]
