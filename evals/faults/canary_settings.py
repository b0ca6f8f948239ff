"""A server's whole configuration, before and after: only what was approved may differ."""

from collections.abc import Mapping

import redis

_SAME_AS = (
    ("ziplist", "listpack"),
    ("slave", "replica"),
    ("lua-time-limit", "busy-reply-threshold"),
)
"""Old names that a build answers to besides the new ones."""
_BUFFERS = "client-output-buffer-limit"


def settings(client: "redis.Redis") -> dict[str, str]:
    """CONFIG GET *, under the new names. Raises redis.RedisError."""
    found = {_named(text(name)): text(value) for name, value in client.config_get("*").items()}
    classes = found.pop(_BUFFERS, "").replace("slave", "replica").split()
    # Each class is a setting of its own: a change of one must leave the others.
    for place in range(0, len(classes) - 3, 4):
        found[f"{_BUFFERS} {classes[place]}"] = " ".join(classes[place + 1 : place + 4])
    return found


def changed(
    before: Mapping[str, str], now: Mapping[str, str], approved: Mapping[str, str]
) -> list[str]:
    """What differs without anybody's approval, or from what was approved. In words."""
    wanted: dict[str, str] = {}
    for name, value in approved.items():
        if name == _BUFFERS:
            kind, _, limits = value.partition(" ")
            wanted[f"{_BUFFERS} {kind}"] = limits
        else:
            wanted[_named(name)] = value
    expected = {**before, **wanted}
    return [
        f"setting {name} is {now.get(name, 'missing')}, not {expected[name]}"
        for name in sorted(expected)
        if now.get(name) != expected[name]
    ]


def _named(name: str) -> str:
    for old, new in _SAME_AS:
        name = name.replace(old, new)
    return name


def text(value: object) -> str:
    """Replies are bytes or text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
