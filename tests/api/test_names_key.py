"""The key of hashed names: the installation's, so that its processes hash alike."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from agent.model import Model
from api.reasoning import language_model
from api.settings import Settings, SettingsError

KEYS = [SecretStr(f"{number}" * 64) for number in (1, 2)]


def with_model(
    settings: Callable[..., Settings], *, hash_names: bool, **fields: object
) -> Settings:
    made = settings(model={"hash_names": hash_names})
    return made.model_copy(update={"openai_model": "m"} | fields)


def other_name(settings: Settings) -> str:
    model = language_model(settings)
    assert isinstance(model, Model)
    assert model.veil is not None
    return model.veil.name("session:42")


def test_names_hash_alike_after_a_restart_and_with_another_key_anew(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    first = other_name(with_model(settings, hash_names=True))
    assert first == other_name(with_model(settings, hash_names=True))
    (tmp_path / "key").unlink()
    assert first != other_name(with_model(settings, hash_names=True))


def test_processes_on_several_machines_hash_alike(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """Chat is answered by `serve`, incidents by a worker elsewhere: one name, one pseudonym."""
    there = {"database_url": SecretStr("postgresql://u:p@db/oncall")}
    names = [
        other_name(
            with_model(settings, hash_names=True, key=key, data_folder=tmp_path / place, **there)
        )
        for key, place in ((KEYS[0], "a"), (KEYS[0], "b"), (KEYS[1], "a"))
    ]
    assert names[0] == names[1] != names[2]


def test_without_the_setting_there_is_no_key(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    model = language_model(with_model(settings, hash_names=False))
    assert model is not None
    assert model.veil is None
    assert not (tmp_path / "key").exists()


def test_a_damaged_key_says_what_to_do(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(
        SettingsError, match=r"hash_names needs the key: .*key: not 32 bytes in hex"
    ):
        other_name(with_model(settings, hash_names=True))
