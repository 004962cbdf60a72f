"""Networks cut from a continuous one, and how fast their derivatives fall with the width.

A continuous network (AD1) has weight functions on [0, 1]^2 and bias functions on [0, 1]; z_l(t) =
integral W_l(t, t') y_{l-1}(t') dt' + b_l(t). The network of widths n_0..n_L made from it (AD2,
AP4) tends to it as 1 / n, its k-th derivatives by the activations of a layer fall as n^-k (P4),
and T1's variance as 1 / n.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.layers import Array, frozen
from neurosim.network import Network
from neurosim.theory.arguments import check_network, sequence, whole_number

__all__ = ["DerivativeDecay", "derivative_decay", "derivatives", "discretise", "sample"]

# Of arrays: elementwise, broadcasting its arguments.
Function: TypeAlias = Callable[..., npt.ArrayLike]


# More than any memory holds weights for.
_MOST_NEURONS = 10**9


def _grid(n: int) -> Array:
    return np.arange(1, n + 1) / n


def _values(name: str, function: Function, *points: Array) -> Array:
    shape = np.broadcast_shapes(*(p.shape for p in points))
    try:
        value = np.broadcast_to(np.asarray(function(*points), dtype=np.float64), shape)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: expected a function of arrays, elementwise, here to shape {shape}, got one "
            f"that fails: {error}"
        ) from error
    if not np.isfinite(value).all():
        raise InputError(f"{name}: expected finite values, got {value[~np.isfinite(value)][0]}")
    return value


def sample(function: Callable[[Array], npt.ArrayLike], n: int) -> Array:
    """Give the discrete input of a continuous one: x_i = x(i / n), i = 1..n (AD2).

    Parameters
    ----------
    function : callable
        x(t), of an array of t in (0, 1], elementwise; or a constant one.
    n : int
        n_0.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    InputError
        If n is not a whole number from 1 on or the function's result does not fit.

    Examples
    --------
    >>> sample(lambda t: 2 * t, 4)
    array([0.5, 1. , 1.5, 2. ])
    """
    return _values("function", function, _grid(whole_number("n", n, 1, _MOST_NEURONS))).copy()


def discretise(
    weight_functions: Sequence[Callable[[Array, Array], npt.ArrayLike]],
    bias_functions: Sequence[Callable[[Array], npt.ArrayLike]],
    widths: Sequence[int],
    activations: Sequence[str],
) -> Network:
    """Make a network of given widths from a continuous one (AD2, AP4).

    W_l^ij = W_l(i / n_l, j / n_{l-1}) / n_{l-1} and b_l^i = b_l(i / n_l), i = 1..n_l,
    j = 1..n_{l-1}. Its outputs, for inputs from `sample`, are off by O(1 / n), n the least width.
    An input layer of fixed width n_0 makes, with the other widths growing, a continuous network
    that has n_0 inputs; so does an output layer of fixed width.

    Parameters
    ----------
    weight_functions : sequence of L callables
        W_l(t, t'), elementwise in arrays that broadcast: t of the neuron, t' of its input.
    bias_functions : sequence of L callables
        b_l(t), elementwise.
    widths : sequence of int
        n_0, ..., n_L.
    activations : sequence of str
        As for `Network.dense`.

    Returns
    -------
    Network

    Raises
    ------
    InputError
        If the numbers of functions, widths and activations do not fit, or a function's result
        does not.

    Examples
    --------
    >>> network = discretise([lambda t, s: t + s], [lambda t: 1.0], [2, 1], ["identity"])
    >>> network.layers[0].weight
    array([[0.75, 1.  ]])
    """
    lists = {"weight_functions": weight_functions, "bias_functions": bias_functions,
             "widths": widths, "activations": activations}  # fmt: skip
    for name, value in lists.items():
        sequence(name, value, "a list, one item a layer")
    sizes = [whole_number("widths", n, 1, _MOST_NEURONS) for n in widths]
    depth = len(weight_functions)
    if depth == 0 or not depth == len(bias_functions) == len(activations) == len(sizes) - 1:
        raise InputError(
            "weight_functions, bias_functions, activations, widths: expected L, L, L and L + 1, "
            f"L at least 1, got {depth}, {len(bias_functions)}, {len(activations)} and "
            f"{len(sizes)}"
        )
    weights, biases = [], []
    for number in range(1, depth + 1):
        t, s = _grid(sizes[number]), _grid(sizes[number - 1])
        name = f"weight_functions[{number - 1}]"
        weights.append(_values(name, weight_functions[number - 1], t[:, None], s[None, :]) / len(s))
        biases.append(_values(f"bias_functions[{number - 1}]", bias_functions[number - 1], t))
    return Network.dense(weights=weights, biases=biases, activations=activations)


def _checked_layer(network: Network, layer: int) -> int:
    """Return the layer, if the outputs have derivatives by it everywhere (P4)."""
    check_network(network)
    number = whole_number("layer", layer, 0, network.depth - 1)
    if network.readout is not None:
        raise InputError(
            f"network: expected linear outputs (P4), got {network.readout}; ask about "
            "Network(layers=network.layers)"
        )
    for m, part in enumerate(network.layers[number:], start=number + 1):
        if not part.activation.smooth:
            raise InputError(
                f"network: expected smooth activations after layer {number} (P4), got "
                f"{part.activation} in layer {m}; its second derivatives say nothing"
            )
    return number


def _derivatives(network: Network, x: Array, layer: int) -> tuple[Array, Array]:
    """Gradient (n_outputs, n_l) and Hessian (n_outputs, n_l, n_l) at one input x (n_0,)."""
    parts = network.layers[layer:]
    z = [row[0] for row in network.preactivations(x[None])[layer:]]
    slopes = [part.activation.derivative(row) for part, row in zip(parts, z, strict=True)]
    jacobians = [parts[0].weight]  # dz_m / dy_l
    for slope, part in zip(slopes, parts[1:], strict=False):
        jacobians.append(part.weight @ (slope[:, None] * jacobians[-1]))
    n_outputs, n_l = len(z[-1]), network.widths[layer]
    hessian = np.zeros((n_outputs, n_l, n_l))
    gradient = np.eye(n_outputs)  # by y_m, from m = L down to l
    steps = zip(parts, z, slopes, jacobians, strict=True)
    for part, row, slope, jacobian in reversed(list(steps)):
        bend = part.activation.second_derivative(row)
        if bend.any():
            for k in range(n_outputs):
                hessian[k] += jacobian.T @ ((gradient[k] * bend)[:, None] * jacobian)
        gradient = part.pull_back(gradient * slope)
    return gradient, hessian


def derivatives(network: Network, inputs: npt.ArrayLike, layer: int) -> tuple[Array, Array]:
    """Give the exact first and second derivatives of the outputs by the outputs of one layer.

    dy_L^k / dy_l^i and d2 y_L^k / dy_l^i dy_l^j, those of P4, of T1 and of its remainder. For
    small networks: every Hessian is kept whole.

    Parameters
    ----------
    network : Network
        Without read-out, with smooth activations after the layer.
    inputs : array_like, shape (n_inputs, *input_shape)
    layer : int
        0 (the inputs) to L - 1.

    Returns
    -------
    first : ndarray, shape (n_inputs, n_outputs, n_l)
    second : ndarray, shape (n_inputs, n_outputs, n_l, n_l)
        Symmetric.

    Raises
    ------
    InputError
        If the layer does not exist, the network has a read-out, or an activation has a kink.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0, 2.0]]], biases=[[0]], activations=["tanh"])
    >>> first, second = derivatives(network, [[0.0, 0.0]], layer=0)
    >>> first
    array([[[1., 2.]]])
    """
    number = _checked_layer(network, layer)
    x = network.flatten(inputs).astype(np.float64, copy=False)
    pairs = [_derivatives(network, row, number) for row in x]
    return np.array([first for first, _ in pairs]), np.array([second for _, second in pairs])


@dataclass(frozen=True, kw_only=True, eq=False)
class DerivativeDecay:
    """Derivatives of networks of several widths, and their slopes on log-log paper (P4).

    Parameters
    ----------
    layer : int
    widths : ndarray of int, shape (n_networks,)
        n_l of that layer.
    first : ndarray, shape (n_networks,)
        Mean of |dy_L/dy_l^i| over inputs, outputs and neurons; P4: as 1 / n.
    second_diagonal : ndarray, shape (n_networks,)
        Mean of |d2y_L/dy_l^i dy_l^i|; P4: as n^-2.
    second_off_diagonal : ndarray, shape (n_networks,)
        Mean of |d2y_L/dy_l^i dy_l^j| over i != j; P4: as n^-2.
    variance : ndarray, shape (n_networks,)
        T1's Var Delta / p = sum_i (dy_L/dy_l^i y_l^i)^2, mean over inputs and outputs; as 1 / n.
    """

    layer: int
    widths: Array
    first: Array
    second_diagonal: Array
    second_off_diagonal: Array
    variance: Array

    def _slope(self, values: Array) -> float:
        """Least squares through (log width, log value); nan if a value is 0."""
        if (values == 0).any():
            return float("nan")
        x, y = np.log(self.widths), np.log(values)
        x = x - x.mean()
        return float(x @ y / (x @ x))

    @property
    def first_slope(self) -> float:
        """Log-log slope of `first` against the width; -1 by P4."""
        return self._slope(self.first)

    @property
    def second_diagonal_slope(self) -> float:
        """Log-log slope of `second_diagonal`; -2 by P4, nan where the rest is linear."""
        return self._slope(self.second_diagonal)

    @property
    def second_off_diagonal_slope(self) -> float:
        """Log-log slope of `second_off_diagonal`; -2 by P4, nan where the rest is linear."""
        return self._slope(self.second_off_diagonal)

    @property
    def variance_slope(self) -> float:
        """Log-log slope of `variance`; -1 by T1 and P4."""
        return self._slope(self.variance)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"derivatives of the outputs by layer {self.layer}, {len(self.widths)} networks of "
                f"{self.widths.min()} to {self.widths.max()} neurons: log-log slopes",
                f"  first                {self.first_slope:6.2f}   (continuous limit: -1)",
                f"  second, diagonal     {self.second_diagonal_slope:6.2f}   (-2)",
                f"  second, off-diagonal {self.second_off_diagonal_slope:6.2f}   (-2)",
                f"  Var / p of T1        {self.variance_slope:6.2f}   (-1)",
            ]
        )


def derivative_decay(
    networks: Sequence[Network], inputs: Sequence[npt.ArrayLike], layer: int
) -> DerivativeDecay:
    """Measure how derivatives fall with the width of a layer (P4, supplementary figures 2 to 4).

    Networks with a continuous limit have slopes -1 (first derivatives), -2 (second) and -1 (T1's
    variance); networks with independent random weights do not. The paper's figures show
    derivatives of the loss, signs averaged over ten examples; these are of the outputs, as in P4,
    and the absolute values are averaged.

    Parameters
    ----------
    networks : sequence of Network
        At least two widths of the layer, each at least 2; several networks may share a width.
    inputs : sequence of array_like, each of shape (n_inputs, *input_shape)
        One array a network, for their inputs may grow with them.
    layer : int
        0 (the inputs) to L - 1.

    Returns
    -------
    DerivativeDecay

    Raises
    ------
    InputError
        If the widths are too few or too small, or `derivatives` would refuse a network.

    Examples
    --------
    >>> networks = [discretise([lambda t, s: t, lambda t, s: s], [lambda t: t, lambda t: 0.0],
    ...                        [1, n, 1], ["tanh", "identity"]) for n in (100, 200)]
    >>> round(derivative_decay(networks, [[[1.0]]] * 2, layer=1).first_slope, 2)
    -1.01
    """
    networks = sequence("networks", networks, "a list of Network values")
    inputs = sequence("inputs", inputs, "a list of arrays, one a network")
    if len(networks) != len(inputs):
        raise InputError(
            f"inputs: expected {len(networks)} arrays, one a network, got {len(inputs)}"
        )
    numbers = [_checked_layer(network, layer) for network in networks]
    widths = [network.widths[layer] for network in networks]
    if len(set(widths)) < 2 or min(widths) < 2:
        raise InputError(
            f"networks: expected at least two widths of layer {layer}, from 2 on, got {widths}"
        )
    rows = []
    for network, number, given in zip(networks, numbers, inputs, strict=True):
        x = network.flatten(given).astype(np.float64, copy=False)
        y = network.activations(x)[number]
        off = ~np.eye(y.shape[1], dtype=bool)
        total = np.zeros(4)
        for one, activity in zip(x, y, strict=True):
            first, second = _derivatives(network, one, number)
            size = np.abs(second)
            total += [
                np.abs(first).mean(),
                np.diagonal(size, axis1=1, axis2=2).mean(),
                size[:, off].mean(),
                ((first * activity) ** 2).sum(axis=1).mean(),
            ]
        rows.append(total / len(x))
    first, diagonal, off_diagonal, variance = (frozen(c, np.float64) for c in np.transpose(rows))
    return DerivativeDecay(
        layer=numbers[0],
        widths=frozen(widths, np.int64),
        first=first,
        second_diagonal=diagonal,
        second_off_diagonal=off_diagonal,
        variance=variance,
    )
