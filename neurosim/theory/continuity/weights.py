"""What one weight matrix says about balance (AA1) and continuity (A3).

The paper writes q for three numbers and R2 for a fourth; here each has its name. Received weights
are w_i = sum_j |W^ij|, one a neuron of the layer; pass W_{l+1}.T for what the neurons of layer l
send, the weights their crashes take away.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.theory.arguments import numbers, weight_matrix

__all__ = [
    "KernelSmoothness",
    "Smoothness",
    "balance",
    "balance_penalty",
    "kernel_smoothness",
    "participation_q",
    "smoothness",
    "width_q",
]

# Standard deviation of the Gaussian of C3, as a share of the layer: that of the larger one of the
# authors' two kernels, a tenth of the layer from -3 to 3 standard deviations.
_SMOOTHING = 1 / 60

# The authors' derivative kernels: [-1, 1], and the central differences that are exact for
# polynomials of degree 2 m.
_STENCILS = (2, 5, 7)


def _received(weight: npt.ArrayLike) -> Array:
    received: Array = np.abs(weight_matrix(weight)).sum(axis=1)
    if not received.any():
        raise InputError("weight: expected at least one weight other than 0, got only zeros")
    return received


def balance(weight: npt.ArrayLike) -> float:
    """Give q = min w / max w of the received weights, the q of AA1, P3 and Algorithm 1.

    Algorithm 1 raises mu while q < 1e-2. For P3 itself see
    `neurosim.theory.tails.weight_perturbation`.

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
        W_l.

    Returns
    -------
    float
        In [0, 1]; 0 if a neuron receives nothing, 1 if all receive the same.

    Raises
    ------
    InputError
        If the weights are no matrix, not finite, or all 0.

    Examples
    --------
    >>> balance([[1.0, -1.0], [4.0, 0.0]])
    0.5
    """
    received = _received(weight)
    return float(received.min() / received.max())


def width_q(weight: npt.ArrayLike) -> float:
    """Give 1 / n_l, the q of T1's remainder (r = p + q) and of the proofs after P4.

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
        W_l; n_l = n_out.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the weights are no matrix or not finite.

    Examples
    --------
    >>> width_q([[1.0, -1.0], [4.0, 0.0]])
    0.5
    """
    return 1 / len(weight_matrix(weight))


def participation_q(weight: npt.ArrayLike) -> float:
    """Give (sum w)^2 / (n sum w^2) of the received weights, the q of AP5.

    It tends to the AP5 ratio of integrals as a continuous network is made finer. It is the share of
    neurons that take part, and does NOT give P3: put for q there, the bound fails (one weight of
    10 and ten of 1 at p = 0.01, alpha = 1/2). P3 needs `balance`, which is never larger.

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
        W_l.

    Returns
    -------
    float
        From 1 / n_out (one neuron receives everything) to 1.

    Raises
    ------
    InputError
        If the weights are no matrix, not finite, or all 0.

    Examples
    --------
    >>> participation_q([[1.0, -1.0], [4.0, 0.0]])
    0.9
    """
    received = _received(weight)
    received = received / received.max()
    return float(received.sum() ** 2 / (len(received) * (received**2).sum()))


def balance_penalty(weight: npt.ArrayLike) -> float:
    """Give R2 = (max w / min w)^2, the term of mu in Eq. 1: 1 / `balance` squared.

    The authors' code takes max w^2 / (1e-5 + min w^2) of the first layer only.

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
        W_l.

    Returns
    -------
    float
        From 1 on; infinite if a neuron receives nothing, or next to nothing.

    Raises
    ------
    InputError
        If the weights are no matrix, not finite, or all 0.

    Examples
    --------
    >>> balance_penalty([[1.0, -1.0], [4.0, 0.0]])
    4.0
    """
    received = _received(weight)
    with np.errstate(divide="ignore", over="ignore"):
        return float((received.max() / received.min()) ** 2)


def authors_kernels(n_out: int) -> tuple[list[Array | None], list[Array | None]]:
    """The authors' four difference and two Gaussian kernels; None for one that counts as 0."""
    differences = [np.array([-1.0, 1.0]), *map(_central_difference, _STENCILS)]
    return (
        [k if len(k) <= n_out else None for k in differences],
        [_authors_gaussian(size) if size > 1 else None for size in (n_out // 20, n_out // 10)],
    )


def smoothing_deviation(n_out: int) -> float:
    """Standard deviation of the Gaussian of C3, in neurons."""
    return _SMOOTHING * n_out


@dataclass(frozen=True, kw_only=True)
class Smoothness:
    """How much neighbouring neurons of a layer differ, in units of W(t, t') = n_in W^ij.

    Parameters
    ----------
    c1 : float
        Along the neurons of the layer; tends to the integral of |dW/dt|.
    c2 : float
        Along its inputs; tends to the integral of |dW/dt'|.
    c3 : float
        Distance from the weights smoothed along the neurons.
    n_out : int
        n_l, the number of neurons of the layer.
    """

    c1: float
    c2: float
    c3: float
    n_out: int

    @property
    def total(self) -> float:
        """R3 = smooth(W) = C1 + C2 + C3, the term of psi in Eq. 1; Algorithm 1 wants R3 <= C."""
        return self.c1 + self.c2 + self.c3

    @property
    def c1_per_neuron(self) -> float:
        """C1 / n_l."""
        return self.c1 / self.n_out

    @property
    def c2_per_neuron(self) -> float:
        """C2 / n_l."""
        return self.c2 / self.n_out

    @property
    def c3_per_neuron(self) -> float:
        """C3 / n_l."""
        return self.c3 / self.n_out

    @property
    def per_neuron(self) -> float:
        """R3 / n_l, the Riemann remainder of AP4: A3 needs it far below the size of W(t, t')."""
        return self.total / self.n_out


def _same_correlation(kernel: Array, matrix: Array) -> Array:
    """Cross-correlation down the columns; zeros around, of an odd number the odd one at the end."""
    before = (len(kernel) - 1) // 2
    padded = np.pad(matrix, ((before, len(kernel) - 1 - before), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0)
    result: Array = windows @ kernel
    return result


def _central_difference(m: int) -> Array:
    """The first derivative from m neighbours on each side, unit spacing."""
    half = [
        (-1) ** (k + 1) * math.factorial(m) ** 2
        / (k * math.factorial(m - k) * math.factorial(m + k))
        for k in range(1, m + 1)
    ]  # fmt: skip
    return np.array([-tap for tap in half[::-1]] + [0.0] + half)


def _authors_gaussian(size: int) -> Array:
    if size == 2:  # as their code has it, though this is no smoothing
        return np.array([-1.0, 1.0])
    bump = np.diff(special.ndtr(np.linspace(-3, 3, size + 1)))
    return bump / bump.sum()


def smoothness(
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    method: Literal["valid", "paper"] = "valid",
) -> Smoothness:
    """Measure the continuity of a layer: C1, C2, C3, and R3 = smooth(W) their sum (A3, Eq. 1).

    C1 = sum_ij |W^ij - W^{i+1,j}|, C2 = (n_in / n_out) sum_ij |W^ij - W^{i,j+1}|, both the number
    of changes of Table 1; C3 = (1 / n_out) sum_ij |(g * W - W)^ij| with g a Gaussian along the
    neurons, of standard deviation n_out / 60, cut off at 3 standard deviations, with the edge rows
    repeated beyond the edge (so equal rows have C3 = 0). Below some 20 neurons g is narrower than
    one neuron and C3 near 0. A bias counts in C1 and C3 as one more input.

    Small values are necessary for A3, not sufficient: smooth networks of different widths may be
    different functions.

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
        W_l, its neurons in the order that counts as near.
    bias : array_like, shape (n_out,), optional
    method : "valid" or "paper"
        "paper": as the authors' code. c1 is the mean over four derivative kernels ([-1, 1] and the
        central differences of 4, 10 and 14 points), c3 the mean over two Gaussians of n_out // 20
        and n_out // 10 points on [-3, 3] standard deviations, zeros beyond the edges; a kernel
        longer than the layer, or of at most one point, counts as 0; c2 is 0, unused. Their penalty
        is 1e-4 c1 + 1e-2 c3. Equal rows are not smooth by it: the edges count.

    Returns
    -------
    Smoothness

    Raises
    ------
    InputError
        If a shape is wrong or a value is not finite.

    Examples
    --------
    >>> smoothness([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]).c1
    3.0
    """
    matrix = weight_matrix(weight)
    n_out, n_in = matrix.shape
    if method not in ("valid", "paper"):
        raise InputError(f'method: expected "valid" or "paper", got {method!r}')
    columns = matrix
    if bias is not None:
        column = numbers("bias", bias, "finite numbers", np.isfinite)
        if column.shape != (n_out,):
            raise InputError(f"bias: expected shape {(n_out,)}, got {column.shape}")
        columns = np.column_stack([matrix, column])
    if method == "valid":
        # SciPy rounds the radius to whole neurons.
        smooth = ndimage.gaussian_filter1d(
            columns, smoothing_deviation(n_out), axis=0, mode="nearest", truncate=3
        )
        c1 = np.abs(np.diff(columns, axis=0)).sum()
        c2 = np.abs(np.diff(matrix, axis=1)).sum() * n_in / n_out
        c3 = np.abs(smooth - columns).sum() / n_out
        return Smoothness(c1=float(c1), c2=float(c2), c3=float(c3), n_out=n_out)
    differences, gaussians = authors_kernels(n_out)
    changes = [
        0.0 if k is None else np.abs(_same_correlation(k, columns)).sum() for k in differences
    ]
    distances = [
        0.0 if k is None else np.abs(_same_correlation(k, columns) - columns).sum() / n_out
        for k in gaussians
    ]
    return Smoothness(c1=float(np.mean(changes)), c2=0.0, c3=float(np.mean(distances)), n_out=n_out)


@dataclass(frozen=True, kw_only=True)
class KernelSmoothness:
    """How much neighbouring elements of the kernels of a convolution differ.

    Parameters
    ----------
    size : (height, width)
        Of the kernels.
    c2 : (rows, columns)
        C2 along either axis of the inputs, in units of W(s, t) = height width W, mean over pairs of
        channels; tends to the integral of |dW/ds|, or |dW/dt|, with the jumps at the edges.
    mass : float
        Mean of |W(s, t)|, the size of the kernels.
    """

    size: tuple[int, int]
    c2: tuple[float, float]
    mass: float

    @property
    def step(self) -> float:
        """Largest C2 / size beside the kernels' own size: what A3 needs far below 1.

        A mean step from one element to the next; 2 / size for equal elements.
        """
        return max(c2 / n for c2, n in zip(self.c2, self.size, strict=True)) / self.mass


def kernel_smoothness(weight: npt.ArrayLike) -> KernelSmoothness:
    """Measure the continuity of the kernels of a convolution: C2 against kernel size (A3).

    C1 of a convolution is small by itself, neighbouring neurons having similar receptive fields
    ("Convolutional networks" in the supplement of the paper); C2 is large where kernels are small:
    C2 = (n / channels) sum |W^{i} - W^{i+1}| with n elements along an axis and zeros around the
    kernel, which does not see what lies beyond. Channels have no order and no part in it.

    Parameters
    ----------
    weight : array_like, shape (channels_out, channels_in / groups, height, width)

    Returns
    -------
    KernelSmoothness

    Raises
    ------
    InputError
        If the weights have another shape, are not finite, or all 0.

    Examples
    --------
    >>> kernel_smoothness([[[[-1.0, 1.0]]]]).step
    2.0
    >>> kernel_smoothness(np.ones((1, 1, 20, 20))).step
    0.1
    """
    kernels = numbers("weight", weight, "finite numbers", np.isfinite)
    if kernels.ndim != 4 or kernels.size == 0:
        raise InputError(
            "weight: expected shape (channels_out, channels_in / groups, height, width), got "
            f"{kernels.shape}"
        )
    if not kernels.any():
        raise InputError("weight: expected at least one weight other than 0, got only zeros")
    height, width = kernels.shape[2:]
    pairs = kernels.shape[0] * kernels.shape[1]
    rows, columns = (
        float(np.abs(np.diff(kernels, axis=axis, prepend=0, append=0)).sum()) for axis in (2, 3)
    )
    return KernelSmoothness(
        size=(height, width),
        c2=(height * rows / pairs, width * columns / pairs),
        mass=float(np.abs(kernels).sum()) / pairs,
    )
