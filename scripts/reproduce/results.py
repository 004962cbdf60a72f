"""What every script of this folder shares: its options, rows of results, CSV, simulation."""

import argparse
import csv
import time
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import neurosim as ns

ROOT = Path(__file__).parent.parent.parent
DATA, IMAGES = Path("data") / "reproduction", Path("images")


@dataclass(frozen=True)
class Row:
    """One number of the paper beside the one found here."""

    experiment: str
    quantity: str
    paper: str
    here: str
    ratio: str
    verdict: str


def number(value):
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def row(experiment, quantity, paper, here, within=None, otherwise="", says=None):
    """Compare; `within` is the range in which a result counts as reproduced.

    `otherwise` says why it may differ; `says` is a verdict of its own.
    """
    comparable = all(isinstance(v, int | float | np.number) for v in (paper, here))
    ratio = number(float(here / paper)) if comparable and paper else ""
    if says is None:
        reproduced = within[0] <= here <= within[1]
        says = "reproduced" if reproduced else f"differs: {otherwise}"
    return Row(experiment, quantity, number(paper), number(here), ratio, says)


def parser(text, mnist=False, long=False):
    result = argparse.ArgumentParser(description=text.splitlines()[0])
    result.add_argument("--quick", action="store_true", help="Small sizes: about a minute.")
    result.add_argument("-o", "--output", type=Path, default=ROOT / "docs",
                        help="Folder for data/ and images/.")  # fmt: skip
    if mnist:
        result.add_argument("--mnist", metavar="FOLDER", help="The full MNIST as IDX files.")
    if long:
        text = "Time a part of the full size; write how long all of it would take."
        result.add_argument("--estimate", action="store_true", help=text)
    return result


def size_of(options):
    return "quick" if options.quick else "full"


def save(name, rows, options, setting, began):
    """Print the rows and write them, with what was run, to a CSV."""
    size = size_of(options)
    seconds = f"{time.perf_counter() - began:.0f}"
    folder = options.output / DATA
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}-{size}.csv", "w", newline="", encoding="utf-8") as file:
        columns = [f.name for f in fields(Row)]
        writer = csv.DictWriter(file, [*columns, "size", "setting", "seconds"], lineterminator="\n")
        writer.writeheader()
        for entry in rows:
            writer.writerow(asdict(entry) | {"size": size, "setting": setting, "seconds": seconds})
    print(f"{name}, {size} ({setting}), {seconds} s")
    width = max(len(entry.quantity) for entry in rows)
    for r in rows:
        print(f"  {r.quantity:{width}}  paper {r.paper:>10}  here {r.here:>10}  ratio "
              f"{r.ratio:>6}  {r.verdict}")  # fmt: skip


def estimate(name, parts, measured, options):
    """Time one call of each part, of which the full size has so many; write the sum.

    Seconds of processor time, which do not grow where the machine has more to do.
    """
    total = 0.0
    parts[0][1]()  # what is compiled or loaded once does not count
    for times, call in parts:
        began = time.process_time()
        call()
        total += times * (time.process_time() - began)
    folder = options.output / DATA
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}-estimate.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["seconds", "measured"], [f"{total:.0f}", measured]])
    print(f"{name}, full: about {total / 3600:.1f} h, from {measured}")


def save_figure(figure, name, options):
    folder = options.output / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    plain_ticks(figure)
    figure.set_layout_engine("constrained")
    suffix = "" if options.quick else "-full"
    figure.savefig(folder / f"reproduction-{name}{suffix}.png", dpi=110)


def plain_ticks(figure):
    """Labels of logarithmic axes that do not overlap: 1, 2, 5 of few decades, or decades alone."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                low, high = axis.get_view_interval()
                axis.set_minor_formatter(NullFormatter())
                if high / low < 100:
                    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                    axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def crash_campaign(network, inputs, layers, p, trials, seed=1, **options):
    """Neurons of some layers dead, each trial another chip."""
    persistence = options.pop("persistence", ns.Permanent())
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[
            ns.StuckAtZero("neuron", probability=p, layers=list(layers), persistence=persistence)
        ],
        inputs=inputs,
        trials=trials,
        seed=seed,
        **options,
    )


def simulate(campaign):
    """Statistics of the errors over the trials."""
    with (
        TemporaryDirectory() as folder,
        ns.run(campaign, Path(folder) / "t.h5", progress=False) as trace,
    ):
        return trace.statistics


def errors_of(campaign):
    """Every error, (n_trials, n_inputs, n_outputs), and the golden outputs."""
    with (
        TemporaryDirectory() as folder,
        ns.run(campaign, Path(folder) / "t.h5", progress=False) as trace,
    ):
        return np.asarray(trace.errors), np.asarray(trace.golden)


def rank_loss(a, b):
    """Share of pairs that b orders otherwise than a; ties count as wrong; folded to [0, 1/2]."""
    order = np.argsort(a, kind="stable")
    values = np.asarray(b)[order]
    i, j = np.triu_indices(len(values), 1)
    wrong = float((values[i] >= values[j]).mean())
    return min(wrong, 1 - wrong)


def slope(x, y):
    """Of the line through the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def random_network(rng, widths, activation, std=3.0, mean=0.1):
    """As the authors: W = N(0, 1) std / n_in + mean, b = N(0, 1) std / n_out + mean."""
    pairs = list(pairwise(widths))
    return ns.Network.dense(
        weights=[rng.normal(size=(b, a)) * std / a + mean for a, b in pairs],
        biases=[rng.normal(size=b) * std / b + mean for _, b in pairs],
        activations=[activation] * (len(pairs) - 1) + ["identity"],
    )


def trained(data, widths, seed, *, epochs, batch, activation="sigmoid(4)", **options):
    """A network as the authors trained it: their random start, mean squared error."""
    from neurosim import training  # torch takes seconds to load

    names = ("optimiser", "learning_rate", "loss")
    fit = training.Fit(
        epochs=epochs, batch_size=batch, **{k: options.pop(k) for k in names if k in options}
    )
    start = training.random_module(widths, activation, seed)
    return training.train(
        start, data.inputs, data.targets, fit, seed=seed, progress=False, **options
    ).network


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
