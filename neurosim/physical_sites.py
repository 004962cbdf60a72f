"""What physical sites of a chip take with them when they fail: their logical effect.

Rows, columns, cores and links are places of a deployment. Backends and theory know neurons and
synapses only; a physical site is lowered to those that it silences.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurosim.deployment import Block, Deployment
from neurosim.errors import InputError
from neurosim.faults import Cluster, FaultProcess, Sites, StuckAt
from neurosim.layers import Array
from neurosim.links import sending_cores
from neurosim.network import Network

__all__ = [
    "SiteGroups",
    "groups_of",
    "single_sites",
    "site_groups",
    "stuck_values",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteGroups:
    """Physical sites and the neurons and synapses that each silences.

    Site s silences neurons[neuron_offsets[s] : neuron_offsets[s + 1]], and synapses likewise; the
    numbers are those of `Sites`, ascending in a site. Synapses into a neuron that is silenced with
    them are left out: they change nothing.

    Parameters
    ----------
    neuron_offsets, synapse_offsets : ndarray of int64, (n_sites + 1,)
    neurons, synapses : ndarray of int64
    layer : ndarray of int64, (n_sites,)
        The layer whose weights the site carries.
    names : tuple of str
        Where each site is, in words.
    value : float
        What the outputs and weights are set to.
    weights : ndarray, (n_synapses,), optional
        What each synapse is set to in place of `value`.
    shares : tuple of float
        Where a site has several states that exclude each other: the probability of each where the
        site fails. Sites then stand in the arrays once a state, all of the first state first.
    """

    neuron_offsets: Array
    neurons: Array
    synapse_offsets: Array
    synapses: Array
    layer: Array
    names: tuple[str, ...]
    value: float = 0.0
    weights: Array | None = None
    shares: tuple[float, ...] = (1.0,)

    @property
    def neuron_values(self) -> Array:
        """What each of the neurons is set to."""
        return np.full(len(self.neurons), self.value)

    @property
    def synapse_weights(self) -> Array:
        """What each of the synapses is set to."""
        return np.full(len(self.synapses), self.value) if self.weights is None else self.weights

    def with_dead(self, synapses: Array) -> "SiteGroups":
        """The same where some synapses are dead for good: they stay so, whatever else is set."""
        weights = np.where(np.isin(self.synapses, synapses), 0.0, self.synapse_weights)
        return replace(self, weights=weights)

    def __len__(self) -> int:
        return len(self.layer)

    def of_layer(self, layer: int) -> "SiteGroups":
        """The sites of one layer, in their order."""
        chosen = np.flatnonzero(self.layer == layer)
        neuron_offsets, neurons = _taken(self.neuron_offsets, self.neurons, chosen)
        synapse_offsets, synapses = _taken(self.synapse_offsets, self.synapses, chosen)
        return SiteGroups(
            neuron_offsets=neuron_offsets,
            neurons=neurons,
            synapse_offsets=synapse_offsets,
            synapses=synapses,
            layer=self.layer[chosen],
            names=tuple(self.names[s] for s in chosen),
            value=self.value,
        )


def _taken(offsets: Array, members: Array, chosen: Array) -> tuple[Array, Array]:
    """Offsets and members of the chosen sites, one after the other."""
    counts = np.diff(offsets)[chosen]
    ends = np.cumsum(counts)
    index = np.repeat(offsets[chosen] - ends + counts, counts) + np.arange(counts.sum())
    return np.concatenate([[0], ends]).astype(np.int64), members[index]


def members_of(offsets: Array, members: Array, sites: Array) -> tuple[Array, Array]:
    """(which of `sites`, member) of all members of some sites, one after the other."""
    taken, found = _taken(offsets, members, sites)
    return np.repeat(np.arange(len(sites)), np.diff(taken)), found


def single_sites(sites: Sites, site: str, layer: int, value: float) -> SiteGroups:
    """Neurons or synapses of one layer as sites of their own, set to a value."""
    offsets = sites.neuron_offsets if site == "neuron" else sites.synapse_offsets
    numbers = np.arange(offsets[layer], offsets[layer + 1])
    nothing, each = np.zeros(len(numbers) + 1, np.int64), np.arange(len(numbers) + 1)
    neuron = site == "neuron"
    return SiteGroups(
        neuron_offsets=each if neuron else nothing,
        neurons=numbers if neuron else numbers[:0],
        synapse_offsets=nothing if neuron else each,
        synapses=numbers[:0] if neuron else numbers,
        layer=np.full(len(numbers), layer),
        names=tuple(f"{site} {k} of layer {layer}" for k in range(len(numbers))),
        value=value,
    )


def stuck_values(network: Network, process: FaultProcess) -> dict[int, float] | None:
    """What the sites of each layer are stuck at; None for a process that makes them dead.

    Raises
    ------
    InputError
        If "maximum" is asked of an activation that has none.
    """
    if not isinstance(process, StuckAt):
        return None
    found = {}
    for number in process.layers_in(network.widths):
        value = process.value
        if value == "maximum":
            kind = "input" if number == 0 else network.layers[number - 1].activation.kind
            if kind not in ("sigmoid", "tanh", "hard_tanh"):
                raise InputError(
                    f'value: expected a number for layer {number}, got "maximum": {kind} has none; '
                    "name the layers, or give the value at which they saturate"
                )
            value = 1.0
        found[number] = float(value)
    return found


def groups_of(deployment: Deployment, process: FaultProcess) -> SiteGroups | None:
    """The sites of a process of rows, columns, cores, links or clusters; None for all else."""
    layers = process.layers_in(deployment.network.widths)
    if isinstance(process, Cluster):
        return _clusters(deployment, process, layers)
    if process.site not in ("row", "column", "core", "link"):
        return None
    return site_groups(deployment, process.site, layers)


def site_groups(deployment: Deployment, site: str, layers: Sequence[int]) -> SiteGroups:
    """The physical sites of some layers, core after core.

    Parameters
    ----------
    deployment : Deployment
    site : "row", "column", "core" or "link"
    layers : sequence of int

    Raises
    ------
    InputError
        If there is no such kind of site.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[np.ones((2, 3))], biases=[[0, 0]],
    ...                            activations=["relu"])
    >>> deployment = ns.deploy(network, ns.Chip(name="tiny", rows=2, columns=2))
    >>> site_groups(deployment, "column", [1]).names
    ('core 0, column 0', 'core 0, column 1', 'core 1, column 0', 'core 1, column 1')
    """
    found: list[tuple[int, str, Array, Array]] = []
    senders = sending_cores(deployment, layers) if site == "link" else {}
    for block in deployment.blocks:
        if block.layer not in layers:
            continue
        channels = len(deployment.network.layers[block.layer - 1].weight)
        numbers = _numbers(deployment, block)
        pieces = deployment.pieces(block)
        nothing = np.empty(0, np.int64)
        if site == "column":
            for out, column in zip(numbers, deployment.columns_of(block), strict=True):
                found.append((block.layer, f"core {block.core}, column {column}", nothing, out))
        elif site == "row":
            inputs = (in_ for piece in pieces for in_ in numbers[piece.columns].T)
            for in_, row in zip(inputs, deployment.rows_of(block), strict=True):
                found.append((block.layer, f"core {block.core}, row {row}", nothing, in_))
        elif site == "core":
            neurons = _circuits(deployment, block)
            synapses = nothing if len(neurons) else numbers.ravel()
            found.append((block.layer, f"core {block.core}", neurons, synapses))
        elif site == "link":
            here = senders[block.layer][:, block.in_start : block.in_stop]
            each = [here[p.group, :, p.out.start // channels] for p in pieces]
            for source in np.unique(np.concatenate(each)):
                if source >= 0:
                    sent = [
                        numbers[piece.columns][:, sender == source].ravel()
                        for piece, sender in zip(pieces, each, strict=True)
                    ]
                    name = f"link from core {source} to core {block.core}"
                    found.append((block.layer, name, nothing, np.sort(np.concatenate(sent))))
        else:
            raise InputError(f"site: expected row, column, core or link, got {site!r}")
    return SiteGroups(
        neuron_offsets=np.cumsum([0, *(len(neurons) for _, _, neurons, _ in found)]),
        neurons=np.concatenate([np.empty(0, np.int64), *(n for _, _, n, _ in found)]),
        synapse_offsets=np.cumsum([0, *(len(synapses) for _, _, _, synapses in found)]),
        synapses=np.concatenate([np.empty(0, np.int64), *(s for _, _, _, s in found)]),
        layer=np.array([layer for layer, _, _, _ in found], np.int64),
        names=tuple(name for _, name, _, _ in found),
    )


def _clusters(deployment: Deployment, process: Cluster, layers: Sequence[int]) -> SiteGroups:
    """The possible clusters of some layers, each at the place where it starts."""
    offsets, synapses, numbers = [np.zeros(1, np.int64)], [np.empty(0, np.int64)], []
    names: list[str] = []
    for layer in layers:
        n_out, n_in = deployment.sites.weight_shapes[layer - 1]
        out, in_ = np.divmod(np.arange(n_out * n_in), n_in)
        core, row, column = deployment.synapse_places(layer, out, in_)
        # Clusters run over `at`, side by side on one `line` of the crossbar, or on all lines.
        rows_run = process.site == "row" or process.along == "column"
        at, line = (row, column) if rows_run else (column, row)
        line = line if process.site == "synapse" else np.zeros_like(line)
        starts = at[:, None] - np.arange(process.length)
        held = starts >= 0
        one = np.repeat(np.arange(len(at)), held.sum(axis=1))
        place = np.stack([core[one], line[one], starts[held]])
        order = np.lexsort((one, *place[::-1]))
        place, one = place[:, order], one[order]
        first = np.append(True, (place[:, 1:] != place[:, :-1]).any(axis=0)).nonzero()[0]
        offsets.append(offsets[-1][-1] + np.append(first[1:], len(one)))
        synapses.append(deployment.sites.synapse_offsets[layer] + one)
        numbers.append(np.full(len(first), layer))
        size = (deployment.chip.rows if rows_run else deployment.chip.columns) or at.max() + 1
        names += [_cluster_name(process, size, *map(int, where)) for where in place[:, first].T]
    return SiteGroups(
        neuron_offsets=np.zeros(len(names) + 1, np.int64),
        neurons=np.empty(0, np.int64),
        synapse_offsets=np.concatenate(offsets),
        synapses=np.concatenate(synapses),
        layer=np.concatenate([np.empty(0, np.int64), *numbers]),
        names=tuple(names),
    )


def _cluster_name(process: Cluster, size: int, core: int, line: int, start: int) -> str:
    runs = process.site
    where = f"core {core}"
    if process.along is not None:
        runs = "row" if process.along == "column" else "column"
        where += f", {process.along} {line}"
    last = min(start + process.length, size) - 1
    return f"{where}, {runs} {start}" if last == start else f"{where}, {runs}s {start} to {last}"


def _numbers(deployment: Deployment, block: Block) -> Array:
    """Numbers of the synapses of a block: (outputs, inputs)."""
    out = np.arange(block.out_start, block.out_stop)[:, None]
    in_ = np.arange(block.in_start, block.in_stop)
    return deployment.sites.synapse_numbers(block.layer, out, in_)


def _circuits(deployment: Deployment, block: Block) -> Array:
    """Numbers of the neurons whose circuits sit on the core of a block."""
    if block.in_start > 0:
        return np.empty(0, np.int64)
    channels = len(deployment.network.layers[block.layer - 1].weight)
    units = np.arange(deployment.network.widths[block.layer]).reshape(channels, -1)
    here = [units[piece.channels, piece.positions].ravel() for piece in deployment.pieces(block)]
    return deployment.sites.neuron_numbers(block.layer, np.sort(np.concatenate(here)))
