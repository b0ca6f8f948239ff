"""Text that a person hands to another tool: a command, Terraform, YAML, redis.conf.

Values come from servers, evidence and catalogues of others. Each is quoted for the language it goes
into, so that it stays one value there.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from tools.reading import printable

Language = Literal["shell", "hcl", "yaml", "conf", "text"]
_PLAIN = re.compile(r"[A-Za-z0-9_.,:/@%+*-]+")
_HCL_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True)
class Artefact:
    """One of the ways to make the same change."""

    title: str
    language: Language
    text: str


def joined(artefacts: Iterable[Artefact]) -> str:
    """All of them as one text, each under a comment with its title."""
    return "\n\n".join(f"{comment(one.title)}\n{one.text}" for one in artefacts)


def comment(text: str) -> str:
    """One line that every one of the languages skips."""
    return f"# {printable(text, 400)}"


def shell(*lines: Sequence[str]) -> str:
    """One POSIX shell command, its words over these lines."""
    return " \\\n  ".join(map(shlex.join, lines))


def hcl(value: str) -> str:
    """A quoted string of Terraform: no interpolation, no directive, one line."""
    safe = "".join(_HCL_ESCAPES.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in value)
    return f'"{safe.replace("${", "$${").replace("%{", "%%{")}"'


def terraform(kind: str, *lines: str) -> str:
    """A resource's changed attributes."""
    return "\n".join([f'resource "{kind}" "NAME" {{', *(f"  {line}" for line in lines), "}"])


def yaml_of(content: Mapping[str, Any]) -> str:
    """As YAML."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=False).rstrip()


def conf(parameter: str, value: str) -> str:
    """A line of redis.conf: words as they are, and quoted where the parser would split them."""
    words = value.split(" ") if value else [""]
    return " ".join(map(_conf_word, [parameter, *words]))


def _conf_word(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    raw = word.encode("utf-8", "surrogateescape")
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in raw
    )
    return f'"{escaped}"'
