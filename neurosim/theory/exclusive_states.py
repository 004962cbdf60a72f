"""Sites that fail in one of two states which exclude each other: two effects stand for each.

A site that fails (probability p) is in the first state with probability s, in the second else, with
effects a and b. Then E = p m and Var = p (1 - p) (m^2 + r^2), with

    m = s a + (1 - s) b,    r = (a - b) sqrt(s (1 - s) / (1 - p)),

which is sum p_a d_a^2 - (sum p_a d_a)^2. The columns m of all sites, then r of all, stand for
effects of twice as many sites: r has mean 0.
"""

import math

import numpy as np

from neurosim.layers import Array
from neurosim.physical_sites import SiteGroups

__all__ = ["fourth_cumulants", "means_and_spreads", "n_means"]


def _spread(groups: SiteGroups, p: float) -> float:
    return math.sqrt(groups.shares[0] * groups.shares[1] / (1 - p))


def n_means(groups: SiteGroups) -> int:
    """How many of the columns are means: the number of sites."""
    return len(groups) // len(groups.shares)


def means_and_spreads(effects: Array, groups: SiteGroups, p: float) -> Array:
    """M of all sites, then r of all, (..., 2 n_sites), from a of all, then b of all.

    Sites with one state are left as they are.
    """
    if len(groups.shares) == 1:
        return effects
    first, second = np.split(effects, 2, axis=-1)
    mean = groups.shares[0] * first + groups.shares[1] * second
    return np.concatenate([mean, _spread(groups, p) * (first - second)], axis=-1)


def _states(columns: Array, groups: SiteGroups, p: float) -> tuple[Array, Array]:
    """(a of all sites, b of all), to rounding; 0 for a state that is never reached."""
    mean, spread = np.split(columns, 2, axis=-1)
    factor = _spread(groups, p)
    difference = spread / factor if factor > 0 else np.zeros_like(mean)
    first, second = groups.shares
    return (
        mean + second * difference if first > 0 else np.zeros_like(mean),
        mean - first * difference if second > 0 else np.zeros_like(mean),
    )


def fourth_cumulants(columns: Array, groups: SiteGroups, p: float) -> Array:
    """Fourth cumulant of what each site does, (..., n_sites): its fourth moment - 3 Var^2.

    columns: those of `means_and_spreads`.
    """
    first, second = _states(columns, groups, p)
    mean = p * (groups.shares[0] * first + groups.shares[1] * second)
    apart = np.stack([first - mean, second - mean, -mean])
    weights = np.array([p * groups.shares[0], p * groups.shares[1], 1 - p])
    variance, fourth = (np.tensordot(weights, apart**k, 1) for k in (2, 4))
    return np.asarray(fourth - 3 * variance**2)
