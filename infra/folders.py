"""Folders that we write to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from infra.errors import BadRequest


def writable(folder: Path, mode: int = 0o777) -> None:
    """Make the folder, or say at once why nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        file = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "it is, or is in, a file" if file else error.strerror
        raise BadRequest(what=f"The folder {folder} cannot be written to: {reason}.") from error
