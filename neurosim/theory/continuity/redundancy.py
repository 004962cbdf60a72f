"""How many neurons a target takes, where a budget does most, copies of neurons, compensation.

To first order (T1) each layer adds p_l C_l / n_l to the variance of the error, with C_l = n_l Var
Delta / p_l a constant of the continuous network; k copies of neuron i, its outgoing weights
divided by k, turn its share g_i^2 of Var Delta / p into g_i^2 / k.
"""

import heapq

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.layers import Array, Dense
from neurosim.network import Network
from neurosim.theory.arguments import (
    broadcast,
    check_network,
    fraction,
    numbers,
    probabilities,
    whole_number,
)

__all__ = [
    "balanced_copies",
    "balanced_widths",
    "compensated",
    "copies_by_importance",
    "duplicate",
    "width_needed",
]

# Relative: a quotient that rounding alone lifts above a whole number counts as that number.
_ROUNDING = 1e-12
# Beyond this rounding of a float comes near whole numbers.
_MOST_NEURONS = 10**15
# Balanced copies are found by a table of so many entries a layer.
_MOST_COPIED = 10**5


def width_needed(
    constant: npt.ArrayLike, probability: npt.ArrayLike, delta: float, tolerance: npt.ArrayLike
) -> Array:
    """Give the width n_l that meets a target: C p / (delta t^2), rounded up.

    The width in the analysis of Algorithm 1: with T1's Var Delta = C p / n, Chebyshev's bound (P5)
    on an error t or more beyond its mean is C p / (n t^2). C = n_l Var Delta / p_l is a property
    of the continuous network, measured at one width; the answer is as good as T1, and as far as C
    stays the same (A3), no guarantee.

    Parameters
    ----------
    constant : array_like
        C = n_l Var Delta / p_l, in units of the output squared.
    probability : array_like
        p_l, the crash probability of a neuron, in [0, 1].
    delta : float
        The tolerated probability, between 0 and 1.
    tolerance : array_like
        t = epsilon - E Delta > 0, in units of the output.

    Returns
    -------
    int or ndarray of int64, the common shape of constant, probability and tolerance
        At least 1. A quotient within 1e-12 of a whole number, relatively, counts as that number.

    Raises
    ------
    InputError
        If a value is out of range, or more than 10^15 neurons would be needed.

    Examples
    --------
    >>> int(width_needed(constant=0.5, probability=0.01, delta=0.1, tolerance=0.02))
    125
    """
    c = numbers("constant", constant, "finite numbers from 0 on", lambda x: x >= 0)
    p = probabilities("probability", probability)
    t = numbers("tolerance", tolerance, "numbers above 0", lambda x: x > 0)
    c, p, t = broadcast(constant=c, probability=p, tolerance=t)
    with np.errstate(over="ignore"):
        # Divided twice by t: its square may leave the range of a float.
        needed = np.ceil(c * p / fraction("delta", delta) / t / t * (1 - _ROUNDING))
    if (needed > _MOST_NEURONS).any():
        raise InputError(
            f"tolerance: expected a target within reach of 10^15 neurons, got {needed.max():g} "
            "needed; tolerate a larger error or probability, or use replicas"
        )
    return np.maximum(needed, 1).astype(np.int64)[()]


def _shares(cost: Array, budget: int) -> Array:
    """Whole numbers k_i >= 1 of sum `budget` that minimise sum_i cost_i / k_i.

    The problem is separable and convex, so giving the units one by one to whoever gains most is
    optimal. The units whose gain is at least that of the problem with budget - n units on the
    real line are given at once: there are never more than `budget` of them.
    """
    root = np.sqrt(cost)
    continuous = root * ((budget - len(cost)) / root.sum())
    # cost / (k (k - 1)), the gain of the k-th unit, is above the threshold up to this k.
    share = np.maximum(np.floor(0.5 + np.sqrt(0.25 + continuous**2)), 1).astype(np.int64)
    gain = cost / (share * (share + 1.0))
    heap = [(-g, int(k), i) for i, (g, k) in enumerate(zip(gain, share, strict=True))]
    heapq.heapify(heap)
    for _ in range(budget - int(share.sum())):
        _, k, i = heap[0]
        share[i] = k + 1
        heapq.heapreplace(heap, (-cost[i] / ((k + 1) * (k + 2.0)), k + 1, i))
    return share


def _costs(name: str, cost: Array, budget: int) -> tuple[Array, int]:
    """Costs scaled to at most 1, and the budget, checked."""
    if cost.ndim != 1 or len(cost) == 0:
        raise InputError(f"{name}: expected a vector, one value each, got shape {cost.shape}")
    if not cost.any():
        raise InputError(f"{name}: expected at least one value above 0, got only zeros")
    return cost / cost.max(), whole_number("budget", budget, len(cost), _MOST_NEURONS)


def balanced_widths(budget: int, probabilities: npt.ArrayLike, constants: npt.ArrayLike) -> Array:
    """Divide a number of neurons over layers so that the error varies least (section 5).

    Minimises T1's sum_l p_l C_l / n_l under sum_l n_l = budget: n_l proportional to
    sqrt(p_l C_l) but for rounding. The whole numbers are exactly optimal.

    Parameters
    ----------
    budget : int
        Neurons in all, at least one a layer.
    probabilities : array_like, shape (n_layers,)
        p_l, in [0, 1].
    constants : array_like, shape (n_layers,)
        C_l = n_l Var Delta / p_l of layer l alone, in units of the output squared.

    Returns
    -------
    ndarray of int64, shape (n_layers,)
        n_l, at least 1.

    Raises
    ------
    InputError
        If a value is out of range, the shapes differ, every p_l C_l is 0, or the budget is short.

    Examples
    --------
    >>> balanced_widths(300, probabilities=[0.01, 0.01], constants=[1.0, 4.0])
    array([100, 200])
    """
    p = numbers("probabilities", probabilities, "numbers in [0, 1]", lambda x: (x >= 0) & (x <= 1))
    c = numbers("constants", constants, "finite numbers from 0 on", lambda x: x >= 0)
    p, c = broadcast(probabilities=p, constants=c)
    return _shares(*_costs("constants", p * c, budget))


def balanced_copies(budget: int, widths: npt.ArrayLike, variances: npt.ArrayLike) -> Array:
    """Divide a number of neurons over layers in which every neuron has the same number of copies.

    A trained network is widened by copies alone: k_l copies of all neurons of layer l, n_l k_l of
    them, divide what the layer adds to T1's variance, V_l = p_l C_l / n_l, by k_l. Minimises
    sum_l V_l / k_l under sum_l n_l k_l <= budget: n_l k_l proportional to sqrt(p_l C_l)
    (`balanced_widths`) but for rounding. The whole numbers are exactly optimal.

    Parameters
    ----------
    budget : int
        Neurons in all, from sum_l n_l to 10^5.
    widths : array_like of int, shape (n_layers,)
        n_l, as they are.
    variances : array_like, shape (n_layers,)
        V_l, what each layer adds to the variance as it is, in units of the output squared:
        `prediction.variance_contributions`, say, averaged over inputs.

    Returns
    -------
    ndarray of int64, shape (n_layers,)
        k_l, at least 1, for `duplicate`; of several optima that of fewest copies in the last
        layers.

    Raises
    ------
    InputError
        If a value is out of range, the shapes differ, every V_l is 0, or the budget is short.

    Examples
    --------
    >>> balanced_copies(600, widths=[100, 100], variances=[0.01, 0.04])
    array([2, 4])
    """
    n = numbers("widths", widths, "whole numbers from 1 on", lambda x: (x >= 1) & (x % 1 == 0))
    v = numbers("variances", variances, "finite numbers from 0 on", lambda x: x >= 0)
    if n.shape != v.shape:
        raise InputError(
            f"variances: expected one value a width, shape {n.shape}, got shape {v.shape}"
        )
    cost, _ = _costs("variances", v, _MOST_NEURONS)
    whole = whole_number("budget", budget, int(n.sum()), _MOST_COPIED)
    # least[b]: the least sum over the layers so far with at most b neurons.
    least = np.zeros(whole + 1)
    chosen = []
    for width, share in zip(n.astype(np.int64), cost, strict=True):
        found, copies = np.full(whole + 1, np.inf), np.ones(whole + 1, np.int64)
        for k in range(1, whole // int(width) + 1 if share else 2):
            total = least[: whole + 1 - k * width] + share / k
            better = total < found[k * width :]
            found[k * width :][better] = total[better]
            copies[k * width :][better] = k
        least = found
        chosen.append(copies)
    result, left = np.ones(len(n), np.int64), whole
    for i in reversed(range(len(n))):
        result[i] = chosen[i][left]
        left -= int(result[i] * n[i])
    return result


def compensated(network: Network, probabilities: npt.ArrayLike) -> Network:
    """Divide the outgoing weights of layers whose neurons fail by 1 - p_l.

    Every weighted sum then has its golden expectation: E Delta is 0 where all that follows the
    failing layers is linear, and only there. T1's Var Delta of a failing layer grows by
    (1 - p_l)^-2, and the fault-free network is no longer the golden one: compare the two by their
    errors from the golden output of the network as it was (`neurosim.compare_networks`).

    Parameters
    ----------
    network : Network
    probabilities : float or array_like, shape (L,)
        p_l of layers 0..L-1 (0: the inputs), in [0, 1). Where synapses out of a layer fail, too,
        with probability q: 1 - (1 - p_l)(1 - q). Faults of the outputs cannot be compensated: they
        have no outgoing weights.

    Returns
    -------
    Network
        With the same biases.

    Raises
    ------
    InputError
        If a value is out of range or the shape is another.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0], [2.0]], [[3.0, 4.0]]], biases=[[0, 0], [0]],
    ...                         activations=["tanh", "identity"])
    >>> compensated(network, probabilities=[0, 0.5]).layers[1].weight
    array([[6., 8.]])
    """
    check_network(network)
    p = numbers(
        "probabilities", probabilities, "numbers from 0 to below 1", lambda x: (x >= 0) & (x < 1)
    )
    if p.shape not in ((), (network.depth,)):
        raise InputError(
            f"probabilities: expected one number or {network.depth}, one for each of the layers 0 "
            f"to {network.depth - 1}, got shape {p.shape}"
        )
    kept = 1 - np.broadcast_to(p, (network.depth,))
    layers = tuple(
        Dense(weight=layer.weight / share, bias=layer.bias, activation=layer.activation)
        for layer, share in zip(network.layers, kept, strict=True)
    )
    return Network(layers=layers, readout=network.readout, input_shape=network.input_shape)


def copies_by_importance(importance: npt.ArrayLike, budget: int) -> Array:
    """Divide a budget of neurons over copies of the neurons of one layer, best for the variance.

    Minimises T1's sum_i g_i^2 / k_i, Var Delta / p after `duplicate` with k_i copies, under
    sum_i k_i = budget: k_i proportional to |g_i| but for rounding. The whole numbers are exactly
    optimal. (The paper: "it's more efficient [...] duplicating only the important ones".)

    Parameters
    ----------
    importance : array_like, shape (n_l,)
        |g_i| = |dy_L/dy_l^i y_l^i|; over data sqrt(E_x g_i^2), then the mean variance is least.
    budget : int
        Neurons in all, at least n_l.

    Returns
    -------
    ndarray of int64, shape (n_l,)
        k_i, at least 1.

    Raises
    ------
    InputError
        If a value is out of range, every importance is 0, or the budget is short.

    Examples
    --------
    >>> copies_by_importance([1.0, -3.0, 0.0], budget=9)
    array([2, 6, 1])
    """
    g = numbers("importance", importance, "finite numbers", np.isfinite)
    cost, whole = _costs("importance", np.abs(g), budget)
    return _shares(cost**2, whole)


def duplicate(network: Network, layer: int, copies: npt.ArrayLike) -> Network:
    """Replace each neuron of a hidden layer by copies that share its outgoing weights.

    Copies receive what the neuron received and send 1 / k_i of what it sent: the golden outputs
    stay the same but for rounding, and T1's sum_i g_i^2 becomes sum_i g_i^2 / k_i. At fixed p the
    exact moments under k copies of all tend to the mean-field ones as k grows: E Delta to
    y_L((1 - p) y_l) - y_L(y_l), and k Var Delta to p (1 - p) sum_i g_i^2 with g at (1 - p) y_l.

    Parameters
    ----------
    network : Network
    layer : int
        A hidden layer, 1 to L - 1. Copies of inputs would change the input, copies of outputs the
        output.
    copies : int or array_like of int, shape (n_l,)
        k_i, at least 1.

    Returns
    -------
    Network
        With sum_i k_i neurons in that layer, the copies of a neuron side by side.

    Raises
    ------
    InputError
        If the layer is not hidden or a number of copies is not a whole number from 1 on.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0], [2.0]], [[3.0, 4.0]]], biases=[[0, 0], [0]],
    ...                         activations=["tanh", "identity"])
    >>> duplicate(network, layer=1, copies=[1, 2]).layers[1].weight
    array([[3., 2., 2.]])
    """
    check_network(network)
    number = whole_number("layer", layer, 0, network.depth)
    if number in (0, network.depth):
        what = "inputs" if number == 0 else "outputs"
        raise InputError(
            f"layer: expected a hidden layer, 1 to {network.depth - 1}, got {number}, the {what}; "
            f"copies of {what} would change what the network takes or gives"
        )
    before, after = network.layers[number - 1 : number + 1]
    try:
        k = np.asarray(copies)
    except ValueError as error:
        raise InputError("copies: expected whole numbers from 1 on, got a ragged list") from error
    if k.dtype.kind not in "iu" or k.size == 0 or k.min() < 1:
        raise InputError(f"copies: expected whole numbers from 1 on, got {copies!r}")
    if k.shape not in ((), (before.n_out,)):
        raise InputError(
            f"copies: expected one number or {before.n_out}, one a neuron of layer {number}, got "
            f"shape {k.shape}"
        )
    k = np.broadcast_to(k, (before.n_out,))
    layers = list(network.layers)
    layers[number - 1] = Dense(
        weight=np.repeat(before.weight, k, axis=0),
        bias=np.repeat(before.bias, k),
        activation=before.activation,
    )
    layers[number] = Dense(
        weight=np.repeat(after.weight / k, k, axis=1), bias=after.bias, activation=after.activation
    )
    return Network(layers=tuple(layers), readout=network.readout, input_shape=network.input_shape)
