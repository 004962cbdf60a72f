"""Who sits where: a network on the cores of a chip."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neurosim.chip import Chip
from neurosim.crossbar import scale_of
from neurosim.errors import DeploymentError, InputError
from neurosim.faults import Sites
from neurosim.layers import Array
from neurosim.network import Network

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
        As the chip computes it: with the weights that its devices hold, where they are programmed.
    chip : Chip
    as_given : Network, optional
        The trained network, where `network` holds other weights than it.
    device_seed : int, optional
        Which chip of its kind: its devices have errors of their own. None: weights as they are.
    blocks : tuple of Block
        One a core, layer after layer. Partial results of blocks that share columns are added; the
        circuit of a neuron sits on the core of its block with in_start 0.
    """

    network: Network
    chip: Chip
    blocks: tuple[Block, ...]
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

    @property
    def sites(self) -> Sites:
        """The numbering of neurons and synapses."""
        return Sites(self.network.widths)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the model before trusting its numbers."""
        chip, device, found = self.chip, self.chip.device, []
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
        first = next(block.core for block in self.blocks if block.layer == layer)
        rows, columns = self.chip.rows or n_in, self.chip.columns or n_out
        down, row = np.divmod(in_, rows)
        across, column = np.divmod(out, columns)
        return first + across * -(-n_in // rows) + down, row, column

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
            cores = [block.core for block in self.blocks if block.layer == number]
            where = f"core {cores[0]}" if len(cores) == 1 else f"cores {cores[0]}-{cores[-1]}"
            lines.append(
                f"  layer {number}: {layer.n_in} -> {layer.n_out} {layer.activation}, "
                f"{layer.n_in * layer.n_out} synapses, {where}, "
                f"utilisation {self.utilisation[cores].mean():.1%}"
            )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def deploy(network: Network, chip: Chip, *, device_seed: int | None = None) -> Deployment:
    """Place a network on a chip: matrices larger than a core are split, one block a core.

    Parameters
    ----------
    network : Network
    chip : Chip
    device_seed : int, optional
        Which chip of its kind, from 0 to 2^64 - 1: its devices are programmed, with the errors of
        that chip. None: the weights as they are.

    Raises
    ------
    DeploymentError
        If the chip has too few cores; the message says how many are short.
    InputError
        If a device_seed is given for a chip without a device.

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
    needed = []
    blocks: list[Block] = []
    for number, layer in enumerate(network.layers, start=1):
        rows, columns = chip.rows or layer.n_in, chip.columns or layer.n_out
        needed.append(-(-layer.n_in // rows) * -(-layer.n_out // columns))
        for out_start in range(0, layer.n_out, columns):
            for in_start in range(0, layer.n_in, rows):
                blocks.append(
                    Block(
                        core=len(blocks),
                        layer=number,
                        out_start=out_start,
                        out_stop=min(out_start + columns, layer.n_out),
                        in_start=in_start,
                        in_stop=min(in_start + rows, layer.n_in),
                    )
                )
    if chip.cores is not None and len(blocks) > chip.cores:
        largest = int(np.argmax(needed))
        raise DeploymentError(
            f"{chip.name}: expected a network for at most {chip.cores} cores of {chip.rows} x "
            f"{chip.columns}, got one that needs {len(blocks)}: {len(blocks) - chip.cores} short; "
            f"layer {largest + 1} alone takes {needed[largest]}"
        )
    placed = Deployment(network=network, chip=chip, blocks=tuple(blocks))
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
