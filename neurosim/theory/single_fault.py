"""Effects of faults one at a time: b4. Every site is removed alone and the rest computed exactly.

A dead neuron changes the next layer by a column of its weights, a dead synapse changes one neuron;
both are then carried through the rest of the network as differences, many sites at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.errors import InputError
from neurosim.kernels.single_fault import (
    IDENTITY,
    LEAKY_RELU,
    LOGISTIC,
    SOFTPLUS,
    activation_change,
    synapse_changes,
    synapse_changes_softmax,
    synapse_sums,
    synapse_sums_softmax,
)
from neurosim.layers import Activation, Array
from neurosim.theory.losses import log_softmax
from neurosim.theory.passes import GoldenPass
from neurosim.theory.setting import KNOWN, Block, Setting, is_linear

__all__ = ["SingleEffects", "change_outputs"]

# Values the widest array of one batch of sites may hold: 16 MB of float64, near the caches.
_VALUES = 2**21


def _code(activation: Activation) -> tuple[int, float, float]:
    """An activation as kernels know it: (code, gain or slope, scale)."""
    match activation.kind:
        case "identity":
            return IDENTITY, 1.0, 1.0
        case "relu":
            return LEAKY_RELU, 0.0, 1.0
        case "leaky_relu":
            return LEAKY_RELU, activation.parameter, 1.0
        case "sigmoid":
            return LOGISTIC, activation.parameter, 1.0
        case "tanh":  # 2 / (1 + exp(-2 z)) - 1
            return LOGISTIC, 2.0, 2.0
        case "softplus":
            return SOFTPLUS, 1.0, 1.0
        case _:
            raise InputError(
                f"activation: expected one of {', '.join(KNOWN)}, which have kernels here, "
                f"got {activation}"
            )


def change_outputs(activation: Activation, z: Array, dz: Array) -> Array:
    """phi(z + dz) - phi(z) without cancellation, written over dz.

    z (n_inputs, n), dz (n_inputs, n_changes, n), in C order.
    """
    if activation.kind not in KNOWN:
        dz[:] = activation.change(z[:, None, :], dz)
    elif not is_linear(activation):
        activation_change(*_code(activation), z, dz)
    return dz


@dataclass(frozen=True, kw_only=True, eq=False)
class SingleEffects:
    """Exact effects d_s of every site alone (b4 of arXiv 1902.01686).

    Parameters
    ----------
    setting : Setting
    """

    setting: Setting

    @cached_property
    def _tails(self) -> list[Array | None]:
        """At index l: d y_L / d y_l where layers l+1..L have no activation, else None."""
        tails: list[Array | None] = [np.eye(self.setting.widths[-1])]
        for layer in reversed(self.setting.layers):
            last = tails[-1]
            linear = last is not None and is_linear(layer.activation)
            tails.append(np.ascontiguousarray(last @ layer.weight) if linear else None)
        return tails[::-1]

    def _golden(self, rows: slice) -> tuple[list[Array], list[Array]]:
        golden = GoldenPass(setting=self.setting, rows=rows)
        return golden.y, golden.z

    def _carry(self, number: int, dy: Array, y: list[Array], z: list[Array], rows: slice) -> Array:
        """Changes dy (n_inputs, n_changes, n_l) of layer l carried to what is predicted."""
        setting = self.setting
        for m in range(number, setting.depth + 1):
            tail = self._tails[m]
            if tail is not None:
                dy = dy if m == setting.depth else dy @ tail.T
                break
            dy = self._activate(m + 1, setting.layers[m].push_forward(dy), z)
        return setting.head.change(y[-1], dy, setting.targets_of(rows))

    def _activate(self, number: int, dz: Array, z: list[Array]) -> Array:
        """Changes of y_l from changes dz of z_l, written over them."""
        return change_outputs(self.setting.layers[number - 1].activation, z[number], dz)

    def _batches(self, block: Block, rows: slice):  # type: ignore[no-untyped-def]
        """Yield (first site, effects (n_inputs, n_sites of the batch, n_outputs)), in order."""
        setting = self.setting
        y, z = self._golden(rows)
        n_rows = len(y[0])
        width = max(setting.widths)
        kind, number = block
        if kind == "neuron":
            step = max(1, _VALUES // (n_rows * width))
            for first in range(0, setting.n_sites(block), step):
                units = slice(first, first + step)
                dead = -y[number][:, units]
                tail = self._tails[number]
                if tail is not None:
                    dy = dead[:, :, None] * tail.T[units]
                    yield first, setting.head.change(y[-1], dy, setting.targets_of(rows))
                else:
                    columns = setting.layers[number].weight[:, units].T
                    dy = self._activate(number + 1, dead[:, :, None] * columns, z)
                    yield first, self._carry(number + 1, dy, y, z, rows)
            return
        layer = setting.layers[number - 1]
        step = max(1, _VALUES // (n_rows * width * layer.n_in))
        for first in range(0, layer.n_out, step):
            units = slice(first, first + step)
            # One column a neuron, one row a synapse: the golden z stays the neuron's own.
            dz = -(y[number - 1][:, None, :] * layer.weight[units]).transpose(0, 2, 1)
            t = self._activate(
                number,
                np.ascontiguousarray(dz),
                [*z[:number], np.ascontiguousarray(z[number][:, units])],
            ).transpose(0, 2, 1)
            yield first * layer.n_in, self._from_one_neuron(number, first, t, y, z, rows)

    def _from_one_neuron(
        self, number: int, first: int, t: Array, y: list[Array], z: list[Array], rows: slice
    ) -> Array:
        """Carry changes t (n_inputs, n_neurons, n_in) of single neurons to what is predicted."""
        setting = self.setting
        n_rows, n_units, n_in = t.shape
        tail = self._tails[number]
        if tail is not None:
            dy = t[..., None] * tail.T[first : first + n_units, None, :]
            dy = dy.reshape(n_rows, n_units * n_in, -1)
            return setting.head.change(y[-1], dy, setting.targets_of(rows))
        columns = setting.layers[number].weight[:, first : first + n_units].T
        dz = (t[..., None] * columns[:, None, :]).reshape(n_rows, n_units * n_in, -1)
        return self._carry(number + 1, self._activate(number + 1, dz, z), y, z, rows)

    def _synapse_parts(self, block: Block, rows: slice):  # type: ignore[no-untyped-def]
        """Arguments of the synapse kernels, or None where the rest needs a forward pass.

        (activation, golden arrays), d logits / d y_l, and of a softmax the golden outputs with
        their logarithms, else None.
        """
        kind, number = block
        tail = self._tails[number]
        head = self.setting.head
        if kind != "synapse" or tail is None or head.loss is not None:
            return None
        y, z = self._golden(rows)
        layer = self.setting.layers[number - 1]
        softmax = head.readout == "softmax"
        outputs = (head.outputs(y[-1]), log_softmax(y[-1])) if softmax else None
        return (*_code(layer.activation), z[number], layer.weight, y[number - 1]), tail, outputs

    def sums(self, rows: slice) -> dict[Block, tuple[Array, Array]]:
        """Sum and sum of squares of the effects of each block: each (n_inputs, n_outputs)."""
        return {block: self._block_sums(block, rows) for block in self.setting.probabilities}

    def _block_sums(self, block: Block, rows: slice) -> tuple[Array, Array]:
        setting = self.setting
        parts = self._synapse_parts(block, rows)
        if parts is not None:
            neuron, tail, outputs = parts
            if outputs is not None:
                return synapse_sums_softmax(*neuron, tail, *outputs)
            first, second = synapse_sums(*neuron)
            return first @ tail.T, second @ (tail**2).T
        shape = (len(range(*rows.indices(setting.n_inputs))), setting.n_outputs)
        first, second = np.zeros(shape), np.zeros(shape)
        for part in self._parts(block, rows):
            here = slice(part.start - rows.start, part.stop - rows.start)
            for _, d in self._batches(block, part):
                first[here] += d.sum(axis=1)
                second[here] += np.einsum("xsk,xsk->xk", d, d)
        return first, second

    def _parts(self, block: Block, rows: slice) -> Iterator[slice]:
        """Few inputs at a time where the sites of one input alone fill a batch."""
        size = max(1, 8 * _VALUES // (self.setting.n_sites(block) * max(self.setting.widths)))
        for start in range(rows.start, rows.stop, size):
            yield slice(start, min(start + size, rows.stop))

    def effects(self, block: Block, rows: slice) -> Array:
        """Effects of every site of a block: (n_outputs, n_inputs, n_sites)."""
        setting = self.setting
        n_rows = len(range(*rows.indices(setting.n_inputs)))
        parts = self._synapse_parts(block, rows)
        if parts is not None:
            return self._by_kernel(parts, n_rows, 1)
        result = np.empty((setting.n_outputs, n_rows, setting.n_sites(block)))
        for first, d in self._batches(block, rows):
            result[:, :, first : first + d.shape[1]] = d.transpose(2, 0, 1)
        return result

    def products(self, block: Block, rows: slice) -> Array:
        """Products d_k d_l of two outputs summed over sites: (n_inputs, n_outputs, n_outputs)."""
        setting = self.setting
        n_rows = len(range(*rows.indices(setting.n_inputs)))
        parts = self._synapse_parts(block, rows)
        if parts is not None and parts[2] is None:
            neuron, tail, _ = parts
            return np.asarray((tail * synapse_sums(*neuron)[1][:, None, :]) @ tail.T)
        result = np.zeros((n_rows, setting.n_outputs, setting.n_outputs))
        for part in self._parts(block, rows):
            here = slice(part.start - rows.start, part.stop - rows.start)
            if parts is not None:
                d = self.effects(block, part).transpose(1, 2, 0)
                result[here] += d.transpose(0, 2, 1) @ d
                continue
            for _, d in self._batches(block, part):
                result[here] += d.transpose(0, 2, 1) @ d
        return result

    def _by_kernel(self, parts, n_rows: int, power: int) -> Array:  # type: ignore[no-untyped-def]
        neuron, tail, outputs = parts
        shape = (n_rows, *neuron[4].shape)
        if outputs is not None:
            out = np.zeros((len(tail), *shape))
            synapse_changes_softmax(*neuron, tail, *outputs, power, out)
            return out.reshape(len(tail), n_rows, -1)
        t = np.zeros(shape)
        synapse_changes(*neuron, power, t)
        return ((tail**power)[:, None, :, None] * t).reshape(len(tail), n_rows, -1)

    def site_sums(self, block: Block, power: int) -> Array:
        """Effects of every site, or their squares, summed over inputs: (n_outputs, n_sites)."""
        setting = self.setting
        everything = slice(0, setting.n_inputs)
        parts = self._synapse_parts(block, everything)
        if parts is not None:
            return self._by_kernel(parts, 1, power)[:, 0]
        total = np.zeros((setting.n_outputs, setting.n_sites(block)))
        for rows in self._parts(block, everything):
            for first, d in self._batches(block, rows):
                total[:, first : first + d.shape[1]] += (d**power).sum(axis=0).T
        return total
