"""Where results are computed: the versions and the machine that decide their last bits."""

import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

import numpy as np
from threadpoolctl import threadpool_info

__all__ = ["DECISIVE", "Environment", "current", "differences", "now"]

Environment: TypeAlias = dict[str, str]

# The entries that decide the last bits of results.
DECISIVE = ("numpy", "numba", "blas", "cpu")


def current() -> Environment:
    """Describe the environment of this process."""
    return {
        "neurosim": _version("neurosim-faults"),
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "numba": _version("numba"),
        "blas": _blas(),
        "cpu": _cpu(),
        "started": now(),
    }


def now() -> str:
    """Tell the time: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def differences(
    one: Environment, other: Environment, said: tuple[str, str] = ("before", "now")
) -> list[str]:
    """In words, where two environments differ in what decides the last bits."""
    return [
        f"{name} {one.get(name)} {said[0]}, {other.get(name)} {said[1]}"
        for name in DECISIVE
        if one.get(name) != other.get(name)
    ]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    """The BLAS of NumPy, which multiplies the matrices; other libraries may bring others."""
    loaded = [library for library in threadpool_info() if library.get("user_api") == "blas"]
    # A wheel of NumPy has its own, in a folder inside the package or beside it. Where NumPy shares
    # one of the system, it is not known which of those loaded is meant: all are named.
    folder = str(Path(np.__file__).parent)
    own = [library for library in loaded if str(library.get("filepath")).startswith(folder)]
    found = {
        " ".join(str(library.get(key)) for key in ("internal_api", "version", "architecture"))
        for library in own or loaded
    }
    return ", ".join(sorted(found)) or "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
