"""Networks as PyTorch modules and back, without loss."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from neurosim.errors import InputError
from neurosim.layers import Activation, Dense
from neurosim.network import Network

__all__ = ["DenseModule", "Masks", "random_module", "slope", "to_module", "to_network"]

# Of neurons: layer -> 0 and 1, (n_l,) or (n_inputs, n_l). Of synapses: layer -> (n_l, n_{l-1})
# or (n_inputs, n_l, n_{l-1}).
Masks = tuple[dict[int, Tensor], dict[int, Tensor]]


def _activate(activation: Activation, z: Tensor) -> Tensor:
    match activation.kind:
        case "identity":
            return z
        case "relu":
            return torch.relu(z)
        case "leaky_relu":
            return nn.functional.leaky_relu(z, activation.parameter)
        case "sigmoid":
            return torch.sigmoid(activation.parameter * z)
        case "tanh":
            return torch.tanh(z)
        case "softplus":
            return nn.functional.softplus(z)
        case "soft_clip":
            return nn.functional.softplus(z) - nn.functional.softplus(z - activation.parameter)
        case "soft_leaky_relu":
            below = activation.parameter
            return below * z + (1 - below) * nn.functional.softplus(z)
        case "relu6":
            return nn.functional.relu6(z)
        case "hard_swish":
            return nn.functional.hardswish(z)
        case "silu":
            return nn.functional.silu(z)
        case "gelu_tanh":
            return nn.functional.gelu(z, approximate="tanh")
        case "mish":
            return nn.functional.mish(z)
        case "elu":
            return nn.functional.elu(z, activation.parameter)
        case "hard_tanh":
            return torch.clamp(z, -activation.parameter, 1)
        case _:
            return nn.functional.gelu(z)


def slope(activation: Activation, z: Tensor) -> Tensor:
    """phi'(z), elementwise and differentiable; at a kink the slope from the left."""
    match activation.kind:
        case "identity":
            return torch.ones_like(z)
        case "relu":
            return (z > 0).to(z.dtype)
        case "leaky_relu":
            return torch.where(z > 0, torch.ones_like(z), activation.parameter)
        case "sigmoid":
            y = torch.sigmoid(activation.parameter * z)
            return activation.parameter * y * (1 - y)
        case "tanh":
            return 1 - torch.tanh(z) ** 2
        case "softplus":
            return torch.sigmoid(z)
        case "soft_clip":
            return torch.sigmoid(z) - torch.sigmoid(z - activation.parameter)
        case "soft_leaky_relu":
            below = activation.parameter
            return below + (1 - below) * torch.sigmoid(z)
        case "relu6":
            return ((z > 0) & (z <= 6)).to(z.dtype)
        case "hard_swish":
            return torch.where((z > -3) & (z <= 3), z / 3 + 0.5, (z > 3).to(z.dtype))
        case "silu":
            y = torch.sigmoid(z)
            return y + z * y * (1 - y)
        case "gelu_tanh":
            gain, cube = 2 * math.sqrt(2 / math.pi), 0.044715
            y = torch.sigmoid(gain * (z + cube * z**3))
            return y + z * y * (1 - y) * gain * (1 + 3 * cube * z**2)
        case "mish":
            y = torch.tanh(nn.functional.softplus(z))
            return y + z * (1 - y**2) * torch.sigmoid(z)
        case "elu":
            falling = activation.parameter * torch.exp(torch.clamp(z, max=0))
            return torch.where(z > 0, torch.ones_like(z), falling)
        case "hard_tanh":
            return ((z > -activation.parameter) & (z <= 1)).to(z.dtype)
        case _:
            bell = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
            return torch.special.ndtr(z) + z * bell


class DenseModule(nn.Module):
    """A dense feed-forward network as a PyTorch module: y_l = phi_l(W_l y_{l-1} + b_l).

    Parameters
    ----------
    weights : sequence of Tensor, shapes (n_1, n_0), (n_2, n_1), ...
    biases : sequence of Tensor, shapes (n_1,), (n_2,), ...
    activations : sequence of Activation
        One a layer.
    readout : None or "softmax"
        As in `Network`; `forward` returns y_L, before the read-out.

    Examples
    --------
    >>> module = random_module((2, 3, 1), "tanh", seed=0)
    >>> module(torch.zeros(5, 2)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        activations: Sequence[Activation],
        readout: str | None = None,
    ) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(w) for w in weights])
        self.biases = nn.ParameterList([nn.Parameter(b) for b in biases])
        self.activations = tuple(activations)
        self.readout = readout

    @property
    def depth(self) -> int:
        """L, the number of weighted layers."""
        return len(self.activations)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0, n_1, ..., n_L."""
        return (int(self.weights[0].shape[1]), *(int(w.shape[0]) for w in self.weights))

    def layers_of(
        self, inputs: Tensor, masks: Masks = ({}, {})
    ) -> tuple[list[Tensor], list[Tensor]]:
        """y_0..y_L and z_1..z_L for inputs (n_inputs, n_0); masks are 0 where something is dead."""
        neurons, synapses = masks
        y = inputs * neurons[0] if 0 in neurons else inputs
        ys, zs = [y], []
        for number in range(1, self.depth + 1):
            weight, bias = self.weights[number - 1], self.biases[number - 1]
            mask = synapses.get(number)
            if mask is None:
                z = nn.functional.linear(ys[-1], weight, bias)
            elif mask.ndim == 2:
                z = nn.functional.linear(ys[-1], weight * mask, bias)
            else:
                z = torch.einsum("bij,bj->bi", weight * mask, ys[-1]) + bias
            zs.append(z)
            y = _activate(self.activations[number - 1], z)
            ys.append(y * neurons[number] if number in neurons else y)
        return ys, zs

    def forward(self, inputs: Tensor, masks: Masks = ({}, {})) -> Tensor:
        """Outputs y_L, (n_inputs, n_L), before the read-out."""
        return self.layers_of(inputs, masks)[0][-1]


def random_module(
    widths: Sequence[int],
    activation: str,
    seed: int,
    *,
    last: str = "identity",
    dtype: torch.dtype = torch.float32,
) -> DenseModule:
    """Make a module with random weights, drawn as the paper's authors did.

    W_l ~ N(0, 2 / n_{l-1}) / K and b_l ~ N(0, 1), K the largest slope of the activation.

    Parameters
    ----------
    widths : sequence of int
        n_0, ..., n_L.
    activation : str
        Of the hidden layers, as for `Network.dense`.
    seed : int
    last : str
        Activation of the last layer; "softmax" makes it a read-out.
    dtype : torch.float32 or torch.float64

    Returns
    -------
    DenseModule

    Raises
    ------
    InputError
        If the widths are no whole numbers from 1 on or an activation is unknown.

    Examples
    --------
    >>> random_module((784, 50, 10), "sigmoid(4)", seed=1).widths
    (784, 50, 10)
    """
    sizes = list(widths)
    if len(sizes) < 2 or any(isinstance(n, bool) or int(n) != n or n < 1 for n in sizes):
        raise InputError(f"widths: expected n_0, ..., n_L, whole numbers from 1 on, got {widths!r}")
    hidden = Activation.parse(activation)
    readout = "softmax" if last == "softmax" else None
    end = Activation.parse("identity" if readout else last)
    rng = np.random.default_rng(seed)
    weights, biases = [], []
    for before, after in pairwise(sizes):
        scale = np.sqrt(2 / before) / hidden.lipschitz
        weights.append(torch.tensor(rng.normal(size=(after, before)) * scale, dtype=dtype))
        biases.append(torch.tensor(rng.normal(size=after), dtype=dtype))
    return DenseModule(weights, biases, [hidden] * (len(sizes) - 2) + [end], readout)


def to_module(network: Network, dtype: torch.dtype = torch.float64) -> DenseModule:
    """Make a module that computes what the network does.

    Parameters
    ----------
    network : Network
    dtype : torch.float64 or torch.float32
        float64 keeps every weight as it is.

    Returns
    -------
    DenseModule

    Raises
    ------
    InputError
        If the network has layers that are not dense.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0]]], biases=[[0.5]], activations=["tanh"])
    >>> to_network(to_module(network)).layers[0].bias
    array([0.5])
    """
    for number, layer in enumerate(network.layers, start=1):
        if not isinstance(layer, Dense):
            raise InputError(
                f"network: expected dense layers, got {type(layer).__name__} as layer {number}"
            )
    return DenseModule(
        [torch.tensor(layer.weight, dtype=dtype) for layer in network.layers],
        [torch.tensor(layer.bias, dtype=dtype) for layer in network.layers],
        [layer.activation for layer in network.layers],
        network.readout,
    )


def to_network(module: DenseModule, input_shape: tuple[int, ...] = ()) -> Network:
    """Give the network that a module has become; every weight is kept exactly.

    Parameters
    ----------
    module : DenseModule
    input_shape : tuple of int, optional
        Shape of one input; (n_0,) by default.

    Returns
    -------
    Network

    Raises
    ------
    InputError
        If it is no DenseModule, or a weight is not finite (the training diverged).

    Examples
    --------
    >>> to_network(random_module((2, 3, 1), "relu", seed=0)).widths
    (2, 3, 1)
    """
    if not isinstance(module, DenseModule):
        raise InputError(
            f"module: expected a DenseModule, got {type(module).__name__}; random_module and "
            "to_module make one"
        )
    layers = [
        Dense(
            weight=w.detach().cpu().numpy().astype(np.float64),
            bias=b.detach().cpu().numpy().astype(np.float64),
            activation=activation,
        )
        for w, b, activation in zip(module.weights, module.biases, module.activations, strict=True)
    ]
    return Network(layers=tuple(layers), readout=module.readout, input_shape=input_shape)
