"""Arguments that a runbook gives, or that nothing but the server itself fills in."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agent.true_names import MARK, true_prefix

if TYPE_CHECKING:
    from agent.arguments import Gap

Arguments = dict[str, Any]


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


PLAIN: dict[str, Callable[["Gap"], Awaitable[Arguments | None]]] = {
    "remove_prefix": _remove_prefix,
}
