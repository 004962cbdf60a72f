"""Effects of faults by derivatives: T1 (b3, AC2), and the same at the mean activations.

One forward pass and one backward pass an output, whatever the number of sites.
"""

from dataclasses import dataclass

import numpy as np

from neurosim.faults import SiteKind
from neurosim.layers import Array
from neurosim.theory.effects import ProductEffects, Term
from neurosim.theory.setting import Block, Setting, is_linear

__all__ = ["LinearEffects", "Passes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Passes:
    """One forward and one backward pass an output over some inputs.

    Lists run over layers 0..L. a: outputs before, y: after neuron faults; drive: W y;
    z: pre-activations; c, b: derivatives by y and by z, (n_outputs, n_inputs or 1, n_l).
    """

    a: list[Array]
    y: list[Array]
    drive: list[Array]
    z: list[Array]
    c: list[Array]
    b: list[Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearEffects(ProductEffects):
    """First-order effects -g_s of every site (T1 of arXiv 1902.01686).

    Parameters
    ----------
    setting : Setting
    at_mean : bool
        Take the derivatives where every neuron and synapse has its mean value (mean-field)
        instead of at the fault-free network.
    """

    setting: Setting
    at_mean: bool = False

    def _keep(self, kind: SiteKind, number: int) -> float:
        """Mean share of a neuron or synapse that is left, in the point of the derivatives."""
        return 1 - self.setting.probabilities.get((kind, number), 0.0) if self.at_mean else 1.0

    def _forward(self, rows: slice) -> tuple[list[Array], ...]:
        nothing = np.empty(0)
        a, drive, z = [self.setting.inputs[rows]], [nothing], [nothing]
        y = [_times(self._keep("neuron", 0), a[0])]
        for number, layer in enumerate(self.setting.layers, start=1):
            drive.append(layer.push_forward(y[-1]))
            z.append(_times(self._keep("synapse", number), drive[-1]) + layer.bias)
            a.append(layer.activation(z[-1]))
            y.append(_times(self._keep("neuron", number), a[-1]))
        return a, y, drive, z

    def last_layer(self, rows: slice) -> Array:
        """y_L at the point of the derivatives: (n_inputs, n_L)."""
        last: Array = self._forward(rows)[1][-1]
        return last

    def passes(self, rows: slice) -> Passes:
        """Values and derivatives for some inputs, down to the lowest layer that may fail."""
        setting = self.setting
        a, y, drive, z = self._forward(rows)
        # The lowest layers whose derivatives somebody asks for; the pass stops there.
        low_c = min((n for kind, n in setting.probabilities if kind == "neuron"), default=99999)
        low_b = min((n for kind, n in setting.probabilities if kind == "synapse"), default=99999)
        nothing = np.empty(0)
        c: list[Array] = [nothing] * (setting.depth + 1)
        b: list[Array] = [nothing] * (setting.depth + 1)
        c[-1] = setting.head.gradient(y[-1], setting.targets_of(rows))
        for number in range(setting.depth, min(low_c, low_b - 1), -1):
            layer = setting.layers[number - 1]
            b[number] = _times(self._keep("neuron", number), c[number])
            if not is_linear(layer.activation):
                b[number] = b[number] * layer.activation.derivative(z[number])
            if number - 1 >= min(low_c, low_b):
                flat = b[number].reshape(-1, layer.n_out)
                back = layer.pull_back(_times(self._keep("synapse", number), flat))
                c[number - 1] = back.reshape(*b[number].shape[:2], layer.n_in)
        return Passes(a=a, y=y, drive=drive, z=z, c=c, b=b)

    def terms(self, rows: slice) -> dict[Block, tuple[Term, ...]]:
        """Neuron: -(dy_L/dy) y; synapse: -(dy_L/dz_i) W_ij y_j."""
        p = self.passes(rows)
        return {
            (kind, n): (
                # The sign goes to the smaller array.
                Term(coefficient=p.c[n], feature=-p.a[n])
                if kind == "neuron"
                else Term(coefficient=p.b[n], feature=-p.y[n - 1], power=1, drive=-p.drive[n]),
            )
            for kind, n in self.setting.probabilities
        }


def _times(factor: float, array: Array) -> Array:
    return array if factor == 1 else factor * array
