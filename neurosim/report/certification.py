"""Figures of a certificate and of a hardening: what fails, at how many replicas, and where."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurosim.certification import Certificate, Hardening
from neurosim.certification.replicas import joined, median_bound
from neurosim.layers import Array
from neurosim.report.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SKY,
    plain_axes,
)

__all__ = ["chip_contributions", "failure_by_input", "failure_by_replicas", "gains",
           "neuron_contributions"]  # fmt: skip

_COLOURS = (ORANGE, GREEN, GREY, "#CC79A7", SKY, BLUE, RED, BLACK, "#882255")
# More cores are coloured as a whole; more columns of a core are added up.
_MOST_CORES, _MOST_STRIPES = 64, 64


def failure_by_replicas(certificate: Certificate) -> Figure:
    """The bound of the median's failure against R, a line a method; points: simulated."""
    wanted = [row.replicas for row in certificate.rows if row.replicas is not None]
    last = int(min(max([7, *wanted]) + 4, 41))
    sizes = np.arange(1, last + 1, 2)
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    axes = figure.subplots()
    for row, colour in zip(certificate.rows, _COLOURS, strict=False):
        values = [
            min(joined(median_bound(row.tails, int(r)), certificate.over), 1.0) for r in sizes
        ]
        axes.plot(
            sizes,
            np.maximum(values, 1e-300),
            "o-" if row.guarantee else "o--",
            color=colour,
            markersize=3,
            linewidth=1.2,
            label=row.tails.title + ("" if row.guarantee else " (approximation)"),
        )
    seen = {}
    if certificate.self_check is not None:
        for check in certificate.self_check.checks:
            seen[check.replicas] = joined(check.failures / check.groups, certificate.over)
    measured = {r: value for r, value in seen.items() if value > 0}
    axes.plot(
        list(measured), list(measured.values()), "D", color=BLACK, markersize=6,
        fillstyle="none", label="simulated by the self-check",
    )  # fmt: skip
    axes.axhline(certificate.delta, color=GREY, linewidth=1)
    axes.annotate(
        f"delta = {certificate.delta:g}", (sizes[-1], certificate.delta), ha="right", va="bottom",
        fontsize=8,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(max(certificate.delta * 1e-4, 1e-16), 1.6)
    axes.set_xticks(sizes if len(sizes) < 15 else sizes[::2])
    axes.set_xlabel("R, replicas (chips with independent faults)")
    where = "worst input" if certificate.over == "worst" else "mean over inputs"
    axes.set_ylabel(f"P(|median error| ≥ {certificate.epsilon:g}), {where}")
    plain_axes(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def failure_by_input(certificate: Certificate) -> Figure:
    """P(any output fails) of one chip at every input, sorted: simulated, and method by method."""
    n = certificate.statistics.errors.count
    frequency = certificate.statistics.exceedances_any[0] / n
    # By the sharpest of the guarantees, for many frequencies are 0.
    sharpest = min(
        (row for row in certificate.rows if row.guarantee), key=lambda row: row.delta_single
    )
    order = np.argsort(-(frequency + 1e-3 * sharpest.tails.any_output), kind="stable")
    place = np.arange(1, len(order) + 1)
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    axes = figure.subplots()
    least = 1.0
    for row, colour in zip(certificate.rows, _COLOURS, strict=False):
        values = row.tails.any_output[order]
        if values.min() >= 1:
            continue  # it says nothing
        least = min(least, float(values[values > 0].min()) if (values > 0).any() else 1.0)
        axes.plot(
            place, np.where(values > 0, values, np.nan), color=colour,
            linestyle="-" if row.guarantee else "--", linewidth=1.2,
            label=row.tails.title + ("" if row.guarantee else " (approximation)"),
        )  # fmt: skip
    shown = np.where(frequency[order] > 0, frequency[order], np.nan)
    axes.plot(place, shown, ".", color=BLACK, markersize=4, label=f"simulated, {n} trials")
    axes.axhline(0.5, color=RED, linewidth=0.8)
    axes.annotate(
        "1/2: no median helps above", (place[-1], 0.5), ha="right", va="bottom", fontsize=8
    )
    axes.axhline(certificate.delta, color=GREY, linewidth=1)
    axes.annotate(f"delta = {certificate.delta:g}", (place[-1], certificate.delta), ha="right",
                  va="bottom", fontsize=8)  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(max(min(least, certificate.delta) / 3, 1e-14), 1.6)
    axes.set_xlabel("inputs, the worst first")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"P(some output is off by ≥ {certificate.epsilon:g}), one chip")
    plain_axes(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def chip_contributions(hardening: Hardening) -> Figure:
    """Cores in use, each column coloured by what it adds to the variance."""
    found, deployment = hardening.contributions, hardening.campaign.deployment
    columns, cores = found.columns[hardening.method], found.cores[hardening.method]
    whole = found.total(hardening.method) or 1.0
    across = min(16, max(3, int(np.ceil(np.sqrt(len(cores))))))
    down = -(-len(cores) // across)
    stripes = min(_MOST_STRIPES, max(len(c) for c in columns)) if len(cores) <= _MOST_CORES else 1
    image = np.full((down, across, stripes), np.nan)
    for core, values in enumerate(columns):
        image[core // across, core % across] = _stripes(values / whole, stripes)
    figure = Figure(figsize=(8.2, 1.8 + 0.8 * min(down, 16)), layout="constrained")
    axes = figure.subplots()
    positive = image[np.nan_to_num(image) > 0]
    high = float(positive.max()) if len(positive) else 1.0
    low = max(float(positive.min()) if len(positive) else 0.1, high * 1e-4)
    cells = axes.imshow(
        np.maximum(image.reshape(down, -1), low * (1 - 1e-9)),
        norm=LogNorm(low, high), cmap="cividis", aspect="auto",
        extent=(0, across, down, 0), interpolation="nearest",
    )  # fmt: skip
    for core, share in enumerate(cores / whole):
        if len(cores) > _MOST_CORES:
            break
        block = deployment.blocks[core]
        mark = " ✓" if core in hardening.protected_cores else ""
        axes.text(
            core % across + 0.5, core // across + 0.5,
            f"core {core}{mark}\nlayer {block.layer}\n{share:.1%}",
            ha="center", va="center", fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2},
        )  # fmt: skip
    for x in range(across + 1):
        axes.axvline(x, color="white", linewidth=2)
    for y in range(down + 1):
        axes.axhline(y, color="white", linewidth=2)
    axes.set_xticks([])
    axes.set_yticks([])
    off = 1 - cores.sum() / whole
    axes.set_title(
        f"{len(cores)} cores, stripes: their columns (neurons); off the cores, at the inputs: "
        f"{max(off, 0):.1%} of the variance",
        fontsize=10,
    )
    figure.colorbar(cells, ax=axes, label="share of the variance", shrink=0.9)
    return figure


def _stripes(values: Array, n: int) -> Array:
    """Values of neighbouring columns, added up to n stripes; NaN where there is no column."""
    if len(values) <= n:
        return np.concatenate([values, np.full(n - len(values), np.nan)])
    ends = np.linspace(0, len(values), n + 1).astype(np.int64)
    return np.add.reduceat(values, ends[:-1])


def neuron_contributions(hardening: Hardening) -> Figure:
    """How much of the variance the most important neurons carry, layer by layer."""
    neurons = hardening.contributions.neurons[hardening.method]
    figure = Figure(figsize=(8.2, 4.2), layout="constrained")
    axes = figure.subplots()
    whole = hardening.contributions.total(hardening.method) or 1.0
    for layer, (values, colour) in enumerate(
        zip(neurons, (GREY, BLUE, GREEN, ORANGE, SKY, RED) * 99, strict=False)
    ):
        if values.any():
            ordered = np.sort(values[values > 0])[::-1]
            name = "inputs" if layer == 0 else f"layer {layer}"
            axes.step(
                np.arange(1, len(ordered) + 1), np.cumsum(ordered) / whole, where="post",
                color=colour, label=f"{name}: {len(values)} neurons",
            )  # fmt: skip
    everything = np.sort(np.concatenate(neurons))[::-1]
    everything = everything[everything > 0]
    axes.step(
        np.arange(1, len(everything) + 1), np.cumsum(everything) / whole, where="post",
        color=BLACK, linewidth=1.5, label="all",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("so many most important neurons")
    axes.set_ylabel("their share of the variance")
    axes.legend(frameon=False, fontsize=8)
    plain_axes(axes)
    return figure


def gains(hardening: Hardening) -> Figure:
    """Variance of every variant: predicted by both methods, and simulated."""
    names = [variant.name for variant in hardening.variants]
    figure = Figure(figsize=(8.2, 1.6 + 0.8 * len(names)), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(names))
    for method, shift, colour in (("first-order", -0.25, SKY), ("single-fault", 0.0, ORANGE)):
        values = [variant.predicted[method] for variant in hardening.variants]  # type: ignore[index]
        axes.barh(y + shift, values, height=0.22, color=colour, label=f"predicted, {method}")
    seen = [variant.simulated for variant in hardening.variants]
    outcomes = [outcome for outcome in seen if outcome is not None]
    if len(outcomes) == len(names):
        axes.barh(
            y + 0.25, [outcome.variance for outcome in outcomes], height=0.22, color=BLUE,
            xerr=[2 * outcome.variance_error for outcome in outcomes], ecolor=BLACK, capsize=3,
            label="simulated, ± 2 standard errors",
        )  # fmt: skip
    axes.set_yticks(
        y, [f"{v.name}\n{v.neurons} neurons, {v.cores} cores" for v in hardening.variants]
    )
    axes.invert_yaxis()
    axes.set_xlabel("variance of the error (sum over outputs, mean over inputs)")
    plain_axes(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure
