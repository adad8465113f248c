"""Pictures on disk, as the command lines are given them."""

from __future__ import annotations

from pathlib import Path

from function.container import SUFFIXES


def pictures_below(folder: Path, above: frozenset[Path] = frozenset()) -> list[Path]:
    """List the pictures in a folder and in those below it, linked ones too, in order; none of none.

    Data sets are large, so people link to them. A link that leads back to a folder `above` it is
    not followed. Raises `OSError` for a folder that may not be read.
    """
    here = folder.resolve()
    if here in above or not folder.is_dir():
        return []
    found: list[Path] = []
    for path in folder.iterdir():
        if path.is_dir():
            found += pictures_below(path, above | {here})
        elif path.suffix.lower() in SUFFIXES:  # cameras write .JPG
            found.append(path)
    return sorted(found)
