"""Where results were computed: the versions and the machine that decide their last bits."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

import h5py
from threadpoolctl import threadpool_info

__all__ = ["DECISIVE", "Environment", "current", "differences", "read", "write"]

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


def differences(one: Environment, other: Environment) -> list[str]:
    """In words, where two environments differ in what decides the last bits."""
    return [
        f"{name} {one.get(name)} before, {other.get(name)} now"
        for name in DECISIVE
        if one.get(name) != other.get(name)
    ]


def write(group: h5py.Group, environments: Sequence[Environment]) -> None:
    """Store environments, one subgroup each, oldest first."""
    for number, environment in enumerate(environments, start=1):
        group.create_group(f"{number}").attrs.update(environment)


def read(group: h5py.Group) -> list[Environment]:
    """Read what `write` stored."""
    return [
        {name: str(value) for name, value in group[number].attrs.items()}
        for number in sorted(group, key=int)
    ]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    found = {
        " ".join(str(library.get(key)) for key in ("internal_api", "version", "architecture"))
        for library in threadpool_info()
        if library.get("user_api") == "blas"
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
