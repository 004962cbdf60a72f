"""Figures of a comparison or a sweep: each function returns a matplotlib figure or None.

None means that there is nothing to show; the page then says why. No text of the user's is drawn
into a figure.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.analysis import Comparison, Sweep
from neurosim.layers import Array
from neurosim.theory.tails import binomial_interval, cantelli, chebyshev, median_failure

__all__ = [
    "chip_map",
    "contributions",
    "exceedance_curve",
    "failure_against_replicas",
    "histograms",
    "plain_axes",
    "scatter",
    "sweep_curves",
]

# Okabe and Ito: told apart by colour-blind readers.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#999999",
)  # fmt: skip
_MOST_OUTPUTS = 10
_VERDICT_COLOURS: Mapping[str, str] = {"agrees": BLUE, "cannot tell": ORANGE, "disagrees": RED}


def plain_axes(axes: Axes) -> None:
    """A grid, and no frame above and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def histograms(comparison: Comparison) -> Figure | None:
    """Simulated error of some outputs for one input, with the law of the linear surrogate."""
    laws = comparison.laws
    if not len(laws.inputs):
        return None
    chosen = int(laws.inputs[0])
    n = comparison.statistics.errors.count
    # One bar an octave: the four bins of the trace in an octave would show single atoms.
    counts, ends = _octaves(
        comparison.statistics.histogram[chosen], comparison.campaign.histogram_edges
    )
    reach = _reach(counts, ends)
    if reach is None:
        return None
    outputs = laws.outputs[:_MOST_OUTPUTS].tolist()
    columns = min(5, len(outputs))
    rows = -(-len(outputs) // columns)
    in_legend = 4 if columns > 2 else columns  # entries side by side
    height = 2.5 * rows + 0.7 + 0.2 * (4 // in_legend)
    figure = Figure(figsize=(2.6 * columns + 0.8, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    middle = len(ends) // 2 - 1
    for axes in grid.ravel()[len(outputs) :]:
        axes.set_visible(False)
    for place, (k, axes) in enumerate(zip(outputs, grid.ravel(), strict=False)):
        law = laws.laws[0][place]
        # Below its lattice the law knows nothing; trials there are drawn, but no line.
        floor = max(4 * law.step, reach * 1e-3)
        shares = np.append(counts[k], 0.0)[: len(ends) - 1] / n
        predicted = np.diff(np.where(ends > 0, 1 - law.sf(ends), law.cdf(ends)))
        hidden = (np.abs(ends[:-1]) < floor) & (np.abs(ends[1:]) < floor)
        predicted[hidden] = np.nan
        shares[middle] = np.nan  # exact zeros are told in words
        axes.stairs(shares, ends, color=BLUE, fill=True, alpha=0.45, label="simulated")
        axes.stairs(
            predicted, ends, baseline=None, color=BLACK, linewidth=1.2, label="predicted law"
        )
        mean = comparison.prediction.mean[chosen, k]
        sd = np.sqrt(comparison.prediction.variance[chosen, k])
        axes.axvline(mean, color=RED, linewidth=1, label="predicted mean")
        axes.axvspan(
            mean - sd,
            mean + sd,
            color=RED,
            alpha=0.10,
            linewidth=0,
            label="predicted mean ± standard deviation",
        )
        axes.set_xscale("symlog", linthresh=reach * 1e-3, linscale=0.3)
        axes.set_xlim(-1.5 * reach, 1.5 * reach)
        axes.set_yscale("log")
        axes.set_ylim(0.5 / n, 1)
        axes.set_xticks([-reach, -reach / 30, 0, reach / 30, reach])
        axes.set_xticklabels(
            [f"{-reach:.1g}", f"{-reach / 30:.1g}", "0", f"{reach / 30:.1g}", f"{reach:.1g}"],
            fontsize=7,
        )
        axes.minorticks_off()
        zeros = comparison.laws.zero
        axes.set_title(
            f"output {k}\nno error: {zeros.simulated[0, place]:.1%} "
            f"(law {zeros.predicted[0, place]:.1%})",
            fontsize=8,
        )
        plain_axes(axes)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=in_legend, frameon=False, fontsize=9
    )
    figure.supxlabel(f"error at input {chosen} (faulty minus golden output)", fontsize=9)
    figure.supylabel("share of trials in an octave", fontsize=9)
    return figure


def _octaves(counts: Array, edges: Array) -> tuple[Array, Array]:
    """Counts (n_outputs, n) by octaves of |error|, and their finite edges (n + 1,)."""
    middle = (len(edges) - 1) // 2
    # Edges of the trace: 0+, four an octave, the last finite one, infinity.
    starts = np.arange(middle + 2, len(edges) - 1, 4)
    right = edges[starts]
    ends = np.concatenate([-right[::-1], [edges[middle], edges[middle + 1]], right])
    where = np.searchsorted(edges, ends)
    totals = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1)], axis=1)
    return np.diff(totals[:, where], axis=1), ends


def _reach(counts: Array, ends: Array) -> float | None:
    """The size of the largest errors seen, if there are any."""
    middle = len(ends) // 2 - 1
    seen = counts.sum(axis=0)
    seen[middle] = 0
    used = np.flatnonzero(seen)
    if not len(used):
        return None
    return float(max(abs(ends[used[0]]), abs(ends[used[-1] + 1])))


def _tail_counts(comparison: Comparison, i: int, k: int) -> tuple[Array, Array]:
    """(epsilons, trials with |error| >= epsilon) at the lower edges of the histogram's bins."""
    counts = comparison.statistics.histogram[i, k]
    middle = len(counts) // 2
    sizes = counts[middle + 1 :] + counts[:middle][::-1]
    tails = np.cumsum(sizes[::-1])[::-1]
    return comparison.campaign.histogram_edges[middle + 1 : -1], tails


def exceedance_curve(comparison: Comparison) -> Figure | None:
    """P(|error| >= epsilon) of the input and output with the largest predicted variance."""
    prediction = comparison.prediction
    i, k = (
        int(n) for n in np.unravel_index(np.argmax(prediction.variance), prediction.variance.shape)
    )
    epsilons, tails = _tail_counts(comparison, i, k)
    n = comparison.statistics.errors.count
    if tails[0] == 0:
        return None
    keep = (tails > 0) & (epsilons >= epsilons[np.flatnonzero(tails > 0)[-1]] * 1e-4)
    last = float(epsilons[keep][-1])
    grid = np.geomspace(float(epsilons[keep][0]), 3 * last, 200)
    mean, variance = prediction.mean[i, k], prediction.variance[i, k]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    label = "simulated"
    if comparison.weighted is None:
        low, high = binomial_interval(tails[keep], n, confidence=0.95)
        at = epsilons[keep]
        axes.fill_between(at, low, high, step="post", color=BLUE, alpha=0.25, linewidth=0)
        label = "simulated (95 % interval)"
    axes.step(epsilons[keep], tails[keep] / n, where="post", color=BLUE, label=label)
    law = prediction.distribution(i, k)
    axes.plot(grid, law.exceedance(grid), color=BLACK, linewidth=1, label="law of the surrogate")
    axes.plot(
        grid,
        cantelli(mean, variance, grid, two_sided=True),
        color=GREEN,
        linestyle="--",
        label="Cantelli",
    )
    axes.plot(
        grid,
        chebyshev(mean, variance, grid, two_sided=True),
        color=ORANGE,
        linestyle=":",
        label="Chebyshev (P5)",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.3 * min(1.0, float(tails[keep].min())) / n, 1.5)
    axes.set_xlabel("epsilon (same unit as the output)")
    axes.set_ylabel("P(|error| ≥ epsilon)")
    axes.set_title(f"input {i}, output {k}: the largest predicted variance", fontsize=10)
    plain_axes(axes)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def failure_against_replicas(comparison: Comparison) -> Figure | None:
    """P(|median of R| >= epsilon) against R for the inputs that fail most."""
    medians = comparison.medians
    if not len(medians.replicas):
        return None
    exceedance = comparison.bounds.exceedance  # (epsilons, inputs, outputs)
    # The threshold at which most sizes have medians that fail, of those the largest.
    seen = (medians.failure.max(axis=(2, 3)) > 0).sum(axis=0)
    e = int(len(seen) - 1 - np.argmax(seen[::-1]))
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    worst = np.argsort(exceedance[e], axis=None)[::-1][:3]
    smallest = 1.0
    largest_r = max(*medians.replicas, 9)
    odd = np.arange(1, largest_r + 1, 2)
    for place, colour in zip(worst, (BLUE, GREEN, RED), strict=False):
        i, k = (int(n) for n in np.unravel_index(place, exceedance[e].shape))
        delta = exceedance[e, i, k]
        if delta == 0:
            continue
        expected = median_failure(delta, odd)
        axes.plot(
            odd, expected, color=colour, linewidth=1, label=f"input {i}, output {k}: binomial"
        )
        rates, low, high = (a[:, e, i, k] for a in (medians.failure, medians.low, medians.high))
        sizes = np.array(medians.replicas)
        hit = rates > 0
        axes.errorbar(
            sizes[hit],
            rates[hit],
            yerr=np.stack([rates - low, high - rates])[:, hit],
            fmt="o",
            color=colour,
            markersize=4,
            capsize=2,
            linewidth=1,
        )
        # No median failed: the upper limit of the interval, as an arrow down.
        axes.plot(sizes[~hit], high[~hit], "v", color=colour, markersize=5, fillstyle="none")
        axes.plot([1], [delta], "o", color=colour, markersize=4)
        smallest = min(smallest, expected[expected > 0].min())
    axes.set_yscale("log")
    axes.set_ylim(max(smallest / 3, 1e-12), 1.5)
    axes.set_xticks(odd)
    axes.set_xlabel("R, replicas (chips with independent faults)")
    axes.set_ylabel(f"P(|median error| ≥ {medians.epsilons[e]:g})")
    axes.set_title(
        "dots: simulated, with simultaneous intervals; arrows: no median failed, upper limit",
        fontsize=10,
    )
    plain_axes(axes)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def chip_map(comparison: Comparison) -> Figure:
    """Cores in use, coloured by the share of their crossbar that holds synapses."""
    deployment = comparison.campaign.deployment
    used, total = deployment.n_cores, deployment.chip.cores
    columns = min(16, max(4, int(np.ceil(np.sqrt(used)))))
    rows = -(-used // columns)
    figure = Figure(figsize=(7.2, 1.6 + 0.62 * min(rows, 24)), layout="constrained")
    axes = figure.subplots()
    shares = np.full(rows * columns, np.nan)
    shares[:used] = deployment.utilisation
    image = axes.imshow(
        shares.reshape(rows, columns), vmin=0, vmax=1, cmap="cividis", aspect="auto"
    )
    if used <= 128:
        for block, share in zip(deployment.blocks, deployment.utilisation, strict=True):
            axes.text(
                block.core % columns,
                block.core // columns,
                f"core {block.core}\nlayer {block.layer}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if share < 0.6 else "black",
            )
    axes.set_xticks([])
    axes.set_yticks([])
    idle = "" if total is None else f"; {total - used} further cores idle, not drawn"
    axes.set_title(f"{used} cores in use{idle}", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of crossbar in use", shrink=0.9)
    return figure


def contributions(comparison: Comparison) -> Figure | None:
    """Predicted variance by kind of site and layer, averaged over inputs and outputs."""
    parts = comparison.prediction.variance_contributions
    if not parts:
        return None
    names = [f"{kind}s of layer {layer}" for kind, layer in parts]
    values = [float(np.mean(part)) for part in parts.values()]
    bar = 0.4 if len(names) <= 20 else 0.22  # inches; networks of feature maps have many layers
    figure = Figure(figsize=(7.2, 1.2 + bar * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.margins(y=0.01)
    axes.barh(names, values, color=[SKY if "neuron" in name else ORANGE for name in names])
    whole = sum(values)
    for y, value in enumerate(values):
        axes.text(value, y, f" {value / whole:.0%}" if whole else "", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("predicted variance of the error (mean over inputs and outputs)")
    plain_axes(axes)
    return figure


def scatter(comparison: Comparison) -> Figure:
    """Simulated against predicted mean and variance, every input and output."""
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    pair = figure.subplots(1, 2)
    for axes, verdicts, name in zip(
        pair, (comparison.mean, comparison.variance), ("mean", "variance"), strict=True
    ):
        for word, colour in _VERDICT_COLOURS.items():
            chosen = verdicts.verdict == word
            if chosen.any():
                axes.plot(
                    verdicts.predicted[chosen],
                    verdicts.simulated[chosen],
                    ".",
                    color=colour,
                    markersize=3,
                    label=f"{word} ({int(chosen.sum())})",
                )
        ends = [
            min(verdicts.predicted.min(), verdicts.simulated.min()),
            max(verdicts.predicted.max(), verdicts.simulated.max()),
        ]
        axes.plot(ends, ends, color=GREY, linewidth=1, zorder=0)
        if name == "variance" and ends[0] > 0:
            axes.set_xscale("log")
            axes.set_yscale("log")
        axes.set_xlabel(f"predicted {name}")
        axes.set_ylabel(f"simulated {name}")
        axes.set_title(f"{name} of the error", fontsize=10)
        axes.ticklabel_format(style="sci", scilimits=(-2, 3)) if name == "mean" else None
        axes.legend(frameon=True, framealpha=0.85, fontsize=8, loc="best")
        plain_axes(axes)
    return figure


def sweep_curves(sweep: Sweep) -> Figure:
    """Variance and exceedance against the fault probability."""
    epsilons = sweep.campaign.epsilons
    figure = Figure(figsize=(8.6 if len(epsilons) else 5.2, 4.4), layout="constrained")
    panels = figure.subplots(1, 2 if len(epsilons) else 1, squeeze=False)[0]
    p = np.array(sweep.probabilities)
    axes = panels[0]
    axes.plot(p, sweep.variance.mean(axis=1), "o", color=BLUE, markersize=4, label="simulated")
    axes.plot(p, sweep.predicted_variance.mean(axis=1), color=BLACK, linewidth=1, label="predicted")
    axes.set_ylabel("variance of the error (mean over inputs, outputs)")
    if len(epsilons):
        for e, colour in zip(range(len(epsilons)), (BLUE, GREEN, RED, ORANGE, SKY), strict=False):
            rates = sweep.exceedance[:, e].mean(axis=1)
            panels[1].plot(
                p[rates > 0],
                rates[rates > 0],
                "o",
                color=colour,
                markersize=4,
                label=f"simulated, epsilon {epsilons[e]:g}",
            )
            panels[1].plot(
                p,
                sweep.cantelli[:, e].mean(axis=1),
                color=colour,
                linewidth=1,
                linestyle="--",
                label="Cantelli",
            )
        panels[1].set_ylabel("P(|error| ≥ epsilon) (mean over inputs, outputs)")
    for axes in panels:
        if (p > 0).all() and len(p) > 1:
            axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("fault probability p of every process")
        axes.legend(frameon=True, framealpha=0.85, fontsize=7)
        plain_axes(axes)
    return figure
