"""The rules of strict function schemas, as OpenAI documents them for Structured Outputs.

Source: the guide's "Supported schemas": an object at the root, every property required, no other
allowed, a subset of the keywords. The limits are the first published ones (100 properties, 5
levels, 500 enum values), which some compatible services still have; OpenAI's own are larger.
"""

from collections.abc import Iterator
from typing import Any

MOST_PROPERTIES = 100
DEEPEST = 5
MOST_ENUM_VALUES = 500
LONGEST_NAMES = 15_000
"""Characters of all property names, definition names and enum values."""
KEYWORDS = frozenset(
    {"type", "enum", "const", "anyOf", "$ref", "$defs", "items", "properties", "required",
     "additionalProperties", "description"}
)  # fmt: skip
"""Those that every service with strict schemas takes."""


def violations(schema: dict[str, Any]) -> list[str]:
    """What strict mode would refuse about a schema, each in a few words."""
    found = [f"{path}: {why}" for path, node in _nodes(schema, "") for why in _wrong(node)]
    if schema.get("type") != "object" or "anyOf" in schema:
        found.append("the root is no object")
    nodes = [node for _, node in _nodes(schema, "")]
    properties = [name for node in nodes for name in node.get("properties", {})]
    values = [value for node in nodes for value in node.get("enum", [])]
    names = [*properties, *values, *schema.get("$defs", {})]
    if len(properties) > MOST_PROPERTIES:
        found.append(f"{len(properties)} properties")
    if len(values) > MOST_ENUM_VALUES:
        found.append(f"{len(values)} enum values")
    if sum(len(str(name)) for name in names) > LONGEST_NAMES:
        found.append("names are too long together")
    if (deep := _depth(schema, schema)) > DEEPEST:
        found.append(f"{deep} levels of objects")
    return found


def _nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema."""
    if not isinstance(node, dict):
        return
    yield path or "root", node
    for holder in ("properties", "$defs"):
        for name, part in node.get(holder, {}).items():
            yield from _nodes(part, f"{path}.{name}")
    yield from _nodes(node.get("items"), f"{path}.items")
    for number, part in enumerate(node.get("anyOf", [])):
        yield from _nodes(part, f"{path}.anyOf.{number}")


def _wrong(node: dict[str, Any]) -> Iterator[str]:
    for keyword in node.keys() - KEYWORDS:
        yield f"the keyword {keyword}"
    if "$ref" in node and len(node) > 1:
        yield "something beside $ref"
    if not node.keys() & {"type", "$ref", "anyOf"}:
        yield "no type"
    if node.get("type") == "object":
        if node.get("additionalProperties") is not False:
            yield "additionalProperties is not false"
        if sorted(node.get("required", [])) != sorted(node.get("properties", {})):
            yield "a property is not required"
    if node.get("type") == "array" and "items" not in node:
        yield "an array without items"


def _depth(node: Any, root: dict[str, Any], under: int = 0) -> int:
    """Levels of objects, references followed; a recursive schema has too many."""
    if not isinstance(node, dict) or under > DEEPEST:
        return under
    if "$ref" in node:
        return _depth(root["$defs"][node["$ref"].rpartition("/")[2]], root, under)
    here = under + (node.get("type") == "object")
    parts = [*node.get("properties", {}).values(), node.get("items"), *node.get("anyOf", [])]
    return max([here, *(_depth(part, root, here) for part in parts)])
