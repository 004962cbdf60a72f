"""Effects of faults by derivatives: T1 (b3, AC2), and the same at the mean activations.

One forward pass and one backward pass an output, whatever the number of sites; sums over synapses
are products of small matrices, for g_ij = B_i W_ij y_j gives sum_ij g_ij^2 = B^2 . (W^2 y^2).
"""

from dataclasses import dataclass

import numpy as np

from neurosim.faults import SiteKind
from neurosim.kernels.sums import product_sums
from neurosim.layers import Array
from neurosim.theory.setting import Block, Setting, is_linear

__all__ = ["LinearEffects"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Passes:
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
class LinearEffects:
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

    def values(self, rows: slice) -> Array:
        """What is predicted, at the point of the derivatives: (n_inputs, n_outputs)."""
        setting = self.setting
        return setting.head.value(self._forward(rows)[1][-1], setting.targets_of(rows))

    def _passes(self, rows: slice) -> _Passes:
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
        return _Passes(a=a, y=y, drive=drive, z=z, c=c, b=b)

    def sums(self, rows: slice) -> dict[Block, tuple[Array, Array]]:
        """Sum and sum of squares of the effects of each block: each (n_inputs, n_outputs)."""
        p = self._passes(rows)
        result = {}
        for kind, number in self.setting.probabilities:
            if kind == "neuron":
                first, second = product_sums(p.c[number], p.a[number])
            else:
                weight = self.setting.layers[number - 1].weight
                power = p.y[number - 1] ** 2 @ (weight**2).T
                first = product_sums(p.b[number], p.drive[number])[0]
                second = product_sums(p.b[number], np.sqrt(power))[1]
            result[kind, number] = (-first, second)
        return result

    def effects(self, block: Block, rows: slice) -> Array:
        """Effects of every site of a block: (n_outputs, n_inputs, n_sites)."""
        p = self._passes(rows)
        kind, number = block
        if kind == "neuron":
            return -p.c[number] * p.a[number]
        products = self.setting.layers[number - 1].weight * p.y[number - 1][:, None, :]
        return (-p.b[number][..., None] * products).reshape(
            self.setting.n_outputs, len(products), -1
        )

    def site_sums(self, block: Block, power: int) -> Array:
        """Effects of every site, or their squares, summed over inputs: (n_outputs, n_sites)."""
        setting = self.setting
        kind, number = block
        sign = (-1) ** power
        total = np.zeros((setting.n_outputs, setting.n_sites(block)))
        for rows in setting.chunks(setting.n_outputs * max(setting.widths)):
            p = self._passes(rows)
            if kind == "neuron":
                total += sign * ((p.c[number] * p.a[number]) ** power).sum(axis=1)
                continue
            y = p.y[number - 1] ** power
            weight = setting.layers[number - 1].weight ** power
            for k, b in enumerate(p.b[number] ** power):
                b = np.broadcast_to(b, (len(y), len(weight)))
                total[k] += sign * (weight * (b.T @ y)).ravel()
        return total


def _times(factor: float, array: Array) -> Array:
    return array if factor == 1 else factor * array
