"""Mean and second moment of the error from few trials: strata by faults, and a control variate."""

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from neurosim.campaign import SPIKING_BACKENDS, Campaign
from neurosim.certification.presented import PresentedInputs
from neurosim.certification.scope import require_sites
from neurosim.errors import InputError
from neurosim.executors import Executor, ThreadExecutor
from neurosim.kernels.tilted import effect_sums
from neurosim.layers import Array
from neurosim.sampling import FaultLaw
from neurosim.statistics import Changes
from neurosim.theory.arguments import check_campaign, whole_number
from neurosim.theory.setting import Setting, is_linear

__all__ = ["MomentEstimate", "estimate_moments"]

# Beyond those of `search`; trials are numbered through.
_STREAM = 2**31 + 128
# Trials of one piece of work at most, activations held for them, and effects of single faults held
# at once (of 8 bytes).
_TRIALS, _ACTIVATIONS, _VALUES = 256, 2**24, 2**25


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
    stratified, control_variate, integrated : bool
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
    integrated: bool

    def __str__(self) -> str:
        how = [
            *(["stratified by the number of faults"] if self.stratified else []),
            *(["with the single faults as control variate"] if self.control_variate else []),
            *(["with faults of the last layer averaged exactly"] if self.integrated else []),
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
    integrated: bool = True,
    executor: Executor | None = None,
) -> MomentEstimate:
    """Estimate E error and E error^2 with far less noise than plain trials have.

    Stratified: no fault gives no error, every single fault is computed, and only sets of two or
    more faults are drawn, each as often as it is likely among those. Control variate: of a set
    drawn, the sum L of the errors of its single faults is subtracted (of error^2, L^2), whose
    expectation is known exactly. Integrated: where the last layer is linear, only faults before the
    last hidden outputs are drawn; over those of these outputs, of the last weights and of the
    outputs the average is exact, set by set. All are unbiased; the standard errors come from the
    spread of what was drawn.

    Parameters
    ----------
    campaign : Campaign
        Its trials, plan and records are not used; its seed, backend and dtype are.
    evaluations : int
        Fault sets to draw, at least 2; the single faults come on top.
    stratified, control_variate, integrated : bool
        Without all: plain trials. `integrated` does nothing where the last layer has an
        activation, or rows, columns, cores or links fail.
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
    require_sites(campaign, "estimate_moments")
    if campaign.backend in SPIKING_BACKENDS:
        raise InputError(
            'campaign: expected backend "compiled" or "reference", for spikes have no single '
            f"faults to add up, got {campaign.backend!r}"
        )
    drawn = whole_number("evaluations", evaluations, 2)
    pool = executor or ThreadExecutor()
    setting = Setting.of(campaign)
    layer = _last_hidden(campaign, setting) if integrated else None
    sites = _most_sites(setting, layer)
    values = campaign.n_outputs * (1 if layer is None else 2)
    if sites * values > _VALUES:
        raise InputError(
            f"campaign: expected at most {_VALUES // values} sites, for the errors of "
            f"their single faults are held in memory, got {sites}; let fewer layers fail"
        )
    size = max(1, _VALUES // max(1, sites * values))
    parts = []
    for first in range(0, campaign.n_inputs, size):
        stop = min(first + size, campaign.n_inputs)
        trials = _Trials(
            shown=PresentedInputs(
                campaign=campaign, first=first, stop=stop, layer=layer, known=setting
            ),
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
        integrated=layer is not None,
    )


def _last_hidden(campaign: Campaign, setting: Setting) -> int | None:
    """The layer before the last, if that one is linear and neurons and synapses alone fail."""
    network = campaign.network
    linear = network.readout is None and is_linear(network.layers[-1].activation)
    return network.depth - 1 if linear and not setting.groups else None


def _most_sites(setting: Setting, layer: int | None) -> int:
    """Sites that are drawn: all, or those before the outputs of a layer."""
    return sum(
        setting.n_sites(block)
        for block in setting.probabilities
        if layer is None or block[1] + (block[0] == "neuron") <= layer
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _LastLayer:
    """The faults that are averaged exactly: those behind the last hidden outputs h.

    Where the last layer is linear an output is A (sum_i w_i S_i h_i + bias), A = 0 where it is dead
    and S_i = 0 where neuron i or its synapse is, all independent. Given h, with a = P(A = 1), q =
    P(S_i = 1), g the golden output, c = sum w dh and r = sum w^2 (2 h_0 dh + dh^2) the changes by
    the faults before, its mean and mean square error are

        a (b + q c) - (1 - a) g,    a ((b + q c)^2 + v + q (1 - q) r) + (1 - a) g^2

    with b = q sum w h_0 + bias - g and v = q (1 - q) sum w^2 h_0^2. In any other network h are the
    outputs, c their errors, and nothing is averaged.

    Parameters
    ----------
    weight : ndarray, (n_outputs, n_hidden), or None
        In the engine's dtype.
    hidden : ndarray, (n_inputs, n_hidden)
        h_0: with the faults that are certain.
    bias, golden : ndarray, (n_inputs, n_outputs)
        b and g.
    alive, output_alive : float
        q and a.
    """

    weight: Array | None
    hidden: Array
    bias: Array
    golden: Array
    alive: float
    output_alive: float

    @staticmethod
    def of(shown: PresentedInputs, certain: Array) -> "_LastLayer":
        """Of some inputs, with the errors (n_inputs, n_hidden) that are there in every set."""
        campaign = shown.campaign
        network, hidden = campaign.network, shown.golden + certain
        golden = network(campaign.inputs[shown.first : shown.stop])
        if shown.layer is None:
            return _LastLayer(
                weight=None, hidden=hidden, bias=certain.astype(np.float64), golden=golden,
                alive=1.0, output_alive=1.0,
            )  # fmt: skip
        depth, last = network.depth, network.layers[-1]
        p = shown.setting.probabilities
        alive = (1 - p.get(("neuron", depth - 1), 0.0)) * (1 - p.get(("synapse", depth), 0.0))
        lost = alive * certain.astype(np.float64) - (1 - alive) * shown.golden
        return _LastLayer(
            weight=last.weight.astype(campaign.dtype), hidden=hidden, bias=lost @ last.weight.T,
            golden=golden, alive=alive, output_alive=1 - p.get(("neuron", depth), 0.0),
        )  # fmt: skip

    @property
    def spread(self) -> float:
        """The variance of S_i, q (1 - q)."""
        return self.alive * (1 - self.alive)

    def changes(self, found: Changes, certain: Array) -> Array:
        """c, and r where it matters, of fault sets: (1 or 2, n_sets, n_inputs, n_outputs)."""
        if certain.any():
            found = Changes.of(found.dense() - certain)
        if self.weight is None:
            return np.asarray(found.dense()[None], np.float64)
        dh = found.values
        values = [dh @ self.weight.T]
        if self.spread:
            values.append((dh * (2 * self.hidden[found.inputs] + dh)) @ (self.weight**2).T)
        return np.stack([replace(found, values=v).dense() for v in values]).astype(np.float64)

    def square(self, c: Array, c_square: Array, r: Array | float) -> Array:
        """What changes add to (b + q c)^2 + q (1 - q) r: linear in c, c^2 and r."""
        q = self.alive
        return np.asarray(2 * q * self.bias.ravel() * c + q**2 * c_square + self.spread * r)

    def moments(self, one: Array, two: Array) -> tuple[Array, Array]:
        """Mean and mean square of the error from E q c and E `square`."""
        a, b, g = self.output_alive, self.bias.ravel(), self.golden.ravel()
        v: Array | float = 0.0
        if self.weight is not None:
            square = self.hidden.astype(np.float64) ** 2 @ self.weight.astype(np.float64).T ** 2
            v = self.spread * square.ravel()
        return a * (b + one) - (1 - a) * g, a * (b**2 + v + two) + (1 - a) * g**2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trials:
    """Trials of some inputs; values as rows of all inputs and outputs, without what is certain."""

    shown: PresentedInputs
    stratified: bool
    control_variate: bool

    @property
    def _least(self) -> int:
        return 2 if self.stratified else 0

    @cached_property
    def step(self) -> int:
        """Fault sets of one piece of work."""
        return int(np.clip(_ACTIVATIONS // self.shown.golden.size, 1, _TRIALS))

    @cached_property
    def _certain(self) -> Array:
        """Errors where only what is certain fails: (n_inputs, n_hidden)."""
        return self.shown.errors(np.zeros(2, np.int64), np.empty(0, np.int64))[0]

    @cached_property
    def last(self) -> _LastLayer:
        """What is averaged exactly."""
        return _LastLayer.of(self.shown, self._certain)

    def changes(self, offsets: Array, sites: Array) -> Array:
        """Changes c (and r) by fault sets: (n_sets, 1 or 2 times n_inputs * n_outputs)."""
        found = self.last.changes(self.shown.changes(offsets, sites), self._certain)
        return np.concatenate(list(found.reshape(*found.shape[:2], -1)), axis=1)

    def singles(self, first: int) -> Array:
        """Changes by `step` sites alone: (n, 1 or 2 times n_inputs * n_outputs)."""
        stop = min(first + self.step, len(self.shown.probability))
        return self.changes(np.arange(stop - first + 1), np.arange(first, stop))

    def _parts(self, values: Array) -> tuple[Array, Array | float]:
        """Rows of changes, c and r apart."""
        n = self.last.bias.size
        return values[:, :n], values[:, n:] if values.shape[1] > n else 0.0

    def sums(self, alone: Array, n_trials: int, first: int) -> Array:
        """Sums over `step` sets drawn of f1, f2, f1^2, f1 f2, f2^2: (5, n_inputs * n_outputs).

        f1 is q c and f2 the `square` of the changes, less their control variates: the same of the
        sums of the changes by single faults.
        """
        law = FaultLaw(probability=self.shown.probability, least=self._least)
        stop = min(first + self.step, n_trials)
        offsets, sites = law.draw(self.shown.campaign.seed, _STREAM, first, stop - first)
        few = np.diff(offsets) < self._least
        values = self.changes(offsets, sites)
        values[few] = 0
        c, r = self._parts(values)
        one, two = self.last.alive * c, self.last.square(c, c**2, r)
        if self.control_variate:
            control = effect_sums(offsets, sites, alone)
            control[few] = 0
            c, r = self._parts(control)
            one, two = one - self.last.alive * c, two - self.last.square(c, c**2, r)
        return np.stack([v.sum(axis=0) for v in (one, two, one**2, one * two, two**2)])

    def exact(self, alone: Array) -> tuple[Array, Array]:
        """What need not be drawn of E q c and E `square`: single faults, controls."""
        p = self.shown.probability
        total = np.log1p(-p).sum()
        with_others = p * -np.expm1(total - np.log1p(-p))
        share = np.zeros(len(p))
        if self.stratified:
            share += p - with_others
        if self.control_variate:
            share += with_others if self.stratified else p
        mean, r = self._parts((share @ alone)[None])
        c, _ = self._parts(alone)
        square = share @ c**2
        if self.control_variate:
            square += (p @ c) ** 2 - p**2 @ c**2
        return self.last.alive * mean[0], self.last.square(mean, square, r)[0]

    def estimate(self, n_trials: int, pool: Executor) -> dict[str, Array]:
        """Moments and their standard errors, each (n_inputs, n_outputs)."""
        n_sites, width = len(self.shown.probability), self.last.bias.size
        known = self.stratified or self.control_variate
        one, two, spread = np.zeros(width), np.zeros(width), np.zeros((3, width))
        alone = np.zeros((0, width))
        if known and n_sites:
            alone = np.concatenate(list(pool.map(self.singles, range(0, n_sites, self.step))))
            one, two = self.exact(alone)
        if n_sites >= max(self._least, 1):
            law = FaultLaw(probability=self.shown.probability, least=self._least)
            work = partial(self.sums, alone, n_trials)
            total = np.sum(list(pool.map(work, range(0, n_trials, self.step))), axis=0) / n_trials
            one, two = one + law.mass * total[0], two + law.mass * total[1]
            products = np.stack([total[0] ** 2, total[0] * total[1], total[1] ** 2])
            spread = law.mass**2 * (total[2:] - products) / (n_trials - 1)
            spread *= self.last.output_alive**2
        mean, second = self.last.moments(one, two)
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
