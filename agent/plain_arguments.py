"""Arguments that a runbook gives, or that nothing but the server itself fills in."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agent.acl_arguments import acl_change
from agent.true_names import MARK, true_prefix
from tools.remedies.vitals import MIB

if TYPE_CHECKING:
    from agent.arguments import Gap

Arguments = dict[str, Any]
LEAST_FRAGMENTED = 10 * MIB
"""What a defragmentation leaves alone anyway."""


async def _remove_prefix(gap: "Gap") -> Arguments | None:
    """Only where the owner of the data says so, in a runbook of theirs."""
    prefix = str(gap.given.get("prefix", ""))
    if gap.given.get("owner_confirmed") is not True or not prefix:
        return None
    if MARK.search(prefix):
        prefix = await true_prefix(gap.findings.context.connection, prefix)
    # An escape or an ellipsis means that the real bytes are not what is shown.
    if "\\" in prefix or "…" in prefix:
        return None
    return gap.given | {"prefix": prefix}


async def _delete_function(gap: "Gap") -> Arguments | None:
    return gap.given if gap.given.get("owner_confirmed") is True else None


async def _as_given(gap: "Gap") -> Arguments | None:
    return gap.given


async def _background_save(gap: "Gap") -> Arguments | None:
    limit = gap.findings.context.target.memory_limit
    return {} if limit is None else {"memory_limit": limit}


async def _defragment(gap: "Gap") -> Arguments | None:
    return {"min_gain_bytes": LEAST_FRAGMENTED} | gap.given


PLAIN: dict[str, Callable[["Gap"], Awaitable[Arguments | None]]] = {
    "remove_prefix": _remove_prefix,
    "delete_function": _delete_function,
    "kill_script": _as_given,
    "background_save": _background_save,
    "defragment": _defragment,
    "preview_acl_change": acl_change,
}
