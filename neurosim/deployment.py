"""Who sits where: a network on the cores of a chip."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np
import numpy.typing as npt

from neurosim.chip import Chip
from neurosim.defects import DefectMap
from neurosim.errors import DeploymentError, InputError
from neurosim.faults import Sites
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.placement import place_around

__all__ = ["Block", "Deployment", "deploy"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Part of a weight matrix on one core.

    Row r of the core carries input in_start + r of the layer, column c drives its neuron
    out_start + c.

    Parameters
    ----------
    core : int
    layer : int
        1..L.
    out_start, out_stop, in_start, in_stop : int
        Half-open ranges of W_layer[out, in].
    """

    core: int
    layer: int
    out_start: int
    out_stop: int
    in_start: int
    in_stop: int

    @property
    def size(self) -> int:
        """Number of synapses."""
        return (self.out_stop - self.out_start) * (self.in_stop - self.in_start)


@dataclass(frozen=True, kw_only=True, eq=False)
class Deployment:
    """A network on a chip, as `deploy` places it.

    Parameters
    ----------
    network : Network
    chip : Chip
    blocks : tuple of Block
        One a core, layer after layer. Partial results of blocks that share columns are added; the
        circuit of a neuron sits on the core of its block with in_start 0.
    defects : DefectMap, optional
        Known defects of this chip: they take effect in every trial; golden outputs are those of
        the network without them.
    places : tuple of (rows, columns)
        Of each block the row of each input and the column of each output; empty: in order.
    """

    network: Network
    chip: Chip
    blocks: tuple[Block, ...]
    defects: DefectMap | None = None
    places: tuple[tuple[Array, Array], ...] = ()

    @property
    def n_cores(self) -> int:
        """Cores in use."""
        return len(self.blocks)

    @property
    def sites(self) -> Sites:
        """The numbering of neurons and synapses."""
        return Sites(self.network.widths)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the model before trusting its numbers."""
        lost = len(self.defective_synapses)
        found = (f"{lost} synapses lie on known defects",) if lost else ()
        if self.chip.weight_levels is None:
            return found
        return (
            *found,
            f"weight precision is not modelled: {self.chip.name} has "
            f"{self.chip.weight_levels} weight levels, the simulation uses the weights as they are",
        )

    @cached_property
    def utilisation(self) -> Array:
        """Share of the crossbar of each core in use, (n_cores,); 1 where it is unlimited."""
        sizes = np.array([block.size for block in self.blocks], np.float64)
        rows = [self.chip.rows or block.in_stop - block.in_start for block in self.blocks]
        columns = [self.chip.columns or block.out_stop - block.out_start for block in self.blocks]
        return sizes / (np.array(rows) * np.array(columns))

    def synapse_places(
        self, layer: int, out: npt.ArrayLike, in_: npt.ArrayLike
    ) -> tuple[Array, Array, Array]:
        """(core, row, column) of synapses W_layer[out, in].

        Raises
        ------
        InputError
            If the layer or a synapse does not exist.

        Examples
        --------
        >>> network = Network.dense(weights=[np.ones((2, 3))], biases=[[0, 0]],
        ...                         activations=["relu"])
        >>> place = deploy(network, Chip(name="tiny", rows=2, columns=2)).synapse_places(1, 1, 2)
        >>> [int(number) for number in place]
        [1, 0, 1]
        """
        if not 1 <= layer <= self.network.depth:
            raise InputError(f"layer: expected 1 to {self.network.depth}, got {layer}")
        n_in, n_out = self.network.widths[layer - 1 : layer + 1]
        out, in_ = np.broadcast_arrays(out, in_)
        for name, numbers, n in (("out", out, n_out), ("in", in_, n_in)):
            if numbers.size and not (numbers.min() >= 0 and numbers.max() < n):
                raise InputError(
                    f"{name}: expected 0 to {n - 1} in layer {layer}, "
                    f"got {numbers.min()} to {numbers.max()}"
                )
        core, row, column = (np.empty(in_.shape, np.int64) for _ in range(3))
        for block in self.blocks:
            here = (block.in_start <= in_) & (in_ < block.in_stop)
            here &= (block.out_start <= out) & (out < block.out_stop)
            if block.layer == layer and here.any():
                core[here] = block.core
                row[here] = self.rows_of(block)[in_[here] - block.in_start]
                column[here] = self.columns_of(block)[out[here] - block.out_start]
        return core, row, column

    def rows_of(self, block: Block) -> Array:
        """Row of the core that carries each input of a block, (in_stop - in_start,)."""
        if self.places:
            return self.places[self._block_of_core[block.core]][0]
        return np.arange(block.in_stop - block.in_start)

    def columns_of(self, block: Block) -> Array:
        """Column of the core that drives each output of a block, (out_stop - out_start,)."""
        if self.places:
            return self.places[self._block_of_core[block.core]][1]
        return np.arange(block.out_stop - block.out_start)

    @cached_property
    def _block_of_core(self) -> dict[int, int]:
        return {block.core: number for number, block in enumerate(self.blocks)}

    @cached_property
    def defective_synapses(self) -> Array:
        """Numbers of the synapses that lie on known defects, ascending."""
        found = [np.empty(0, np.int64)]
        for block in self.blocks if self.defects is not None else ():
            dead = self._dead(block)
            if dead.any():
                in_, out = np.nonzero(dead[np.ix_(self.rows_of(block), self.columns_of(block))])
                out, in_ = out + block.out_start, in_ + block.in_start
                found.append(self.sites.synapse_numbers(block.layer, out, in_))
        return np.sort(np.concatenate(found))

    def _dead(self, block: Block) -> Array:
        assert self.defects is not None
        assert self.chip.rows is not None
        assert self.chip.columns is not None
        return self.defects.dead_devices(block.core, self.chip.rows, self.chip.columns)

    @cached_property
    def defective_network(self) -> Network:
        """The network with the weights of `defective_synapses` at 0."""
        if not len(self.defective_synapses):
            return self.network
        layer, out, in_ = self.sites.synapses(self.defective_synapses)
        layers = []
        for number, one in enumerate(self.network.layers, start=1):
            weight = one.weight.copy()
            weight[out[layer == number], in_[layer == number]] = 0
            layers.append(replace(one, weight=weight))
        return replace(self.network, layers=tuple(layers))

    def core_weights(self, core: int) -> Array:
        """Weights of a core in the order of inputs and outputs: (inputs, outputs).

        `rows_of` and `columns_of` say which rows and columns of the core they lie on.

        Raises
        ------
        InputError
            If the core is not in use.
        """
        if core not in self._block_of_core:
            used = [block.core for block in self.blocks]
            if len(used) == max(used) + 1:
                raise InputError(f"core: expected 0 to {self.n_cores - 1}, got {core}")
            raise InputError(
                f"core: expected a core in use, {min(used)} to {max(used)}, got {core}"
            )
        block = self.blocks[self._block_of_core[core]]
        weight = self.network.layers[block.layer - 1].weight
        return weight[block.out_start : block.out_stop, block.in_start : block.in_stop].T

    def by_blocks(self, inputs: npt.ArrayLike) -> Array:
        """Golden outputs, (n_inputs, n_outputs), core by core: partial results are added."""
        y = self.network.flatten(inputs).astype(np.float64, copy=False)
        for number, layer in enumerate(self.network.layers, start=1):
            z = np.tile(layer.bias, (len(y), 1))
            for block in self.blocks:
                if block.layer == number:
                    part = y[:, block.in_start : block.in_stop] @ self.core_weights(block.core)
                    z[:, block.out_start : block.out_stop] += part
            y = layer.activation(z)
        return self.network.read_out(y)

    def __str__(self) -> str:
        chip, total = self.chip, self.chip.cores
        size = f"{chip.rows or 'any'} x {chip.columns or 'any'}"
        used = f"{self.n_cores} cores" if total is None else f"{self.n_cores} of {total} cores"
        lines = [f"on {chip.name}: {used} ({size}), mean utilisation {self.utilisation.mean():.1%}"]
        for number, layer in enumerate(self.network.layers, start=1):
            chosen = [at for at, block in enumerate(self.blocks) if block.layer == number]
            cores = [self.blocks[at].core for at in chosen]
            where = f"core {cores[0]}" if len(cores) == 1 else f"cores {cores[0]}-{cores[-1]}"
            lines.append(
                f"  layer {number}: {layer.n_in} -> {layer.n_out} {layer.activation}, "
                f"{layer.n_in * layer.n_out} synapses, {where}, "
                f"utilisation {self.utilisation[chosen].mean():.1%}"
            )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def deploy(
    network: Network, chip: Chip, defects: DefectMap | None = None, *, around: bool = True
) -> Deployment:
    """Place a network on a chip: matrices larger than a core are split, one block a core.

    Parameters
    ----------
    network : Network
    chip : Chip
    defects : DefectMap, optional
        Known defects of this chip. Dead cores are left out.
    around : bool
        Permute rows and columns within each core, spare ones included, such that little weight
        lies on defects. False: in order, as without a map.

    Raises
    ------
    DeploymentError
        If the chip has too few cores; the message says how many are short.
    InputError
        If the map does not fit the chip; the message names the line.

    Examples
    --------
    >>> network = Network.dense(weights=[np.ones((2, 3))], biases=[[0, 0]], activations=["relu"])
    >>> print(deploy(network, Chip(name="tiny", rows=2, columns=2, cores=4)))
    on tiny: 2 of 4 cores (2 x 2), mean utilisation 75.0%
      layer 1: 3 -> 2 relu, 6 synapses, cores 0-1, utilisation 75.0%
    """
    if not isinstance(network, Network) or not isinstance(chip, Chip):
        raise InputError(
            "deploy: expected a Network and a Chip, "
            f"got {type(network).__name__} and {type(chip).__name__}"
        )
    if defects is not None:
        defects.check(chip)
    dead = frozenset[int]() if defects is None else defects.dead_cores()
    living = (core for core in count() if core not in dead)
    needed = []
    blocks: list[Block] = []
    for number, layer in enumerate(network.layers, start=1):
        rows, columns = chip.rows or layer.n_in, chip.columns or layer.n_out
        needed.append(-(-layer.n_in // rows) * -(-layer.n_out // columns))
        for out_start in range(0, layer.n_out, columns):
            for in_start in range(0, layer.n_in, rows):
                blocks.append(
                    Block(
                        core=next(living),
                        layer=number,
                        out_start=out_start,
                        out_stop=min(out_start + columns, layer.n_out),
                        in_start=in_start,
                        in_stop=min(in_start + rows, layer.n_in),
                    )
                )
    usable = None if chip.cores is None else chip.cores - len(dead)
    if usable is not None and len(blocks) > usable:
        largest = int(np.argmax(needed))
        left_out = f" ({len(dead)} dead ones left out)" if dead else ""
        raise DeploymentError(
            f"{chip.name}: expected a network for at most {usable} cores of {chip.rows} x "
            f"{chip.columns}{left_out}, got one that needs {len(blocks)}: {len(blocks) - usable} "
            f"short; layer {largest + 1} alone takes {needed[largest]}"
        )
    plain = Deployment(network=network, chip=chip, blocks=tuple(blocks), defects=defects)
    if defects is None or not around:
        return plain
    places = [place_around(plain.core_weights(b.core).T, plain._dead(b)) for b in plain.blocks]
    return replace(plain, places=tuple(places))
