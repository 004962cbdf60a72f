"""Rigorous bounds on the error of a network whose neurons or synapses crash, without simulation.

Everything here holds at any crash probability, for any activation `Network` knows: an activation
with slope up to K multiplies the NEXT product by K (footnote 1 of the paper prints the inverse).
Numbers such as AP2 are the paper's (arXiv 1902.01686); `method="paper"` gives what the paper
prints, true or not. Neuron crashes are stuck-at-0 outputs of layers 0 (the inputs) to L; synapse
crashes zero single weights of W_1..W_L; all crashes are independent.

A softmax read-out is treated as one more layer. Its Jacobian diag(s) - s s^T is symmetric with
absolute row sums 2 s_k (1 - s_k) <= 1/2, so it is 1/2-Lipschitz in the norms 1, 2 and inf; no
entry exceeds 1/4; no row is longer than sqrt(1/8) in the 2-norm. These are the constants used.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.faults import StuckAtZero
from neurosim.layers import Array, softmax
from neurosim.network import Network
from neurosim.theory.arguments import check_network, check_range, numbers

__all__ = [
    "absolute_bound",
    "bernstein",
    "lipschitz_product",
    "norm_bound",
    "output_range",
    "variance_bound",
    "variance_recursion",
]

SiteKind: TypeAlias = Literal["neuron", "synapse"]
Method: TypeAlias = Literal["valid", "paper"]

Arguments = ParamSpec("Arguments")
Bound = TypeVar("Bound", Array, float)


def _in_range(function: Callable[Arguments, Bound]) -> Callable[Arguments, Bound]:
    """Refuse bounds that leave the range of a float64, in place of warnings on the way there."""

    @wraps(function)
    def checked(*args: Arguments.args, **options: Arguments.kwargs) -> Bound:
        with np.errstate(over="ignore", invalid="ignore"):
            bound = function(*args, **options)
        check_range("the bounds", np.asarray(bound))
        return bound

    return checked


def _each(name: str, value: Any) -> list[Any]:
    try:
        return list(value) if np.ndim(value) else [value]
    except ValueError as error:
        raise InputError(f"{name}: expected one value or several, got a ragged list") from error


def _crashes(
    network: Network, layer: Any, probability: Any, site: Any
) -> tuple[list[float], list[float]]:
    """Give the crash probability of a neuron and of a synapse of each layer 0..L."""
    check_network(network)
    given = {"layer": layer, "probability": probability, "site": site}
    parts = {name: _each(name, value) for name, value in given.items()}
    count = max(len(part) for part in parts.values())
    for name, part in parts.items():
        if len(part) not in (1, count):
            raise InputError(
                f"{name}: expected one value or {count}, as many as there are of layer, "
                f"probability or site, got {len(part)}"
            )
    layers, probabilities, sites = (
        part * count if len(part) == 1 else part for part in parts.values()
    )
    neurons, synapses = ([0.0] * (network.depth + 1) for _ in range(2))
    seen = set()
    for number, p, kind in zip(layers, probabilities, sites, strict=True):
        if kind not in get_args(SiteKind):
            raise InputError(
                f'site: expected "neuron" or "synapse", got {kind!r}; bounds are not known for '
                "rows, columns, cores and links"
            )
        (number,) = StuckAtZero(kind, probability=p, layers=(number,)).layers_in(network.widths)
        if (number, kind) in seen:
            raise InputError(
                f"layer: expected each layer once a kind of site, got {kind} layer {number} "
                "twice; merge the probabilities as 1 - (1 - p)(1 - p')"
            )
        seen.add((number, kind))
        (neurons if kind == "neuron" else synapses)[number] = float(p)
    return neurons, synapses


def _golden(network: Network, inputs: npt.ArrayLike) -> list[Array]:
    return network.activations(network.flatten(inputs).astype(np.float64, copy=False))


def _check_method(network: Network, method: str, synapses: list[float]) -> bool:
    """Return whether the paper's number is wanted, if it has one for this question."""
    if method == "valid":
        return False
    if method != "paper":
        raise InputError(f'method: expected "valid" or "paper", got {method!r}')
    if any(synapses):
        raise InputError('site: expected "neuron", the paper bounds no synapse crash, got synapses')
    if network.readout is not None:
        raise InputError(
            "network: expected linear outputs, the paper bounds no read-out, got "
            f"{network.readout}; ask about the network without it"
        )
    return True


def _check_order(order: float) -> None:
    if not isinstance(order, int | float | np.integer | np.floating) or order not in (1, 2, np.inf):
        raise InputError(f"order: expected 1, 2 or inf, got {order!r}")


@_in_range
def lipschitz_product(network: Network, layer: int = 0, order: float = 2) -> float:
    """Bound the gain from the output of a layer to the network outputs (P2, AP1).

    ||change of the outputs|| <= product of ||W_m|| K_m over m > layer, times ||change of y_layer||,
    for every input and every change. After a softmax read-out there is a factor 1/2.

    Parameters
    ----------
    network : Network
    layer : int
        0 (the inputs) to L.
    order : 1, 2 or inf
        Of the vector norms; the matrix norm goes with it (2: spectral).

    Returns
    -------
    float
        In units of the output by units of y_layer.

    Raises
    ------
    InputError
        If the layer does not exist or the order is another one.

    Examples
    --------
    >>> network = Network.dense(weights=[[[2.0, 0.0]], [[3.0]]], biases=[[0], [0]],
    ...                         activations=["sigmoid(4)", "identity"])
    >>> lipschitz_product(network)
    6.0
    """
    check_network(network)
    _check_order(order)
    StuckAtZero("neuron", probability=0.0, layers=(layer,)).layers_in(network.widths)
    gain = 0.5 if network.readout == "softmax" else 1.0
    for part in network.layers[layer:]:
        gain *= float(np.linalg.norm(part.weight, order)) * part.activation.lipschitz
    return gain


def _largest_crashed(y: Array, p: float) -> Array:
    """Give E max_i xi_i |y_i|: the k-th largest counts if it crashes and no larger one does."""
    a = np.sort(np.abs(y), axis=1)[:, ::-1]
    mean: Array = a @ (p * (1 - p) ** np.arange(a.shape[1]))
    return mean


def _crashed_norm(y: Array, p: float, order: float) -> Array:
    """Bound E||xi o y|| for order 1 and inf, E||xi o y||^2 for order 2; each exactly."""
    if order == 2:
        total: Array = p * (y**2).sum(axis=1)
        return total
    return p * np.abs(y).sum(axis=1) if order == 1 else _largest_crashed(y, p)


def _synapse_norm(weight: Array, y: Array, p: float, order: float) -> Array:
    """Bound E||(Xi o W) y||, Xi the dead synapses; for order 2 the root of the mean square."""
    if order == 1 or p == 0:
        one: Array = p * (np.abs(y) @ np.abs(weight).T).sum(axis=1)
        return one
    square = p * (1 - p) * (y**2 @ (weight**2).T) + (p * (y @ weight.T)) ** 2
    two: Array = np.sqrt(square.sum(axis=1))
    return two if order == 2 else np.minimum(two, _synapse_norm(weight, y, p, 1))


@_in_range
def norm_bound(
    network: Network,
    inputs: npt.ArrayLike,
    layer: int | Sequence[int],
    probability: float | Sequence[float],
    order: float = 2,
    site: SiteKind | Sequence[SiteKind] = "neuron",
    method: Method = "valid",
) -> Array:
    """Bound E||Delta|| of the outputs by norms of the weights (b1, AP1, AC1).

    One crash layer: E||Delta|| <= E||xi o y_l|| times `lipschitz_product`, with
    E||xi o y||_1 = p ||y||_1, E||xi o y||_2 <= sqrt(p) ||y||_2 and
    E||xi o y||_inf = sum_k a_(k) p (1-p)^(k-1), a = |y| in decreasing order. Several layers (and
    synapses) follow by recursion: a neuron that crashes loses its golden value, one that does not
    carries on the error of the layers before.

    Parameters
    ----------
    network : Network
    inputs : array_like, shape (n_inputs, *input_shape)
    layer : int or several
        Crash layers: 0..L for neurons, 1..L for synapses.
    probability : float or one a layer
        Crash probability of one neuron or synapse, in [0, 1].
    order : 1, 2 or inf
        Of the norm over outputs.
    site : "neuron", "synapse" or one a layer
    method : "valid" or "paper"
        "paper": p ||y_l|| for every order, K = 1, layers added (AP7). No bound for 2 and inf.

    Returns
    -------
    ndarray, shape (n_inputs,)
        In units of the output; the mean is over faults, for the input as it is.

    Raises
    ------
    InputError
        If a value is out of range, or the paper has no bound for the question.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0, 1.0]]], biases=[[0]], activations=["identity"])
    >>> norm_bound(network, [[3.0, 4.0]], layer=0, probability=0.01, order=1)
    array([0.07])
    """
    neurons, synapses = _crashes(network, layer, probability, site)
    paper = _check_method(network, method, synapses)
    _check_order(order)
    golden = _golden(network, inputs)
    mean = np.zeros(len(golden[0]))
    if paper:
        gain = 1.0
        for number in range(network.depth, -1, -1):
            if neurons[number]:
                mean += neurons[number] * gain * np.linalg.norm(golden[number], order, axis=1)
            if number:
                gain *= float(np.linalg.norm(network.layers[number - 1].weight, order))
        return mean
    # For order 2 the mean square is carried: there dead and living neurons add up exactly.
    mean = _crashed_norm(golden[0], neurons[0], order)
    for number, part in enumerate(network.layers, start=1):
        p, q, gain = neurons[number], synapses[number], part.activation.lipschitz
        if mean.any() or q:
            norm = np.linalg.norm(part.weight, order)
            lost = _synapse_norm(part.weight, golden[number - 1], q, order)
            if order == 1:
                mean = lost + (1 - q) * norm * mean
            elif order == 2:
                longest = (part.weight**2).sum(axis=0).max()
                square = (1 - q) ** 2 * norm**2 + q * (1 - q) * longest
                mean = (lost + np.sqrt(square * mean)) ** 2
            else:
                mean = lost + norm * mean
        alive = 1.0 if order == np.inf else 1 - p
        mean = (
            _crashed_norm(golden[number], p, order)
            + alive * gain ** (2 if order == 2 else 1) * mean
        )
    bound = np.sqrt(mean) if order == 2 else mean
    return bound / 2 if network.readout == "softmax" else bound


@_in_range
def absolute_bound(
    network: Network,
    inputs: npt.ArrayLike,
    layer: int | Sequence[int],
    probability: float | Sequence[float],
    site: SiteKind | Sequence[SiteKind] = "neuron",
    method: Method = "valid",
) -> Array:
    """Bound E|Delta_k| of each output by absolute values (b2, AP2).

    One crash layer: p |W_L| ... |W_{l+1}| |y_l|. Several: E|Delta_l| <= p_l |y_l| +
    (1 - p_l) K_l |W_l| E|Delta_{l-1}|; synapses of W_l: E|Dz_l| <= p |W_l| |y_{l-1}| +
    (1 - p) |W_l| E|Delta_{l-1}|. So also |E Delta_k| and, by Markov, P(|Delta_k| >= epsilon) <=
    the bound / epsilon.

    Parameters
    ----------
    network, inputs, layer, probability, site
        As for `norm_bound`.
    method : "valid" or "paper"
        "paper": K = 1, layers added (AP7). No bound where an activation is steeper than 1.

    Returns
    -------
    ndarray, shape (n_inputs, n_outputs)
        In units of the output.

    Raises
    ------
    InputError
        If a value is out of range, or the paper has no bound for the question.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0, -1.0]]], biases=[[0]], activations=["identity"])
    >>> absolute_bound(network, [[3.0, 4.0]], layer=0, probability=0.01)
    array([[0.07]])
    """
    neurons, synapses = _crashes(network, layer, probability, site)
    paper = _check_method(network, method, synapses)
    golden = _golden(network, inputs)
    mean: Array = neurons[0] * np.abs(golden[0])
    for number, part in enumerate(network.layers, start=1):
        p, q = neurons[number], synapses[number]
        alive = 1.0 if paper else (1 - p) * part.activation.lipschitz
        change = q * np.abs(golden[number - 1]) + (1 - q) * mean
        mean = p * np.abs(golden[number]) + alive * (change @ np.abs(part.weight).T)
    if network.readout == "softmax":
        mean = np.repeat(mean.sum(axis=1, keepdims=True) / 4, mean.shape[1], axis=1)
    return mean


def value_ranges(
    network: Network, inputs: npt.ArrayLike, neurons: list[float], synapses: list[float]
) -> list[tuple[Array, Array]]:
    """Bound y_l over all fault sets, before its own crash: (low, high), each (n_inputs, n_l).

    Interval arithmetic; exact (the golden value) up to the first crash layer.
    """
    low = high = network.flatten(inputs).astype(np.float64, copy=False)
    result = [(low, high)]
    for number, part in enumerate(network.layers, start=1):
        if neurons[number - 1] or synapses[number]:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        up, down = np.maximum(part.weight, 0).T, np.minimum(part.weight, 0).T
        low, high = part.activation.interval(
            low @ up + high @ down + part.bias, high @ up + low @ down + part.bias
        )
        result.append((low, high))
    return result


def _largest_values(
    network: Network, inputs: npt.ArrayLike, neurons: list[float], synapses: list[float]
) -> list[Array]:
    """Bound |y_l| over all fault sets, before its own crash: a (n_inputs, n_l) for l = 0..L."""
    ranges = value_ranges(network, inputs, neurons, synapses)
    return [np.maximum(np.abs(low), np.abs(high)) for low, high in ranges]


def output_range(
    network: Network,
    inputs: npt.ArrayLike,
    layer: int | Sequence[int],
    site: SiteKind | Sequence[SiteKind] = "neuron",
) -> tuple[Array, Array]:
    """Bound every output over all sets of crashes, however unlikely.

    Interval arithmetic through the network: a neuron or synapse that may crash takes its sum from
    where it is to 0. What lies outside is impossible at any crash probability.

    Parameters
    ----------
    network : Network
    inputs : array_like, shape (n_inputs, *input_shape)
    layer : int or several
        Crash layers: 0..L for neurons, 1..L for synapses.
    site : "neuron", "synapse" or one a layer

    Returns
    -------
    low, high : ndarray, shape (n_inputs, n_outputs)
        In units of the output.

    Raises
    ------
    InputError
        If a value is out of range, or the bounds leave the range of a float64.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0, -1.0]]], biases=[[0]], activations=["identity"])
    >>> output_range(network, [[3.0, 4.0]], layer=0)
    (array([[-4.]]), array([[3.]]))
    """
    neurons, synapses = _crashes(network, layer, 1.0, site)
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = value_ranges(network, inputs, neurons, synapses)[-1]
    if neurons[-1]:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    check_range("the bounds", low, high)
    if network.readout == "softmax":
        low, high = _softmax_range(low, high)
    return low, high


def _softmax_range(low: Array, high: Array) -> tuple[Array, Array]:
    """Each output is least where its own logit is lowest and all others are highest."""
    n = low.shape[1]
    own = np.eye(n, dtype=bool)
    least = softmax(np.where(own, low[:, None, :], high[:, None, :]))
    most = softmax(np.where(own, high[:, None, :], low[:, None, :]))
    return least[:, range(n), range(n)], most[:, range(n), range(n)]


def gains(network: Network) -> tuple[list[Array], list[Array]]:
    """Bound |dy_out / dy_l| (l = 0..L) and |dy_out / dz_l| (l = 1..L, after a None)."""
    n = network.widths[-1]
    by_output = [np.full((n, n), 0.25) if network.readout == "softmax" else np.eye(n)]
    by_preactivation: list[Array] = []
    for part in reversed(network.layers):
        by_preactivation.insert(0, by_output[0] * part.activation.lipschitz)
        by_output.insert(0, by_preactivation[0] @ np.abs(part.weight))
    return by_output, by_preactivation


def _spread(
    network: Network, inputs: npt.ArrayLike, neurons: list[float], synapses: list[float]
) -> tuple[Array, Array]:
    """Give V = sum_s p(1-p) c_s^2 and b = max_s c_s, c_s a bound on the effect of site s."""
    largest = _largest_values(network, inputs, neurons, synapses)
    by_output, by_preactivation = gains(network)
    shape = (len(largest[0]), network.widths[-1])
    variance, effect = np.zeros(shape), np.zeros(shape)
    for number in range(network.depth + 1):
        p, q = neurons[number], synapses[number]
        if 0 < p < 1:
            gain = by_output[number]
            variance += p * (1 - p) * (largest[number] ** 2 @ (gain**2).T)
            for k in range(shape[1]):
                effect[:, k] = np.maximum(effect[:, k], (largest[number] * gain[k]).max(axis=1))
        if 0 < q < 1:
            gain, weight = by_preactivation[number - 1], np.abs(network.layers[number - 1].weight)
            before = largest[number - 1]
            variance += q * (1 - q) * (before**2 @ (weight**2).T @ (gain**2).T)
            for i in range(len(weight)):  # one neuron's synapses: never inputs x the whole matrix
                of_neuron = (before * weight[i]).max(axis=1)
                effect = np.maximum(effect, np.outer(of_neuron, gain[:, i]))
    return variance, effect


@_in_range
def variance_bound(
    network: Network,
    inputs: npt.ArrayLike,
    layer: int | Sequence[int],
    probability: float | Sequence[float],
    site: SiteKind | Sequence[SiteKind] = "neuron",
    method: Method = "valid",
) -> Array:
    """Bound Var Delta_k of each output (in place of b2's variance, which is no bound).

    By the Efron-Stein inequality Var Delta_k <= sum_s p (1 - p) c_ks^2, where c_ks bounds what
    site s can do to output k whatever else is dead: A_ki |y_i| for a neuron, A = |W_L| K ...
    |W_{l+1}|; for a synapse |dy/dz| |W^ij| |y_j|. With crashes before it, |y_i| is replaced by
    its largest value over all fault sets (interval arithmetic).

    Parameters
    ----------
    network, inputs, layer, probability, site
        As for `norm_bound`.
    method : "valid" or "paper"
        "paper": the authors' p (W_L o W_L) ... (W_{l+1} o W_{l+1}) (y o y), which is no bound.

    Returns
    -------
    ndarray, shape (n_inputs, n_outputs)
        In units of the output squared.

    Raises
    ------
    InputError
        If a value is out of range, or the paper has no bound for the question.

    References
    ----------
    S. Boucheron, G. Lugosi, P. Massart, Concentration Inequalities (2013), theorem 3.1.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0, -1.0]]], biases=[[0]], activations=["identity"])
    >>> variance_bound(network, [[1.0, 2.0]], layer=0, probability=0.5)
    array([[1.25]])
    """
    neurons, synapses = _crashes(network, layer, probability, site)
    if not _check_method(network, method, synapses):
        return _spread(network, inputs, neurons, synapses)[0]
    golden = _golden(network, inputs)
    variance: Array = neurons[0] * golden[0] ** 2
    for number, part in enumerate(network.layers, start=1):
        variance = neurons[number] * golden[number] ** 2 + variance @ (part.weight**2).T
    return variance


@_in_range
def bernstein(
    network: Network,
    inputs: npt.ArrayLike,
    layer: int | Sequence[int],
    probability: float | Sequence[float],
    epsilon: npt.ArrayLike,
    two_sided: bool = False,
    site: SiteKind | Sequence[SiteKind] = "neuron",
    mean: npt.ArrayLike | None = None,
) -> Array:
    """Guarantee P(Delta_k >= epsilon), or P(|Delta_k| >= epsilon), without simulation.

    P(Delta_k - E Delta_k >= t) <= exp(-t^2 / (2 (V + b t / 3))), and so below, with V the
    `variance_bound` and b the largest effect of one site: the faults revealed one by one make a
    martingale whose steps are at most b and whose conditional variances add up to V at most
    (Freedman's inequality). t = epsilon - E Delta_k, two-sided epsilon - |E Delta_k|; where it is
    not positive the bound is 1.

    Parameters
    ----------
    network, inputs, layer, probability, site
        As for `norm_bound`.
    epsilon : array_like, broadcast to (n_inputs, n_outputs)
        Tolerated error, in units of the output.
    two_sided : bool
        Whether errors of both signs count.
    mean : array_like, broadcast to (n_inputs, n_outputs), optional
        E Delta_k where it is known exactly, or an upper bound of it (two-sided: of |E Delta_k|).
        By default `absolute_bound`.

    Returns
    -------
    ndarray, shape (n_inputs, n_outputs)
        In [0, 1].

    Raises
    ------
    InputError
        If a value is out of range or a shape does not fit.

    References
    ----------
    D. A. Freedman, Ann. Probab. 3 (1975) 100-118.

    Examples
    --------
    >>> network = Network.dense(weights=[np.full((1, 1000), 1e-3)], biases=[[0]],
    ...                         activations=["identity"])
    >>> bernstein(network, np.ones((1, 1000)), 0, 0.01, epsilon=0.03, two_sided=True).round(7)
    array([[1.14e-05]])
    """
    neurons, synapses = _crashes(network, layer, probability, site)
    variance, effect = _spread(network, inputs, neurons, synapses)
    if mean is None:
        mean = absolute_bound(network, inputs, layer, probability, site)
    parts = {}
    for name, value in (("epsilon", epsilon), ("mean", mean)):
        array = numbers(name, value, "finite numbers", np.isfinite)
        try:
            parts[name] = np.broadcast_to(array, variance.shape)
        except ValueError as error:
            raise InputError(
                f"{name}: expected numbers that broadcast to {variance.shape}, got shape "
                f"{array.shape}"
            ) from error
    t = parts["epsilon"] - (np.abs(parts["mean"]) if two_sided else parts["mean"])
    tail = freedman_tail(t, variance, effect)
    return np.minimum(2 * tail, 1.0) if two_sided else tail


def freedman_tail(t: Array, variance: Array, effect: Array) -> Array:
    """Freedman's exp(-t^2 / (2 (V + b t / 3))) of one side; 1 where t is not positive."""
    below = np.maximum(t, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Divided by t before it is multiplied by it, for its square may leave the range.
        exponent = below / (2 * (variance / below + effect / 3))
        return np.where(t > 0, np.exp(-exponent), 1.0)


@_in_range
def variance_recursion(
    network: Network,
    inputs: npt.ArrayLike,
    layer: int | Sequence[int],
    probability: float | Sequence[float],
) -> Array:
    """Bound E Delta_k^2 (so Var Delta_k) of every output by the recursion over layers (AP10).

    E Delta_L^2 <= sum_l a_l prod_{m=l+1}^{L-1} b_m over crash layers l = 0..L-1 with
    C_l = max|y_l|, alpha_l = max (w, w'), beta_l = max(|w|_1 |w'|_1 - (w, w')) over pairs of rows
    of W_{l+1}; a_l = C_l^2 p_l (alpha_l + p_l beta_l) + 2 K C_l p_l (1 - p_l) beta_l e_{l-1},
    b_l = K^2 (1 - p_l)(alpha_l + (1 - p_l) beta_l), e_l = max|w|_1 (p_l C_l + K (1 - p_l) e_{l-1}).
    e is the error of PRE-activations (as Delta_{l-1}, which the paper's letters say, it is false).
    Seldom of use: `variance_bound` is nearly always far smaller.

    Parameters
    ----------
    network : Network
    inputs : array_like, shape (n_inputs, *input_shape)
    layer : int or several
        Crash layers of neurons, 0..L-1.
    probability : float or one a layer
        Crash probability of one neuron, in [0, 1].

    Returns
    -------
    ndarray, shape (n_inputs,)
        The same bound for each output, in units of the output squared.

    Raises
    ------
    InputError
        If a value is out of range or layer L is among the crash layers.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0, -1.0]]], biases=[[0]], activations=["identity"])
    >>> variance_recursion(network, [[1.0, 2.0]], layer=0, probability=0.5)
    array([6.])
    """
    neurons, _ = _crashes(network, layer, probability, "neuron")
    if neurons[-1]:
        raise InputError(
            f"layer: expected crash layers 0 to {network.depth - 1} (AP10), got {network.depth}, "
            "the outputs"
        )
    golden = _golden(network, inputs)
    square, error = np.zeros(len(golden[0])), np.zeros(len(golden[0]))
    gain = 1.0  # of the activation of layer l; the inputs have none and no error before them
    for p, y, part in zip(neurons, golden, network.layers, strict=False):
        largest = np.abs(y).max(axis=1)
        products = part.weight @ part.weight.T
        sums = np.abs(part.weight).sum(axis=1)
        alpha, beta = products.max(), (np.outer(sums, sums) - products).max()
        a = largest**2 * p * (alpha + p * beta) + 2 * gain * largest * p * (1 - p) * beta * error
        b = gain**2 * (1 - p) * (alpha + (1 - p) * beta)
        square = a + b * square
        error = sums.max() * (p * largest + gain * (1 - p) * error)
        gain = part.activation.lipschitz
    square = square * gain**2
    return square * network.widths[-1] / 8 if network.readout == "softmax" else square
