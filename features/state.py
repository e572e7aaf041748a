"""Files of the state directory, replaced in one step: after a crash there is the old one or the new one, whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from features.errors import CannotWrite


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


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
