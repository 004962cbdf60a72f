"""The terms of Eq. 1 as differentiable functions of a module.

loss + lambda R1 + mu R2 + psi R3 + nu ||W||_inf. The numbers are those of `predict` and of
`neurosim.theory.continuity`, which compute them for a Network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neurosim.campaign import Loss
from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.theory.continuity.weights import authors_kernels, smoothing_deviation
from neurosim.training.losses import loss_gradient
from neurosim.training.modules import DenseModule, slope

__all__ = [
    "Regularisation",
    "balance_penalty",
    "curvature_penalty",
    "gaussian_process_penalty",
    "infinity_norm",
    "paper_smoothness",
    "smoothness_penalty",
    "variance_penalty",
]


def _checked_layer(module: DenseModule, layer: int, first: int, last: int) -> int:
    if isinstance(layer, bool) or not isinstance(layer, int) or not first <= layer <= last:
        raise InputError(f"layer: expected a layer from {first} to {last}, got {layer!r}")
    return layer


def variance_penalty(
    module: DenseModule,
    inputs: Tensor,
    layer: int,
    *,
    loss: Loss | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """R1 = Var Delta / p by T1 for crashes of the neurons of one layer, a mean over the inputs.

    sum_i g_i^2 with g_i = (dy_L / dy_l^i) y_l^i, as the paper has it, without the factor 1 - p;
    `predict(campaign).variance_paper / p`. Without a loss it is the mean over outputs too.
    Twice differentiable activations give it useful gradients by the slopes as well.

    Parameters
    ----------
    module : DenseModule
    inputs : Tensor, shape (n_inputs, n_0)
    layer : int
        l, 0 (the inputs) to L - 1.
    loss : "squared_error", "absolute_error" or "cross_entropy", optional
        R1 of the error of the loss (AP9), not of the outputs; needs targets.
    targets : Tensor, shape (n_inputs, n_outputs), optional

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    InputError
        If the layer does not exist, or targets are missing.

    Examples
    --------
    >>> from neurosim.training import random_module
    >>> module = random_module((3, 4, 2), "tanh", seed=0)
    >>> bool(variance_penalty(module, torch.ones(5, 3), layer=1) > 0)
    True
    """
    number = _checked_layer(module, layer, 0, module.depth - 1)
    ys, zs = module.layers_of(inputs)
    if loss is None:
        if module.readout is not None:
            raise InputError(
                "module: expected linear outputs for R1 of the outputs, got a softmax read-out; "
                'use loss="cross_entropy"'
            )
        n_outputs = module.widths[-1]
        g = torch.eye(n_outputs, dtype=inputs.dtype).expand(len(inputs), -1, -1)
    elif targets is None:
        raise InputError("targets: expected them for R1 of a loss, got none")
    else:
        g = loss_gradient(ys[-1], targets, loss)[:, None, :]
    for m in range(module.depth, number, -1):
        g = (g * slope(module.activations[m - 1], zs[m - 1])[:, None, :]) @ module.weights[m - 1]
    return ((g * ys[number][:, None, :]) ** 2).sum(dim=-1).mean()


def _received(weight: Tensor) -> Tensor:
    return weight.abs().sum(dim=1)


def balance_penalty(
    module: DenseModule, layer: int = 1, method: Literal["valid", "paper"] = "valid"
) -> Tensor:
    """R2 = (max w / min w)^2 of the weights that the neurons of a layer receive.

    Parameters
    ----------
    module : DenseModule
    layer : int
        1 to L.
    method : "valid" or "paper"
        "paper": max w^2 / (1e-5 + min w^2), w_i = sum_j |W^ij|, as the authors' code.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    InputError
        If the layer or the method does not exist.

    Examples
    --------
    >>> from neurosim.training import random_module
    >>> bool(balance_penalty(random_module((3, 4, 2), "tanh", seed=0)) >= 1)
    True
    """
    received = _received(module.weights[_checked_layer(module, layer, 1, module.depth) - 1])
    if method == "paper":
        return received.max() ** 2 / (1e-5 + received.min() ** 2)
    if method != "valid":
        raise InputError(f'method: expected "valid" or "paper", got {method!r}')
    return (received.max() / received.min()) ** 2


def _columns(module: DenseModule, layer: int) -> Tensor:
    """Weights and, as one more input, biases: (n_l, n_{l-1} + 1)."""
    return torch.cat([module.weights[layer - 1], module.biases[layer - 1][:, None]], dim=1)


def _hidden(module: DenseModule) -> range:
    return range(1, module.depth)


@lru_cache(maxsize=32)
def _correlation(n_out: int, taps: tuple[float, ...], edge: bool, dtype: torch.dtype) -> Tensor:
    """Cross-correlation along n_out neurons as a sparse matrix; beyond it zeros or the edge row."""
    before = (len(taps) - 1) // 2
    rows = np.repeat(np.arange(n_out), len(taps))
    columns = rows + np.tile(np.arange(len(taps)) - before, n_out)
    values = np.tile(taps, n_out)
    if edge:
        columns = np.clip(columns, 0, n_out - 1)
    else:
        inside = (columns >= 0) & (columns < n_out)
        rows, columns, values = rows[inside], columns[inside], values[inside]
    where = torch.tensor(np.stack([rows, columns]))
    return torch.sparse_coo_tensor(
        where, torch.tensor(values, dtype=dtype), (n_out, n_out), check_invariants=False
    ).coalesce()


def _correlate(columns: Tensor, kernel: Array, edge: bool = False) -> Tensor:
    matrix = _correlation(len(columns), tuple(map(float, kernel)), edge, columns.dtype)
    return torch.sparse.mm(matrix, columns)


def _gaussian(n_out: int) -> Array:
    """The Gaussian of C3, as SciPy's filter cuts it off."""
    deviation = smoothing_deviation(n_out)
    radius = int(3 * deviation + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    bump = torch.exp(-0.5 * (x / deviation) ** 2)
    return (bump / bump.sum()).numpy()


def smoothness_penalty(module: DenseModule) -> Tensor:
    """R3 = C1 + C2 + C3, summed over the hidden layers (`neurosim.theory.continuity.smoothness`).

    Parameters
    ----------
    module : DenseModule

    Returns
    -------
    Tensor, shape ()

    Examples
    --------
    >>> from neurosim.training import random_module
    >>> bool(smoothness_penalty(random_module((3, 40, 2), "tanh", seed=0)) > 0)
    True
    """
    total = module.weights[0].new_zeros(())
    for layer in _hidden(module):
        weight, columns = module.weights[layer - 1], _columns(module, layer)
        n_out, n_in = weight.shape
        c1 = columns.diff(dim=0).abs().sum()
        c2 = weight.diff(dim=1).abs().sum() * n_in / n_out
        smooth = _correlate(columns, _gaussian(n_out), edge=True)
        total = total + c1 + c2 + (smooth - columns).abs().sum() / n_out
    return total


def paper_smoothness(
    module: DenseModule, derivative: float = 1e-4, gaussian: float = 1e-2
) -> Tensor:
    """R3 as the authors' code has it, with its two factors (`smoothness(..., method="paper")`).

    Parameters
    ----------
    module : DenseModule
    derivative, gaussian : float
        psi of the mean over four difference kernels, and of the mean over two Gaussians.

    Returns
    -------
    Tensor, shape ()
        Summed over the hidden layers, of weights and biases.

    Examples
    --------
    >>> from neurosim.training import random_module
    >>> bool(paper_smoothness(random_module((3, 40, 2), "tanh", seed=0)) > 0)
    True
    """
    total = module.weights[0].new_zeros(())
    for layer in _hidden(module):
        columns = _columns(module, layer)
        n_out = len(columns)
        differences, gaussians = authors_kernels(n_out)
        for kernel in differences:
            if kernel is not None:
                part = _correlate(columns, kernel).abs().sum()
                total = total + derivative * part / len(differences)
        for kernel in gaussians:
            if kernel is not None:
                part = (_correlate(columns, kernel) - columns).abs().sum() / n_out
                total = total + gaussian * part / len(gaussians)
    return total


def infinity_norm(module: DenseModule) -> Tensor:
    """The term of nu: the largest sum of |weights| that a neuron receives, added over layers.

    Parameters
    ----------
    module : DenseModule

    Returns
    -------
    Tensor, shape ()

    Examples
    --------
    >>> from neurosim.training import random_module
    >>> bool(infinity_norm(random_module((3, 4, 2), "tanh", seed=0)) > 0)
    True
    """
    return torch.stack([_received(weight).max() for weight in module.weights]).sum()


def curvature_penalty(module: DenseModule) -> Tensor:
    """Second differences along the neurons: n_l sum |W^{i-1,j} - 2 W^ij + W^{i+1,j}|.

    Tends to the integral of |d^2 W / dt^2|, summed over hidden layers; zero for weights that rise
    steadily, which C1 punishes.

    Parameters
    ----------
    module : DenseModule

    Returns
    -------
    Tensor, shape ()

    Examples
    --------
    >>> from neurosim.training import random_module
    >>> bool(curvature_penalty(random_module((3, 40, 2), "tanh", seed=0)) > 0)
    True
    """
    total = module.weights[0].new_zeros(())
    for layer in _hidden(module):
        columns = _columns(module, layer)
        total = total + len(columns) * columns.diff(n=2, dim=0).abs().sum()
    return total


def gaussian_process_penalty(module: DenseModule, length_scale: float = 0.1) -> Tensor:
    """Negative log density, up to constants, of weights that are a Gaussian process along neurons.

    (1 / 2 n_l) sum_j w_j^T K^-1 w_j, w_j the weights from input j in units of W(t, t') = n_in W^ij,
    K^{ii'} = exp(-(t_i - t_i')^2 / (2 length_scale^2)), and 1e-3 on its diagonal, t_i = i / n_l;
    a mean over the inputs, summed over hidden layers.

    Parameters
    ----------
    module : DenseModule
    length_scale : float
        As a share of the layer.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    InputError
        If the length scale is no number above 0.

    Examples
    --------
    >>> from neurosim.training import random_module
    >>> bool(gaussian_process_penalty(random_module((3, 40, 2), "tanh", seed=0)) > 0)
    True
    """
    if not (math.isfinite(length_scale) and length_scale > 0):
        raise InputError(f"length_scale: expected a number above 0, got {length_scale!r}")
    total = module.weights[0].new_zeros(())
    for layer in _hidden(module):
        weight = module.weights[layer - 1]
        n_out, n_in = weight.shape
        t = torch.arange(1, n_out + 1, dtype=torch.float64) / n_out
        kernel = torch.exp(-0.5 * ((t[:, None] - t) / length_scale) ** 2)
        factor = torch.linalg.cholesky(kernel + 1e-3 * torch.eye(n_out, dtype=torch.float64))
        white = torch.linalg.solve_triangular(factor, n_in * weight.double(), upper=False)
        total = total + ((white**2).sum() / (2 * n_out * n_in)).to(weight.dtype)
    return total


@dataclass(frozen=True, kw_only=True)
class Regularisation:
    """What is added to the loss (Eq. 1), each term with its factor; 0 leaves it out.

    Parameters
    ----------
    variance : float
        lambda of R1 = Var Delta / p. (The authors' lambda multiplies p R1.)
    variance_layers : mapping of int to float
        The layers whose crashes R1 is about, each with its factor: p_l / p where they fail with
        different probabilities. Layers add (AP7).
    variance_of : "outputs" or "loss"
    balance : float
        mu of R2.
    balance_layers : sequence of int
        The layers that R2 is about; their terms are added.
    smoothness : float
        psi of R3 = C1 + C2 + C3.
    paper_derivative, paper_gaussian : float
        The two psi of the authors' R3 (`paper_smoothness`); they used 1e-4 and 1e-2.
    norm : float
        nu.
    curvature, gaussian_process : float
        Of the two other penalties of rough weights.
    length_scale : float
        Of the Gaussian process.

    Raises
    ------
    InputError
        If a factor is not a finite number from 0 on.

    Examples
    --------
    >>> print(Regularisation(variance=1e-3, balance=1e-6))
    variance 0.001, balance 1e-06
    """

    variance: float = 0.0
    variance_layers: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})
    variance_of: Literal["outputs", "loss"] = "outputs"
    balance: float = 0.0
    balance_layers: Sequence[int] = (1,)
    smoothness: float = 0.0
    paper_derivative: float = 0.0
    paper_gaussian: float = 0.0
    norm: float = 0.0
    curvature: float = 0.0
    gaussian_process: float = 0.0
    length_scale: float = 0.1

    def __post_init__(self) -> None:
        for name in self._factors():
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise InputError(f"{name}: expected a finite number from 0 on, got {value!r}")
        for layer, factor in self.variance_layers.items():
            if not (isinstance(factor, int | float) and math.isfinite(factor) and factor >= 0):
                raise InputError(
                    f"variance_layers: expected finite factors from 0 on, got {factor!r} of layer "
                    f"{layer}"
                )
        if self.variance_of not in ("outputs", "loss"):
            raise InputError(f'variance_of: expected "outputs" or "loss", got {self.variance_of!r}')

    @classmethod
    def _factors(cls) -> list[str]:
        skipped = ("variance_layers", "variance_of", "balance_layers", "length_scale")
        return [part.name for part in fields(cls) if part.name not in skipped]

    def penalty(self, module: DenseModule, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
        """The sum of the terms, on one batch."""
        total = module.weights[0].new_zeros(())
        if self.variance:
            of_loss = self.variance_of == "loss"
            for layer, factor in self.variance_layers.items():
                total = total + self.variance * factor * variance_penalty(
                    module,
                    inputs,
                    layer,
                    loss=loss if of_loss else None,
                    targets=targets if of_loss else None,
                )
        if self.balance:
            for layer in self.balance_layers:
                total = total + self.balance * balance_penalty(module, layer)
        if self.smoothness:
            total = total + self.smoothness * smoothness_penalty(module)
        if self.paper_derivative or self.paper_gaussian:
            total = total + paper_smoothness(module, self.paper_derivative, self.paper_gaussian)
        if self.norm:
            total = total + self.norm * infinity_norm(module)
        if self.curvature:
            total = total + self.curvature * curvature_penalty(module)
        if self.gaussian_process:
            total = total + self.gaussian_process * gaussian_process_penalty(
                module, self.length_scale
            )
        return total

    def __str__(self) -> str:
        parts = [f"{n.replace('_', ' ')} {getattr(self, n):g}" for n in self._factors()
                 if getattr(self, n)]  # fmt: skip
        return ", ".join(parts) or "none"
