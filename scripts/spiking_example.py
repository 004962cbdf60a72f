"""Write docs/spiking-example.md: the demo network in spikes beside its rates, with faults in time.

All numbers and figures of that page come from here.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure

import neurosim as ns
from neurosim import data
from neurosim.backends import make_backend
from neurosim.report import rasters
from neurosim.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, RED

DURATION_S, N_INPUTS = 0.256, 20


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines)


def plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def convergence(network, images, folder):
    """Fault-free spiking outputs against the rate network, over the duration."""
    durations = np.array([0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048])
    inputs, labels = images["inputs"].astype(np.float64), images["targets"]
    wanted = network(inputs)
    rate = (wanted.argmax(axis=1) == labels).mean()
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    rows, slopes = [], []
    for (coding, readout), colour in zip(
        (("current", "count"), ("current", "membrane"), ("regular", "count"), ("poisson", "count")),
        (BLUE, GREEN, ORANGE, RED),
        strict=True,
    ):
        errors = []
        for duration in durations:
            model = ns.SpikingModel(duration_s=duration, coding=coding, readout=readout)
            backend = make_backend("spiking-compiled", network, inputs, "float64", model)
            errors.append(np.sqrt(np.mean((backend.golden - wanted) ** 2)))
            accuracy = (backend.golden.argmax(axis=1) == labels).mean()
            row = [coding, readout, f"{1e3 * duration:g}", f"{errors[-1]:.2g}", f"{accuracy:.3f}"]
            rows.append(row)
        slope = np.polyfit(np.log(durations), np.log(errors), 1)[0]
        slopes.append([coding, readout, f"{slope:.2f}"])
        axes.loglog(1e3 * durations, errors, "o-", color=colour, label=f"{coding}, {readout}")
    guide = errors[0] * durations[0]
    axes.loglog(1e3 * durations, 0.8 * guide / durations, "--", color=GREY, label="1 / duration")
    axes.set_xlabel("duration of a presentation (ms), steps of 1 ms")
    axes.set_ylabel("root mean square error of outputs")
    axes.legend(fontsize=8)
    plain(axes)
    figure.savefig(folder / "images" / "spiking-convergence.png", dpi=130)
    return rate, rows, slopes


def campaign_of(network, images, backend, trials, p, **options):
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("crossbar-256")),
        faults=options.pop("faults", [ns.StuckAtZero("neuron", probability=p)]),
        inputs=images["inputs"][:N_INPUTS],
        targets=images["targets"][:N_INPUTS],
        trials=trials,
        seed=1,
        backend=backend,
        dtype="float64",
        record=("error",),
        **options,
    )


def run(campaign):
    """Errors (n_trials, n_inputs, n_outputs), accuracy under faults, seconds."""
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        with ns.run(campaign, Path(folder) / "t.h5", progress=False) as trace:
            seconds = time.perf_counter() - start
            return np.asarray(trace.errors), trace.accuracy, seconds


def distributions(network, images, trials, folder):
    """Errors of the same fault sets in rates and in spikes."""
    figure = Figure(figsize=(9.6, 4), layout="constrained")
    panels = figure.subplots(1, 3)
    rows = []
    for axes, p in zip(panels[:2], (1e-3, 1e-2), strict=True):
        model = ns.SpikingModel(duration_s=DURATION_S)
        rates, accuracy, _ = run(campaign_of(network, images, "compiled", trials, p))
        spikes, spiking_accuracy, seconds = run(
            campaign_of(network, images, "spiking-compiled", trials, p, spiking=model)
        )
        reach = float(np.quantile(np.abs(rates), 0.999))
        bins = np.linspace(-reach, reach, 61)
        for errors, colour, name in ((rates, BLUE, "rates"), (spikes, RED, "spikes")):
            axes.hist(errors.ravel(), bins, histtype="step", color=colour, density=True, label=name)
        axes.set_yscale("log")
        axes.set_xlabel("error of an output")
        axes.set_title(f"neurons dead with p = {p:g}", fontsize=10)
        axes.legend(fontsize=8)
        plain(axes)
        correlation = np.corrcoef(rates.ravel(), spikes.ravel())[0, 1]
        rows.append([
            f"{p:g}", f"{rates.std():.4f}", f"{spikes.std():.4f}", f"{correlation:.4f}",
            f"{np.sqrt(np.mean((rates - spikes) ** 2)):.4f}", f"{accuracy:.4f}",
            f"{spiking_accuracy:.4f}", f"{seconds:.1f}",
        ])  # fmt: skip
    panels[2].plot(rates.ravel()[::7], spikes.ravel()[::7], ".", color=BLUE, markersize=2)
    panels[2].plot([-reach, reach], [-reach, reach], color=BLACK, linewidth=0.8)
    panels[2].set_xlabel("error in rates")
    panels[2].set_ylabel("error in spikes")
    panels[2].set_title("the same fault sets, p = 0.01", fontsize=10)
    plain(panels[2])
    figure.savefig(folder / "images" / "spiking-distributions.png", dpi=130)
    return rows


def within(network, images, trials, folder):
    """Faults that come and go within an inference, all with the same share of dead time."""
    model = ns.SpikingModel(duration_s=DURATION_S, ticks=16)
    rows = []
    p = 1e-2
    for name, persistence in (
        ("permanent", ns.Permanent()),
        ("intermittent, 8 ticks", ns.Intermittent(mean_duration=8)),
        ("intermittent, 2 ticks", ns.Intermittent(mean_duration=2)),
        ("transient, 1 tick", ns.Transient()),
    ):
        faults = [ns.StuckAtZero("neuron", probability=p, persistence=persistence)]
        campaign = campaign_of(
            network, images, "spiking-compiled", trials, p, faults=faults, spiking=model
        )
        errors, accuracy, seconds = run(campaign)
        rows.append([
            name, f"{errors.mean():.4f}", f"{errors.std():.4f}", f"{np.abs(errors).max():.3f}",
            f"{accuracy:.4f}", f"{seconds:.1f}",
        ])  # fmt: skip
        if name == "intermittent, 2 ticks":
            rare = [
                ns.StuckAtZero("neuron", probability=2e-3, layers=[1, 2], persistence=persistence)
            ]
            case = rasters.worst_case(
                campaign_of(network, images, "spiking-compiled", 100, p, faults=rare, spiking=model)
            )
            rasters.raster(case).savefig(folder / "images" / "spiking-raster.png", dpi=110)
            rasters.error_in_time(case).savefig(
                folder / "images" / "spiking-error-in-time.png", dpi=110
            )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs", help="folder"
    )
    arguments = parser.parse_args()
    folder, trials = arguments.output, arguments.trials
    (folder / "images").mkdir(parents=True, exist_ok=True)
    network = ns.Network.load(data.network_path())
    with np.load(data.images_path()) as archive:
        images = {name: archive[name] for name in ("inputs", "targets")}
    # Compiles, so that no campaign is timed with it.
    run(campaign_of(network, images, "spiking-compiled", 1, 0.1, spiking=ns.SpikingModel()))
    run(campaign_of(network, images, "compiled", 1, 0.1))
    rate, rows, slopes = convergence(network, images, folder)
    same = distributions(network, images, trials, folder)
    passing = within(network, images, trials, folder)
    page = f"""# The demo network in spikes

Written by `scripts/spiking_example.py`: the network of the demo (784-64-32-10, sigmoid(4)), its
{len(images["inputs"])} test images, the model of [spiking.md](spiking.md). Nothing here is typed in
by hand.

## Fault-free spikes against rates

The rate network classifies {rate:.3f} of the images correctly.

![Error of fault-free outputs against the duration](images/spiking-convergence.png)

Slope of the error over the duration, both logarithmic:

{table(["inputs", "read-out", "slope"], slopes)}

{table(["inputs", "read-out", "duration (ms)", "rms error", "accuracy"], rows)}

## The same fault sets in rates and in spikes

{trials} trials on {N_INPUTS} images, {1e3 * DURATION_S:g} ms each, constant currents, read-out by
count. Both campaigns have the same seed, so the same neurons are dead in trial k of both.

{
        table(
            [
                "p",
                "standard deviation, rates",
                "spikes",
                "correlation",
                "rms difference",
                "accuracy, rates",
                "spikes",
                "seconds of the spiking campaign",
            ],
            same,
        )
    }

![Distributions of the errors](images/spiking-distributions.png)

## Faults within one inference

16 ticks a presentation; at any time a neuron is dead with probability 0.01, for the whole trial or
in ever shorter bursts. {trials} trials on {N_INPUTS} images.

{
        table(
            ["faults", "mean error", "standard deviation", "largest error", "accuracy", "seconds"],
            passing,
        )
    }

One presentation with a burst in the hidden layers, beside the same without faults:

![Spikes around a fault window](images/spiking-raster.png)

![The error while it builds up](images/spiking-error-in-time.png)
"""
    (folder / "spiking-example.md").write_text(page, encoding="utf-8")
    print(f"written: {folder / 'spiking-example.md'}")


if __name__ == "__main__":
    main()
