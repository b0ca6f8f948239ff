"""The key of hashed names: made once, beside the database, for this user only."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from agent.model import Model
from api.reasoning import language_model
from api.settings import Settings, SettingsError


def with_model(settings: Callable[..., Settings], *, hash_names: bool) -> Settings:
    return settings(model={"hash_names": hash_names}).model_copy(update={"openai_model": "m"})


def other_name(settings: Settings) -> str:
    model = language_model(settings)
    assert isinstance(model, Model)
    assert model.veil is not None
    return model.veil.name("session:42")


def test_names_hash_alike_after_a_restart(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    first = other_name(with_model(settings, hash_names=True))
    assert first == other_name(with_model(settings, hash_names=True))
    assert (tmp_path / "names.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "names.key").unlink()
    assert first != other_name(with_model(settings, hash_names=True))


def test_without_the_setting_there_is_no_key(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    model = language_model(with_model(settings, hash_names=False))
    assert model is not None
    assert model.veil is None
    assert not (tmp_path / "names.key").exists()


def test_a_database_elsewhere_leaves_no_file(settings: Callable[..., Settings]) -> None:
    there = {"database_url": SecretStr("postgresql://u:p@db/oncall")}
    assert other_name(with_model(settings, hash_names=True).model_copy(update=there))


def test_a_damaged_key_says_what_to_do(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "names.key").write_bytes(b"short")
    with pytest.raises(SettingsError, match=r"names\.key: not 32 bytes; remove it"):
        other_name(with_model(settings, hash_names=True))
