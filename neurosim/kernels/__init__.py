"""Compiled functions: arrays in, arrays out; they know nothing of the objects above.

Numba keeps compiled kernels in __pycache__ and compiles again when the file of a kernel changes,
but not when the file of another kernel that it calls does. So indices older than the newest source
file here are dropped before any kernel is loaded.
"""

from contextlib import suppress
from pathlib import Path


def _drop_stale_caches(folder: Path) -> None:
    newest = max(path.stat().st_mtime for path in folder.glob("*.py"))
    for index in folder.glob("__pycache__/*.nbi"):
        with suppress(OSError):  # another process may have dropped it, or the folder is read-only
            if index.stat().st_mtime < newest:
                index.unlink()


_drop_stale_caches(Path(__file__).parent)
