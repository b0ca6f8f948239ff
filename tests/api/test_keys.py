"""The installation's key: made once, for its owner alone, and never shown."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.keys import KeyUnusable, subkey
from api.settings import SettingsError, load_settings

GIVEN = bytes(range(32))


def derived(folder: Path, purpose: str = "backups", **environment: str) -> bytes:
    settings = load_settings({"HOME": "/", "REDIS_ONCALL_DATA": str(folder), **environment})
    return subkey(settings, purpose)  # type: ignore[arg-type]


def test_a_key_is_made_once_for_its_owner_and_each_purpose_gets_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = derived(folder)
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["key"]
    assert derived(folder) == first
    assert len({first, derived(folder, "audit"), derived(tmp_path / "elsewhere")}) == 3


def test_of_several_processes_that_make_it_all_use_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(derived, [tmp_path] * 8))) == 1


def test_a_given_key_is_used_however_it_is_written_and_no_file_is_made(tmp_path: Path) -> None:
    spelt = [GIVEN.hex(), GIVEN.hex().upper(), base64.b64encode(GIVEN).decode() + "\n"]
    spelt += [base64.urlsafe_b64encode(GIVEN).decode()]
    assert len({derived(tmp_path, REDIS_ONCALL_KEY=text) for text in spelt}) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["s3cret", base64.b64encode(b"s3cret").decode(), "ff" * 31])
def test_a_key_that_is_none_stops_the_start_and_is_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_ONCALL_KEY: not 32 bytes") as refused:
        derived(tmp_path, REDIS_ONCALL_KEY=text)
    assert text not in str(refused.value)


def test_a_key_that_others_may_read_or_that_is_damaged_is_refused(tmp_path: Path) -> None:
    derived(tmp_path)
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        derived(tmp_path)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "key").write_bytes(b"\xff half")
    with pytest.raises(KeyUnusable, match="key"):
        derived(tmp_path)
