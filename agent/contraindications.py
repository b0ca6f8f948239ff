"""What makes which cause worse: the "Wrong" column of FAILURE_MODES.md, as a table. Pure."""

from typing import Any, Literal

Effect = Literal["more memory", "fewer keys", "eviction", "unlimited buffer", "defragmentation"]

_HOLDS_WHAT_IT_IS_GIVEN: frozenset[Effect] = frozenset({"more memory", "fewer keys", "eviction"})
"""A buffer fills whatever room it gets; the data is innocent."""
_DATA_IS_INNOCENT: frozenset[Effect] = frozenset({"fewer keys", "eviction"})

HARMFUL: dict[str, frozenset[Effect]] = {
    "small-string-overhead": frozenset({"defragmentation"}),
    "slow-pubsub-cob": _HOLDS_WHAT_IT_IS_GIVEN,
    "monitor-left-on": _HOLDS_WHAT_IT_IS_GIVEN,
    "unread-reply-cob": _HOLDS_WHAT_IT_IS_GIVEN,
    "query-buffer-bloat": _HOLDS_WHAT_IT_IS_GIVEN,
    "replica-output-buffer": _HOLDS_WHAT_IT_IS_GIVEN | {"unlimited buffer"},
    "oversized-backlog": _DATA_IS_INNOCENT,
    "fragmentation-after-deletes": _DATA_IS_INNOCENT,
    "rss-not-returned-after-peak": _DATA_IS_INNOCENT,
    "defrag-cpu-burn": _DATA_IS_INNOCENT | {"defragmentation"},
    "fork-cow-memory": frozenset({"more memory"}),
    "lua-script-cache": _HOLDS_WHAT_IT_IS_GIVEN,
    "module-memory": _DATA_IS_INNOCENT,
    "expired-backlog": frozenset({"eviction"}),
    "maxmemory-unset": frozenset({"fewer keys"}),
    "hot-key": frozenset({"eviction"}),
}
_REMOVES_DATA = frozenset({"data-cleanup", "single-bigkey", "stream-unbounded", "confirm-cache"})


def effects_of(kind: str, arguments: dict[str, Any]) -> frozenset[Effect]:
    """What an action does, in the words of the table."""
    if kind in ("expire_prefix", "remove_prefix", "trim_stream", "trim_collection"):
        return frozenset({"fewer keys"})
    if kind == "defragment":
        return frozenset({"defragmentation"})
    if kind == "advise_application":
        removes = arguments.get("topic") in _REMOVES_DATA
        return frozenset({"fewer keys"}) if removes else frozenset()
    if kind == "set_config":
        return _effects_of_setting(str(arguments["parameter"]), str(arguments["value"]))
    return frozenset()


def _effects_of_setting(parameter: str, value: str) -> frozenset[Effect]:
    if parameter == "maxmemory":
        return frozenset({"more memory"})
    if parameter == "maxmemory-policy" and value != "noeviction":
        return frozenset({"eviction"})
    if parameter == "client-output-buffer-limit" and value.split()[1:2] == ["0"]:
        return frozenset({"unlimited buffer"})
    if parameter == "activedefrag" and value == "yes":
        return frozenset({"defragmentation"})
    return frozenset()


def is_harmful(cause: str, kind: str, arguments: dict[str, Any]) -> bool:
    """Would this make that cause worse, or hit what is innocent of it?"""
    harmful = HARMFUL.get(cause, frozenset())
    # A larger machine is the answer to a fork's copied pages, and to nothing a buffer holds.
    if kind in ("instance_resize", "resize_instance"):
        return "more memory" in harmful and cause != "fork-cow-memory"
    return bool(harmful & effects_of(kind, arguments))
