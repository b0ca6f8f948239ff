"""The installation's one key, and what is derived from it for each purpose."""

import base64
import binascii
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from api.settings import Settings

BYTES = 32
Purpose = Literal["backups", "audit", "names", "sessions"]


class KeyUnusable(OSError):
    """There is no key to use; the text says why and what to do."""


def subkey(settings: "Settings", purpose: Purpose) -> bytes:
    """32 bytes for one purpose alone: HKDF-SHA256 of REDIS_ONCALL_KEY, else of the key file.

    The file `key` of the data folder is made at first need, for its owner's eyes only. Blocks on
    the disk. Raises KeyUnusable.
    """
    given = settings.key.get_secret_value() if settings.key else ""
    master = decoded(given) if given else _from_file(settings.data_folder / "key")
    return _derived(master, purpose)


def earlier_subkeys(settings: "Settings", purpose: Purpose) -> list[bytes]:
    """The same of each key in REDIS_ONCALL_PREVIOUS_KEYS. Raises KeyUnusable."""
    given = settings.previous_keys.get_secret_value() if settings.previous_keys else ""
    return [_derived(decoded(text), purpose) for text in given.split(",") if text.strip()]


def _derived(master: bytes, purpose: Purpose) -> bytes:
    info = f"redis-oncall {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=BYTES, salt=None, info=info).derive(master)


def decoded(text: str) -> bytes:
    """A key of 32 bytes from hexadecimal digits or base64. Raises KeyUnusable, without the text."""
    text = text.strip()
    try:
        if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
            return bytes.fromhex(text)
        if len(key := base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_"))) == BYTES:
            return key
    except (binascii.Error, ValueError):
        pass
    raise KeyUnusable(
        "not 32 bytes in hexadecimal or base64; make one with: openssl rand -base64 32"
    )


def _from_file(path: Path) -> bytes:
    try:
        if not path.exists():
            _make(path)
        seen_by_others = path.stat().st_mode & 0o077
        text = path.read_bytes().decode("ascii", "replace")
    except OSError as error:
        raise KeyUnusable(
            f"{path}: the key cannot be read or made ({error.strerror}); mend that, or set "
            "REDIS_ONCALL_KEY"
        ) from None
    if seen_by_others:
        raise KeyUnusable(f"{path}: others may read this key; chmod 600 it")
    try:
        return decoded(text)
    except KeyUnusable as unusable:
        raise KeyUnusable(f"{path}: {unusable}") from None


def _make(path: Path) -> None:
    """Whole or not at all, and the first of several processes' wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = base64.b64encode(secrets.token_bytes(BYTES)) + b"\n"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(name)
        except FileExistsError:
            return
        sync_folder(path.parent)
    finally:
        Path(name).unlink()


def sync_folder(folder: Path) -> None:
    """A new file's name is on disk when this returns. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
