"""Where results were computed, as a trace keeps it."""

from collections.abc import Sequence

import h5py

from neurosim.environment import Environment

__all__ = ["read", "write"]


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
