"""Functions as a model sees them: the read-only tools, and how to submit. None writes."""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from agent.facts import UNITS
from agent.incident import DiagnosisDraft
from tools.catalogue import Tool

FunctionSchema = dict[str, Any]
SUBMIT = "submit_diagnosis"
LONGEST_DESCRIPTION = 700
_NOT_STRICT = (
    "title", "default", "maxLength", "minLength", "maxItems", "minItems", "maximum", "minimum",
)  # fmt: skip
"""JSON-schema keywords that strict mode refuses on some endpoints; pydantic checks them anyway."""


def read_functions(tools: Mapping[str, Tool]) -> list[FunctionSchema]:
    """One function for each read-only tool."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description[:LONGEST_DESCRIPTION],
                "parameters": _untitled(tool.args.model_json_schema()),
            },
        }
        for tool in tools.values()
    ]


def submit_function(causes: Collection[str]) -> FunctionSchema:
    """`submit_diagnosis`: a DiagnosisDraft by strict schema, with the catalogue of causes."""
    schema = DiagnosisDraft.model_json_schema()
    for code_fills in ("reasoner", "not_measured"):
        del schema["properties"][code_fills]
    named = {"type": "string", "enum": sorted(causes)}
    schema["properties"]["root_cause"] = named
    schema["$defs"]["FactDraft"]["properties"]["unit"] = {"type": "string", "enum": list(UNITS)}
    return strict_function(SUBMIT, "Submit the diagnosis. Ends the investigation.", schema)


def strict_function(name: str, description: str, schema: dict[str, Any]) -> FunctionSchema:
    """A function whose arguments must fit the schema exactly."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "strict": True,
            "parameters": strict_schema(schema),
        },
    }


def strict_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as strict mode wants it: every property required, no other allowed."""
    strict: dict[str, Any] = _strict(copy.deepcopy(schema))
    return strict


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": node["$ref"]}  # strict mode allows nothing beside a reference
    if isinstance(node.get("properties"), dict):
        node["properties"] = {name: _strict(part) for name, part in node["properties"].items()}
        node["required"] = list(node["properties"])
        node["additionalProperties"] = False
    return {
        name: part if name in ("properties", "required", "enum") else _strict_part(name, part)
        for name, part in node.items()
        if name not in _NOT_STRICT
    }


def _strict_part(name: str, part: Any) -> Any:
    if name == "$defs":
        return {key: _strict(value) for key, value in part.items()}
    return _strict(part)


def _untitled(node: Any) -> Any:
    """Without the titles pydantic adds, which cost tokens; a property called title stays."""
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        name: {key: _untitled(value) for key, value in part.items()}
        if name in ("properties", "$defs")
        else _untitled(part)
        for name, part in node.items()
        if not (name == "title" and isinstance(part, str))
    }
