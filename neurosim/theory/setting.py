"""What a prediction needs of a campaign: layers, inputs, read-out, and one probability a layer.

Section "Setting" of the theory: several fault processes on one site merge into one, and what their
persistences mean between two presentations is one function of the lag.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import FaultProcess, Permanent, Transient, onset_window
from neurosim.graph import Graph
from neurosim.layers import Activation, Array, Dense, MaxPool2D
from neurosim.physical_sites import SiteGroups, groups_of, single_sites, stuck_values
from neurosim.theory.losses import Head
from neurosim.weight_faults import weight_sites

if TYPE_CHECKING:
    from neurosim.campaign import Campaign, Loss
    from neurosim.network import Network

__all__ = ["KNOWN", "Block", "Setting", "lag_terms", "merged_probability"]

# All sites of one kind and layer: they share one probability. The kind is that of their process, or
# "stuck neuron" and "stuck synapse".
Block: TypeAlias = tuple[str, int]

# Activations whose changes and second derivatives the formulas for chains of dense layers have.
KNOWN = ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "softplus")

# Values an array over (outputs, inputs, units) may hold at once: 32 MB of float64.
_VALUES = 2**22


def merged_probability(probabilities: Sequence[float]) -> float:
    """Probability that at least one of several independent processes hits a site.

    Examples
    --------
    >>> merged_probability([0.5, 0.5])
    0.75
    """
    return -math.expm1(sum(math.log1p(-p) if p < 1 else -math.inf for p in probabilities))


def lag_terms(processes: Sequence[FaultProcess]) -> tuple[tuple[float, float], ...]:
    """Covariance of a site's fault between presentations t and t + h: sum of c b^|h|.

    With q = 1 - p, Cov = prod_k (q_k^2 + p_k q_k r_k^|h|) - prod_k q_k^2, where r = 1 for a
    permanent process, 0 for a transient one, 1 - 1/(m q) for an intermittent one (0^0 = 1).

    Returns
    -------
    tuple of (coefficient c, base b)
        The term of base 1 is the part due to what stays fixed: between chips.

    Examples
    --------
    >>> from neurosim.faults import StuckAtZero
    >>> lag_terms([StuckAtZero("neuron", probability=0.5)])
    ((0.25, 1.0),)
    """
    terms: dict[float, float] = {1.0: 1.0}
    for process in processes:
        p, q = process.probability, 1 - process.probability
        if isinstance(process.persistence, Permanent) or q == 0:
            base = 1.0
        elif isinstance(process.persistence, Transient):
            base = 0.0
        else:
            base = 1 - 1 / (process.persistence.presentations * q)
        grown: dict[float, float] = {}
        for b, c in terms.items():
            grown[b] = grown.get(b, 0.0) + c * q * q
            grown[b * base] = grown.get(b * base, 0.0) + c * p * q
        terms = grown
    terms[1.0] -= math.prod((1 - process.probability) ** 2 for process in processes)
    return tuple((c, b) for b, c in sorted(terms.items(), reverse=True) if c != 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """The part of a campaign that bears on one prediction.

    Parameters
    ----------
    layers : tuple of Dense
        Weighted layers 1..L, or those up to the hidden layer predicted.
    inputs : ndarray, shape (n_inputs, n_0)
    targets : ndarray, shape (n_inputs, n_L), or None
    head : Head
    processes : mapping of Block to tuple of FaultProcess
        With probabilities above 0, of the sites that can reach what is predicted.
    groups : mapping of Block to SiteGroups
        What the sites of a block set, for all but dead neurons and synapses.
    graph : Graph, optional
        All layers, where they are no chain of dense layers with the activations that the formulas
        for such chains know.
    matrices : tuple of (n_out, n_in), optional
        Shapes of the weights of layers 1..L as they are deployed, of a graph.
    """

    layers: tuple[Dense, ...]
    inputs: Array
    targets: Array | None
    head: Head
    processes: Mapping[Block, tuple[FaultProcess, ...]]
    groups: Mapping[Block, SiteGroups] = field(default_factory=dict)
    graph: Graph | None = None
    matrices: tuple[tuple[int, int], ...] = ()

    @cached_property
    def probabilities(self) -> dict[Block, float]:
        """Probability of a site of each block, its processes merged."""
        return {
            block: merged_probability([p.probability for p in processes])
            for block, processes in self.processes.items()
        }

    @cached_property
    def lags(self) -> dict[Block, tuple[tuple[float, float], ...]]:
        """Terms of `lag_terms` of each block."""
        return {block: lag_terms(processes) for block, processes in self.processes.items()}

    @cached_property
    def members(self) -> tuple[tuple[Array, Array], ...]:
        """Offsets and numbers of the neurons, then of the synapses, of all groups in order.

        Empty without groups.
        """
        several, found = list(self.groups.values()), []
        for kind in ("neuron", "synapse") if several else ():
            counts = np.concatenate([np.diff(getattr(g, f"{kind}_offsets")) for g in several])
            numbers = np.concatenate([getattr(g, f"{kind}s") for g in several])
            found.append((np.concatenate([[0], np.cumsum(counts)]), numbers))
        return tuple(found)

    def only(self, block: Block) -> Setting:
        """The same with one block failing alone."""
        groups = {key: value for key, value in self.groups.items() if key == block}
        return replace(self, processes={block: self.processes[block]}, groups=groups)

    @staticmethod
    def of(
        campaign: Campaign,
        layer: int | None = None,
        loss: Loss | None = None,
        *,
        onsets: bool = False,
    ) -> Setting:
        """Read a campaign; for the outputs, the output of one layer (D4), or a loss.

        onsets: whether faults may have onset windows, so that `probabilities` are not those of
        every presentation.

        Raises
        ------
        InputError
            If the network has no such layer, or the campaign not what the loss needs, or faults
            have onset windows that are not asked for.
        """
        network = campaign.network
        if loss is not None:
            campaign.check_loss(loss)
            if layer is not None:
                raise InputError(
                    f"loss: expected none beside a layer, for a loss is one of the outputs, got "
                    f"{loss!r} and layer {layer}"
                )
        if layer is not None and not (
            isinstance(layer, int) and not isinstance(layer, bool) and 0 <= layer <= network.depth
        ):
            raise InputError(
                f"layer: expected a layer from 0, the input, to {network.depth}, the last of this "
                f"network, got {layer!r}"
            )
        for process in campaign.faults:
            if onset_window(process.persistence) is not None and not onsets:
                raise InputError(
                    "faults: expected faults that may begin at any time for what was asked, got "
                    f"{process}; predict and certify know onset windows"
                )
        processes: dict[Block, list[FaultProcess]] = {}
        groups: dict[Block, SiteGroups] = {}
        defective = campaign.deployment.defective_synapses
        for process in campaign.faults:
            physical = groups_of(campaign.deployment, process)
            values = stuck_values(network, process)
            parts = weight_sites(campaign.deployment, process)
            for number in process.layers_in(network.widths):
                reaches = layer is None or number <= layer
                if not reaches or process.probability == 0:
                    continue
                block: Block = (process.kind, number)
                if values is not None:
                    neuron = process.site == "neuron"
                    block = ("stuck neuron" if neuron else "stuck synapse", number)
                    sites = campaign.deployment.sites
                    groups[block] = single_sites(sites, process.site, number, values[number])
                if parts is not None:
                    groups[block] = parts.of_layer(number).groups
                if physical is not None:
                    groups[block] = physical.of_layer(number)
                if block in groups and len(defective):
                    groups[block] = groups[block].with_dead(defective)
                if block not in groups or len(groups[block]):
                    processes.setdefault(block, []).append(process)
        # By kind, layer after layer: the order of what users see.
        blocks = {block: processes[block] for block in sorted(processes)}
        # What a known defect does is no matter of chance: faults come on top of it.
        network = campaign.deployment.defective_network
        return Setting(
            layers=network.layers[:layer],
            inputs=campaign.inputs,
            targets=campaign.target_outputs if loss else None,
            head=Head(readout=network.readout if layer is None else None, loss=loss),
            processes={block: tuple(several) for block, several in blocks.items()},
            groups={block: groups[block] for block in blocks if block in groups},
            graph=_graph_of(network, layer),
            matrices=campaign.deployment.sites.weight_shapes[:layer],
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0, ..., n_L."""
        if self.graph is not None:
            return self.graph.widths
        return (self.inputs.shape[1], *(layer.n_out for layer in self.layers))

    @property
    def weight_shapes(self) -> tuple[tuple[int, int], ...]:
        """(n_out, n_in) of the synapses of layers 1..L."""
        return self.matrices or tuple((b, a) for a, b in pairwise(self.widths))

    @property
    def depth(self) -> int:
        """L."""
        return len(self.layers)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return len(self.inputs)

    @property
    def n_sent(self) -> int:
        """Number of values that the last node sends an input, those that the head reads."""
        return self.widths[-1] if self.graph is None else prod(self.graph.shapes[-1])

    @property
    def n_outputs(self) -> int:
        """Number of values predicted an input."""
        return self.head.size(self.n_sent)

    def n_sites(self, block: Block) -> int:
        """Sites of a block."""
        if block in self.groups:
            return len(self.groups[block])
        kind, number = block
        return self.widths[number] if kind == "neuron" else prod(self.weight_shapes[number - 1])

    def chunks(self, values_an_input: int) -> Iterator[slice]:
        """Slices of the inputs such that arrays stay within memory."""
        size = max(1, _VALUES // max(1, values_an_input))
        for start in range(0, self.n_inputs, size):
            yield slice(start, min(start + size, self.n_inputs))

    def targets_of(self, rows: slice) -> Array | None:
        """Targets of some inputs."""
        return None if self.targets is None else self.targets[rows]

    def linear_from(self, number: int) -> bool:
        """Whether layers number..L have no activation."""
        if self.graph is not None:
            rest = self.graph.nodes[self.graph.weighted[number - 1] :]
            return all(
                is_linear(node.layer.activation) and not isinstance(node.layer, MaxPool2D)
                for node in rest
            )
        return all(is_linear(layer.activation) for layer in self.layers[number - 1 :])

    @property
    def has_onsets(self) -> bool:
        """Whether faults begin in a window only."""
        return any(
            onset_window(process.persistence) is not None
            for processes in self.processes.values()
            for process in processes
        )

    @property
    def exact(self) -> bool:
        """Whether the change is the sum of single changes, each proportional to its fault.

        True where the rest of the network is linear and no effect is hit by two sites: neurons of
        one layer, or synapses of one layer, not both (section 2 of the theory, b4).
        """
        if not self.probabilities:
            return True
        if self.groups:
            return False  # GroupEffects looks at what the groups hold
        if len(self.probabilities) > 1 or not self.head.linear:
            return False
        ((kind, number),) = self.probabilities
        return self.linear_from(max(number, 1) if kind == "synapse" else number + 1)

    @property
    def overlaps(self) -> tuple[str, ...]:
        """Pairs of kinds of sites where one fault hides the other, one line each."""
        found = []
        for group, number in self.groups:
            for other, layer in self.probabilities:
                near = abs(layer - number) <= 1 if "neuron" in other + group else layer == number
                if near and other != group and ((other, layer) not in self.groups or group < other):
                    found.append(
                        f"{group}s of layer {number} and {other}s of layer {layer}: where both "
                        "hit the same neuron or synapse, or one lies behind the other, they do "
                        "not add up"
                    )
        for kind, number in self.probabilities:
            if kind == "neuron":
                for below, how in ((number, "into"), (number + 1, "out of")):
                    if ("synapse", below) in self.probabilities:
                        found.append(
                            f"neurons of layer {number} and synapses of layer {below}: "
                            f"a dead neuron hides the faults of the synapses {how} it"
                        )
        return tuple(found)


def _graph_of(network: Network, layer: int | None) -> Graph | None:
    known = all(part.activation.kind in KNOWN for part in network.layers)
    if known and not network.nodes:
        return None
    return network.graph if layer is None else network.graph.up_to(layer)


def is_linear(activation: Activation) -> bool:
    """Whether phi(z) = z."""
    return activation.kind == "identity" or (
        activation.kind == "leaky_relu" and activation.parameter == 1
    )
