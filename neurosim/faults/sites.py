"""The numbering of neurons and synapses."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from neurosim.layers import Array

__all__ = ["Sites"]


@dataclass(frozen=True)
class Sites:
    """The numbering of neurons and synapses of a network: one integer a site, layer after layer.

    Parameters
    ----------
    widths : tuple of int
        n_0, ..., n_L.
    matrices : tuple of (n_out, n_in), optional
        Shapes of the weight matrices of layers 1..L as crossbars hold them; by default
        (n_l, n_{l-1}). Rows of several copies of a kernel follow each other.

    Examples
    --------
    >>> sites = Sites((3, 2))
    >>> sites.synapse_numbers([1], [1], [0]), sites.neuron_numbers([1], [1])
    (array([3]), array([4]))
    """

    widths: tuple[int, ...]
    matrices: tuple[tuple[int, int], ...] = ()

    @property
    def weight_shapes(self) -> tuple[tuple[int, int], ...]:
        """(n_out, n_in) of the synapses of layers 1..L."""
        return self.matrices or tuple((b, a) for a, b in pairwise(self.widths))

    @property
    def neuron_offsets(self) -> Array:
        """First number of each layer 0..L, and the total: shape (L + 2,)."""
        return np.cumsum([0, *self.widths], dtype=np.int64)

    @property
    def synapse_offsets(self) -> Array:
        """First number of each layer 1..L at index l, and the total: shape (L + 2,)."""
        return np.cumsum([0, 0, *(a * b for a, b in self.weight_shapes)], dtype=np.int64)

    def neuron_numbers(self, layer: npt.ArrayLike, unit: npt.ArrayLike) -> Array:
        """Numbers of neurons."""
        return self.neuron_offsets[np.asarray(layer, np.int64)] + np.asarray(unit, np.int64)

    def synapse_numbers(
        self, layer: npt.ArrayLike, out: npt.ArrayLike, in_: npt.ArrayLike
    ) -> Array:
        """Numbers of synapses, W_l row by row."""
        number = np.asarray(layer, np.int64)
        n_in = np.array(self.weight_shapes, np.int64).reshape(-1, 2)[number - 1, 1]
        return (
            self.synapse_offsets[number]
            + np.asarray(out, np.int64) * n_in
            + np.asarray(in_, np.int64)
        )

    def neurons(self, numbers: Array) -> tuple[Array, Array]:
        """(layer, unit) of neuron numbers."""
        offsets = self.neuron_offsets
        layer = np.searchsorted(offsets, numbers, side="right") - 1
        return layer, numbers - offsets[layer]

    def synapses(self, numbers: Array) -> tuple[Array, Array, Array]:
        """(layer, out, in) of synapse numbers."""
        offsets = self.synapse_offsets
        layer = np.searchsorted(offsets, numbers, side="right") - 1
        n_in = np.array(self.weight_shapes, np.int64).reshape(-1, 2)[layer - 1, 1]
        out, in_ = np.divmod(numbers - offsets[layer], n_in)
        return layer, out, in_
