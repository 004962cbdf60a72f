"""The law of one site's fault over the presentations of a trial."""

import numpy as np

from neurosim.faults.persistence import Permanent, Transient, onset_window
from neurosim.faults.processes import FaultProcess
from neurosim.layers import Array

__all__ = ["chain_of"]


def chain_of(process: FaultProcess, n_presentations: int) -> tuple[Array, Array]:
    """Probability that a site is faulty at each presentation, and what carries over to the next.

    With xi_t = 1 where the site is faulty, E xi_t = p_t and
    Cov(xi_t, xi_u) = p_t (1 - p_t) b_t b_{t+1} ... b_{u-1} for t < u.

    Parameters
    ----------
    process : FaultProcess
    n_presentations : int

    Returns
    -------
    probability, carry : ndarray, (n_presentations,)
        p_t and b_t; b of the last presentation leads out of the trial.

    Examples
    --------
    Bursts that begin in the first two presentations, 0.2 for an onset and 0.5 for a repair:

    >>> from neurosim.faults import Intermittent, StuckAtZero
    >>> burst = Intermittent(mean_duration=2, onset=(0, 2))
    >>> probability, carry = chain_of(
    ...     StuckAtZero("neuron", probability=2 / 7, persistence=burst), 3)
    >>> probability.round(3), carry.round(3)
    (array([0.2 , 0.26, 0.13]), array([0.3, 0.5, 0.5]))
    """
    p, n = process.probability, n_presentations
    persistence = process.persistence
    if isinstance(persistence, Permanent):
        return np.full(n, p), np.ones(n)
    window = onset_window(persistence)
    first, stop = (0, n) if window is None else window
    inside = (np.arange(n) >= first) & (np.arange(n) < stop)
    if isinstance(persistence, Transient):
        return np.where(inside, p, 0.0), np.zeros(n)
    if p == 1:
        return np.ones(n), np.ones(n)
    m = persistence.presentations
    stays, onset = 1 - 1 / m, p / (m * (1 - p))
    if window is None:
        return np.full(n, p), np.full(n, stays - onset)
    probability, before = np.zeros(n), 0.0
    for t in range(min(first, n), n):
        before = onset + (stays - onset) * before if inside[t] else stays * before
        probability[t] = before
    return probability, np.where(np.append(inside[1:], False), stays - onset, stays)
