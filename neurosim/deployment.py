"""Who sits where: a network on the cores of a chip."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np
import numpy.typing as npt

from neurosim.blocks import Block, Layout, Piece, seen_by
from neurosim.chip import Chip, Quantity
from neurosim.crossbar import CrossbarDevice, Half, StuckState, scale_of
from neurosim.defects import DefectMap
from neurosim.errors import DeploymentError, InputError
from neurosim.faults import Sites
from neurosim.layers import Array, Conv2D, Dense
from neurosim.network import Network
from neurosim.placement import place_around

__all__ = ["Block", "Deployment", "deploy"]


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
        two ndarrays, shape (2, slices, *weight.shape)
            As `CrossbarDevice.programmed_weights` takes them; zeros where nothing is random.

        Raises
        ------
        InputError
            If the layer does not exist, or the chip has no device or no device_seed; if copies of
            a kernel would hold different weights.
        """
        device = self.chip.device
        if device is None or self.device_seed is None:
            raise InputError(
                "device_draws: expected a chip with a device and a device_seed, got "
                f"{'no device' if device is None else 'no device_seed'}"
            )
        spread = {"drift"} if device.drift_nu_sd > 0 else set()
        if max(self.copies) > 1 and {"programming", *spread} & set(device.nonidealities):
            raise InputError(
                'device_seed: expected kernels "shared_in_time" for devices with errors of their '
                f'own, got "{self.chip.kernels}" on {self.chip.name}: each copy of a kernel would '
                "hold other weights, and a network has one kernel a layer; switch programming and "
                "the spread of drift off, or share the kernels"
            )
        part = self.trained.layers[layer - 1]
        n_out, n_in = part.matrix_shape
        out, in_ = np.arange(n_out)[:, None], np.arange(n_in)[None, :]
        core, row, column = self.synapse_places(layer, out, in_)
        draws = np.zeros((2, 2, device.slices, n_out, n_in))
        random = [bool(device.programming_error), device.drift_nu_sd > 0]
        groups = part.groups if isinstance(part, Conv2D) else 1
        rows, columns = self.chip.rows or groups * n_in, self.chip.columns or n_out
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
        shape = (2, device.slices, *part.weight.shape)
        return draws[0].reshape(shape), draws[1].reshape(shape)

    def device_errors(self, layer: int, device: CrossbarDevice | None = None) -> dict[str, Array]:
        """What `CrossbarDevice.programmed_digits` takes of a layer beside its weights, by name.

        device: that of the chip, with something switched off; by default as it is. Nothing
        without a device_seed.
        """
        device = device or self.chip.device
        if device is None or self.device_seed is None:
            return {}
        programming, drift = self.device_draws(layer)
        part = self.trained.layers[layer - 1]
        n_out, n_in = part.matrix_shape
        core, _, column = self.synapse_places(
            layer, np.arange(n_out)[:, None], np.arange(n_in)[None, :]
        )
        if device.drift_compensation == "column":
            core = core * (1 + int(column.max())) + column
        draws = {"programming": programming, "drift": drift}
        where = core.reshape(part.weight.shape)
        factors = device.drift_factors(part.weight, scale_of(part.weight), where, **draws)
        return {**draws, "compensation": factors}

    def device_digits(self, layer: int) -> Array:
        """Levels that the devices of a layer hold, with the errors of this chip of its kind.

        Returns
        -------
        ndarray, shape (2, slices, *weight.shape)
            As `CrossbarDevice.programmed_digits` has them.

        Raises
        ------
        InputError
            If the chip has no device.
        """
        device = self.chip.device
        if device is None:
            raise InputError(f"device_digits: expected a chip with a device, got {self.chip.name}")
        weight = self.trained.layers[layer - 1].weight
        return device.programmed_digits(weight, scale_of(weight), **self.device_errors(layer))

    def stuck_shifts(
        self, layer: int, *, half: Half, slice_number: int, state: StuckState
    ) -> Array:
        """What each weight of a layer changes by where one of its devices is stuck.

        Parameters
        ----------
        layer : int
        half, slice_number, state
            Which of its devices, and at what: as `CrossbarDevice.stuck_weight` takes them.

        Returns
        -------
        ndarray, shape (n_out, n_in)
            Of a convolution the matrix of its kernels.

        Raises
        ------
        InputError
            If the chip has no such device.
        """
        digits, device = self.device_digits(layer), self.chip.device
        assert device is not None
        part = self.trained.layers[layer - 1]
        scale = scale_of(part.weight)
        stuck = device.stuck_weight(
            part.weight, scale, half=half, state=state, slice_number=slice_number, digits=digits,
            compensation=self.device_errors(layer).get("compensation", 1.0),
        )  # fmt: skip
        return (stuck - device.weights(digits, scale)).reshape(part.matrix_shape)

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
            layout = Layout.of(self.network.layers[layer - 1], self.copies[layer - 1], self.chip)
            core, row, column = layout.place(out, in_)
            return first + core, row, column
        core, row, column = (np.empty(in_.shape, np.int64) for _ in range(3))
        for block in self.blocks:
            here = (block.in_start <= in_) & (in_ < block.in_stop)
            here &= (block.out_start <= out) & (out < block.out_stop)
            if block.layer == layer and here.any():
                r, c = block.places(out[here], in_[here])
                core[here] = block.core
                row[here] = self.rows_of(block)[r]
                column[here] = self.columns_of(block)[c]
        return core, row, column

    def pieces(self, block: Block) -> tuple[Piece, ...]:
        """The pieces along the diagonal of a block; one of a dense layer."""
        layer = self.network.layers[block.layer - 1]
        positions = self.network.widths[block.layer] // len(layer.weight)
        return block.split(layer, self.copies[block.layer - 1], positions)

    def rows_of(self, block: Block) -> Array:
        """Row of the core that carries each input of a block, piece after piece, (rows,)."""
        if self.places:
            return self.places[self._block_of_core[block.core]][0]
        return np.arange(block.rows)

    def columns_of(self, block: Block) -> Array:
        """Column of the core that drives each output of a block, (columns,)."""
        if self.places:
            return self.places[self._block_of_core[block.core]][1]
        return np.arange(block.columns)

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
                held = dead[np.ix_(self.rows_of(block), self.columns_of(block))]
                for piece in self.pieces(block):
                    in_, out = np.nonzero(held[piece.rows, piece.columns])
                    out, in_ = out + piece.out.start, in_ + block.in_start
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
                held = at[np.ix_(self.rows_of(block), self.columns_of(block))]
                shift = self._stuck_shifts(block.layer, *key)
                for piece in self.pieces(block):
                    in_, out = np.nonzero(held[piece.rows, piece.columns])
                    out, in_ = out + piece.out.start, in_ + block.in_start
                    numbers.append(self.sites.synapse_numbers(block.layer, out, in_))
                    shifts.append(shift[out % len(shift), in_])
        # Changes of one weight by several of its devices add up.
        found, inverse = np.unique(np.concatenate(numbers), return_inverse=True)
        layer, out, in_ = self.sites.synapses(found)
        weight = np.zeros(len(found))
        for number in np.unique(layer):
            here, part = layer == number, self.network.layers[number - 1]
            matrix = part.weight.reshape(part.matrix_shape)
            weight[here] = matrix[out[here] % len(matrix), in_[here]]
        return found, weight + np.bincount(inverse, np.concatenate(shifts), len(found))

    def _stuck_at(self, block: Block) -> dict[tuple[Half, int, StuckState], Array]:
        assert self.defects is not None
        assert self.chip.rows is not None
        assert self.chip.columns is not None
        return self.defects.stuck_devices(block.core, self.chip.rows, self.chip.columns)

    def _stuck_shifts(self, layer: int, half: Half, slice_number: int, state: StuckState) -> Array:
        key = (layer, half, slice_number, state)
        if key not in self._shifts:
            self._shifts[key] = self.stuck_shifts(
                layer, half=half, slice_number=slice_number, state=state
            )
        return self._shifts[key]

    @cached_property
    def _shifts(self) -> dict[tuple[int, Half, int, StuckState], Array]:
        """Those asked for already: the blocks of a layer share them."""
        return {}

    def _defect_losses(self, block: Block) -> tuple[Array, Array]:
        """What the defects of the core of a block cost: as `place_around` takes them."""
        loss, where = [np.abs(self.core_weights(block.core)).T], [self._dead(block)]
        for key, at in self._stuck_at(block).items():
            shift = np.abs(self._stuck_shifts(block.layer, *key))
            loss.append(self._on_core(block, shift).T)
            where.append(at)
        return np.array(loss), np.array(where)

    @cached_property
    def defective_network(self) -> Network:
        """The network with the weights of `defective_synapses` at 0 and its `stuck_weights`.

        Raises
        ------
        InputError
            If a defect lies in one of several copies of a kernel, whose weight all of them share.
        """
        if not self.is_defective:
            return self.network
        numbers = np.concatenate([self.defective_synapses, self.stuck_synapses])
        values = np.concatenate([np.zeros(len(self.defective_synapses)), self.stuck_weights])
        layer, out, in_ = self.sites.synapses(numbers)
        several = [number for number in np.unique(layer) if self.copies[number - 1] > 1]
        if several:
            raise InputError(
                "defects: expected them in kernels shared in time, got some in layer "
                f"{several[0]}, whose {self.copies[several[0] - 1]} copies they make differ; "
                "a simulation knows them, a network of one kernel a layer does not"
            )
        layers = []
        for number, one in enumerate(self.network.layers, start=1):
            weight, here = one.weight.reshape(one.matrix_shape).copy(), layer == number
            weight[out[here], in_[here]] = values[here]
            layers.append(replace(one, weight=weight.reshape(one.weight.shape)))
        return self.network.with_layers(layers)

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
        return self._on_core(block, layer.weight.reshape(layer.matrix_shape))

    def _on_core(self, block: Block, matrix: Array) -> Array:
        """What a block holds of a matrix of a layer, as it lies on the core: (inputs, outputs)."""
        # Copies follow each other.
        out = np.arange(block.out_start, block.out_stop) % len(matrix)
        part = matrix[out, block.in_start : block.in_stop]
        if block.pieces == 1:
            return part.T
        result = np.zeros((block.rows, block.columns))
        for piece in self.pieces(block):
            result[piece.rows, piece.columns] = part[piece.columns].T
        return result

    def by_blocks(self, inputs: npt.ArrayLike) -> Array:
        """Golden outputs, (n_inputs, n_outputs), core by core: partial results are added."""
        graph = self.network.graph
        y = [graph.shaped(self.network.flatten(inputs).astype(np.float64, copy=False))]
        for number, node in enumerate(graph.nodes, start=1):
            sources = [y[k] for k in node.sources]
            if number not in graph.weighted:
                y.append(node.layer(*sources))
                continue
            layer = self.network.layers[graph.weighted.index(number) - 1]
            seen = seen_by(layer, sources[0])
            z = np.zeros((len(seen), len(layer.weight), seen.shape[3]))
            z += layer.bias[:, None]
            for block in self.blocks:
                if block.layer == graph.weighted.index(number):
                    weight = self.core_weights(block.core)
                    for piece in self.pieces(block):
                        here = seen[:, piece.group, block.in_start : block.in_stop, piece.positions]
                        part = weight[piece.rows, piece.columns].T @ here
                        z[:, piece.channels, piece.positions] += part
            y.append(layer.activation(z.reshape(len(z), *graph.shapes[number])))
        return self.network.read_out(y[-1].reshape(len(y[-1]), -1))

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
        Known defects of this chip. Dead cores are left out.
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
        for a chip without a device, or for one whose devices have errors of their own and whose
        kernels are replicated in space.

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
    if defects is not None:
        defects.check(chip)
    dead = frozenset[int]() if defects is None else defects.dead_cores()
    living = (core for core in count() if core not in dead)
    layouts = [
        Layout.of(layer, copies, chip)
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
        weight = device.programmed_weights(
            layer.weight, scale_of(layer.weight), **seeded.device_errors(number)
        )
        layers.append(replace(layer, weight=weight))
    trained = placed.trained
    return replace(seeded, network=trained.with_layers(layers), as_given=trained)
