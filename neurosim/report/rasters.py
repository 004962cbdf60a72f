"""Figures of spiking campaigns: spikes around a fault window, and the error as it builds up."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.backends import SpikingBackend, backend_of
from neurosim.backends.spiking import Rasters
from neurosim.campaign import Campaign
from neurosim.errors import InputError
from neurosim.faults import FaultBatch
from neurosim.layers import Array
from neurosim.report.figures import BLACK, BLUE, GREY, ORANGE, RED

__all__ = ["Case", "error_in_time", "raster", "worst_case"]

_TRIALS = 100  # in which the case to show is looked for
_MOST_UNITS = 60  # of a layer in a raster


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One trial and presentation of a spiking campaign, beside the same without faults.

    Parameters
    ----------
    campaign : Campaign
    backend : SpikingBackend
    trial, presentation : int
    windows : list of (float, float)
        Seconds in which something is dead, within the presentation.
    golden, faulty : Rasters
        Of one trial each.
    """

    campaign: Campaign
    backend: SpikingBackend
    trial: int
    presentation: int
    windows: list[tuple[float, float]]
    golden: Rasters
    faulty: Rasters


def worst_case(campaign: Campaign) -> Case | None:
    """The presentation with the largest error among the first trials; None if there is no error.

    Presentations in which a fault comes or goes are preferred: they have a window to show.

    Raises
    ------
    InputError
        If the campaign is not a spiking one.
    """
    backend = backend_of(campaign)
    if not isinstance(backend, SpikingBackend):
        raise InputError(
            f"campaign: expected one with a spiking backend, got backend {campaign.backend!r}"
        )
    batch = campaign.fault_batch(0, min(campaign.trials, _TRIALS))
    sizes = np.abs(backend.errors(batch)).max(axis=2)
    passing = np.zeros(sizes.shape, bool)
    for trial in range(len(batch)):
        for x in range(campaign.n_inputs):
            spans = _spans(batch, trial, x, campaign.ticks)
            passing[trial, x] = any(span != (0, campaign.ticks) for span in spans)
    chosen = np.where(passing, sizes, 0) if (sizes[passing] > 0).any() else sizes
    if not chosen.any():
        return None
    trial, x = (int(n) for n in np.unravel_index(np.argmax(chosen), chosen.shape))
    tick = campaign.spiking.duration_s / campaign.ticks if campaign.spiking else 0.0
    spans = _spans(batch, trial, x, campaign.ticks)
    return Case(
        campaign=campaign,
        backend=backend,
        trial=trial,
        presentation=x,
        windows=[(a * tick, b * tick) for a, b in _united(spans)],
        golden=backend.rasters(),
        faulty=backend.rasters(FaultBatch.of(batch[trial], batch.sites)),
    )


def _spans(batch: FaultBatch, trial: int, x: int, ticks: int) -> list[tuple[int, int]]:
    """Ticks [a, b) of one presentation in which something is dead."""
    found = []
    for events in (batch.neurons, batch.synapses):
        here = slice(*events.offsets[trial : trial + 2])
        start = np.maximum(events.start[here] - x * ticks, 0)
        stop = np.minimum(events.stop[here] - x * ticks, ticks)
        found += [(int(a), int(b)) for a, b in zip(start, stop, strict=True) if a < b]
    return found


def _united(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same ticks in spans that neither overlap nor touch, in order."""
    united: list[tuple[int, int]] = []
    for a, b in sorted(spans):
        if united and a <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], b))
        else:
            united.append((a, b))
    return united


def _spikes(case: Case, rasters: Rasters, layer: int) -> tuple[Array, Array, Array]:
    """Times in seconds, units and signs of the spikes of a layer in the presentation."""
    here = (rasters.presentation == case.presentation) & (rasters.layer == layer)
    step_s = case.backend.lowered.model.time_step_s
    return rasters.step[here] * step_s, rasters.unit[here], rasters.sign[here]


def raster(case: Case) -> Figure:
    """Spikes of every layer without faults and under the faults of the trial."""
    depth = case.campaign.network.depth
    layers = [
        layer
        for layer in range(depth + 1)
        if any(len(_spikes(case, r, layer)[0]) for r in (case.golden, case.faulty))
    ]
    figure = Figure(figsize=(9, 1.2 + 1.9 * len(layers)), layout="constrained")
    grid = figure.subplots(len(layers), 1, squeeze=False, sharex=True)[:, 0]
    for axes, layer in zip(grid, layers, strict=True):
        before, after = (_spikes(case, r, layer) for r in (case.golden, case.faulty))
        # The neurons whose spike counts change most.
        width = case.campaign.network.widths[layer]
        change = np.abs(
            np.bincount(after[1], minlength=width) - np.bincount(before[1], minlength=width)
        )
        shown = np.sort(np.argsort(-change, kind="stable")[:_MOST_UNITS])
        for (times, units, _), colour, shift, label in (
            (before, GREY, 0.2, "without faults"),
            (after, BLUE, -0.2, "with faults"),
        ):
            kept = np.isin(units, shown)
            rows = np.searchsorted(shown, units[kept]) + shift
            axes.plot(
                1e3 * times[kept], rows, "|", color=colour, markersize=3, label=label, zorder=2
            )
        _shade(axes, case)
        axes.set_ylim(-1, len(shown))
        axes.set_ylabel(
            f"layer {layer}\n{len(shown)} of {width} neurons" if len(shown) < width
            else f"layer {layer}\nneuron"
        )  # fmt: skip
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].set_xlabel("time within the presentation (ms)")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def _shade(axes: Axes, case: Case) -> None:
    """Shade the windows in which something is dead."""
    for number, (a, b) in enumerate(case.windows):
        axes.axvspan(
            1e3 * a,
            1e3 * b,
            color=ORANGE,
            alpha=0.15,
            linewidth=0,
            label=None if number else "something is dead",
        )


def error_in_time(case: Case) -> Figure:
    """The change of spike counts of the last spiking layer, as activity, while it builds up."""
    lowered = case.backend.lowered
    depth, n_steps = case.campaign.network.depth, lowered.layers.n_steps
    layer = depth if lowered.model.readout == "count" else depth - 1
    width = case.campaign.network.widths[layer]
    change = np.zeros((n_steps, width))
    for rasters, factor in ((case.faulty, 1), (case.golden, -1)):
        times, units, signs = _spikes(case, rasters, layer)
        steps = np.rint(times / lowered.model.time_step_s).astype(np.int64)
        np.add.at(change, (steps, units), factor * signs.astype(np.float64))
    built = lowered.activity(layer, np.cumsum(change, axis=0))
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    milliseconds = 1e3 * lowered.model.time_step_s * np.arange(1, n_steps + 1)
    strongest = int(np.abs(built[-1]).argmax())
    for unit in range(min(width, 200)):
        axes.step(milliseconds, built[:, unit], where="post", color=GREY, linewidth=0.7, alpha=0.6)
    axes.step(
        milliseconds,
        built[:, strongest],
        where="post",
        color=RED,
        linewidth=1.4,
        label=f"neuron {strongest}, the largest error at the end",
    )
    _shade(axes, case)
    axes.axhline(0, color=BLACK, linewidth=0.6)
    axes.set_xlabel("time within the presentation (ms)")
    axes.set_ylabel(f"error of layer {layer} that has built up")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure
