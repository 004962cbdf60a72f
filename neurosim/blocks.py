"""How the weights of a layer lie on cores: blocks of a matrix, and pieces along their diagonal."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurosim.chip import Chip
from neurosim.layers import Array, Conv2D, Weighted

__all__ = ["Block", "Layout", "Piece", "seen_by"]


def seen_by(layer: Weighted, y: Array) -> Array:
    """What the rows of a layer carry, (n, groups, n_in, positions), for values of its source."""
    return layer.patches(y) if isinstance(layer, Conv2D) else y[:, None, :, None]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Part of a weight matrix on one core.

    Row r of the core carries input in_start + r of the layer, column c drives its neuron
    out_start + c. Groups of a convolution, and copies of its kernel, see different inputs: several
    of them share a core along its diagonal, each with rows and columns of its own (`split`).

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

    def places(self, out: Array, in_: Array) -> tuple[Array, Array]:
        """Which of its rows and columns hold synapses W_layer[out, in_] of the block."""
        column = out - self.out_start
        piece = column // (self.columns // self.pieces)
        return piece * (self.in_stop - self.in_start) + in_ - self.in_start, column

    def split(self, layer: Weighted, copies: int, positions: int) -> "tuple[Piece, ...]":
        """The pieces of the block.

        Parameters
        ----------
        layer : Weighted
        copies : int
            Of its weights; position q of P is computed by copy q copies // P.
        positions : int
            Of the map that it sends; 1 of a dense layer.
        """
        groups = layer.groups if isinstance(layer, Conv2D) else 1
        channels, size = len(layer.weight), self.columns // self.pieces
        found = []
        for number in range(self.pieces):
            out = self.out_start + number * size
            copy, channel = divmod(out, channels)
            found.append(
                Piece(
                    out=slice(out, out + size),
                    channels=slice(channel, channel + size),
                    group=channel // (channels // groups),
                    positions=slice(
                        -(-copy * positions // copies), -(-(copy + 1) * positions // copies)
                    ),
                    rows=slice(
                        number * (self.in_stop - self.in_start),
                        (number + 1) * (self.in_stop - self.in_start),
                    ),
                    columns=slice(number * size, (number + 1) * size),
                )
            )
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Outputs of a block that see the same inputs: of a convolution one group of one copy.

    Parameters
    ----------
    out : slice
        Of the matrix of all copies.
    channels : slice
        Of the layer; of a dense one its neurons.
    group : int
    positions : slice
        Of the map, at which the copy computes.
    rows, columns : slice
        Of the block.
    """

    out: slice
    channels: slice
    group: int
    positions: slice
    rows: slice
    columns: slice


@dataclass(frozen=True)
class Layout:
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
    def of(layer: Weighted, copies: int, chip: Chip) -> "Layout":
        """The layout of so many copies of the weights of a layer."""
        groups = layer.groups if isinstance(layer, Conv2D) else 1
        out, n_in = layer.matrix_shape
        n_out, n_pieces = out // groups, copies * groups
        rows, columns = chip.rows or n_pieces * n_in, chip.columns or n_pieces * n_out
        return Layout(n_pieces, n_out, n_in, rows, columns, min(rows // n_in, columns // n_out))

    @property
    def _down(self) -> int:
        return -(-self.n_in // self.rows)

    @property
    def _cores_a_piece(self) -> int:
        return self._down * -(-self.n_out // self.columns)

    @property
    def n_cores(self) -> int:
        """Cores that the layer takes."""
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
