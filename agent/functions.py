"""Functions as a model sees them: the read-only tools, and how to submit. None writes."""

import copy
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, Protocol

from pydantic import BaseModel

from agent.facts import UNITS
from agent.incident import DiagnosisDraft

FunctionSchema = dict[str, Any]
SUBMIT = "submit_diagnosis"
LONGEST_DESCRIPTION = 160
LONGEST_CHOICE = 20
"""A longer list of allowed values is not sent: the tool names the field when one is wrong."""
_NOT_OFFERED = frozenset(
    {
        "memory_limit", "catalogue", "history", "ranges", "facts", "baselines", "page",
        "scan_seconds", "server_seconds", "lengths",
    }
)  # fmt: skip
"""Arguments that the configuration knows better, that only pace a walk, or that are for a person
to choose."""
TAKEN_BY_CODE = frozenset({"server_changes", "key_changes"})
"""Looks that every investigation takes by itself where there is something to compare with, and none
can where there is not: offering them would only make each prompt longer."""
_NOT_STRICT = frozenset(
    {"title", "description", "default", "maxLength", "minLength", "maxItems", "minItems",
     "maximum", "minimum"}
)  # fmt: skip
"""What strict mode refuses on some endpoints, or what costs tokens: pydantic checks it anyway."""


class Described(Protocol):
    """What can be offered as a function: a read-only tool, or something like it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def description(self) -> str:
        """What it does."""

    @property
    def args(self) -> type[BaseModel]:
        """Its arguments."""


def read_functions(tools: Mapping[str, Described]) -> list[FunctionSchema]:
    """A function for each read-only tool that is worth asking for, in few tokens.

    Every turn sends them all: a description is the first paragraph, without the commands read.
    """
    return [
        function(tool.name, _first_paragraph(tool.description), _offered(tool.args))
        for tool in map(tools.__getitem__, may_be_asked_for(tools))
    ]


def may_be_asked_for(tools: Iterable[str]) -> list[str]:
    """Of these, the ones that a model is offered."""
    return [name for name in tools if name not in TAKEN_BY_CODE]


def offered(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call without those that are not the model's to set.

    That they are not offered keeps nobody from naming them: a limit that was made up would come
    back as evidence, and a path would be opened.
    """
    return {name: value for name, value in arguments.items() if name not in _NOT_OFFERED}


def function(name: str, description: str, parameters: dict[str, Any]) -> FunctionSchema:
    """A function whose arguments need not fit the schema: they are checked when it is called."""
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _first_paragraph(text: str) -> str:
    first = " ".join(text.partition("\n\n")[0].split())
    return first.partition(" Source:")[0][:LONGEST_DESCRIPTION]


@cache
def _offered(args: type[BaseModel]) -> dict[str, Any]:
    """What a model may set, and no more about it than its type, bounds and default."""
    properties = args.model_json_schema().get("properties", {})
    return {
        "type": "object",
        "properties": {
            name: _plain(schema) for name, schema in properties.items() if name not in _NOT_OFFERED
        },
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    plain = {
        name: _plain(part) if name == "items" else part
        for name, part in schema.items()
        if name not in ("title", "description")
    }
    if len(plain.get("enum", ())) > LONGEST_CHOICE:
        del plain["enum"]
    return plain


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
