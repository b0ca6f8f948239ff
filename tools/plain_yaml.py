"""YAML as plain values: ours, a team's, an operator's."""

from typing import Any

import yaml

SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:
    """What the text says. Raises yaml.YAMLError.

    Safe, and in C where that is built: ten times as fast, for whoever starts, and for each
    investigation that looks up what servers there are.
    """
    return yaml.load(text, Loader=SAFE)  # noqa: S506 - the safe loader
