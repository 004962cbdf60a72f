"""Mean and second moment of the error from few trials: strata by faults, and a control variate."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from neurosim.campaign import SPIKING_BACKENDS, Campaign
from neurosim.certification.presented import PresentedInputs
from neurosim.certification.scope import require_formulas
from neurosim.errors import InputError
from neurosim.executors import Executor, ThreadExecutor
from neurosim.kernels.tilted import effect_sums
from neurosim.layers import Array
from neurosim.sampling import FaultLaw
from neurosim.theory.arguments import check_campaign, whole_number

__all__ = ["MomentEstimate", "estimate_moments"]

# Beyond those of `search`; trials are numbered through.
_STREAM = 2**31 + 128
# Trials of one piece of work; effects of single faults held at once (of 8 bytes).
_TRIALS, _VALUES = 256, 2**25


@dataclass(frozen=True, kw_only=True, eq=False)
class MomentEstimate:
    """Moments of the error at one presentation: arrays (n_inputs, n_outputs).

    Parameters
    ----------
    mean, second_moment, variance : ndarray
        E error, E error^2 and Var error, in the units of the output and squared.
    mean_standard_error, second_moment_standard_error, variance_standard_error : ndarray
    evaluations : int
        Fault sets computed at every input, those of single faults included.
    stratified, control_variate : bool
        How.
    """

    mean: Array
    mean_standard_error: Array
    second_moment: Array
    second_moment_standard_error: Array
    variance: Array
    variance_standard_error: Array
    evaluations: int
    stratified: bool
    control_variate: bool

    def __str__(self) -> str:
        how = [
            *(["stratified by the number of faults"] if self.stratified else []),
            *(["with the single faults as control variate"] if self.control_variate else []),
        ]
        scale = np.maximum(np.abs(self.mean), np.finfo(float).tiny)
        relative = np.median(self.mean_standard_error / scale)
        return (
            f"moments of the error from {self.evaluations} fault sets, "
            f"{' and '.join(how) or 'plain'}; relative standard error of the mean {relative:.2g} "
            "(median over inputs and outputs)"
        )


def estimate_moments(
    campaign: Campaign,
    evaluations: int,
    *,
    stratified: bool = True,
    control_variate: bool = True,
    executor: Executor | None = None,
) -> MomentEstimate:
    """Estimate E error and E error^2 with far less noise than plain trials have.

    Stratified: no fault gives no error, every single fault is computed, and only sets of two or
    more faults are drawn, each as often as it is likely among those. Control variate: of a set
    drawn, the sum L of the errors of its single faults is subtracted (of error^2, L^2), whose
    expectation is known exactly. Either is unbiased; the standard errors come from the spread of
    what was drawn.

    Parameters
    ----------
    campaign : Campaign
        Its trials, plan and records are not used; its seed, backend and dtype are.
    evaluations : int
        Fault sets to draw, at least 2; the single faults come on top.
    stratified, control_variate : bool
        Without both: plain trials.
    executor : Executor, optional
        Who computes; threads on all cores by default. The results do not depend on it.

    Returns
    -------
    MomentEstimate
        Of every input and output, at one presentation, whatever the persistence of the faults.

    Raises
    ------
    InputError
        If a value is out of range, or one input has too many sites.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 2]]], biases=[[0]], activations=["identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), trials=1, seed=1,
    ...     faults=[ns.StuckAtZero("neuron", probability=1e-4)], inputs=[[3.0, 4.0]])
    >>> found = estimate_moments(campaign, evaluations=100)
    >>> float(found.mean[0, 0].round(9)), float(found.mean_standard_error[0, 0].round(9))
    (-0.0011, 0.0)
    """
    check_campaign(campaign)
    require_formulas(campaign, "estimate_moments")
    if campaign.backend in SPIKING_BACKENDS:
        raise InputError(
            'campaign: expected backend "compiled" or "reference", for spikes have no single '
            f"faults to add up, got {campaign.backend!r}"
        )
    drawn = whole_number("evaluations", evaluations, 2)
    pool = executor or ThreadExecutor()
    sites = _most_sites(campaign)
    if sites * campaign.n_outputs > _VALUES:
        raise InputError(
            f"campaign: expected at most {_VALUES // campaign.n_outputs} sites, for the errors of "
            f"their single faults are held in memory, got {sites}; let fewer layers fail"
        )
    size = max(1, _VALUES // max(1, sites * campaign.n_outputs))
    parts = []
    for first in range(0, campaign.n_inputs, size):
        stop = min(first + size, campaign.n_inputs)
        trials = _Trials(
            shown=PresentedInputs(campaign=campaign, first=first, stop=stop),
            stratified=stratified,
            control_variate=control_variate,
        )
        parts.append(trials.estimate(drawn, pool))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    singles = arrays.pop("singles")
    return MomentEstimate(
        **arrays,
        evaluations=drawn + int(singles.max()),
        stratified=stratified,
        control_variate=control_variate,
    )


def _most_sites(campaign: Campaign) -> int:
    layout, total = campaign.deployment.sites, 0
    for process in campaign.faults:
        offsets = layout.neuron_offsets if process.site == "neuron" else layout.synapse_offsets
        layers = np.array(process.layers_in(layout.widths))
        total += int((offsets[layers + 1] - offsets[layers]).sum())
    return total


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trials:
    """Trials of some inputs; errors as rows of all inputs and outputs, without what is certain."""

    shown: PresentedInputs
    stratified: bool
    control_variate: bool

    @property
    def _least(self) -> int:
        return 2 if self.stratified else 0

    def errors(self, offsets: Array, sites: Array) -> Array:
        """Errors of fault sets: (n_sets, n_inputs * n_outputs)."""
        return self.shown.errors(offsets, sites).reshape(len(offsets) - 1, -1).astype(np.float64)

    def singles(self, first: int) -> Array:
        """Errors of _TRIALS sites alone: (n, n_inputs * n_outputs)."""
        stop = min(first + _TRIALS, len(self.shown.probability))
        return self.errors(np.arange(stop - first + 1), np.arange(first, stop))

    def sums(self, base: Array, alone: Array, n_trials: int, first: int) -> Array:
        """Sums over _TRIALS sets drawn of f1, f2, f1^2, f1 f2, f2^2: (5, n_inputs * n_outputs).

        f1 is the error and f2 its square, both beyond those without faults (base) and less their
        control variates L and L^2.
        """
        law = FaultLaw(probability=self.shown.probability, least=self._least)
        stop = min(first + _TRIALS, n_trials)
        offsets, sites = law.draw(self.shown.campaign.seed, _STREAM, first, stop - first)
        change = self.errors(offsets, sites) - base
        change[np.diff(offsets) < self._least] = 0
        control = np.zeros_like(change)
        if self.control_variate:
            control = effect_sums(offsets, sites, alone)
            control[np.diff(offsets) < self._least] = 0
        one = change - control
        two = one * (2 * base + change + control)
        return np.stack([v.sum(axis=0) for v in (one, two, one**2, one * two, two**2)])

    def exact(self, base: Array, alone: Array) -> tuple[Array, Array]:
        """What need not be drawn of the mean and of the second moment: single faults, controls."""
        p = self.shown.probability
        total = np.log1p(-p).sum()
        with_others = p * -np.expm1(total - np.log1p(-p))
        share = np.zeros(len(p))
        if self.stratified:
            share += p - with_others
        if self.control_variate:
            share += with_others if self.stratified else p
        mean = share @ alone
        square = 2 * base * mean + share @ alone**2
        if self.control_variate:
            square += (p @ alone) ** 2 - p**2 @ alone**2
        return base + mean, base**2 + square

    def estimate(self, n_trials: int, pool: Executor) -> dict[str, Array]:
        """Moments and their standard errors, each (n_inputs, n_outputs)."""
        n_sites = len(self.shown.probability)
        base = self.errors(np.zeros(2, np.int64), np.empty(0, np.int64))[0]
        known = self.stratified or self.control_variate
        alone = np.zeros((n_sites if known else 0, len(base)))
        if known:
            rows = list(pool.map(self.singles, range(0, n_sites, _TRIALS)))
            alone = np.concatenate([*rows, alone[:0]]) - base
        mean, second = self.exact(base, alone) if known else (base, base**2)
        spread = np.zeros((3, len(base)))
        if n_sites >= max(self._least, 1):
            law = FaultLaw(probability=self.shown.probability, least=self._least)
            work = partial(self.sums, base, alone, n_trials)
            total = np.sum(list(pool.map(work, range(0, n_trials, _TRIALS))), axis=0) / n_trials
            mean, second = mean + law.mass * total[0], second + law.mass * total[1]
            products = np.stack([total[0] ** 2, total[0] * total[1], total[1] ** 2])
            spread = law.mass**2 * (total[2:] - products) / (n_trials - 1)
        # Var = E error^2 - (E error)^2, to first order in both errors.
        of_variance = spread[2] - 4 * mean * spread[1] + 4 * mean**2 * spread[0]
        values = {
            "mean": mean,
            "mean_standard_error": _root(spread[0]),
            "second_moment": second,
            "second_moment_standard_error": _root(spread[2]),
            "variance": second - mean**2,
            "variance_standard_error": _root(of_variance),
        }
        shape = (self.shown.stop - self.shown.first, -1)
        result = {name: value.reshape(shape) for name, value in values.items()}
        return result | {"singles": np.array([n_sites if known else 0])}


def _root(square: Array) -> Array:
    return np.sqrt(np.maximum(square, 0))
