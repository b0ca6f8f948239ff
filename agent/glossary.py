"""What the names mean that people meet here: fields of readings, parameters, tools, causes.

Gathered from where each is defined: docstrings of the readings' fields, `tools/meanings.yaml`,
the tools' own descriptions, the runbooks' causes. Nothing is written twice.
"""

import ast
import difflib
import functools
import inspect
import itertools
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

import tools
from agent.runbook import Library
from tools.plain_yaml import read_yaml
from tools.reading import NotMeasured, Reading
from tools.reads import READS

MEANINGS = Path(tools.__file__).with_name("meanings.yaml")
_WORDS = re.compile(r"[a-z0-9]+")
CLOSE = 0.84
LONGEST_NAME = 100


@dataclass(frozen=True)
class Term:
    """A name, what it means, and which tool reads it."""

    name: str
    meaning: str
    tool: str = ""
    path: str = ""
    """Where the value is in the tool's reading; empty: it has none, or one for each row."""
    source: str = ""
    """`field of memory_info`, `configuration parameter`, `tool`, `root cause`."""


@functools.lru_cache(1)
def _fixed() -> Mapping[str, Term]:
    """Everything but the causes, by lower-case name."""
    meanings = read_yaml(MEANINGS.read_text(encoding="utf-8"))
    terms: dict[str, Term] = {}
    for name, tool in READS.items():
        meaning = " ".join(tool.description.split())
        terms[name] = Term(name, meaning, name, "", "read-only tool")
    for tool_name, tool in READS.items():
        for model in _models(tool.reading):
            for field, told in _documented(model).items():
                meaning = meanings.get(field) or told
                path = field if model is tool.reading else ""
                if meaning and field not in terms:
                    terms[field] = Term(field, meaning, tool_name, path, f"field of {tool_name}")
    for name, meaning in meanings.items():
        if name not in terms:
            source = "configuration parameter" if name in _parameters() else ""
            tool_name = "config_get" if source else ""
            path = f"parameters.{name}" if source else ""
            terms[name] = Term(name, meaning, tool_name, path, source)
    return terms


def _parameters() -> frozenset[str]:
    from tools.permissions import CONFIG_SETTABLE

    return CONFIG_SETTABLE


def _models(model: type[Reading]) -> list[type[BaseModel]]:
    """The reading, and the rows in it."""
    found: list[type[BaseModel]] = []
    waiting: list[object] = [model]
    while waiting:
        at = waiting.pop(0)
        if isinstance(at, type) and issubclass(at, BaseModel) and at is not NotMeasured:
            if at not in found:
                found.append(at)
                waiting += [field.annotation for field in at.model_fields.values()]
        else:
            waiting += get_args(at)
    return found


def _documented(model: type[BaseModel]) -> dict[str, str]:
    """Every field, and the docstring under it (empty where there is none)."""
    told = dict.fromkeys(model.model_fields, "")
    body = _classes(model.__module__).get(model.__name__, [])
    for field, below in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            told[field.target.id] = " ".join(below.value.value.split())
    return told


@functools.lru_cache(64)
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """The bodies of a module's classes."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def term_of(name: str, library: Library) -> Term | None:
    """What a name means, also if it is written apart (`evicted keys`) or slightly wrong."""
    known = dict(_fixed()) | {
        cause.id: Term(cause.id, _cause(cause.title, cause.kind), source="root cause")
        for cause in library.causes().values()
    }
    words = _WORDS.findall(name[:LONGEST_NAME].lower())
    parted, joined = "-".join(words), "_".join(words)
    for spelt in (name.strip().lower(), joined, parted, f"mem_{joined}"):
        if spelt in known:
            return known[spelt]
    close = difflib.get_close_matches(joined, known, 1, CLOSE) if len(joined) >= 8 else []
    return known[close[0]] if close else None


def _cause(title: str, kind: str) -> str:
    what = {
        "cause": "a root cause",
        "condition": "what a full server does, a condition with a cause of its own",
        "not_incident": "not an incident",
    }[kind]
    return f"{title.rstrip('.')} ({what})."
