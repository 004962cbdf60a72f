"""Mean and second moment of the error from few trials: strata by faults, and a control variate."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from neurosim.campaign import SPIKING_BACKENDS, Campaign
from neurosim.certification.presented import PresentedInputs
from neurosim.errors import InputError
from neurosim.executors import Executor, ThreadExecutor
from neurosim.kernels.tilted import effect_sums
from neurosim.layers import Array
from neurosim.sampling import FaultLaw
from neurosim.theory.arguments import check_campaign, whole_number

__all__ = ["MomentEstimate", "estimate_moments"]

# Beyond those of `search`; trials are numbered through. The pilot fixes the slopes only.
_STREAM, _PILOT_STREAM = 2**31 + 128, 2**31 + 129
_PILOT, _RIDGE = 512, 1e-3
# Trials of one piece of work; effects of single faults held at once (of 8 bytes).
_TRIALS, _VALUES = 256, 2**26


@dataclass(frozen=True, kw_only=True, eq=False)
class MomentEstimate:
    """Moments of the error at one presentation: arrays (n_inputs, n_outputs).

    Parameters
    ----------
    mean, second_moment, variance : ndarray
        E error, E error^2 and Var error, in the units of the output and squared.
    mean_standard_error, second_moment_standard_error, variance_standard_error : ndarray
    evaluations : int
        Fault sets computed at every input, single faults and pilot included.
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
    more faults are drawn, each as often as it is likely among those. Control variate: with L the
    sum of the errors of a set's single faults, multiples of L and L^2 are subtracted, whose
    expectations are known exactly; how much, a pilot says. Either is unbiased; the standard errors
    come from the spread of what was drawn.

    Parameters
    ----------
    campaign : Campaign
        Its trials, plan and records are not used; its seed, backend and dtype are.
    evaluations : int
        Fault sets to draw, at least 2; single faults and a pilot of 512 sets come on top.
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
    beside = arrays.pop("beside")
    return MomentEstimate(
        **arrays,
        evaluations=drawn + int(beside.max()),
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

    def _drawn(
        self, base: Array, alone: Array, stream: int, first: int, stop: int
    ) -> tuple[Array, Array]:
        """Sets drawn: changes beyond those without faults (base), and sums of single changes.

        Each (n_sets, n_inputs * n_outputs); 0 for sets of fewer faults than are to be drawn.
        """
        law = FaultLaw(probability=self.shown.probability, least=self._least)
        offsets, sites = law.draw(self.shown.campaign.seed, stream, first, stop - first)
        change = self.errors(offsets, sites) - base
        control = effect_sums(offsets, sites, alone)
        few = np.diff(offsets) < self._least
        change[few], control[few] = 0, 0
        return change, control

    def slopes(self, base: Array, alone: Array) -> Array:
        """How much of each control to subtract from each moment: (2, 2, n_inputs * n_outputs).

        From L and L^2 in their own places, corrected by a regression over a pilot.
        """
        result = np.zeros((2, 2, len(base)))
        if not self.control_variate:
            return result
        change, control = self._drawn(base, alone, _PILOT_STREAM, 0, _PILOT)
        left = change - control
        targets = np.stack([left, left * (2 * base + change + control)])
        controls = np.stack([control, control**2])
        targets -= targets.mean(axis=1, keepdims=True)
        controls -= controls.mean(axis=1, keepdims=True)
        scale = np.sqrt((controls**2).mean(axis=1))
        scale[scale == 0] = 1
        controls /= scale[:, None]
        products = np.einsum("ctv,dtv->vcd", controls, controls) / _PILOT
        products += _RIDGE * np.eye(2)
        covariance = np.einsum("ctv,mtv->vcm", controls, targets) / _PILOT
        fitted = np.linalg.solve(products, covariance).transpose(2, 1, 0) / scale
        fitted += np.stack([[np.ones_like(base), 0 * base], [2 * base, np.ones_like(base)]])
        return np.asarray(fitted)

    def sums(self, base: Array, alone: Array, slopes: Array, n_trials: int, first: int) -> Array:
        """Sums over _TRIALS sets drawn of f1, f2, f1^2, f1 f2, f2^2: (5, n_inputs * n_outputs).

        f1 is the error and f2 its square, beyond those without faults and less their controls.
        """
        stop = min(first + _TRIALS, n_trials)
        change, control = self._drawn(base, alone, _STREAM, first, stop)
        one = change - slopes[0, 0] * control - slopes[0, 1] * control**2
        two = change * (2 * base + change) - slopes[1, 0] * control - slopes[1, 1] * control**2
        return np.stack([v.sum(axis=0) for v in (one, two, one**2, one * two, two**2)])

    def exact(self, base: Array, alone: Array, slopes: Array) -> tuple[Array, Array]:
        """What need not be drawn of the mean and of the second moment: single faults, controls."""
        p = self.shown.probability
        total = np.log1p(-p).sum()
        with_others = p * -np.expm1(total - np.log1p(-p))
        mean, second = base, base**2
        if self.stratified:
            single, squares = (p - with_others) @ alone, (p - with_others) @ alone**2
            mean, second = mean + single, second + 2 * base * single + squares
        if self.control_variate:
            share = with_others if self.stratified else p
            one = share @ alone
            two = share @ alone**2 + (p @ alone) ** 2 - p**2 @ alone**2
            mean = mean + slopes[0, 0] * one + slopes[0, 1] * two
            second = second + slopes[1, 0] * one + slopes[1, 1] * two
        return mean, second

    def estimate(self, n_trials: int, pool: Executor) -> dict[str, Array]:
        """Moments and their standard errors, each (n_inputs, n_outputs)."""
        n_sites = len(self.shown.probability)
        base = self.errors(np.zeros(2, np.int64), np.empty(0, np.int64))[0]
        known = self.stratified or self.control_variate
        alone = np.zeros((n_sites, len(base)))
        if known:
            rows = list(pool.map(self.singles, range(0, n_sites, _TRIALS)))
            alone = np.concatenate([*rows, alone[:0]]) - base
        spread = np.zeros((3, len(base)))
        if n_sites < max(self._least, 1):
            mean, second = self.exact(base, alone, np.zeros((2, 2, len(base))))
        else:
            slopes = self.slopes(base, alone)
            mean, second = self.exact(base, alone, slopes)
            mass = FaultLaw(probability=self.shown.probability, least=self._least).mass
            work = partial(self.sums, base, alone, slopes, n_trials)
            total = np.sum(list(pool.map(work, range(0, n_trials, _TRIALS))), axis=0) / n_trials
            mean, second = mean + mass * total[0], second + mass * total[1]
            products = np.stack([total[0] ** 2, total[0] * total[1], total[1] ** 2])
            spread = mass**2 * (total[2:] - products) / (n_trials - 1)
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
        beside = (n_sites if known else 0) + (_PILOT if self.control_variate else 0)
        return result | {"beside": np.array([beside])}


def _root(square: Array) -> Array:
    return np.sqrt(np.maximum(square, 0))
