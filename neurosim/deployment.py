"""Who sits where: a network on the cores of a chip."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np
import numpy.typing as npt

from neurosim.chip import Chip, Quantity
from neurosim.crossbar import scale_of
from neurosim.defects import DefectMap
from neurosim.errors import DeploymentError, InputError
from neurosim.faults import Sites
from neurosim.layers import Array, Conv2D, Dense, Weighted
from neurosim.network import Network
from neurosim.placement import place_around

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
        As the chip computes it: with the weights that its devices hold, where they are programmed.
    chip : Chip
    as_given : Network, optional
        The trained network, where `network` holds other weights than it.
    device_seed : int, optional
        Which chip of its kind: its devices have errors of their own. None: weights as they are.
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
    as_given: Network | None = None
    device_seed: int | None = None

    @property
    def trained(self) -> Network:
        """The network as it was given."""
        return self.network if self.as_given is None else self.as_given

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

    @property
    def products(self) -> int:
        """Matrix-vector products of one inference, one after the other.

        One a layer; a kernel without copies is used at one position after the other.
        """
        layers = zip(self.network.layers, self.network.widths[1:], self.copies, strict=True)
        return sum(width // (len(layer.weight) * copies) for layer, width, copies in layers)

    @property
    def presentation_s(self) -> float | None:
        """Seconds that one presentation takes, by the chip's profile; None where it has no time.

        Its time of a matrix-vector product, for each of the `products`, or the `duration_s` of its
        neurons.
        """
        chip = self.chip
        product = chip.quantities.get("timing.time_per_matrix_vector_product_s")
        if isinstance(product, Quantity):
            return float(product.value) * self.products
        # A profile of neurons without a duration leaves it to campaigns.
        given = "neurons.duration_s" in chip.quantities or not any(
            key.startswith("neurons.") for key in chip.quantities
        )
        return chip.spiking.duration_s if chip.spiking is not None and given else None

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
        chip, device, found = self.chip, self.chip.device, []
        if len(self.defective_synapses):
            found.append(f"{len(self.defective_synapses)} synapses lie on known defects")
        if len(self.stuck_synapses):
            found.append(f"{len(self.stuck_synapses)} synapses have devices known to be stuck")
        if chip.weight_levels is not None:
            found.append(
                f"weight precision is not modelled: {chip.name} has {chip.weight_levels} weight "
                "levels, the simulation uses the weights as they are"
            )
        if device is not None and self.device_seed is None:
            found.append(
                f"devices are not modelled: {chip.name} holds weights in devices ({device}), the "
                "simulation uses the weights as they are; a device_seed programs them"
            )
        beside = [n for n in ("read_noise", "dac", "adc") if device and n in device.nonidealities]
        if beside:
            found.append(
                f"not in campaigns: {', '.join(beside).replace('_', ' ')}; nonidealities() shows "
                "what they do before any fault"
            )
        return tuple(found)

    def device_draws(self, layer: int) -> tuple[Array, Array]:
        """Standard normal numbers of the devices of a layer: programming error, drift exponent.

        A pure function of the device_seed and the place of a device on the chip.

        Returns
        -------
        two ndarrays, shape (2, slices, n_out, n_in)
            As `CrossbarDevice.programmed_weights` takes them; zeros where nothing is random.

        Raises
        ------
        InputError
            If the layer does not exist, or the chip has no device or no device_seed.
        """
        device = self.chip.device
        if device is None or self.device_seed is None:
            raise InputError(
                "device_draws: expected a chip with a device and a device_seed, got "
                f"{'no device' if device is None else 'no device_seed'}"
            )
        n_out, n_in = self.trained.layers[layer - 1].weight.shape
        out, in_ = np.arange(n_out)[:, None], np.arange(n_in)[None, :]
        core, row, column = self.synapse_places(layer, out, in_)
        draws = np.zeros((2, 2, device.slices, n_out, n_in))
        random = [bool(device.programming_error), device.drift_nu_sd > 0]
        rows, columns = self.chip.rows or n_in, self.chip.columns or n_out
        for number in np.unique(core) if any(random) else ():
            here = core == number
            for kind in np.flatnonzero(random):
                key = np.array([self.device_seed, 2 * int(number) + int(kind)], np.uint64)
                generator = np.random.Generator(np.random.Philox(key=key))
                normal = generator.standard_normal((rows, columns, 2, device.slices))
                at = normal[row[here], column[here]]
                if device.mapping == "offset":  # one offset column for all columns of the core
                    at[:, 1] = normal[row[here], 0, 1]
                draws[kind][:, :, here] = np.moveaxis(at, 0, -1)
        return draws[0], draws[1]

    def device_digits(self, layer: int) -> Array:
        """Levels that the devices of a layer hold, with the errors of this chip of its kind.

        Returns
        -------
        ndarray, shape (2, slices, n_out, n_in)
            As `CrossbarDevice.programmed_digits` has them.

        Raises
        ------
        InputError
            If the chip has no device.
        """
        device = self.chip.device
        if device is None:
            raise InputError(f"device_digits: expected a chip with a device, got {self.chip.name}")
        weight, draws = self.trained.layers[layer - 1].weight, {}
        if self.device_seed is not None:
            names = ("programming", "drift")
            draws = dict(zip(names, self.device_draws(layer), strict=True))
        return device.programmed_digits(weight, scale_of(weight), **draws)

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
        if self.defects is None:
            first = next(block.core for block in self.blocks if block.layer == layer)
            layout = _Layout.of(self.network.layers[layer - 1], self.copies[layer - 1], self.chip)
            core, row, column = layout.place(out, in_)
            return first + core, row, column
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
        """Numbers of the synapses that known defects make dead, ascending."""
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

    @property
    def is_defective(self) -> bool:
        """Whether known defects change a weight."""
        return len(self.defective_synapses) + len(self.stuck_synapses) > 0

    @property
    def stuck_synapses(self) -> Array:
        """Numbers of the synapses with devices that are known to be stuck, ascending.

        Those that are dead are left out.
        """
        return self._stuck[0]

    @property
    def stuck_weights(self) -> Array:
        """What the weights of `stuck_synapses` are."""
        return self._stuck[1]

    @cached_property
    def _stuck(self) -> tuple[Array, Array]:
        numbers, shifts = [np.empty(0, np.int64)], [np.empty(0)]
        for block in self.blocks if self.defects is not None else ():
            for key, at in self._stuck_at(block).items():
                in_, out = np.nonzero(at[np.ix_(self.rows_of(block), self.columns_of(block))])
                out, in_ = out + block.out_start, in_ + block.in_start
                numbers.append(self.sites.synapse_numbers(block.layer, out, in_))
                shifts.append(self._stuck_shifts(block.layer, *key)[out, in_])
        # Changes of one weight by several of its devices add up.
        found, inverse = np.unique(np.concatenate(numbers), return_inverse=True)
        layer, out, in_ = self.sites.synapses(found)
        weight = np.zeros(len(found))
        for number in np.unique(layer):
            here = layer == number
            weight[here] = self.network.layers[number - 1].weight[out[here], in_[here]]
        return found, weight + np.bincount(inverse, np.concatenate(shifts), len(found))

    def _stuck_at(self, block: Block) -> dict[tuple[str, int, str], Array]:
        assert self.defects is not None
        assert self.chip.rows is not None
        assert self.chip.columns is not None
        return self.defects.stuck_devices(block.core, self.chip.rows, self.chip.columns)

    def _stuck_shifts(self, layer: int, half: str, slice_number: int, state: str) -> Array:
        """What the weights of a layer change by where one of their devices is stuck."""
        device = self.chip.device
        assert device is not None
        weight, digits = self.trained.layers[layer - 1].weight, self.device_digits(layer)
        scale = scale_of(weight)
        stuck = device.stuck_weight(
            weight, scale, half=half, state=state, slice_number=slice_number, digits=digits  # type: ignore[arg-type]
        )  # fmt: skip
        return stuck - device.weights(digits, scale)

    def _defect_losses(self, block: Block) -> tuple[Array, Array]:
        """What the defects of the core of a block cost: as `place_around` takes them."""
        out, in_ = slice(block.out_start, block.out_stop), slice(block.in_start, block.in_stop)
        loss, where = [np.abs(self.core_weights(block.core).T)], [self._dead(block)]
        for key, at in self._stuck_at(block).items():
            loss.append(np.abs(self._stuck_shifts(block.layer, *key)[out, in_]))
            where.append(at)
        return np.array(loss), np.array(where)

    @cached_property
    def defective_network(self) -> Network:
        """The network with the weights of `defective_synapses` at 0 and its `stuck_weights`."""
        if not self.is_defective:
            return self.network
        numbers = np.concatenate([self.defective_synapses, self.stuck_synapses])
        values = np.concatenate([np.zeros(len(self.defective_synapses)), self.stuck_weights])
        layer, out, in_ = self.sites.synapses(numbers)
        layers = []
        for number, one in enumerate(self.network.layers, start=1):
            weight, here = one.weight.copy(), layer == number
            weight[out[here], in_[here]] = values[here]
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
        for at, block in enumerate(self.blocks):
            by_layer.setdefault(block.layer, []).append(at)
        for number, chosen in by_layer.items():
            layer = self.network.layers[number - 1]
            cores = [self.blocks[at].core for at in chosen]
            where = f"core {cores[0]}" if len(cores) == 1 else f"cores {cores[0]}-{cores[-1]}"
            copies = self.copies[number - 1]
            duplication = f" in {copies} copies" if copies > 1 else ""
            lines.append(
                f"  layer {number}: {self._layer_text(number)} {layer.activation}, "
                f"{copies * layer.weight.size} synapses{duplication}, {where}, "
                f"utilisation {self.utilisation[chosen].mean():.1%}"
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

    def blocks(self, layer: int, cores: Iterator[int]) -> Iterator[Block]:
        """Blocks of the layer, one a core."""
        if self.per_core:
            for piece in range(0, self.n_pieces, self.per_core):
                stop = min(piece + self.per_core, self.n_pieces)
                yield Block(
                    core=next(cores), layer=layer, out_start=piece * self.n_out,
                    out_stop=stop * self.n_out, in_start=0, in_stop=self.n_in,
                    pieces=stop - piece,
                )  # fmt: skip
            return
        for piece in range(self.n_pieces):
            start, stop = piece * self.n_out, (piece + 1) * self.n_out
            for out_start in range(start, stop, self.columns):
                for in_start in range(0, self.n_in, self.rows):
                    yield Block(
                        core=next(cores), layer=layer, out_start=out_start,
                        out_stop=min(out_start + self.columns, stop), in_start=in_start,
                        in_stop=min(in_start + self.rows, self.n_in),
                    )  # fmt: skip


def deploy(
    network: Network,
    chip: Chip,
    defects: DefectMap | None = None,
    *,
    around: bool = True,
    device_seed: int | None = None,
) -> Deployment:
    """Place a network on a chip: matrices larger than a core are split, one block a core.

    A convolution lies on crossbars as the matrix of its kernels: a row carries an element of a
    patch of the input, a column drives a channel. With `chip.kernels` "shared_in_time" there is
    one copy, which all positions of the map use one after the other, so that a dead synapse is
    dead at each of them; "replicated_in_space" each position has a copy of its own.

    Parameters
    ----------
    network : Network
    chip : Chip
    defects : DefectMap, optional
        Known defects of this chip. Dead cores are left out. For chains of dense layers.
    around : bool
        Permute rows and columns within each core, spare ones included, such that defects change
        little weight. False: in order, as without a map.
    device_seed : int, optional
        Which chip of its kind, from 0 to 2^64 - 1: its devices are programmed, with the errors of
        that chip. None: the weights as they are.

    Raises
    ------
    DeploymentError
        If the chip has too few cores; the message says how many are short.
    InputError
        If the map does not fit the chip (the message names the line), or a device_seed is given
        for a chip without a device.

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
    if device_seed is not None:
        if isinstance(device_seed, bool) or not isinstance(device_seed, int | np.integer):
            raise InputError(f"device_seed: expected a whole number, got {device_seed!r}")
        if not 0 <= device_seed < 2**64:
            raise InputError(f"device_seed: expected 0 to 2^64 - 1, got {device_seed}")
        if chip.device is None:
            raise InputError(
                f"device_seed: expected none for chip {chip.name}, which has no device to program; "
                "give its profile a [device] table"
            )
        network.require_chain("a device_seed")
    if defects is not None:
        network.require_chain("a map of defects")
        defects.check(chip)
    dead = frozenset[int]() if defects is None else defects.dead_cores()
    living = (core for core in count() if core not in dead)
    layouts = [
        _Layout.of(layer, copies, chip)
        for layer, copies in zip(network.layers, _copies(network, chip), strict=True)
    ]
    needed = [layout.n_cores for layout in layouts]
    usable = None if chip.cores is None else chip.cores - len(dead)
    if usable is not None and sum(needed) > usable:
        largest = int(np.argmax(needed))
        left_out = f" ({len(dead)} dead ones left out)" if dead else ""
        raise DeploymentError(
            f"{chip.name}: expected a network for at most {usable} cores of {chip.rows} x "
            f"{chip.columns}{left_out}, got one that needs {sum(needed)}: {sum(needed) - usable} "
            f"short; layer {largest + 1} alone takes {needed[largest]}"
        )
    blocks: list[Block] = []
    for number, layout in enumerate(layouts, start=1):
        blocks += layout.blocks(number, living)
    placed = Deployment(network=network, chip=chip, blocks=tuple(blocks), defects=defects)
    if defects is not None and around:
        places = [place_around(*placed._defect_losses(b)) for b in placed.blocks]
        placed = replace(placed, places=tuple(places))
    return placed if device_seed is None else _programmed(placed, int(device_seed))


def _programmed(placed: Deployment, device_seed: int) -> Deployment:
    """The same deployment with the weights that the devices of one chip hold."""
    seeded, device = replace(placed, device_seed=device_seed), placed.chip.device
    if device is None:
        return seeded
    layers = []
    for number, layer in enumerate(placed.trained.layers, start=1):
        programming, drift = seeded.device_draws(number)
        weight = device.programmed_weights(
            layer.weight, scale_of(layer.weight), programming=programming, drift=drift
        )
        layers.append(replace(layer, weight=weight))
    trained = placed.trained
    return replace(seeded, network=replace(trained, layers=tuple(layers)), as_given=trained)
