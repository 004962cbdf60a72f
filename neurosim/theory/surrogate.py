"""The exact law of a sum of independent faults' effects, by characteristic functions and an FFT."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import comb
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.layers import Array, frozen

__all__ = ["SurrogateLaw", "exact_law", "surrogate_law"]

# Mass that may fall outside the lattice: exp(-36.8) = 1e-16.
_LOG_LOST = 36.8
# Sites of a block, those of the largest effects, that the splitting leaves one fault each; of the
# others the two parts may fail apart.
_WHOLE = 1024
# Beyond this probability the series of log(1 + r e^it), r = p / (1 - p), converges too slowly.
_SERIES_LIMIT = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class SurrogateLaw:
    """The law of sum_s e_s xi_s with independent xi_s, 1 with probability p_s.

    Parameters
    ----------
    grid : ndarray, shape (n,)
        Values, ascending; equally spaced but for `exact_law`.
    mass : ndarray, shape (n,)
        Their probabilities; the atom at "no fault that matters" included.
    mass_at_zero : float
        Exact probability that no site with a nonzero effect fails.
    mean, variance : float
        Exact, not those of the lattice.
    step : float
        Distance of grid values. An effect between two of them is split so that its mean is kept.
    location_error : float
        Standard deviation of the shift by which that split moves the sum; the law is known up to
        such a shift, and probabilities to about 1e-12.
    """

    grid: Array
    mass: Array
    mass_at_zero: float
    mean: float
    variance: float
    step: float
    location_error: float
    _below: Array = field(init=False, repr=False)
    _above: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Summed from their own end: a small tail keeps its digits.
        above = np.concatenate([np.cumsum(self.mass[::-1])[::-1], [0.0]])
        object.__setattr__(self, "_below", np.concatenate([[0.0], np.cumsum(self.mass)]))
        object.__setattr__(self, "_above", above)

    def cdf(self, t: npt.ArrayLike) -> Array:
        """P(sum <= t), elementwise."""
        at = _places("t", t) + 1e-6 * self.step
        return np.minimum(self._below[np.searchsorted(self.grid, at, side="right")], 1.0)

    def sf(self, t: npt.ArrayLike) -> Array:
        """P(sum >= t), elementwise: a value of exactly t counts."""
        at = _places("t", t) - 1e-6 * self.step
        return np.minimum(self._above[np.searchsorted(self.grid, at, side="left")], 1.0)

    def exceedance(self, epsilon: npt.ArrayLike) -> Array:
        """P(|sum| >= epsilon), elementwise, for epsilon > 0."""
        epsilon = _places("epsilon", epsilon)
        if not (epsilon > 0).all():
            raise InputError(f"epsilon: expected thresholds above 0, got {epsilon.min()}")
        return np.minimum(self.sf(epsilon) + self.cdf(-epsilon), 1.0)


def _places(name: str, value: npt.ArrayLike) -> Array:
    """Numbers, infinite ones too."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name}: expected numbers, got a ragged list") from error
    if array.dtype.kind not in "fiu" or np.isnan(array).any():
        raise InputError(f"{name}: expected numbers, got {value!r}")
    return array.astype(np.float64)


# Effects of sites that share their probabilities: (n_states, n_sites), and (n_states,).
_Part: TypeAlias = tuple[Array, Array]


def surrogate_law(
    blocks: Sequence[tuple[npt.ArrayLike, float | Sequence[float]]], points: int = 2**14
) -> SurrogateLaw:
    """The law of sum_s e_s xi_s over independent sites.

    Parameters
    ----------
    blocks : sequence of (effects (n_sites,), probability)
        Sites that share a probability. Of sites that fail in one of two states, which exclude each
        other, (effects (2, n_sites), probabilities (2,)).
    points : int
        Lattice points, a power of two, at least 64.

    Returns
    -------
    SurrogateLaw

    Raises
    ------
    InputError
        If a probability is outside [0, 1] or two add up to more than 1, an effect is not finite, or
        points is no power of two.

    Examples
    --------
    >>> law = surrogate_law([([1.0, -2.0], 0.5)])
    >>> law.mass_at_zero, law.sf(1.0).item()
    (0.25, 0.25)
    >>> surrogate_law([([[1.0], [-2.0]], (0.5, 0.25))]).cdf(-2.0).item()
    0.25
    """
    if points < 64 or points & (points - 1):
        raise InputError(f"points: expected a power of two from 64 on, got {points!r}")
    parts: list[_Part] = []
    fixed, certain = 0.0, False
    for effects, probability in blocks:
        p = np.atleast_1d(np.asarray(probability, np.float64))
        e = np.asarray(effects, np.float64).reshape(len(p), -1)
        if not (len(p) <= 2 and (p >= 0).all() and p.sum() <= 1 + 1e-12):
            raise InputError(
                "probability: expected a number in [0, 1], or two of at most 1 together, "
                f"got {probability!r}"
            )
        if not np.isfinite(e).all():
            raise InputError("effects: expected finite numbers, got NaN or infinity")
        e, p = e[p > 0], p[p > 0]
        e = e[:, (e != 0).any(axis=0)]
        if len(p) == 1 and p[0] == 1:
            fixed, certain = fixed + float(e.sum()), certain or e.size > 0
        elif e.size:
            parts.append((e, p))
    mean = fixed + sum(float((p @ e).sum()) for e, p in parts)
    variance = sum(float((p @ e**2 - (p @ e) ** 2).sum()) for e, p in parts)
    with np.errstate(divide="ignore"):  # of a site that always fails
        log_none = sum(float(np.log1p(-np.minimum(p @ (e != 0), 1.0)).sum()) for e, p in parts)
    none_fails = float(np.exp(log_none))
    low, _, step = _lattice(parts, mean - fixed, variance, points)
    mass, blur = _lattice_masses(parts, low, step, points, none_fails)
    return SurrogateLaw(
        grid=frozen(fixed + (low + np.arange(points)) * step, np.float64),
        mass=frozen(mass, np.float64),
        mass_at_zero=0.0 if certain else none_fails,
        mean=mean,
        variance=variance,
        step=step,
        location_error=step * blur**0.5,
    )


def exact_law(values: npt.ArrayLike, probabilities: npt.ArrayLike) -> SurrogateLaw:
    """The law that gives each value its probability: of enumerated fault sets.

    Parameters
    ----------
    values, probabilities : array_like, shape (n,)
        Values may repeat; the probabilities sum to 1.

    Returns
    -------
    SurrogateLaw
        Its grid holds the distinct values; `step` is a millionth of the largest.

    Examples
    --------
    >>> exact_law([0.0, 1.0, 1.0], [0.5, 0.25, 0.25]).sf(1.0).item()
    0.5
    """
    v, p = np.asarray(values, np.float64), np.asarray(probabilities, np.float64)
    grid, where = np.unique(v, return_inverse=True)
    mass = np.bincount(where, weights=p)
    mean = float(p @ v)
    return SurrogateLaw(
        grid=frozen(grid, np.float64),
        mass=frozen(mass, np.float64),
        mass_at_zero=float(p[v == 0].sum()),
        mean=mean,
        variance=float(p @ (v - mean) ** 2),
        step=1e-6 * float(np.abs(v).max()),
        location_error=0.0,
    )


def _lattice(
    parts: list[_Part], mean: float, variance: float, points: int
) -> tuple[int, int, float]:
    """First and last lattice index and the step, for all but 1e-16 of the mass (Bernstein)."""
    if not parts:
        return -points // 2, points // 2, 1.0
    largest = max(float(np.abs(e).max()) for e, _ in parts)
    third = largest * _LOG_LOST / 3
    reach = third + (third * third + 2 * variance * _LOG_LOST) ** 0.5
    low = max(mean - reach, sum(float(np.minimum(e.min(axis=0), 0).sum()) for e, _ in parts))
    high = min(mean + reach, sum(float(np.maximum(e.max(axis=0), 0).sum()) for e, _ in parts))
    step = (high - low) / (points - 8)
    # The largest effect and its simple fractions on the lattice: laws on a lattice of their own
    # stay exact.
    if largest > step:
        parts_of_largest = np.floor(largest / step)
        if parts_of_largest >= 60:
            parts_of_largest -= parts_of_largest % 60
        step = largest / parts_of_largest
    return int(np.floor(low / step)) - 2, int(np.ceil(high / step)) + 2, float(step)


def _lattice_masses(
    parts: list[_Part], low: int, step: float, points: int, none_fails: float
) -> tuple[Array, float]:
    """Masses at low * step, ...; and the variance, in steps squared, of the splitting."""
    frequency = np.arange(points // 2 + 1)
    roots = np.exp(-2j * np.pi * np.arange(points) / points)
    log_product = np.zeros(len(frequency), complex)
    blur = 0.0
    for e, p in parts:
        position = e / step
        index = np.floor(position + 1e-9).astype(np.int64)
        share = np.clip(position - index, 0.0, 1.0)
        share[share < 1e-8] = 0.0
        blur += float((p @ (share * (1 - share))).sum())
        n = e.shape[1]
        whole = np.ones(n, bool)
        if n > _WHOLE:
            whole[np.argpartition(np.abs(e).max(axis=0), -_WHOLE)[:-_WHOLE]] = False
        log_product += _log_of_whole(index[:, whole], share[:, whole], p, roots)
        if n > _WHOLE:
            bulk = ~whole
            log_product += _log_of_bulk(index[:, bulk], share[:, bulk], p, roots, frequency)
    mass = np.fft.irfft(np.exp(log_product), points)
    mass = np.roll(mass, -low)
    mass[mass < 1e-16] = 0.0  # rounding of the FFT
    at = -low
    if 0 <= at < points:
        mass[at] = max(mass[at], none_fails)
    return mass, blur


def _log_of_whole(index: Array, share: Array, p: Array, roots: Array) -> Array:
    """Sum over sites of log(1 - sum_a p_a + sum_a p_a u_a), at the frequencies.

    u_a = e^(-i index_a theta) (1 - share_a + share_a e^(-i theta)) of state a. Of one state by the
    series in r = p / (1 - p): u^m lies on the lattice points m index + 0, ..., m with the weights
    of the binomial law, so that a power takes one transform. Else, and for large p, site by site.
    """
    points = len(roots)
    frequency = np.arange(points // 2 + 1)
    if len(p) > 1 or p[0] > _SERIES_LIMIT:
        turn, product = roots[frequency], np.ones(len(frequency), complex)
        for of_site, split in zip(index.T, share.T, strict=True):
            factor = np.full(len(frequency), 1 - p.sum(), complex)
            for k, s, probability in zip(of_site, split, p, strict=True):
                factor += probability * roots[(k * frequency) % points] * ((1 - s) + s * turn)
            product *= factor
        with np.errstate(divide="ignore"):
            return np.log(product)
    r, (index,), (share,) = p[0] / (1 - p[0]), index, share
    total = np.full(len(frequency), len(index) * np.log1p(-p[0]), complex)
    power, m = r, 1
    while power * len(index) / m > 1e-17:
        counts = np.zeros(points)
        for j in range(m + 1):
            weights = comb(m, j) * (1 - share) ** (m - j) * share**j
            counts += np.bincount((m * index + j) % points, weights, minlength=points)
        total += (power / m if m % 2 else -power / m) * np.fft.rfft(counts)
        power, m = power * r, m + 1
    return total


def _log_of_bulk(index: Array, share: Array, p: Array, roots: Array, frequency: Array) -> Array:
    """Logarithm of the characteristic function of many sites, at the frequencies.

    index, share: (n_states, n_sites): the lattice point below each effect, and how far beyond it.
    """
    points = len(roots)
    if len(p) == 1:
        counts = np.bincount(index[0] % points, weights=1 - share[0], minlength=points)
        counts += np.bincount((index[0] + 1) % points, share[0], minlength=points)
        return _log_characteristic(counts, float(p[0]), roots, frequency)
    # Of two states: each site is split into four, at the lattice points about its two effects.
    split = [
        (
            (index[0] + i) % points,
            (index[1] + j) % points,
            (share[0] if i else 1 - share[0]) * (share[1] if j else 1 - share[1]),
        )
        for i in (0, 1)
        for j in (0, 1)
    ]
    rest = 1 - p.sum()
    if p.sum() > _SERIES_LIMIT:
        total = np.zeros(len(frequency), complex)
        for first, second, weight in split:
            for a, b, w in zip(first, second, weight, strict=True):
                if w:
                    waves = roots[(a * frequency) % points], roots[(b * frequency) % points]
                    total += w * np.log(rest + p[0] * waves[0] + p[1] * waves[1])
        return total
    # log(rest + x + y) = log(rest) + sum over m of (-1)^(m + 1) / m ((x + y) / rest)^m, and
    # (x + y)^m by the binomial theorem: one lattice a power of x and y.
    n = index.shape[1]
    total = np.full(len(frequency), n * np.log(rest), complex)
    r, m = p / rest, 1
    while r.sum() ** m * n / m > 1e-17:
        powers = np.zeros(points)
        for k in range(m + 1):
            factor = comb(m, k) * r[0] ** k * r[1] ** (m - k) / m
            for first, second, weight in split:
                at = (k * first + (m - k) * second) % points
                powers += factor * np.bincount(at, weights=weight, minlength=points)
        total += (1 if m % 2 else -1) * np.fft.rfft(powers)
        m += 1
    return total


def _log_characteristic(counts: Array, p: float, roots: Array, frequency: Array) -> Array:
    """Sum over lattice points k of counts_k log(1 - p + p e^(-i k theta)), at the frequencies.

    By the series in r = p / (1 - p): each power m needs the transform of the counts at m theta
    only. For large p point by point.
    """
    points = len(roots)
    if p > _SERIES_LIMIT:
        if p > 0.5:  # 1 - xi fails with 1 - p: the same sum, shifted by all effects
            flipped = np.roll(counts[::-1], 1)
            shift = round(float(counts @ _signed(points)))
            turned = -2j * np.pi * ((shift * frequency) % points) / points
            return _log_characteristic(flipped, 1 - p, roots, frequency) + turned
        with np.errstate(divide="ignore"):
            table = np.log(1 - p + p * roots)
        occupied = np.flatnonzero(counts)
        total = np.zeros(len(frequency), complex)
        for k in occupied:
            total += counts[k] * table[(k * frequency) % points]
        return total
    transform = np.fft.fft(counts)
    r = p / (1 - p)
    total = np.full(len(frequency), counts.sum() * np.log1p(-p), complex)
    power, m = r, 1
    while power * counts.sum() / m > 1e-17:
        total += (power / m if m % 2 else -power / m) * transform[(m * frequency) % points]
        power, m = power * r, m + 1
    return total


def _signed(points: int) -> Array:
    """Lattice indices modulo points as numbers from -points/2 to points/2 - 1."""
    k = np.arange(points)
    return np.where(k < points // 2, k, k - points)
