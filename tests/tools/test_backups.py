"""What was removed can be read back, whole, by whoever holds the key, until its time is up."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections import namedtuple
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from tools import backups
from tools.backups import SPARE_BYTES, BackupFolder
from tools.remedies.operation import BackupDamaged, Saved

KEY = bytes(32)
PAGES = [
    [Saved(b"session:1", b"first value", 2**42), Saved(b"\xff\x00\r\n", b"", 0)],
    [Saved(b"", b"\x00" * 1_000)],
    [Saved(b"lib", b"code", kind="library")],
]
EVERYTHING = [saved for page in PAGES for saved in page]


def kept(folder: Path, key: bytes = KEY, *, days: float = 7, most: int = 2**40) -> BackupFolder:
    return BackupFolder(folder, lambda: key, keep=timedelta(days=days), most_bytes=most)


async def read(folder: BackupFolder, name: str = "one") -> list[Saved]:
    return [saved async for saved in folder.read(name)]


async def add_to(found: list[Saved], folder: BackupFolder) -> None:
    async for saved in folder.read("one"):
        found += [saved]


async def filled(folder: Path, **options: float) -> BackupFolder:
    made = kept(folder, **options)  # type: ignore[arg-type]
    async with await made.open("one") as backup:
        for page in PAGES:
            await backup.add(page)
    return made


async def test_what_was_kept_is_read_back_and_lies_encrypted_for_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "backups"
    made = await filled(folder)
    assert await read(made) == EVERYTHING
    path = made.path("one")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(word in path.read_bytes() for word in (b"session", b"first value", b"code"))


async def test_a_second_run_adds_to_it_and_the_receipt_is_that_of_the_whole_file(
    tmp_path: Path,
) -> None:
    made = await filled(tmp_path)
    again = await made.open("one")
    with pytest.raises(BlockingIOError):
        await made.open("one")
    await again.add([Saved(b"later", b"v")])
    receipt = await again.close()
    assert await again.close() == receipt
    path = made.path("one")
    assert receipt["entries"] == len(EVERYTHING) + 1
    assert receipt["bytes"] == path.stat().st_size
    assert receipt["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert await read(made) == [*EVERYTHING, Saved(b"later", b"v")]


async def test_a_file_cut_off_anywhere_holds_every_page_that_was_whole_and_can_be_added_to(
    tmp_path: Path,
) -> None:
    made, ends = kept(tmp_path), []
    async with await made.open("one") as backup:
        for page in PAGES:
            await backup.add(page)
            ends.append(made.path("one").stat().st_size)
    whole = made.path("one").read_bytes()
    for length in range(len(whole)):
        made.path("one").write_bytes(whole[:length])
        pages = sum(end <= length for end in ends)
        expected = [saved for page in PAGES[:pages] for saved in page]
        assert await read(made) == expected, length
    # Where a file system had made it longer before the power went.
    made.path("one").write_bytes(whole[: ends[1]] + bytes(300))
    async with await made.open("one") as backup:
        await backup.add(PAGES[2])
    assert await read(made) == EVERYTHING
    assert made.path("one").stat().st_size == len(whole)


async def test_every_changed_byte_is_found_and_what_is_whole_is_still_read(tmp_path: Path) -> None:
    made = await filled(tmp_path)
    path = made.path("one")
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found: list[Saved] = []
        with pytest.raises(BackupDamaged, match=r"one\.backup.*(copy|key|no backup)"):
            await add_to(found, made)
        assert all(saved in EVERYTHING for saved in found)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BackupDamaged, match="nothing is added"):
        await made.open("one")


async def test_without_its_key_it_is_closed(tmp_path: Path) -> None:
    await filled(tmp_path)
    other = kept(tmp_path, b"x" * 32)
    with pytest.raises(BackupDamaged, match=r"another key.*REDIS_ONCALL_KEY"):
        await read(other)
    with pytest.raises(BackupDamaged, match="another key"):
        await other.open("one")
    assert other.sweep() == []
    assert [(one.name, one.header) for one in other.kept()] == [("one", None)]


async def test_an_expired_one_is_not_used_and_is_swept_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await filled(tmp_path)
    async with await kept(tmp_path, days=30).open("longer") as backup:
        await backup.add(PAGES[0])
    assert made.sweep() == []

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls.fromtimestamp((datetime.now(tz) + timedelta(days=8)).timestamp(), tz)

    monkeypatch.setattr(backups, "datetime", Later)
    with pytest.raises(OSError, match="expired on"):
        await read(made)
    with pytest.raises(OSError, match="expired on"):
        await made.open("one")
    assert made.sweep() == ["one"]
    assert await read(made, "longer") == PAGES[0]
    with pytest.raises(FileNotFoundError, match="no such backup on this machine"):
        await read(made)


async def test_a_disk_is_not_filled_and_a_folder_not_beyond_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await filled(tmp_path)
    bounded = kept(tmp_path, most=made.path("one").stat().st_size + 500)
    async with await bounded.open("two") as backup:
        with pytest.raises(OSError, match="most_bytes"):
            await backup.add([Saved(b"k", bytes(2_000))])
        await backup.add([Saved(b"k", b"small")])
    usage = namedtuple("usage", "total used free")
    free = usage(2**40, 0, SPARE_BYTES + 1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    async with await made.open("three") as backup:
        with pytest.raises(OSError, match="MiB stay free"):
            await backup.add([Saved(b"k", bytes(2_000))])
        await backup.add([Saved(b"k", b"small")])
    assert await read(made, "two") == await read(made, "three") == [Saved(b"k", b"small")]


@pytest.mark.parametrize("name", ["../key", "a/b", "", ".hidden", "x" * 200, "a\nb"])
async def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="named with letters"):
        await kept(tmp_path).open(name)


ADDING = """
import asyncio, resource, sys
from datetime import timedelta
from pathlib import Path
from tools.backups import BackupFolder
from tools.remedies.operation import Saved

async def add():
    folder = BackupFolder(Path(sys.argv[1]), lambda: bytes(32), keep=timedelta(7), most_bytes=2**40)
    backup = await folder.open("one")
    for number in range(100_000):
        try:
            await backup.add([Saved(str(number).encode(), bytes(20_000))])
        except OSError as error:
            print("refused", error.errno, flush=True)
            await backup.add([Saved(b"small", b"")])
            return
        print(number, flush=True)

if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
asyncio.run(add())
"""


async def test_after_sigkill_all_that_was_acknowledged_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "20":
                os.kill(process.pid, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    names = [saved.name for saved in await read(kept(tmp_path))]
    assert len(names) > 20
    assert names == [str(number).encode() for number in range(len(names))]


async def test_a_write_that_the_system_cuts_off_leaves_nothing_behind(tmp_path: Path) -> None:
    """As when the disk turns out to be full in the middle of it."""
    command = [sys.executable, "-c", ADDING, str(tmp_path), "50000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.split() == ["0", "1", "refused", "27"]
    assert [saved.name for saved in await read(kept(tmp_path))] == [b"0", b"1", b"small"]
