"""What remedies remove, kept on disk first: encrypted, and deleted when its time is up.

A file is a header, then a frame for each `add`. AES-256-GCM under a key of the file's own, which is
derived from the header too: neither a changed expiry nor a frame moved or replaced is accepted.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tools.remedies.operation import BackupDamaged, Saved

SUFFIX = ".backup"
SPARE_BYTES = 256 * 1024**2
"""Of the disk, left to everybody else: a full one would stop more than a remedy."""
LONGEST_FRAME = 1024**3
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,150}")
_HEADER = struct.Struct(">8s16sQQ")
"""Magic, salt, made and expires in seconds since the epoch; a tag follows."""
_MAGIC = b"ROCBAK01"
_TAG, _NONCE = 16, 12
_FRAME = struct.Struct(">II")
"""Bytes of nonce and ciphertext, and a checksum of that and of the frame's place."""
_SAVED = struct.Struct(">IIqB")
"""Bytes of name and payload, expiry in ms (-1: none), bytes of the kind."""
_HEAD = _HEADER.size + _TAG


@dataclass(frozen=True)
class Header:
    """What a backup says of itself."""

    made_at: datetime
    expires_at: datetime
    cipher: AESGCM

    @property
    def expired(self) -> bool:
        """Its time is up."""
        return datetime.now(UTC) >= self.expires_at


@dataclass(frozen=True)
class Kept:
    """One backup, for a list."""

    name: str
    bytes: int
    header: Header | None
    """None: it cannot be read."""
    trouble: str = ""


class BackupFolder:
    """All backups of this installation. Implements `operation.Backups`."""

    def __init__(
        self, folder: Path, key: Callable[[], bytes], *, keep: timedelta, most_bytes: int
    ) -> None:
        self.folder = folder
        self._key = key
        """Asked at first need: whoever removes nothing needs none. Raises OSError."""
        self._keep = keep
        self._most_bytes = most_bytes

    async def open(self, name: str) -> "BackupFile":
        """Add to the backup of that name, made if there is none. Raises OSError, BackupDamaged."""
        return await asyncio.to_thread(self._open, name)

    async def read(self, name: str) -> AsyncIterator[Saved]:
        """Everything in it that is whole, oldest first. Raises OSError, BackupDamaged at the end.

        A torn last frame is no damage: nothing of it was removed.
        """
        frames = self._frames(self.path(name))
        while (frame := await asyncio.to_thread(next, frames, None)) is not None:
            for saved in frame:
                yield saved

    def path(self, name: str) -> Path:
        """Its file. Raises ValueError for what is no name."""
        if not _NAME.fullmatch(name):
            raise ValueError("a backup is named with letters, digits, `_`, `.` and `-`")
        return self.folder / f"{name}{SUFFIX}"

    def kept(self) -> list[Kept]:
        """All of them, oldest first. Raises OSError."""
        if not self.folder.exists():
            return []
        found = [self._look(path) for path in sorted(self.folder.glob(f"*{SUFFIX}"))]
        return sorted(
            found, key=lambda one: (one.header is None, one.header and one.header.made_at)
        )

    def sweep(self) -> list[str]:
        """Delete those whose time is up, and say which. What cannot be read stays, for a person."""
        gone = [one.name for one in self.kept() if one.header is not None and one.header.expired]
        for name in gone:
            self.path(name).unlink(missing_ok=True)
        return gone

    def _look(self, path: Path) -> Kept:
        name, size = path.name.removesuffix(SUFFIX), path.stat().st_size
        try:
            with path.open("rb") as file:
                return Kept(name, size, self._header(file, path))
        except (OSError, BackupDamaged) as trouble:
            return Kept(name, size, None, str(trouble))

    def _open(self, name: str) -> "BackupFile":
        path = self.path(name)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_size < _HEAD:  # new, or cut off before anything was in it
                self._refuse_beyond(_HEAD)
                self._begin(file)
            return BackupFile(path, file, self._current(file, path), self._refuse_beyond)
        except BaseException:
            file.close()
            raise

    def _begin(self, file: IO[bytes]) -> None:
        made = datetime.now(UTC)
        times = int(made.timestamp()), int((made + self._keep).timestamp())
        header = _HEADER.pack(_MAGIC, secrets.token_bytes(16), *times)
        file.seek(0)
        file.truncate()
        _write(file, header + self._cipher(header).encrypt(bytes(_NONCE), b"", header))
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)  # the name of the file, too
        finally:
            os.close(handle)

    def _cipher(self, header: bytes) -> AESGCM:
        derive = HKDF(algorithm=SHA256(), length=32, salt=header[8:24], info=header)
        return AESGCM(derive.derive(self._key()))

    def _header(self, file: IO[bytes], path: Path) -> Header:
        file.seek(0)
        raw = file.read(_HEAD)
        header, tag = raw[: _HEADER.size], raw[_HEADER.size :]
        if not header.startswith(_MAGIC) or len(tag) < _TAG:
            raise BackupDamaged(f"{path}: no backup of ours, or its beginning is damaged")
        cipher = self._cipher(header)
        try:
            cipher.decrypt(bytes(_NONCE), tag, header)
        except InvalidTag:
            raise BackupDamaged(
                f"{path}: made with another key, or its beginning is damaged; give the key it was "
                "made with (REDIS_ONCALL_KEY, or the file `key` of the data folder)"
            ) from None
        _, _, made, expires = _HEADER.unpack(header)
        return Header(
            datetime.fromtimestamp(made, UTC), datetime.fromtimestamp(expires, UTC), cipher
        )

    def _current(self, file: IO[bytes], path: Path) -> Header:
        header = self._header(file, path)
        if header.expired:
            raise OSError(
                f"{path}: this backup expired on {header.expires_at:%Y-%m-%d %H:%M} UTC and is not "
                "used any more"
            )
        return header

    def _frames(self, path: Path) -> Iterator[list[Saved]]:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path}: there is no such backup on this machine; it expired, was deleted, or is "
                "kept where the worker that made it runs"
            ) from None
        with file:
            if path.stat().st_size < _HEAD:
                return
            header = self._current(file, path)
            damaged = 0
            for index, body in _bodies(file, path):
                try:
                    yield _unpacked(header.cipher.decrypt(body[:_NONCE], body[_NONCE:], _at(index)))
                except InvalidTag:
                    damaged += 1
            if damaged:
                raise BackupDamaged(
                    f"{path}: {damaged} of its frames are damaged and what was in them is not "
                    "restored; take it from a copy of this file or from a snapshot"
                )

    def _refuse_beyond(self, more: int) -> None:
        """Raises OSError before a disk is filled."""
        free = shutil.disk_usage(self.folder).free
        if free - more < SPARE_BYTES:
            raise OSError(
                errno.ENOSPC,
                f"{free / 1024**2:,.0f} MiB are free on its disk, of which {SPARE_BYTES >> 20} MiB "
                "stay free",
                str(self.folder),
            )
        held = sum(path.stat().st_size for path in self.folder.glob(f"*{SUFFIX}"))
        if held + more > self._most_bytes:
            raise OSError(
                errno.EDQUOT,
                f"all backups may hold {self._most_bytes:,} bytes (backups.most_bytes) and hold "
                f"{held:,}",
                str(self.folder),
            )


class BackupFile:
    """One backup, open for adding; nobody else can open it meanwhile."""

    def __init__(
        self, path: Path, file: IO[bytes], header: Header, refuse_beyond: Callable[[int], None]
    ) -> None:
        self._path, self._file, self._header = path, file, header
        self._refuse_beyond = refuse_beyond
        self._entries = self._frames = 0
        self._size, self._digest = _HEAD, hashlib.sha256()
        file.seek(0)
        self._digest.update(file.read(_HEAD))
        self._take_up()

    def _take_up(self) -> None:
        """Go on after the last whole frame of an earlier run."""
        for index, body in _bodies(self._file, self._path):
            try:
                plain = self._header.cipher.decrypt(body[:_NONCE], body[_NONCE:], _at(index))
            except InvalidTag:
                raise BackupDamaged(f"{self._path}: damaged; nothing is added to it") from None
            self._count(_framed(index, body), len(_unpacked(plain)))
        self._file.truncate(self._size)

    def _count(self, frame: bytes, entries: int) -> None:
        self._digest.update(frame)
        self._size += len(frame)
        self._frames += 1
        self._entries += entries

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    async def add(self, saved: Sequence[Saved]) -> None:
        """Keep them as one frame; on disk when it returns. Raises OSError, and keeps none then."""
        if saved:
            await asyncio.to_thread(self._add, saved)

    def _add(self, saved: Sequence[Saved]) -> None:
        nonce = secrets.token_bytes(_NONCE)
        body = nonce + self._header.cipher.encrypt(nonce, _packed(saved), _at(self._frames))
        if len(body) > LONGEST_FRAME:
            raise OSError(errno.EFBIG, "too much for one frame", str(self._path))
        frame = _framed(self._frames, body)
        self._refuse_beyond(len(frame))
        try:
            self._file.seek(self._size)
            _write(self._file, frame)
        except OSError:
            self._file.truncate(self._size)
            raise
        self._count(frame, len(saved))

    async def close(self) -> dict[str, Any]:
        """Finish it: file, entries, bytes, SHA-256 and expiry, for the outcome. Repeatable."""
        self._file.close()
        return {
            "file": str(self._path),
            "entries": self._entries,
            "bytes": self._size,
            "sha256": self._digest.hexdigest(),
            "expires_at": self._header.expires_at.isoformat(),
        }


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it, and on disk. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    os.fsync(file.fileno())


def _at(index: int) -> bytes:
    return index.to_bytes(8, "big")


def _framed(index: int, body: bytes) -> bytes:
    return _FRAME.pack(len(body), _checksum(len(body), index)) + body


def _checksum(length: int, index: int) -> int:
    return zlib.crc32(length.to_bytes(4, "big") + _at(index))


def _bodies(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    """Nonce and ciphertext of each frame that is there to its end. Raises BackupDamaged.

    What was cut off while it was written is short, or zeros where the file system had already made
    it longer; its removal was never begun.
    """
    file.seek(_HEAD)
    index = 0
    while len(prefix := file.read(_FRAME.size)) == _FRAME.size:
        length, checksum = _FRAME.unpack(prefix)
        if checksum != _checksum(length, index):
            if not any(prefix) and _only_zeros(file):
                return
            raise BackupDamaged(
                f"{path}: damaged from its frame {index + 1} on, and what follows cannot be "
                "restored; take it from a copy of this file or from a snapshot"
            )
        if length > LONGEST_FRAME or len(body := file.read(length)) < length:
            return
        yield index, body
        index += 1


def _only_zeros(file: IO[bytes]) -> bool:
    while chunk := file.read(1 << 20):
        if any(chunk):
            return False
    return True


def _packed(saved: Sequence[Saved]) -> bytes:
    parts = []
    for one in saved:
        expires, kind = -1 if one.expires_at_ms is None else one.expires_at_ms, one.kind.encode()
        parts += [_SAVED.pack(len(one.name), len(one.payload), expires, len(kind)), kind]
        parts += [one.name, one.payload]
    return b"".join(parts)


def _unpacked(plain: bytes) -> list[Saved]:
    saved, at = [], 0
    while at < len(plain):
        name, payload, expires, kind = _SAVED.unpack_from(plain, at)
        at += _SAVED.size
        ends = (at + kind, at + kind + name, at + kind + name + payload)
        saved.append(
            Saved(
                kind=plain[at : ends[0]].decode(),
                name=plain[ends[0] : ends[1]],
                payload=plain[ends[1] : ends[2]],
                expires_at_ms=None if expires < 0 else expires,
            )
        )
        at = ends[2]
    return saved
