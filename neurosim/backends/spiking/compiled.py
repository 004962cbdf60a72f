"""The fast simulator of spiking layers: the kernel of `neurosim.kernels.spiking`."""

import numpy as np

from neurosim.backends.spiking.activity import Activity, Rasters
from neurosim.backends.spiking.lowering import Lowered, windows_of
from neurosim.faults import FaultBatch
from neurosim.kernels import spiking as kernels
from neurosim.layers import Array

__all__ = ["CompiledSimulator"]


class CompiledSimulator:
    """Runs pairs of trial and input one after another; fault-free spikes are computed once.

    Parameters
    ----------
    lowered : Lowered
    """

    def __init__(self, lowered: Lowered) -> None:
        self._lowered = lowered
        nothing = windows_of(FaultBatch.without_faults(lowered.network.widths, lowered.n_inputs))[0]
        self._golden = kernels.golden_pass(
            lowered.layers, lowered.trains, lowered.currents, nothing
        )

    def run(self, batch: FaultBatch) -> Activity:
        """Run every trial on every input."""
        return self._run(batch, np.empty(0, np.int64))[0]

    def rasters(self, batch: FaultBatch) -> Rasters:
        """Run every trial on every input and keep every spike."""
        totals = self.run(batch).totals
        offsets = np.concatenate([[0], np.cumsum(totals.sum(axis=(1, 2)))]).astype(np.int64)
        presentation, layer, unit, step, sign = self._run(batch, offsets)[1]
        return Rasters(
            offsets=offsets, presentation=presentation, step=step, layer=layer, unit=unit, sign=sign
        )

    def _run(self, batch: FaultBatch, offsets: Array) -> tuple[Activity, tuple[Array, ...]]:
        counts, totals, potentials, alive_steps, *spikes = kernels.run_trials(
            self._lowered.layers, *self._golden, self._lowered.currents, *windows_of(batch), offsets
        )
        activity = Activity(
            counts=counts, totals=totals, potentials=potentials, alive_steps=alive_steps
        )
        return activity, tuple(spikes)
