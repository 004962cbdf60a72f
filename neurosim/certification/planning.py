"""How many plain trials a statement about a probability needs: exact, by Clopper and Pearson."""

import math
from collections.abc import Callable

from scipy import special

from neurosim.errors import InputError
from neurosim.theory.arguments import fraction, numbers, whole_number

__all__ = ["trials_to_bound", "trials_to_estimate"]

# Beyond it float64 does not hold every whole number.
_MOST_TRIALS = 2**53


def _smallest(holds: Callable[[int], bool], least: int, what: str) -> int:
    """The smallest n >= least for which a statement holds that then holds for all larger n."""
    fits, short = max(least, 1), least - 1
    while not holds(fits):
        short, fits = fits, 2 * fits
        if fits > _MOST_TRIALS:
            raise InputError(
                f"{what}: expected a statement within reach of 2^53 trials, got one that needs "
                "more; ask for less, or use exceedance, which needs no plain trials"
            )
    while fits - short > 1:
        middle = (fits + short) // 2
        short, fits = (short, middle) if holds(middle) else (middle, fits)
    return fits


def trials_to_bound(
    delta: float, *, confidence: float = 0.95, failures: int = 0, statements: int = 1
) -> int:
    """Count the plain trials that show "P <= delta with this confidence".

    The smallest n whose upper Clopper-Pearson limit, after `failures` failures in n trials, is at
    most delta: P(Bin(n, delta) <= failures) <= 1 - confidence. Without a failure that is about
    3 / delta at 95 %. If more failures come, the statement is not shown.

    Parameters
    ----------
    delta : float
        Between 0 and 1.
    confidence : float
        Of all statements together.
    failures : int
        How many failures the statement is to survive. About n times the true probability come.
    statements : int
        How many such statements are to hold at once, as one an input (Bonferroni).

    Returns
    -------
    int

    Raises
    ------
    InputError
        If a value is out of range, or more than 2^53 trials would be needed.

    References
    ----------
    C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404-413.

    Examples
    --------
    >>> trials_to_bound(1e-6)
    2995731
    >>> trials_to_bound(1e-3, failures=2)
    6294
    """
    bound, level = fraction("delta", delta), 1 - fraction("confidence", confidence)
    seen = whole_number("failures", failures, 0)
    share = level / whole_number("statements", statements, 1)

    def shown(n: int) -> bool:
        # P(Bin(n, delta) <= seen) as an incomplete beta function.
        return n > seen and float(special.betaincc(seen + 1, n - seen, bound)) <= share

    return _smallest(shown, seen + 1, "delta")


def trials_to_estimate(
    probability: float, *, relative_error: float = 0.1, confidence: float = 0.95
) -> int:
    """Count the plain trials that measure a probability to a relative error.

    The smallest n at which both Clopper-Pearson limits of the expected count, n times the
    probability, lie within the relative error of it: about (z / r)^2 (1 - q) / q.

    Parameters
    ----------
    probability : float
        q, what is thought to be the probability, between 0 and 1.
    relative_error : float
        r, above 0: the interval is to lie within q (1 - r) .. q (1 + r).
    confidence : float
        Of the interval.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If a value is out of range, or more than 2^53 trials would be needed.

    Examples
    --------
    >>> trials_to_estimate(1e-8)
    42293841605
    """
    q, level = fraction("probability", probability), 1 - fraction("confidence", confidence)
    error = numbers("relative_error", relative_error, "a number above 0", lambda r: r > 0)
    if error.ndim:
        raise InputError(f"relative_error: expected one number, got shape {error.shape}")
    r = float(error)

    def within(n: int) -> bool:
        k = n * q
        low = float(special.betaincinv(k, n - k + 1, level / 2)) if k > 0 else 0.0
        high = float(special.betainccinv(k + 1, n - k, level / 2)) if k < n else 1.0
        return low >= q * (1 - r) and high <= q * (1 + r)

    return _smallest(within, max(1, math.ceil(1 / q)), "probability")
