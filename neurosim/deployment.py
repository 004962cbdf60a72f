"""Who sits where: a network on the cores of a chip."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neurosim.chip import Chip
from neurosim.errors import DeploymentError, InputError
from neurosim.faults import Sites
from neurosim.layers import Array, Conv2D, Dense, Weighted
from neurosim.network import Network

__all__ = ["Block", "Deployment", "deploy"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Part of a weight matrix on one core.

    Row r of the core carries input in_start + r of the layer, column c drives its neuron
    out_start + c. Groups of a convolution, and copies of its kernel, see different inputs: several
    of them share a core along its diagonal, each with rows and columns of its own.

    Parameters
    ----------
    core : int
    layer : int
        1..L.
    out_start, out_stop, in_start, in_stop : int
        Half-open ranges of W_layer[out, in]; of a convolution of the kernels as a matrix
        (copies x channels_out, channels_in / groups x height x width).
    pieces : int
        Parts along the diagonal: the outs are shared among them, each has all the ins.
    """

    core: int
    layer: int
    out_start: int
    out_stop: int
    in_start: int
    in_stop: int
    pieces: int = 1

    @property
    def rows(self) -> int:
        """Rows in use."""
        return self.pieces * (self.in_stop - self.in_start)

    @property
    def columns(self) -> int:
        """Columns in use."""
        return self.out_stop - self.out_start

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
    """

    network: Network
    chip: Chip
    blocks: tuple[Block, ...]

    @property
    def n_cores(self) -> int:
        """Cores in use."""
        return len(self.blocks)

    @cached_property
    def copies(self) -> tuple[int, ...]:
        """Physical copies of the weights of layers 1..L.

        1, but for convolutions on a chip that replicates kernels in space: there one a position.
        """
        return _copies(self.network, self.chip)

    @cached_property
    def sites(self) -> Sites:
        """The numbering of neurons and synapses."""
        network = self.network
        if not network.nodes:
            return Sites(network.widths)
        shapes = (layer.matrix_shape for layer in network.layers)
        pairs = zip(self.copies, shapes, strict=True)
        return Sites(network.widths, tuple((n * out, in_) for n, (out, in_) in pairs))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the model before trusting its numbers."""
        if self.chip.weight_levels is None:
            return ()
        return (
            f"weight precision is not modelled: {self.chip.name} has "
            f"{self.chip.weight_levels} weight levels, the simulation uses the weights as they are",
        )

    @cached_property
    def utilisation(self) -> Array:
        """Share of the crossbar of each core in use, (n_cores,); 1 where it is unlimited."""
        sizes = np.array([block.size for block in self.blocks], np.float64)
        rows = [self.chip.rows or block.rows for block in self.blocks]
        columns = [self.chip.columns or block.columns for block in self.blocks]
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
        n_out, n_in = self.sites.weight_shapes[layer - 1]
        out, in_ = np.broadcast_arrays(out, in_)
        for name, numbers, n in (("out", out, n_out), ("in", in_, n_in)):
            if numbers.size and not (numbers.min() >= 0 and numbers.max() < n):
                raise InputError(
                    f"{name}: expected 0 to {n - 1} in layer {layer}, "
                    f"got {numbers.min()} to {numbers.max()}"
                )
        first = next(block.core for block in self.blocks if block.layer == layer)
        layout = _Layout.of(self.network.layers[layer - 1], self.copies[layer - 1], self.chip)
        core, row, column = layout.place(out, in_)
        return first + core, row, column

    def core_weights(self, core: int) -> Array:
        """Weights as they lie on a core: (rows in use, columns in use).

        Raises
        ------
        InputError
            If the core is not in use.
        """
        if not 0 <= core < self.n_cores:
            raise InputError(f"core: expected 0 to {self.n_cores - 1}, got {core}")
        block = self.blocks[core]
        layer = self.network.layers[block.layer - 1]
        matrix = layer.weight.reshape(layer.matrix_shape)
        # Copies follow each other.
        out = np.arange(block.out_start, block.out_stop) % len(matrix)
        part = matrix[out, block.in_start : block.in_stop]
        if block.pieces == 1:
            return part.T
        result = np.zeros((block.rows, block.columns))
        n, n_in = block.columns // block.pieces, block.in_stop - block.in_start
        for piece in range(block.pieces):
            columns = slice(piece * n, (piece + 1) * n)
            result[piece * n_in : (piece + 1) * n_in, columns] = part[columns].T
        return result

    def by_blocks(self, inputs: npt.ArrayLike) -> Array:
        """Golden outputs, (n_inputs, n_outputs), core by core: partial results are added."""
        self.network.require_chain("the sum over blocks")
        y = self.network.flatten(inputs).astype(np.float64, copy=False)
        for number, layer in enumerate(self.network.layers, start=1):
            z = np.tile(layer.bias, (len(y), 1))
            for block in self.blocks:
                if block.layer == number:
                    part = y[:, block.in_start : block.in_stop] @ self.core_weights(block.core)
                    z[:, block.out_start : block.out_stop] += part
            y = layer.activation(z)
        return self.network.read_out(y)

    def _layer_text(self, number: int) -> str:
        layer, graph = self.network.layers[number - 1], self.network.graph
        if isinstance(layer, Dense):
            return f"{layer.n_in} -> {layer.n_out}"
        node = graph.weighted[number]
        shapes = (graph.shapes[graph.nodes[node - 1].sources[0]], graph.shapes[node])
        return " -> ".join(" x ".join(map(str, shape)) for shape in shapes)

    def __str__(self) -> str:
        chip, total = self.chip, self.chip.cores
        size = f"{chip.rows or 'any'} x {chip.columns or 'any'}"
        used = f"{self.n_cores} cores" if total is None else f"{self.n_cores} of {total} cores"
        lines = [f"on {chip.name}: {used} ({size}), mean utilisation {self.utilisation.mean():.1%}"]
        by_layer: dict[int, list[int]] = {}
        for block in self.blocks:
            by_layer.setdefault(block.layer, []).append(block.core)
        for number, cores in by_layer.items():
            layer = self.network.layers[number - 1]
            where = f"core {cores[0]}" if len(cores) == 1 else f"cores {cores[0]}-{cores[-1]}"
            copies = self.copies[number - 1]
            duplication = f" in {copies} copies" if copies > 1 else ""
            lines.append(
                f"  layer {number}: {self._layer_text(number)} {layer.activation}, "
                f"{copies * layer.weight.size} synapses{duplication}, {where}, "
                f"utilisation {self.utilisation[cores].mean():.1%}"
            )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _copies(network: Network, chip: Chip) -> tuple[int, ...]:
    if chip.kernels == "shared_in_time":
        return (1,) * network.depth
    widths = zip(network.layers, network.widths[1:], strict=True)
    return tuple(width // len(layer.weight) for layer, width in widths)


@dataclass(frozen=True)
class _Layout:
    """How the pieces of a layer lie on cores of rows x columns.

    A piece is a matrix (n_out, n_in) that sees inputs of its own: a group, or a copy, of a
    convolution. Pieces that fit share a core, per_core of them; larger ones (per_core 0) are
    split.
    """

    n_pieces: int
    n_out: int
    n_in: int
    rows: int
    columns: int
    per_core: int

    @staticmethod
    def of(layer: Weighted, copies: int, chip: Chip) -> "_Layout":
        groups = layer.groups if isinstance(layer, Conv2D) else 1
        out, n_in = layer.matrix_shape
        n_out, n_pieces = out // groups, copies * groups
        rows, columns = chip.rows or n_pieces * n_in, chip.columns or n_pieces * n_out
        return _Layout(n_pieces, n_out, n_in, rows, columns, min(rows // n_in, columns // n_out))

    @property
    def _down(self) -> int:
        return -(-self.n_in // self.rows)

    @property
    def _cores_a_piece(self) -> int:
        return self._down * -(-self.n_out // self.columns)

    @property
    def n_cores(self) -> int:
        if self.per_core:
            return -(-self.n_pieces // self.per_core)
        return self.n_pieces * self._cores_a_piece

    def place(self, out: Array, in_: Array) -> tuple[Array, Array, Array]:
        """(core, row, column) of synapses, cores counted from the first of the layer."""
        piece, local = np.divmod(out, self.n_out)
        if self.per_core:
            core, at = np.divmod(piece, self.per_core)
            return core, at * self.n_in + in_, at * self.n_out + local
        across, column = np.divmod(local, self.columns)
        down, row = np.divmod(in_, self.rows)
        return piece * self._cores_a_piece + across * self._down + down, row, column

    def blocks(self, layer: int, first_core: int) -> Iterator[Block]:
        """Blocks of the layer, one a core."""
        core = first_core
        if self.per_core:
            for piece in range(0, self.n_pieces, self.per_core):
                stop = min(piece + self.per_core, self.n_pieces)
                yield Block(
                    core=core, layer=layer, out_start=piece * self.n_out,
                    out_stop=stop * self.n_out, in_start=0, in_stop=self.n_in,
                    pieces=stop - piece,
                )  # fmt: skip
                core += 1
            return
        for piece in range(self.n_pieces):
            start, stop = piece * self.n_out, (piece + 1) * self.n_out
            for out_start in range(start, stop, self.columns):
                for in_start in range(0, self.n_in, self.rows):
                    yield Block(
                        core=core, layer=layer, out_start=out_start,
                        out_stop=min(out_start + self.columns, stop), in_start=in_start,
                        in_stop=min(in_start + self.rows, self.n_in),
                    )  # fmt: skip
                    core += 1


def deploy(network: Network, chip: Chip) -> Deployment:
    """Place a network on a chip: matrices larger than a core are split, one block a core.

    A convolution lies on crossbars as the matrix of its kernels: a row carries an element of a
    patch of the input, a column drives a channel. With `chip.kernels` "shared_in_time" there is
    one copy, which all positions of the map use one after the other, so that a dead synapse is
    dead at each of them; "replicated_in_space" each position has a copy of its own.

    Raises
    ------
    DeploymentError
        If the chip has too few cores; the message says how many are short.

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
    layouts = [
        _Layout.of(layer, copies, chip)
        for layer, copies in zip(network.layers, _copies(network, chip), strict=True)
    ]
    needed = [layout.n_cores for layout in layouts]
    if chip.cores is not None and sum(needed) > chip.cores:
        largest = int(np.argmax(needed))
        raise DeploymentError(
            f"{chip.name}: expected a network for at most {chip.cores} cores of {chip.rows} x "
            f"{chip.columns}, got one that needs {sum(needed)}: {sum(needed) - chip.cores} short; "
            f"layer {largest + 1} alone takes {needed[largest]}"
        )
    blocks: list[Block] = []
    for number, layout in enumerate(layouts, start=1):
        blocks += layout.blocks(number, len(blocks))
    return Deployment(network=network, chip=chip, blocks=tuple(blocks))
