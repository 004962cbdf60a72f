"""Write docs/theory-example.md: every method, bound and tail of the theory on one trained network.

The network of the demo (784-64-32-10, sigmoid(4)), neurons of its first hidden layer dead with
probability p, beside simulations. All numbers and figures of that page come from here.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure

import neurosim as ns
from neurosim import data
from neurosim.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, RED
from neurosim.theory import bounds, continuity, tails

LAYER = 1
METHODS = ("first-order", "second-order", "single-fault", "mean-field")
COLOURS = dict(zip(METHODS, (BLUE, GREEN, RED, ORANGE), strict=True))


def campaign_at(p, trials, images, network, **options):
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("crossbar-256")),
        faults=[ns.StuckAtZero("neuron", probability=p, layers=[LAYER])],
        inputs=images["inputs"],
        targets=images["targets"],
        trials=trials,
        seed=1,
        **options,
    )


def simulate(campaign):
    with TemporaryDirectory() as folder, ns.run(campaign, Path(folder) / "t.h5") as trace:
        return trace.statistics


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines)


def moments(network, images, trials, folder):
    """Root mean squares over inputs and outputs: each method beside the simulation."""
    probabilities = np.array([1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.4])
    rows = []
    curves = {method: [] for method in METHODS}
    for p in probabilities:
        campaign = campaign_at(p, trials, images, network)
        errors = simulate(campaign).errors
        truth = np.sqrt(errors.variance.mean())
        row = [f"{p:g}", f"{truth:.4g}"]
        for method in METHODS:
            prediction = ns.predict(campaign, method)
            deviation = np.sqrt(prediction.variance.mean())
            off = np.abs(prediction.mean - errors.mean).mean() / np.sqrt(errors.variance).mean()
            curves[method].append([deviation / truth, off])
            row.append(f"{deviation / truth:.3f} / {off:.3f}")
        rows.append(row)
    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method, values in curves.items():
        ratio, off = np.array(values).T
        left.plot(probabilities, ratio, "o-", color=COLOURS[method], markersize=3, label=method)
        right.plot(probabilities, off, "o-", color=COLOURS[method], markersize=3)
    left.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    left.set_ylabel("predicted / simulated sd")
    right.set_ylabel("distance of the means, in simulated sd")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("fault probability p")
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    figure.savefig(folder / "images" / "theory-methods.png", dpi=130)
    return table(["p", "simulated sd", *METHODS], rows)


def bounds_table(network, images, trials):
    """What cannot be exceeded, beside what happens, at p = 0.01."""
    p = 0.01
    inputs = images["inputs"]
    campaign = campaign_at(p, trials, images, network, record=("error",))
    with TemporaryDirectory() as folder, ns.run(campaign, Path(folder) / "t.h5") as trace:
        errors = np.asarray(trace.errors[: min(trials, 20_000)], np.float64)
    size = np.abs(errors).mean()
    rows = []
    for order in (1, 2, np.inf):
        truth = np.linalg.norm(errors, order, axis=2).mean()
        bound = bounds.norm_bound(network, inputs, LAYER, p, order).mean()
        paper = bounds.norm_bound(network, inputs, LAYER, p, order, method="paper").mean()
        rows.append(
            [f"norm_bound, order {order} (b1)", f"{truth:.4g}", f"{bound:.4g}", f"{paper:.4g}"]
        )
    absolute = bounds.absolute_bound(network, inputs, LAYER, p).mean()
    paper = bounds.absolute_bound(network, inputs, LAYER, p, method="paper").mean()
    rows.append(["absolute_bound (b2, AP2)", f"{size:.4g}", f"{absolute:.4g}", f"{paper:.4g}"])
    variance = errors.var(axis=0).mean()
    rigorous = bounds.variance_bound(network, inputs, LAYER, p).mean()
    paper = bounds.variance_bound(network, inputs, LAYER, p, method="paper").mean()
    rows.append(["variance_bound", f"{variance:.4g}", f"{rigorous:.4g}", f"{paper:.4g}"])
    square = (errors**2).mean()
    recursion = bounds.variance_recursion(network, inputs, LAYER, p).mean()
    rows.append(
        ["variance_recursion (AP10), of the square", f"{square:.4g}", f"{recursion:.4g}", "-"]
    )
    return table(["bound", "simulated", "valid", "as the paper has it"], rows)


def tail_figure(network, images, trials, folder):
    """P(|error| >= epsilon) of one cell and its bounds; medians of replicas."""
    p = 0.01
    epsilons = tuple(np.geomspace(0.02, 2, 40))
    campaign = campaign_at(p, trials, images, network, epsilons=epsilons)
    statistics = simulate(campaign)
    single = ns.predict(campaign, "single-fault")
    i, k = np.unravel_index(np.argmax(single.variance), single.variance.shape)
    rates = statistics.exceedances[:, i, k] / trials
    mean, variance = single.mean[i, k], single.variance[i, k]
    rigorous = np.array([
        bounds.bernstein(network, images["inputs"], LAYER, p, e, two_sided=True)[i, k]
        for e in epsilons
    ])  # fmt: skip
    figure = Figure(figsize=(8.6, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    seen = rates > 0
    left.plot(
        np.array(epsilons)[seen], rates[seen], "o", color=BLACK, markersize=3, label="simulated"
    )
    law = single.distribution(int(i), int(k))
    left.plot(
        epsilons, law.exceedance(np.array(epsilons)), color=BLUE, label="law of the surrogate (b4)"
    )
    left.plot(
        epsilons,
        tails.cantelli(mean, variance, epsilons, two_sided=True),
        color=GREEN,
        linestyle="--",
        label="Cantelli, b4 moments",
    )
    left.plot(
        epsilons,
        tails.chebyshev(mean, variance, epsilons, two_sided=True),
        color=ORANGE,
        linestyle=":",
        label="Chebyshev (P5), b4 moments",
    )
    left.plot(epsilons, rigorous, color=RED, linestyle="-.", label="bernstein: a guarantee")
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_ylim(0.3 / trials, 2)
    left.set_xlabel("epsilon")
    left.set_ylabel(f"P(|error| ≥ epsilon), input {i}, output {k}")
    replicas = np.arange(1, 32, 2)
    for delta, colour in ((1 / 3, RED), (0.1, ORANGE), (0.01, BLUE)):
        right.plot(
            replicas,
            tails.median_failure(delta, replicas),
            "o-",
            color=colour,
            markersize=3,
            label=f"exact, delta = {delta:.3g}",
        )
    right.plot(
        replicas,
        (1 / 3) ** (replicas / 2),
        color=BLACK,
        linestyle="--",
        label="printed (1/3)^(R/2), for any delta < 1/3",
    )
    right.set_yscale("log")
    right.set_ylim(1e-12, 1)
    right.set_xlabel("R, replicas")
    right.set_ylabel("P(the median of R fails)")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16))
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "images" / "theory-tails.png", dpi=130)
    needed = []
    for delta in (1 / 3, 0.1, 0.01):
        # The printed rule asks for delta < 1/3.
        printed = tails.replicas_needed(delta * (1 - 1e-12), 1e-5, method="paper")
        needed.append([f"{delta:.3g}", tails.replicas_needed(delta, 1e-5), printed])
    return table(["delta of one chip", "replicas for 1e-5", "printed rule"], needed)


def copies(network, images, trials):
    """Copies of every neuron of the layer at fixed p: where mean and variance go."""
    p = 0.3
    campaign = campaign_at(p, trials, images, network)
    first, limit = (ns.predict(campaign, method) for method in ("first-order", "mean-field"))
    rows = []
    for k in (1, 2, 4, 8, 16):
        wide = continuity.duplicate(network, LAYER, k)
        errors = simulate(campaign_at(p, trials, images, wide)).errors
        rows.append([
            k, f"{errors.mean.mean():.4f}", f"{k * errors.variance.mean():.4f}",
        ])  # fmt: skip
    rows.append(["T1", f"{first.mean.mean():.4f}", f"{first.variance.mean():.4f}"])
    rows.append(["mean-field", f"{limit.mean.mean():.4f}", f"{limit.variance.mean():.4f}"])
    return table(["copies k", "mean error", "k x variance"], rows)


def loss_table(network, images, trials):
    """Mean of the squared error's change on the ten inputs that the network fits best and worst."""
    campaign = campaign_at(0.01, trials, images, network, loss="squared_error")
    simulated = simulate(campaign).loss.mean
    first = ns.predict(campaign, "first-order", loss="squared_error")
    single = ns.predict(campaign, "single-fault", loss="squared_error")
    golden = ((network(images["inputs"]) - campaign.target_outputs) ** 2).mean(axis=1)
    order = np.argsort(golden)
    rows = []
    for name, chosen in (("ten best fitted", order[:10]), ("ten worst fitted", order[-10:])):
        rows.append([
            name,
            f"{golden[chosen].mean():.3g}",
            *(f"{v[chosen].mean():.3g}" for v in (
                simulated, first.mean_paper[:, 0], first.mean[:, 0], single.mean[:, 0])),
        ])  # fmt: skip
    return table(
        [
            "inputs",
            "golden loss",
            "simulated",
            "AP9 (gradient only)",
            "with curvature",
            "single-fault",
        ],
        rows,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("docs"), help="folder of the page"
    )
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--inputs", type=int, default=50)
    options = parser.parse_args()
    folder = options.output
    (folder / "images").mkdir(parents=True, exist_ok=True)
    network = ns.Network.load(data.network_path())
    with np.load(data.images_path()) as loaded:
        images = {name: loaded[name][: options.inputs] for name in loaded.files}
    trials = options.trials
    assumptions = ns.check_assumptions(campaign_at(0.01, 1, images, network))
    page = f"""# The theory on one network

Written by `scripts/theory_example.py` ({trials} trials, {options.inputs} images). The network is
that of the demo, {network}; neurons of layer {LAYER} die with probability p, for a whole trial.

## Does the theory apply?

```
{assumptions}
```

## Means and variances

Predicted over simulated standard deviation (root of the mean variance over inputs and outputs) /
distance of the means in standard deviations:

{moments(network, images, trials, folder)}

![Each method beside the simulation, against the fault probability](images/theory-methods.png)

## Bounds

Means over inputs (and outputs) at p = 0.01. A number of the last column below the simulated one is
no bound.

{bounds_table(network, images, trials)}

## Tails and replicas

{tail_figure(network, images, trials, folder)}

![Left: large errors of one output; right: the median of R replicas](images/theory-tails.png)

## Many copies at a fixed probability

Every neuron of layer {LAYER} as k copies with a k-th of its outgoing weights, p = 0.3. Mean and
k x variance tend to `mean-field`, not to T1:

{copies(network, images, trials)}

## A loss

Mean change of the squared error at p = 0.01:

{loss_table(network, images, trials)}
"""
    (folder / "theory-example.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
