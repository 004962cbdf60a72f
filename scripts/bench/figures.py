"""Figures of docs/performance.md from the documented results: docs/images/performance-*.png."""

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
DATA, IMAGES = ROOT / "docs" / "data" / "performance", ROOT / "docs" / "images"

# Okabe and Ito: told apart by colour-blind readers.
LOOKS = {
    "neurosim": ("#D55E00", "o"),
    "torch batched": ("#0072B2", "s"),
    "torch, faulty trials only": ("#56B4E9", "^"),
    "numpy batched": ("#009E73", "D"),
    "torch loop": ("#CC79A7", "v"),
    "fresh masks": ("#E69F00", "P"),
    "PyTorchFI": ("#000000", "X"),
    "PyTorchFI, own function": ("#999999", "x"),
}


def rows_of(name):
    """Rows of a documented CSV file."""
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _line(axes, rows, label, x="probability", y="us_per_trial", **how):
    points = sorted((float(r[x]), float(r[y])) for r in rows if r[y])
    axes.plot(*zip(*points, strict=True), label=label, **how)


def _plain(axes, title, xlabel):
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.tick_params(labelsize=8)


def _limits(axes, rows, x):
    for name, y, rival in (
        ("limit of differences", "limit_us", "neurosim"),
        ("limit of plain passes", "plain_limit_us", "torch batched"),
    ):
        _line(axes, rows, name, x=x, y=y, color=LOOKS[rival][0], linestyle=":")


def _look(name):
    colour, marker = LOOKS[name]
    return {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.3}


def peers():
    """Cost over the fault probability, a panel for each network and kind of site."""
    rows = [r for r in rows_of("peers.csv") if r["inputs"] == "100"]
    panels = [
        (n, s) for n, s in dict.fromkeys((r["network"], r["site"]) for r in rows) if "sigmoid" in n
    ]
    figure = Figure(figsize=(3.6 * len(panels), 4.4), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (network, site) in zip(grid, panels, strict=True):
        here = [r for r in rows if (r["network"], r["site"]) == (network, site)]
        for name in LOOKS:
            some = [r for r in here if r["contender"] == name]
            if some:
                _line(axes, some, name, **_look(name))
        ours = [r for r in here if r["contender"] == "neurosim"]
        _limits(axes, ours, "probability")
        _plain(axes, f"{network}, {site}s", "fault probability")
    grid[0].set_ylabel("µs a trial on 100 inputs", fontsize=9)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def scaling():
    """Cost over probability, width, inputs and trials beside the limits."""
    rows = rows_of("scaling.csv")
    figure = Figure(figsize=(11, 7), layout="constrained")
    grid = figure.subplots(2, 3).ravel()
    panels = [
        ("probability", "neuron", None, "neurons", "fault probability"),
        ("probability", "synapse", None, "synapses", "fault probability"),
        ("width", "neuron", None, "neurons, p = 0.01, 784-width-10", "hidden width"),
        ("inputs", "neuron", None, "neurons, p = 0.01", "inputs a trial"),
        ("trials", "neuron", 1e-4, "neurons, p = 0.0001, fresh backend", "trials of the campaign"),
        ("trials", "neuron", 1e-2, "neurons, p = 0.01, fresh backend", "trials of the campaign"),
    ]
    for axes, (axis, site, p, title, xlabel) in zip(grid, panels, strict=True):
        here = [r for r in rows if r["axis"] == axis and r["site"] == site]
        if p is not None:
            here = [r for r in here if float(r["probability"]) == p]
        for name in LOOKS:
            some = [r for r in here if r["contender"] == name]
            if some:
                _line(axes, some, name, x="value", **_look(name))
        ours = [r for r in here if r["contender"] == "neurosim"]
        _limits(axes, ours, "value")
        _plain(axes, title, xlabel)
    grid[0].set_ylabel("µs a trial", fontsize=9)
    grid[3].set_ylabel("µs a trial", fontsize=9)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def draw():
    """Write all figures."""
    for name, figure in (("peers", peers()), ("scaling", scaling())):
        path = IMAGES / f"performance-{name}.png"
        figure.savefig(path, dpi=110, metadata={"Software": None})
        print(f"written: {path.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    draw()


if __name__ == "__main__":
    main()
