"""Moments of the error for pieces of hardware that fail as a whole, or in one of several ways.

`predict` is for many like sites, each one neuron or one synapse that is dead. A `Site` here is any
piece of hardware that fails by itself: a crossbar column that takes its synapses with it, a neuron
stuck at some value, a device that is stuck low or stuck high.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from neurosim.campaign import Loss
from neurosim.errors import InputError
from neurosim.layers import Array, frozen
from neurosim.network import Network
from neurosim.theory.arguments import check_range, sequence
from neurosim.theory.passes import faultless_setting
from neurosim.theory.site_changes import NEURON_VALUE, SYNAPSE_WEIGHT
from neurosim.theory.site_losses import SiteLosses, expanded_in
from neurosim.theory.site_moments import Enumeration, SiteSums, States

__all__ = ["Effect", "Site", "SitePrediction", "predict_sites"]

Method = Literal["single-fault", "first-order", "enumeration"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Effect:
    """What a failed piece of hardware does: outputs and weights that it sets to values.

    Parameters
    ----------
    neurons : rows of (layer, unit, value)
        Outputs of neurons, in the unit of the network's activations; layer 0 is the input. Kept
        as a structured array, sorted.
    synapses : rows of (layer, out, in, weight)
        Weights W_layer[out, in], in the unit of the weights. Kept as a structured array, sorted.

    Raises
    ------
    InputError
        If a row has a wrong form, or sets what another row sets to a different value.

    Examples
    --------
    >>> Effect(neurons=[(1, 5, 0.0)], synapses=[(2, 0, 5, 0.25)]).synapses["weight"]
    array([0.25])
    """

    neurons: Array = ()  # type: ignore[assignment]
    synapses: Array = ()  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name, dtype in (("neurons", NEURON_VALUE), ("synapses", SYNAPSE_WEIGHT)):
            fields = dtype.names or ()
            table = _table(name, getattr(self, name), fields)
            places = table[:, :-1]
            whole = (places >= 0) & (places < 2**53) & (places == np.floor(places))
            if (wrong := ~whole.all(axis=1)).any():
                raise InputError(
                    f"{name}: expected whole numbers from 0 on for {', '.join(fields[:-1])}, got "
                    f"{_row(places[wrong.argmax()])}"
                )
            table = table[np.lexsort(table.T[::-1])]
            same = (table[1:, :-1] == table[:-1, :-1]).all(axis=1)
            if (differ := same & (table[1:, -1] != table[:-1, -1])).any():
                at = int(differ.argmax())
                raise InputError(
                    f"{name}: expected one {fields[-1]} for {_row(table[at, :-1])} of "
                    f"({', '.join(fields[:-1])}), got {table[at, -1]:g} and {table[at + 1, -1]:g}"
                )
            table = table[np.concatenate([[True], ~same])[: len(table)]]
            rows = np.empty(len(table), dtype)
            for column, field_name in zip(table.T, fields, strict=True):
                rows[field_name] = column
            rows.setflags(write=False)
            object.__setattr__(self, name, rows)


def _row(numbers: Array) -> str:
    return f"({', '.join(f'{number:g}' for number in numbers)})"


def _table(name: str, rows: Any, fields: Sequence[str]) -> Array:
    """Rows of finite numbers, one column a field."""
    expected = f"{name}: expected rows of ({', '.join(fields)})"
    if isinstance(rows, np.ndarray) and rows.dtype.names:
        rows = rows.tolist()
    elif isinstance(rows, Iterable) and not isinstance(rows, np.ndarray):
        rows = list(rows)
    try:
        table = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{expected}, got {error}") from error
    if table.size == 0:
        return np.empty((0, len(fields)))
    if table.ndim != 2 or table.shape[1] != len(fields):
        raise InputError(f"{expected}, got an array of shape {table.shape}")
    if not np.isfinite(table).all():
        raise InputError(f"{expected}, got one that is not finite")
    return table


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """A piece of hardware that fails by itself, in one of several exclusive states.

    Parameters
    ----------
    states : sequence of (float, Effect)
        The probability of each failed state and what the hardware then does. The probabilities
        add up to at most 1; what is missing is the probability of no fault.
    name : str, optional
        What messages call the site; its place in the list by default.

    Raises
    ------
    InputError
        If a probability is out of range, or they add up to more than 1.

    Examples
    --------
    A device that is stuck low or stuck high:

    >>> low, high = (Effect(synapses=[(1, 0, 0, w)]) for w in (0.0, 1.0))
    >>> Site(states=[(0.01, low), (0.002, high)]).probability
    0.012
    """

    states: Sequence[tuple[float, Effect]]
    name: str = ""

    def __post_init__(self) -> None:
        try:
            states = tuple((probability, effect) for probability, effect in self.states)
        except (TypeError, ValueError) as error:
            raise InputError(f"states: expected pairs of (probability, Effect), got {error}") from (
                error
            )
        for probability, effect in states:
            if not isinstance(effect, Effect):
                raise InputError(
                    f"states: expected pairs of (probability, Effect), got {effect!r} as an effect"
                )
            number = isinstance(probability, int | float | np.integer | np.floating)
            if not number or isinstance(probability, bool) or not 0 <= probability <= 1:
                raise InputError(
                    f"states: expected probabilities in [0, 1], got {probability!r}"
                    + ("; is it a percentage?" if number and 1 < probability <= 100 else "")
                )
        states = tuple((float(probability), effect) for probability, effect in states)
        object.__setattr__(self, "states", states)
        if self.probability > 1 + 1e-12:
            raise InputError(
                "states: expected probabilities of exclusive states, at most 1 together, got "
                f"{self.probability:g}; states that may occur together are sites of their own"
            )

    @staticmethod
    def dead(
        *,
        neurons: Iterable[Sequence[int]] = (),
        synapses: Iterable[Sequence[int]] = (),
        probability: float,
        name: str = "",
    ) -> Site:
        """A group that is dead as a whole: outputs and weights of its members become 0.

        Parameters
        ----------
        neurons : rows of (layer, unit)
        synapses : rows of (layer, out, in)
        probability : float
        name : str, optional

        Examples
        --------
        The column of a crossbar that drives neuron 1 of layer 1, which has 3 inputs:

        >>> column = [(1, 1, in_) for in_ in range(3)]
        >>> len(Site.dead(synapses=column, probability=1e-3).states[0][1].synapses)
        3
        """
        zeroed = [
            np.column_stack([table, np.zeros(len(table))])
            for table in (
                _table("neurons", neurons, ("layer", "unit")),
                _table("synapses", synapses, ("layer", "out", "in")),
            )
        ]
        effect = Effect(neurons=zeroed[0], synapses=zeroed[1])
        return Site(states=[(probability, effect)], name=name)

    @staticmethod
    def stuck_neuron(
        layer: int, unit: int, *, value: float, probability: float, name: str = ""
    ) -> Site:
        """A neuron whose output is stuck at a value.

        Examples
        --------
        >>> Site.stuck_neuron(1, 0, value=1.0, probability=1e-3).probability
        0.001
        """
        effect = Effect(neurons=[(layer, unit, value)])  # type: ignore[arg-type]
        return Site(states=[(probability, effect)], name=name)

    @property
    def probability(self) -> float:
        """Probability of any fault."""
        return math.fsum(probability for probability, _ in self.states)


@dataclass(frozen=True, kw_only=True, eq=False)
class SitePrediction:
    """Predicted moments of the error (faulty - golden, after the read-out) that sites make.

    Parameters
    ----------
    sites : tuple of Site
    method : str
    layer : int or None
        The hidden layer whose error this is (D4 of the paper); None for the outputs.
    loss : str or None
        The loss whose error this is.
    mean, variance : ndarray, shape (n_inputs, n_outputs)
        In the unit of the outputs (or of the loss) and its square; n_outputs is 1 for a loss.
    mean_paper : ndarray, shape (n_inputs, n_outputs), or None
        Of a loss by "first-order": by its gradient alone (AP9). None otherwise.
    site_means, site_variances : ndarray, shape (n_sites, n_outputs), or None
        What each site adds to mean and variance, averaged over the inputs; for a loss by
        "first-order" what it does by itself, to which pairs of sites add. None for "enumeration",
        where sites do not add.
    exact : bool
        Whether the structure of the network makes the method exact for these sites.
    by_single_fault : tuple of str
        Sites of which "first-order" uses the exact change that they make alone, for some of their
        members lie on a path behind others.
    """

    sites: tuple[Site, ...]
    method: str
    layer: int | None
    loss: str | None
    mean: Array
    variance: Array
    mean_paper: Array | None
    site_means: Array | None
    site_variances: Array | None
    exact: bool
    by_single_fault: tuple[str, ...]
    _moments: SiteSums | SiteLosses | Enumeration = field(repr=False)

    @cached_property
    def covariance(self) -> Array:
        """Covariance of the outputs, (n_inputs, n_outputs, n_outputs); computed when asked for."""
        return frozen(self._moments.covariance(), np.float64)

    @cached_property
    def overlaps(self) -> tuple[str, ...]:
        """Pairs of sites that set the same neuron or synapse, or of which one hides the other.

        To first order in the probabilities this does not matter.
        """
        return self._moments.states.overlaps()

    def __str__(self) -> str:
        n_inputs, n_outputs = self.mean.shape
        lines = [
            f"{self.method} prediction of {len(self.sites)} sites for {n_inputs} inputs"
            + (" (exact)" if self.exact else ""),
            f"{'output':>8}{'mean':>12}{'variance':>12}{'sd':>12}   (averages over inputs)",
        ]
        for k in range(min(n_outputs, 10)):
            variance = self.variance[:, k].mean()
            lines.append(
                f"{k:8}{self.mean[:, k].mean():12.3e}{variance:12.3e}{np.sqrt(variance):12.3e}"
            )
        if n_outputs > 10:
            lines.append(f"     ... {n_outputs - 10} more outputs")
        lines += _some([f"  by its exact change alone: {name}" for name in self.by_single_fault])
        lines += _some([f"  overlap: {text}" for text in self.overlaps])
        return "\n".join(lines)


def _some(lines: list[str], most: int = 10) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"  ... {len(lines) - most} more"]


def predict_sites(
    network: Network,
    inputs: npt.ArrayLike,
    sites: Sequence[Site],
    method: str = "single-fault",
    *,
    layer: int | None = None,
    loss: Loss | None = None,
    targets: npt.ArrayLike | None = None,
) -> SitePrediction:
    """Predict the moments of the error that independent sites make, each with exclusive states.

    Section 2 of arXiv 1902.01686 (T1, b4), for sites other than one dead neuron or synapse: with
    the change d_a that state a of a site makes, of probability p_a, E = sum p_a d_a and
    Var = sum p_a d_a^2 - (sum p_a d_a)^2; sites add.

    Parameters
    ----------
    network : Network
    inputs : array_like, shape (n_inputs, *input_shape)
    sites : sequence of Site
    method : str
        "single-fault": b4, d_a is the exact change that the state makes alone: right to first
        order in the probabilities for every network.
        "first-order": T1, d_a by derivatives: (dy_L/dy)(v - y) for a neuron stuck at v,
        <dy_L/dW, w - W> for weights set to w, and the sum over the members of a group. Where a
        member lies on a path behind another (a core with blocks of two layers; a neuron together
        with synapses out of or into it) that sum would count it twice: such a state enters with
        its exact change, and its site is named in `by_single_fault`. For a loss these are
        changes of the outputs, and the curvature of the loss is added; AP9 is `mean_paper`.
        "enumeration": every combination of states, exact: at most 2^20. The same value set by two
        sites counts once.
    layer : int, optional
        Predict the error of the output of this layer (D4) instead of the network's.
    loss : "squared_error", "absolute_error" or "cross_entropy", optional
        Predict the error of this loss (mean over outputs; needs targets) instead of the outputs.
    targets : array_like, optional
        Class numbers (n_inputs,) or wanted outputs (n_inputs, n_outputs).

    Returns
    -------
    SitePrediction

    Raises
    ------
    InputError
        If the method or the layer does not exist, a site sets what the network does not have,
        there are too many combinations, two sites set one neuron or synapse to different values
        in an enumeration, or the moments leave the range of a float64.

    Examples
    --------
    >>> network = Network.dense(weights=[[[2.0, 1.0]]], biases=[[0]], activations=["identity"])
    >>> sites = [Site.stuck_neuron(0, 0, value=3.0, probability=0.5),
    ...          Site.dead(synapses=[(1, 0, 1)], probability=0.1)]
    >>> prediction = predict_sites(network, [[1.0, 1.0]], sites)
    >>> prediction.mean, prediction.variance, prediction.exact
    (array([[1.9]]), array([[4.09]]), True)
    """
    if method not in get_args(Method):
        spelled = ", ".join(f'"{name}"' for name in get_args(Method))
        raise InputError(f"method: expected one of {spelled}, got {method!r}")
    setting = faultless_setting(network, inputs, layer, loss, targets)
    sites = (sites,) if isinstance(sites, Site) else tuple(sequence("sites", sites, "Site values"))
    names = []
    for number, site in enumerate(sites):
        if not isinstance(site, Site):
            raise InputError(f"sites: expected Site values, got {site!r}")
        names.append(site.name or f"site {number}")
        for _, effect in site.states:
            _check_places(effect, names[-1], network.widths)
    states = States.of(sites, names, setting)
    moments: SiteSums | SiteLosses | Enumeration
    exact, series, mean_paper = True, np.empty(0, np.int64), None
    if method == "enumeration":
        moments = Enumeration(states=states)
    elif method == "single-fault":
        moments = SiteSums(states=states, by_derivatives=False)
        exact = moments.exact
    else:
        inner = states if loss is None else States.of(sites, names, expanded_in(setting))
        sums = SiteSums(states=inner, by_derivatives=True)
        moments = sums if loss is None else SiteLosses(setting=setting, outputs=sums)
        exact, series = moments.exact, inner.site[sums.in_series]
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
        mean, variance, site_means, site_variances = moments.moments()
        if isinstance(moments, SiteLosses):
            mean_paper = frozen(moments.linear_mean, np.float64)
    check_range("the moments of the error", mean, variance)
    return SitePrediction(
        sites=sites,
        method=method,
        layer=layer,
        loss=loss,
        mean=frozen(mean, np.float64),
        variance=frozen(variance, np.float64),
        mean_paper=mean_paper,
        site_means=None if site_means is None else frozen(site_means, np.float64),
        site_variances=None if site_variances is None else frozen(site_variances, np.float64),
        exact=exact,
        by_single_fault=tuple(names[number] for number in np.unique(series)),
        _moments=moments,
    )


def _check_places(effect: Effect, name: str, widths: Sequence[int]) -> None:
    """Refuse an effect on neurons or synapses that the network does not have."""
    depth = len(widths) - 1
    for kind, rows, first in (("neurons", effect.neurons, 0), ("synapses", effect.synapses, 1)):
        for layer in rows["layer"][(rows["layer"] < first) | (rows["layer"] > depth)]:
            raise InputError(
                f"sites: {name}: {kind}: expected layers from {first} to {depth}, got {layer}"
            )
        width = np.asarray(widths)[rows["layer"]]
        limits = {"unit": width, "out": width}
        if kind == "synapses":
            limits["in"] = np.asarray(widths)[rows["layer"] - 1]
        for column in (rows.dtype.names or ())[1:-1]:
            for row, limit in zip(
                rows[rows[column] >= limits[column]],
                limits[column][rows[column] >= limits[column]],
                strict=True,
            ):
                raise InputError(
                    f"sites: {name}: {kind}: expected {column} from 0 to {limit - 1} in layer "
                    f"{row['layer']}, got {row[column]}"
                )
