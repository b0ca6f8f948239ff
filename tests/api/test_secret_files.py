"""Secrets in files, as Docker and Kubernetes mount them; what is wrong is said without them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from api.cli.main import app as command
from api.secret_files import LARGEST
from api.settings import ENVIRONMENT, FROM_FILES, Settings, SettingsError, load_settings

KEY = "c" * 64


def load(tmp_path: Path, config: Any = None, **environment: str) -> Settings:
    if config is not None:
        (tmp_path / "oncall.yaml").write_text(yaml.safe_dump(config))
        environment["REDIS_ONCALL_CONFIG"] = str(tmp_path / "oncall.yaml")
    return load_settings({"REDIS_ONCALL_DATA": str(tmp_path)} | environment)


def secret(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("field", FROM_FILES)
def test_a_variables_secret_may_be_in_a_file(tmp_path: Path, field: str) -> None:
    values = {"database_url": "sqlite:////tmp/x.db", "queue": "redis://:s3cret@h/0"}
    value = values.get(field, KEY)
    name = ENVIRONMENT[field]
    settings = load(tmp_path, **{f"{name}_FILE": secret(tmp_path, value + "\n")})
    assert getattr(settings, field).get_secret_value() == value
    assert settings.exposed == []
    assert value not in repr(settings)


def test_the_file_refers_to_files_and_to_variables_that_do(tmp_path: Path) -> None:
    path = secret(tmp_path, "s3cret\n")
    target = {"name": "c", "url": f"redis://u:${{file:{path}}}@h", "match": {"a": "$5 {x}"},
              "remedy_url": "redis://u:${CACHE}@h"}  # fmt: skip
    settings = load(tmp_path, {"targets": [target]}, CACHE_FILE=path)
    (cache,) = settings.agent_targets()
    assert cache.url == cache.remedy_url == "redis://u:s3cret@h"
    assert cache.match == {"a": "$5 {x}"}


def test_a_secret_is_not_looked_through_for_references(tmp_path: Path) -> None:
    path = secret(tmp_path, "${HOME}")
    target = {"name": "c", "url": "redis://h", "match": {"a": f"${{file:{path}}}"}}
    (cache,) = load(tmp_path, {"targets": [target]}, HOME="/x").agent_targets()
    assert cache.match == {"a": "${HOME}"}


@pytest.mark.parametrize(
    ("text", "environment", "told"),
    [
        ("s3cret", {"OPENAI_API_KEY": "s3cret"}, ["OPENAI_API_KEY_FILE", "both"]),
        ("", {}, ["OPENAI_API_KEY_FILE", "empty"]),
        ("\n", {}, ["OPENAI_API_KEY_FILE", "empty"]),
        ("s3cret" * LARGEST, {}, ["OPENAI_API_KEY_FILE", "64 KiB"]),
        ("s3cret", {"OPENAI_API_KEY_FILE": "/nowhere/at/all"}, ["/nowhere/at/all", "No such file"]),
        ("s3cret", {"OPENAI_API_KEY_FILE": "/dev/zero"}, ["/dev/zero", "no file"]),
    ],
)
def test_what_is_wrong_names_the_variable_and_not_the_secret(
    tmp_path: Path, text: str, environment: dict[str, str], told: list[str]
) -> None:
    environment = {"OPENAI_API_KEY_FILE": secret(tmp_path, text)} | environment
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **environment)
    assert [words for words in told if words not in str(caught.value)] == []
    assert "s3cret" not in str(caught.value)


def test_what_the_configuration_refers_to_is_named_with_its_field(tmp_path: Path) -> None:
    for url in ("redis://${file:/nowhere}@h", "redis://${NOPE}@h"):
        with pytest.raises(SettingsError, match=r"^targets\.0\.url: .*(/nowhere|NOPE_FILE)"):
            load(tmp_path, {"targets": [{"name": "c", "url": url}]})


def test_a_secret_that_every_user_may_read_is_warned_about(tmp_path: Path) -> None:
    path = secret(tmp_path, KEY, mode=0o644)
    environment = {"REDIS_ONCALL_KEY_FILE": path, "REDIS_ONCALL_DATA": str(tmp_path)}
    assert load_settings(environment).exposed == [path]
    told = CliRunner().invoke(command, ["doctor", "--json"], env=environment).stdout
    assert f"{path}: every user here may read it" in told
    Path(path).chmod(0o640)
    assert load_settings(environment).exposed == []


def test_no_command_takes_a_secret_as_an_argument() -> None:
    from typer.main import get_command

    def options(group: Any) -> list[str]:
        found = [option for parameter in group.params for option in parameter.opts]
        for one in getattr(group, "commands", {}).values():
            found += options(one)
        return found

    told = options(get_command(command))
    assert len(told) > 50
    words = ("password", "secret", "api-key", "--key", "--token")
    assert [option for option in told if any(word in option for word in words)] == []
