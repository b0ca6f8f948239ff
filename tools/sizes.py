"""The catalogue of instance sizes: `instance_sizes.yaml`, or a file of the user's own."""

from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.plain_yaml import read_yaml
from tools.reading import Measured, NotMeasured, Reading

LONGEST_CATALOGUE = 256 * 1024


class InstanceSize(Reading):
    """One size of the catalogue (`tools/instance_sizes.yaml`: source and date there)."""

    provider: str
    name: str
    memory_bytes: int
    source: str


class _Size(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    memory_bytes: int = Field(gt=0)


class Provider(BaseModel):
    """Sizes of one provider, and where they come from."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    provider: str = Field(min_length=1, max_length=60)
    source: str
    date: object = None
    """When it was compared with the source; without one, the file's."""
    checked: str = "not stated"
    sizes: list[_Size] = Field(min_length=1, max_length=300)


class Catalogue(BaseModel):
    """`instance_sizes.yaml`, or the file that replaces it."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    date: object
    providers: list[Provider] = Field(min_length=1, max_length=40)

    def smallest(self, needed: int) -> list[InstanceSize]:
        """The smallest that holds `needed` bytes, one per provider that has one."""
        found = []
        for provider in self.providers:
            enough = [size for size in provider.sizes if size.memory_bytes >= needed]
            if enough:
                found.append(self._size(provider, min(enough, key=lambda size: size.memory_bytes)))
        return found

    def largest(self) -> list[InstanceSize]:
        """The largest of each provider."""
        return [
            self._size(provider, max(provider.sizes, key=lambda size: size.memory_bytes))
            for provider in self.providers
        ]

    def _size(self, provider: Provider, size: _Size) -> InstanceSize:
        date = provider.date or self.date
        return InstanceSize(
            provider=provider.provider,
            name=size.name,
            memory_bytes=size.memory_bytes,
            source=f"{provider.source}; checked {date}: {provider.checked}",
        )


def read_catalogue(path: str | None = None) -> Measured[Catalogue]:
    """The sizes on offer. What is wrong with a file is said without quoting it."""
    try:
        return _shipped() if path is None else _parsed(_own(Path(path)))
    except (OSError, ValueError, yaml.YAMLError) as error:
        wrong = "not of its shape" if isinstance(error, ValidationError) else type(error).__name__
        return NotMeasured(
            not_measured="catalogue of instance sizes",
            because=f"the file could not be read: {wrong}",
            failure="error",
            remedy="write it like tools/instance_sizes.yaml",
        )


@cache
def _shipped() -> Catalogue:
    """Ours, which nobody changes while we run."""
    return _parsed(resources.files("tools").joinpath("instance_sizes.yaml").read_text("utf-8"))


def _parsed(text: str) -> Catalogue:
    return Catalogue.model_validate(read_yaml(text))


def _own(path: Path) -> str:
    if path.suffix not in (".yaml", ".yml") or path.stat().st_size > LONGEST_CATALOGUE:
        raise ValueError("not a YAML file of moderate size")
    return path.read_text("utf-8")
