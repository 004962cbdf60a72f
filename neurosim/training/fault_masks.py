"""Faults while training: masks of dead neurons and synapses, from the same fault processes."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from neurosim.errors import InputError
from neurosim.faults import Intermittent, Permanent, StuckAtZero, onset_window
from neurosim.training.modules import Masks

__all__ = ["check_faults", "draw_masks"]


def check_faults(faults: Sequence[StuckAtZero], widths: Sequence[int]) -> tuple[StuckAtZero, ...]:
    """Return the fault processes, if a batch can draw from them.

    Raises
    ------
    InputError
        If one is no StuckAtZero, is intermittent, or names a layer that does not exist.
    """
    processes = (faults,) if isinstance(faults, StuckAtZero) else tuple(faults)
    for process in processes:
        if not isinstance(process, StuckAtZero):
            raise InputError(f"faults: expected StuckAtZero(...) values, got {process!r}")
        if isinstance(process.persistence, Intermittent):
            raise InputError(
                "faults: expected permanent or transient ones while training, got intermittent "
                "ones: the examples of a batch have no order in time"
            )
        if onset_window(process.persistence) is not None:
            raise InputError(
                "faults: expected faults that may begin at any time while training, got "
                f"{process}: the examples of a batch have no order in time"
            )
        process.layers_in(widths)
    return processes


def draw_masks(
    faults: Sequence[StuckAtZero],
    widths: Sequence[int],
    n_inputs: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Masks:
    """Masks of one batch, 0 where something is dead and 1 elsewhere; outputs are not scaled up.

    Permanent faults: one fault set, one chip, for the whole batch. Transient faults: another one
    for each example.

    Parameters
    ----------
    faults : sequence of StuckAtZero
    widths : sequence of int
        n_0, ..., n_L.
    n_inputs : int
        Examples in the batch.
    generator : torch.Generator
    dtype : torch.dtype

    Returns
    -------
    neurons, synapses : dict of int to Tensor
        Layer -> (n_l,) or (n_inputs, n_l); (n_l, n_{l-1}) or (n_inputs, n_l, n_{l-1}).

    Raises
    ------
    InputError
        See `check_faults`.

    Examples
    --------
    >>> always = StuckAtZero("neuron", probability=1.0, layers=[1])
    >>> draw_masks([always], (2, 3, 1), 4, torch.Generator())[0]
    {1: tensor([0., 0., 0.])}
    """
    shapes: dict[str, list[tuple[int, ...]]] = {
        "neuron": [(n,) for n in widths],
        "synapse": [(), *((b, a) for a, b in pairwise(widths))],
    }
    found: dict[str, dict[int, Tensor]] = {"neuron": {}, "synapse": {}}
    for process in check_faults(faults, widths):
        batch = () if isinstance(process.persistence, Permanent) else (n_inputs,)
        for layer in process.layers_in(widths):
            shape = (*batch, *shapes[process.site][layer])
            alive = torch.rand(shape, generator=generator, dtype=torch.float64)
            mask = (alive >= process.probability).to(dtype)
            before = found[process.site].get(layer)
            found[process.site][layer] = mask if before is None else before * mask
    return found["neuron"], found["synapse"]
