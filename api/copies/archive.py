"""A copy of the service's own database in one file, and the file put in a database's place.

The file is a tar archive of a manifest and the copy: an SQLite file, or what pg_dump wrote. The
graph's checkpoints are not in it: whatever a restored copy goes on with begins again.
"""

import asyncio
import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal

from pydantic import BaseModel, ValidationError
from sqlalchemy.engine import URL

from api.copies import postgresql, sqlite
from api.copies.facts import CopyFailed
from api.keys import sync_folder
from api.store.migrate import known_revisions

CHUNK = 1 << 20
MOST_MANIFEST = 1 << 16
_MANIFEST, _CONTENT = "manifest.json", "database"


class Manifest(BaseModel):
    """What a file of `database backup` says of itself."""

    format: Literal[1] = 1
    kind: Literal["sqlite", "postgresql"]
    made_at: datetime
    """The moment the copy is of, UTC."""
    version: str
    """Of redis-oncall."""
    revision: str
    """Of the tables."""
    incidents: int
    audit: tuple[int, str] | None
    """The head of the audit trail: its last row's number and MAC; None: there was no chain yet."""
    bytes: int
    sha256: str


async def back_up(url: URL, file: Path, programs: str) -> Manifest:
    """Copy the database while it is used. Raises CopyFailed, OSError.

    `programs`: where pg_dump is looked for. The file appears whole or not at all, for its owner's
    eyes only, and never in the place of another.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    made_at = datetime.now(UTC)
    with TemporaryDirectory(dir=file.parent, prefix=f".{file.name}-") as folder:
        content, whole = Path(folder) / _CONTENT, Path(folder) / "whole"
        if is_sqlite:
            facts = await asyncio.to_thread(sqlite.copy, Path(str(url.database)), content, made_at)
        else:
            facts = await postgresql.dump(url, content, programs)
        digest = await asyncio.to_thread(_digest, content)
        manifest = Manifest(
            kind="sqlite" if is_sqlite else "postgresql",
            made_at=made_at,
            version=version("redis-oncall"),
            revision=facts.revision,
            incidents=facts.incidents,
            audit=facts.head,
            bytes=content.stat().st_size,
            sha256=digest,
        )
        await asyncio.to_thread(_pack, manifest, content, whole)
        whole.chmod(0o600)
        _put(whole, file)
    return manifest


def _pack(manifest: Manifest, content: Path, whole: Path) -> None:
    told = manifest.model_dump_json(indent=2).encode()
    with whole.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as archive:
            header = tarfile.TarInfo(_MANIFEST)
            header.size, header.mode = len(told), 0o600
            archive.addfile(header, io.BytesIO(told))
            archive.add(content, _CONTENT, recursive=False)
        file.flush()
        os.fsync(file.fileno())


def _put(whole: Path, file: Path) -> None:
    try:
        file.hardlink_to(whole)  # unlike a rename it takes nobody's place
    except FileExistsError:
        raise CopyFailed(f"{file} exists already; choose another name") from None
    sync_folder(file.parent)


def read_manifest(file: Path) -> Manifest:
    """What a file says of itself. Raises CopyFailed, OSError."""
    with _opened(file) as (manifest, _):
        return manifest


def unpack(file: Path, to: Path) -> Manifest:
    """The copy in a file, checked against its checksum. Raises CopyFailed, OSError."""
    with (
        _opened(file) as (manifest, content),
        os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as unpacked,
    ):
        digest = hashlib.sha256()
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            unpacked.write(chunk)
        if digest.hexdigest() != manifest.sha256:
            raise CopyFailed(f"{file} is damaged: the copy in it is not the one that was made")
        unpacked.flush()
        os.fsync(unpacked.fileno())
    return manifest


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Manifest, IO[bytes]]]:
    """The manifest, and the copy to be read once."""
    try:
        with tarfile.open(file, mode="r:gz") as archive:
            first, told = _member(archive, file, _MANIFEST)
            if first.size > MOST_MANIFEST:
                raise CopyFailed(f"{file} is not a file of `database backup`")
            manifest = Manifest.model_validate_json(told.read())
            _must_be_readable(manifest, file)
            yield manifest, _member(archive, file, _CONTENT)[1]
    except ValidationError:
        raise CopyFailed(f"{file} was made by another version, or is damaged") from None
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise CopyFailed(f"{file} cannot be read: {error or 'it ends too early'}") from None


def _member(archive: tarfile.TarFile, file: Path, name: str) -> tuple[tarfile.TarInfo, IO[bytes]]:
    member = archive.next()
    content = archive.extractfile(member) if member and member.name == name else None
    if member is None or content is None:
        raise CopyFailed(f"{file} is not a file of `database backup`")
    return member, content


def _must_be_readable(manifest: Manifest, file: Path) -> None:
    if manifest.revision not in known_revisions():
        raise CopyFailed(
            f"{file} was made by redis-oncall {manifest.version}, whose tables (revision "
            f"{manifest.revision}) this version, {version('redis-oncall')}, does not know: "
            "restore it with that version or a later one"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
