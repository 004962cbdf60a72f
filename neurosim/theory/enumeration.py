"""All fault sets of a campaign with few sites: exact moments, laws, and what persistence does.

Whether a process hit a site is one digit; processes of one site that are all permanent, or all
transient, share theirs. A digit is 0 or 1; that of a site with two states that exclude each other
0, 1 or 2. With c_A the coefficient of the error for the digits A in the orthonormal products of
(xi_s - p_s) / sqrt(p_s q_s), the variance is the sum of c_A^2 over A other than 0, and between two
presentations Cov = sum_A c_A(x) c_A(x') prod_{s in A} r_s, r_s the correlation of digit s. Of two
states the second function is that of which of them it is, where the site fails.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from operator import mul

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import FaultProcess, Intermittent, Permanent, Sites, Transient
from neurosim.layers import Array
from neurosim.physical_sites import SiteGroups
from neurosim.theory.exclusive_states import n_means
from neurosim.theory.presentations import InputMean
from neurosim.theory.setting import Block, Setting, merged_probability
from neurosim.theory.single_fault import change_outputs
from neurosim.theory.surrogate import SurrogateLaw, exact_law

__all__ = ["Enumeration"]

_MOST_SITES = 20
# Errors of all sets of one input that are held at once: 512 MB.
_MOST_VALUES = 2**26
_SETS = 2**13


@dataclass(frozen=True, kw_only=True)
class _Digit:
    """Whether one process (or several alike) hit a site, and in which of its states it then is.

    base: correlation between neighbouring presentations, 1 for permanent, 0 for transient faults.
    """

    block: Block
    unit: int
    probability: float
    base: float
    shares: tuple[float, ...] = (1.0,)

    @property
    def radix(self) -> int:
        return 1 + len(self.shares)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of no fault, and of each state."""
        return 1 - self.probability, *(self.probability * share for share in self.shares)


def _base(process: FaultProcess) -> float:
    if isinstance(process.persistence, Permanent) or process.probability == 1:
        return 1.0
    if isinstance(process.persistence, Transient):
        return 0.0
    return 1 - 1 / (process.persistence.presentations * (1 - process.probability))


def _digits(setting: Setting) -> list[_Digit]:
    found = []
    for block, processes in setting.processes.items():
        alike: list[tuple[float, float]] = []
        for base, group in groupby(sorted(processes, key=_base), key=_base):
            several = list(group)
            if isinstance(several[0].persistence, Intermittent) and base not in (0.0, 1.0):
                alike += [(process.probability, base) for process in several]
            else:
                alike.append((merged_probability([g.probability for g in several]), base))
        groups = setting.groups.get(block)
        found += [
            _Digit(
                block=block,
                unit=unit,
                probability=p,
                base=base,
                shares=(1.0,) if groups is None else groups.shares,
            )
            for unit in range(_n_sites(setting, block))
            for p, base in alike
        ]
    return found


def _n_sites(setting: Setting, block: Block) -> int:
    groups = setting.groups.get(block)
    return setting.n_sites(block) if groups is None else n_means(groups)


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
            _n_sites(self.setting, block) * len(processes)
            for block, processes in self.setting.processes.items()
        )
        if n > 2 * _MOST_SITES or self.n_sets > 2**_MOST_SITES:
            raise InputError(
                f'method: expected at most {_MOST_SITES} sites for "enumeration", which takes all '
                f"2^n fault sets, got {n} (a site counts once a process, a stuck device as 1.6); "
                'let fewer layers fail, or use "single-fault"'
            )
        if self.setting.n_outputs * self.n_sets > _MOST_VALUES:
            raise InputError(
                f"method: expected at most {_MOST_VALUES // self.n_sets} outputs for "
                f'"enumeration" of {self.n_sets} fault sets, got {self.setting.n_outputs}'
            )

    @cached_property
    def digits(self) -> tuple[_Digit, ...]:
        """One digit a site, more where processes of different persistence meet."""
        return tuple(_digits(self.setting))

    @cached_property
    def _strides(self) -> tuple[int, ...]:
        """What a step of each digit is worth in the index of a fault set; and their number."""
        return tuple(accumulate((digit.radix for digit in self.digits), mul, initial=1))

    @property
    def n_sets(self) -> int:
        """Number of fault sets."""
        return self._strides[-1]

    def _places(self) -> Iterator[tuple[int, _Digit]]:
        """(stride, digit) of all digits."""
        return zip(self._strides[:-1], self.digits, strict=True)

    @cached_property
    def probabilities(self) -> Array:
        """Probabilities of all sets, (n_sets,)."""
        result = np.ones(1)
        for digit in self.digits:
            result = np.concatenate([result * p for p in digit.probabilities])
        return result

    def errors(self, x: int) -> Array:
        """Exact errors of input x for all sets, (n_sets, n_outputs), carried as differences."""
        setting, rows = self.setting, slice(x, x + 1)
        result = np.empty((self.n_sets, setting.n_outputs))
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
        for (stride, digit), states in zip(self._places(), self._members, strict=True):
            for state, members in enumerate(states, start=1):
                for unit, value in members.get(block, ()):
                    now = sets // stride % digit.radix == state
                    held.setdefault(unit, []).append((now, value))
        for several in held.values():
            several.sort(key=lambda pair: pair[1] == 0)
        return held

    @cached_property
    def _members(self) -> tuple[tuple[dict[Block, list[tuple[int, float]]], ...], ...]:
        """Of each digit and state, what its site sets, with the values, by kind and layer.

        Parts of weights are of kind "device" or "bit", with what each adds to its weight.
        """
        sites = Sites(self.setting.widths)
        found: list[tuple[dict[Block, list[tuple[int, float]]], ...]] = []
        for digit in self.digits:
            groups = self.setting.groups.get(digit.block)
            if groups is None:
                found.append(({digit.block: [(digit.unit, 0.0)]},))
                continue
            first = range(digit.unit, len(groups), n_means(groups))
            found.append(
                tuple(self._members_of(groups, site, digit.block, sites) for site in first)
            )
        return tuple(found)

    def _members_of(
        self, groups: SiteGroups, site: int, block: Block, sites: Sites
    ) -> dict[Block, list[tuple[int, float]]]:
        members: dict[Block, list[tuple[int, float]]] = {}
        here = slice(*groups.neuron_offsets[site : site + 2])
        place = sites.neurons(groups.neurons[here])
        for layer, unit, value in zip(*place, groups.neuron_values[here], strict=True):
            members.setdefault(("neuron", int(layer)), []).append((int(unit), float(value)))
        here = slice(*groups.synapse_offsets[site : site + 2])
        rows = sites.synapses(groups.synapses[here])
        for layer, out, in_, value in zip(*rows, groups.synapse_weights[here], strict=True):
            weight = self.setting.layers[layer - 1].weight
            unit = int(out * weight.shape[1] + in_)
            part = block[0] in ("device", "bit")
            kind: Block = (block[0] if part else "synapse", int(layer))
            by = float(value - weight[out, in_]) if part else float(value)
            members.setdefault(kind, []).append((unit, by))
        return members

    def _kill(self, dy: Array, y: Array, block: Block, sets: Array) -> Array:
        for unit, several in self._held(block, sets).items():
            for now, value in several:
                dy[0, now, unit] = value - y[0, unit]
        return dy

    def _cut(self, dz: Array, dy: Array, y: Array, number: int, sets: Array) -> None:
        weight = self.setting.layers[number - 1].weight
        changes: dict[int, Array] = {}
        kinds: tuple[Block, ...] = (("device", number), ("bit", number))
        for kind in kinds:  # what happens to the parts of one weight adds up
            for unit, several in self._held(kind, sets).items():
                change = changes.setdefault(unit, np.zeros(len(sets)))
                for now, by in several:
                    change[now] += by
        for unit, several in self._held(("synapse", number), sets).items():
            change = changes.setdefault(unit, np.zeros(len(sets)))
            for now, value in several:
                change[now] = value - weight.ravel()[unit]
        for unit, change in changes.items():
            out, in_ = divmod(unit, weight.shape[1])
            dz[0, :, out] += change * (y[0, in_] + dy[0, :, in_])

    def coefficients(self, x: int) -> Array:
        """c_A of input x for all A, (n_sets, n_outputs); the mean where A is 0."""
        values = self.errors(x)
        shape = values.shape
        for stride, digit in self._places():
            p, q = digit.probability, 1 - digit.probability
            parts = values.reshape(-1, digit.radix, stride, shape[1])
            failed = np.tensordot(digit.shares, parts[:, 1:], axes=(0, 1))
            found = [q * parts[:, 0] + p * failed, np.sqrt(p * q) * (failed - parts[:, 0])]
            if digit.radix == 3:
                spread = np.sqrt(p * digit.shares[0] * digit.shares[1])
                found.append(spread * (parts[:, 1] - parts[:, 2]))
            values = np.stack(found, axis=1).reshape(shape)
        return values

    def _within(self, members: Array) -> Array:
        """Indices of the A, not 0, that have no digits but these (n_digits,) ones."""
        index = np.zeros(1, np.int64)
        for (stride, digit), chosen in zip(self._places(), members, strict=True):
            if chosen:
                index = np.concatenate([index + k * stride for k in range(digit.radix)])
        return index[1:]

    def moments(self) -> tuple[Array, Array, dict[Block, tuple[Array, Array]]]:
        """Mean and variance, each (n_inputs, n_outputs); and of each block failing alone.

        A block's mean is that of its faults alone, its variance the sum of c_A^2 over its own
        digits; both add up to the whole but for what blocks do together.
        """
        setting = self.setting
        shape = (setting.n_inputs, setting.n_outputs)
        mean, variance = np.empty(shape), np.empty(shape)
        parts = {b: (np.empty(shape), np.empty(shape)) for b in setting.probabilities}
        own = {b: np.array([digit.block == b for digit in self.digits]) for b in parts}
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
        """What each site does by itself, sum of c_A^2 over its own digits, mean over inputs."""
        setting = self.setting
        n = _n_sites(setting, block)
        total = np.zeros((setting.n_outputs, n))
        own = [
            self._within(np.array([(d.block, d.unit) == (block, unit) for d in self.digits]))
            for unit in range(n)
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
        for digit in self.digits:
            base = np.concatenate([base, *[base * digit.base] * (digit.radix - 1)])
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
