"""Secrets that come from files, as Docker and Kubernetes mount them: `NAME_FILE` and `${file:…}`.

A secret is in the environment or in a file, never on the command line, where every process of the
machine could read it.
"""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGEST = 64 * 1024
"""Bytes of a file; a secret is short, so more is another file."""
_REFERENCE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\}")

FileVersion = tuple[int, int, int] | None
"""Another one for another content; None: it is not there."""


class SecretMissing(Exception):
    """It is not where it was said to be; the text names the place, never what is there."""


@dataclass
class Secrets:
    """The environment, and the files it or the configuration points at."""

    env: Mapping[str, str]
    read: dict[Path, FileVersion] = field(default_factory=dict)
    """What was read, or should have been, as it was just before that."""
    exposed: list[str] = field(default_factory=list)
    """Files that were read and that every user of this machine may read, too."""

    def value(self, name: str) -> str | None:
        """What `NAME` holds, or the file that `NAME_FILE` names. Raises SecretMissing."""
        path = self.env.get(f"{name}_FILE")
        if not path:
            return self.env.get(name)
        if self.env.get(name):
            raise SecretMissing(f"{name} and {name}_FILE are both set; leave one out")
        try:
            return self._read(path)
        except SecretMissing as missing:
            raise SecretMissing(f"{name}_FILE: {missing}") from None

    def filled(self, value: Any, where: str = "") -> Any:
        """The same, with what its texts refer to. Raises SecretMissing, which names the field."""
        if isinstance(value, dict):
            return {key: self.filled(part, f"{where}.{key}") for key, part in value.items()}
        if isinstance(value, list):
            return [self.filled(part, f"{where}.{i}") for i, part in enumerate(value)]
        if not isinstance(value, str):
            return value
        try:
            return _REFERENCE.sub(self._meant, value)
        except SecretMissing as missing:
            raise SecretMissing(f"{where[1:]}: {missing}") from None

    def _meant(self, reference: re.Match[str]) -> str:
        if path := reference["file"]:
            return self._read(path)
        value = self.value(name := reference["name"])
        if value is None:
            raise SecretMissing(f"the environment has no {name}; set it, or {name}_FILE")
        return value

    def _read(self, name: str) -> str:
        path = Path(name).expanduser()
        self.read[path] = version_of(path)
        try:
            told = path.stat()
            if not stat.S_ISREG(told.st_mode) or told.st_size > LARGEST:
                raise SecretMissing(f"{path} is no file of at most {LARGEST // 1024} KiB")
            text = path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise SecretMissing(f"{path} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise SecretMissing(f"{path} is not text in UTF-8") from None
        if not text:
            raise SecretMissing(f"{path} is empty")
        if told.st_mode & stat.S_IROTH and str(path) not in self.exposed:
            self.exposed.append(str(path))
        return text


def version_of(path: Path) -> FileVersion:
    """Of what is there now, also behind a link that was moved."""
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_ino, told.st_mtime_ns, told.st_size
