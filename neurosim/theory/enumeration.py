"""All fault sets of a campaign with few sites: exact moments, laws, and what persistence does.

Whether a process hit a site is one bit; processes of one site that are all permanent, or all
transient, share theirs. With c_A the coefficient of the error for the set A of bits in the
orthonormal products of (xi_s - p_s) / sqrt(p_s q_s), the variance is the sum of c_A^2 over A other
than the empty set, and between two presentations Cov = sum_A c_A(x) c_A(x') prod_{s in A} r_s, r_s
the correlation of bit s.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import FaultProcess, Intermittent, Permanent, Sites, Transient
from neurosim.layers import Array
from neurosim.theory.presentations import InputMean
from neurosim.theory.setting import Block, Setting, merged_probability
from neurosim.theory.single_fault import change_outputs
from neurosim.theory.surrogate import SurrogateLaw, exact_law

__all__ = ["Enumeration"]

_MOST_BITS = 20
# Errors of all sets of one input that are held at once: 512 MB.
_MOST_VALUES = 2**26
_SETS = 2**13


@dataclass(frozen=True, kw_only=True)
class _Bit:
    """Whether one process (or several alike) hit a site.

    base: correlation between neighbouring presentations, 1 for permanent, 0 for transient faults.
    """

    block: Block
    unit: int
    probability: float
    base: float


def _base(process: FaultProcess) -> float:
    if isinstance(process.persistence, Permanent) or process.probability == 1:
        return 1.0
    if isinstance(process.persistence, Transient):
        return 0.0
    return 1 - 1 / (process.persistence.presentations * (1 - process.probability))


def _bits(setting: Setting) -> list[_Bit]:
    found = []
    for block, processes in setting.processes.items():
        alike: list[tuple[float, float]] = []
        for base, group in groupby(sorted(processes, key=_base), key=_base):
            several = list(group)
            if isinstance(several[0].persistence, Intermittent) and base not in (0.0, 1.0):
                alike += [(process.probability, base) for process in several]
            else:
                alike.append((merged_probability([g.probability for g in several]), base))
        found += [
            _Bit(block=block, unit=unit, probability=p, base=base)
            for unit in range(setting.n_sites(block))
            for p, base in alike
        ]
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Enumeration:
    """The exact answer for a setting of at most 20 sites.

    Parameters
    ----------
    setting : Setting

    Raises
    ------
    InputError
        If there are too many sites, or too many sites and outputs to hold.
    """

    setting: Setting

    def __post_init__(self) -> None:
        n = sum(
            self.setting.n_sites(block) * len(processes)
            for block, processes in self.setting.processes.items()
        )
        if n > 2 * _MOST_BITS or len(self.bits) > _MOST_BITS:
            raise InputError(
                f'method: expected at most {_MOST_BITS} sites for "enumeration", which takes all '
                f"2^n fault sets, got {n} (a site counts once a process); let fewer layers fail, "
                'or use "single-fault"'
            )
        if self.setting.n_outputs << len(self.bits) > _MOST_VALUES:
            raise InputError(
                f"method: expected at most {_MOST_VALUES >> len(self.bits)} outputs for "
                f'"enumeration" of 2^{len(self.bits)} fault sets, got {self.setting.n_outputs}'
            )

    @cached_property
    def bits(self) -> tuple[_Bit, ...]:
        """One bit a site, more where processes of different persistence meet."""
        return tuple(_bits(self.setting))

    @cached_property
    def probabilities(self) -> Array:
        """Probabilities of all sets, (2^n,): bit b of the index says whether bit b is set."""
        result = np.ones(1)
        for bit in self.bits:
            result = np.concatenate([result * (1 - bit.probability), result * bit.probability])
        return result

    def errors(self, x: int) -> Array:
        """Exact errors of input x for all sets, (2^n, n_outputs), carried as differences."""
        setting, rows = self.setting, slice(x, x + 1)
        result = np.empty((2 ** len(self.bits), setting.n_outputs))
        for first in range(0, len(result), _SETS):
            sets = np.arange(first, min(first + _SETS, len(result)))
            y = setting.inputs[rows]
            dy = self._kill(np.zeros((1, len(sets), y.shape[1])), y, ("neuron", 0), sets)
            for number, layer in enumerate(setting.layers, start=1):
                z = layer.preactivation(y)
                dz = layer.push_forward(dy)
                self._cut(dz, dy, y, number, sets)
                y = layer.activation(z)
                dy = change_outputs(layer.activation, z, dz)
                dy = self._kill(dy, y, ("neuron", number), sets)
            result[sets] = setting.head.change(y, dy, setting.targets_of(rows))[0]
        return result

    def _held(self, block: Block, sets: Array) -> dict[int, list[tuple[Array, float]]]:
        """Unit -> in which of the sets it is held at which value; 0, which wins, comes last."""
        held: dict[int, list[tuple[Array, float]]] = {}
        for b, members in enumerate(self._members):
            for unit, value in members.get(block, ()):
                held.setdefault(unit, []).append(((sets >> b & 1).astype(bool), value))
        for several in held.values():
            several.sort(key=lambda pair: pair[1] == 0)
        return held

    @cached_property
    def _members(self) -> tuple[dict[Block, list[tuple[int, float]]], ...]:
        """Of each bit, the neurons and synapses that its site sets, with their values, by layer."""
        sites = Sites(self.setting.widths)
        found = []
        for bit in self.bits:
            groups = self.setting.groups.get(bit.block)
            if groups is None:
                found.append({bit.block: [(bit.unit, 0.0)]})
                continue
            members: dict[Block, list[tuple[int, float]]] = {}
            here = slice(*groups.neuron_offsets[bit.unit : bit.unit + 2])
            place = sites.neurons(groups.neurons[here])
            for layer, unit, value in zip(*place, groups.neuron_values[here], strict=True):
                members.setdefault(("neuron", int(layer)), []).append((int(unit), float(value)))
            here = slice(*groups.synapse_offsets[bit.unit : bit.unit + 2])
            numbers = groups.synapses[here]
            layers = sites.synapses(numbers)[0]
            units = numbers - sites.synapse_offsets[layers]
            for layer, unit, value in zip(layers, units, groups.synapse_weights[here], strict=True):
                members.setdefault(("synapse", int(layer)), []).append((int(unit), float(value)))
            found.append(members)
        return tuple(found)

    def _kill(self, dy: Array, y: Array, block: Block, sets: Array) -> Array:
        for unit, several in self._held(block, sets).items():
            for now, value in several:
                dy[0, now, unit] = value - y[0, unit]
        return dy

    def _cut(self, dz: Array, dy: Array, y: Array, number: int, sets: Array) -> None:
        weight = self.setting.layers[number - 1].weight
        for unit, several in self._held(("synapse", number), sets).items():
            out, in_ = divmod(unit, weight.shape[1])
            change = np.zeros(len(sets))
            for now, value in several:
                change[now] = value - weight[out, in_]
            dz[0, :, out] += change * (y[0, in_] + dy[0, :, in_])

    def coefficients(self, x: int) -> Array:
        """c_A of input x for all sets A of bits, (2^n, n_outputs); the mean where A is empty."""
        values = self.errors(x)
        shape = values.shape
        for b, bit in enumerate(self.bits):
            p, q = bit.probability, 1 - bit.probability
            pairs = values.reshape(-1, 2, 2**b, shape[1])
            mean = q * pairs[:, 0] + p * pairs[:, 1]
            values = np.stack([mean, np.sqrt(p * q) * (pairs[:, 1] - pairs[:, 0])], axis=1)
            values = values.reshape(shape)
        return values

    def _within(self, members: Array) -> Array:
        """Indices of the sets A, not empty, that have no bits but these (n_bits,) ones."""
        index = np.zeros(1, np.int64)
        for b in np.flatnonzero(members):
            index = np.concatenate([index, index + (1 << int(b))])
        return index[1:]

    def moments(self) -> tuple[Array, Array, dict[Block, tuple[Array, Array]]]:
        """Mean and variance, each (n_inputs, n_outputs); and of each block failing alone.

        A block's mean is that of its faults alone, its variance the sum of c_A^2 over its own
        bits; both add up to the whole but for what blocks do together.
        """
        setting = self.setting
        shape = (setting.n_inputs, setting.n_outputs)
        mean, variance = np.empty(shape), np.empty(shape)
        parts = {b: (np.empty(shape), np.empty(shape)) for b in setting.probabilities}
        own = {b: np.array([bit.block == b for bit in self.bits]) for b in parts}
        for x in range(setting.n_inputs):
            c = self.coefficients(x)
            mean[x], variance[x] = c[0], (c[1:] ** 2).sum(axis=0)
            for block, (_, second) in parts.items():
                second[x] = (c[self._within(own[block])] ** 2).sum(axis=0)
        for block, (first, _) in parts.items():
            alone = Enumeration(setting=setting.only(block)) if len(parts) > 1 else None
            first[:] = mean if alone is None else alone.means()
        return mean, variance, parts

    def means(self) -> Array:
        """Mean error of every input, (n_inputs, n_outputs)."""
        return np.array([self.probabilities @ self.errors(x) for x in range(self.setting.n_inputs)])

    def covariance(self) -> Array:
        """Covariances of the outputs: (n_inputs, n_outputs, n_outputs)."""
        found = []
        for x in range(self.setting.n_inputs):
            c = self.coefficients(x)[1:]
            found.append(c.T @ c)
        return np.array(found)

    def site_variances(self, block: Block) -> Array:
        """What each site does by itself, sum of c_A^2 over its own bits, mean over inputs."""
        setting = self.setting
        total = np.zeros((setting.n_outputs, setting.n_sites(block)))
        own = [
            self._within(np.array([(bit.block, bit.unit) == (block, unit) for bit in self.bits]))
            for unit in range(setting.n_sites(block))
        ]
        for x in range(setting.n_inputs):
            c = self.coefficients(x)
            for unit, index in enumerate(own):
                total[:, unit] += (c[index] ** 2).sum(axis=0)
        return total / setting.n_inputs

    def input_mean(self) -> InputMean:
        """Variance over trials of the mean error over inputs, and its part between chips."""
        setting = self.setting
        base = np.ones(1)
        for bit in self.bits:
            base = np.concatenate([base, base * bit.base])
        base = base[:, None]
        whole = np.zeros(setting.n_outputs)
        memory: Array = np.zeros(1)
        lasting: Array = np.zeros(1)
        each = np.zeros(setting.n_outputs)
        for x in range(setting.n_inputs):
            c = self.coefficients(x)
            c[0] = 0
            each += (c**2).sum(axis=0)
            whole += (c * (c + 2 * memory)).sum(axis=0)
            memory = base * (memory + c)
            lasting = lasting + np.where(base == 1, c, 0)
        n = setting.n_inputs**2
        between = (lasting**2).sum(axis=0) / n
        return InputMean(variance=whole / n, between=between, each=each / setting.n_inputs)

    def kurtosis(self) -> Array:
        """Fourth standardised central moment, (n_inputs, n_outputs); 1 where nothing varies."""
        found = []
        for x in range(self.setting.n_inputs):
            errors = self.errors(x)
            errors /= np.maximum(np.abs(errors).max(axis=0), np.finfo(float).tiny)
            square = (errors - self.probabilities @ errors) ** 2
            variance = self.probabilities @ square
            fourth = self.probabilities @ square**2
            some = variance > 0
            found.append(np.divide(fourth, variance**2, out=np.ones_like(fourth), where=some))
        return np.array(found)

    def law(self, input: int, output: int) -> SurrogateLaw:
        """The exact law of the error of one output for one input."""
        return exact_law(self.errors(input)[:, output], self.probabilities)
