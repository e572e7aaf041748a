"""Files of the state directory, replaced in one step: after a crash there is the old one or the new one, whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from features.errors import CannotWrite, ConfigurationError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, bring it to the disk and put it in the place of `path`.

    Raises
    ------
    CannotWrite
        The disk is full, or the folder may not be written.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(staged)
        _sync(staged)
        os.replace(staged, path)
        _sync(path.parent)
    except OSError as error:
        raise CannotWrite(
            f"The state directory {path.parent} must be a folder that can be written; {error.strerror}. "
            "Free space, change its permissions, or set [state] dir."
        ) from error
    finally:
        staged.unlink(missing_ok=True)


def kept_secret(path: Path) -> bytes:
    """The key at `path`, made once, readable by its owner alone.

    Raises
    ------
    ConfigurationError
        The file is empty.
    """
    if not path.is_file():
        _make_secret(path)
    key = path.read_text().strip().encode()
    if not key:
        raise ConfigurationError(f"{path} must hold a key; it is empty. Put it back from a backup.")
    return key


def _make_secret(path: Path) -> None:
    """Write a new key whole before it has its name; a process that was faster wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    with suppress(FileExistsError):
        os.link(staged, path)
    staged.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
