"""Which quantity tells networks trained with more dropout apart (Table 2, supplementary Fig. 9).

MNIST 784-100-50-10, unscaled dropout p_t of hidden layer 1 while training, crashes p_i = 0.05 there
afterwards. Rank loss over all pairs of networks of two different p_t <= 0.03.
"""

import time
from functools import partial
from itertools import combinations

import numpy as np
from datasets import mnist
from results import crash_campaign, errors_of, estimate, parser, row, save, save_figure, trained

import neurosim as ns
from neurosim.theory import bounds

P, PASSES, PART = 0.05, 6, 3
# Table 2: on the images to train on, and where the paper has it on others.
PAPER = {
    "T1 Var": 0.036,
    "crashing MAE": 0.056,
    "crashing accuracy": 0.198,
    "correct MAE": 0.233,
    "correct accuracy": 0.317,
    "b2 mean": 0.248,
    "b2 Var": 0.317,
    "T1 mean": 0.408,
}
# Whether more dropout makes it less or more; folded, a rank loss forgets which.
FALLS = {"T1 Var": True, "crashing MAE": True, "crashing accuracy": False}
PAPER_TEST = {"crashing accuracy": 0.177, "correct MAE": 0.220, "correct accuracy": 0.399}


def metrics(network, inputs, labels):
    """Every quantity of Table 2, over data."""
    campaign = crash_campaign(network, inputs, [1], P, PASSES, record=["error"],
                              persistence=ns.Transient())  # fmt: skip
    errors, golden = errors_of(campaign)
    faulty, wanted = golden + errors, np.eye(10)[labels]
    prediction = ns.predict(campaign, "first-order")
    return {
        "T1 Var": prediction.variance_paper.mean(),
        "crashing MAE": np.abs(faulty - wanted).mean(),
        "crashing accuracy": (faulty.argmax(axis=-1) == labels).mean(),
        "correct MAE": np.abs(golden - wanted).mean(),
        "correct accuracy": (golden.argmax(axis=-1) == labels).mean(),
        "b2 mean": bounds.absolute_bound(network, inputs, 1, P, method="paper").mean(),
        "b2 Var": bounds.variance_bound(network, inputs, 1, P, method="paper").mean(),
        "T1 mean": prediction.mean.mean(),
    }


def main():
    options = parser(__doc__, mnist=True, long=True).parse_args()
    began = time.perf_counter()
    data, quick = mnist(options.mnist), options.quick and not options.estimate
    rates = np.linspace(0, 0.06, 10)[: 5 if quick else 10]
    networks, epochs, batch = (3, 20, 100) if quick else (10, data.epochs_of(10), 100)
    seen = 300 if quick else len(data.inputs)

    def network_of(rate, seed, passes):
        always = ns.Transient()
        dropout = ns.StuckAtZero("neuron", probability=rate, layers=[1], persistence=always)
        return trained(
            data, (784, 100, 50, 10), seed, epochs=passes, batch=batch, optimiser="adadelta",
            faults=[dropout],
        )  # fmt: skip

    def measured(network):
        """Metrics on images to train on, and on others."""
        return {
            "train": metrics(network, data.inputs[:seen], data.targets[:seen]),
            "test": metrics(network, data.test_inputs[:1000], data.test_targets[:1000]),
        }

    if options.estimate:
        many = len(rates) * networks
        parts = [
            (many * epochs / PART, partial(network_of, 0.03, 0, PART)),
            (many, partial(measured, network_of(0.03, 0, 1))),
        ]
        estimate("dropout", parts, f"{PART} of {epochs} epochs of one network", options)
        return
    found = {
        (k, n): measured(network_of(rate, 100 * k + n, epochs))
        for k, rate in enumerate(rates)
        for n in range(networks)
    }
    low = [key for key in found if rates[key[0]] <= 0.03]
    pairs = [(a, b) for a, b in combinations(low, 2) if a[0] < b[0]]
    rows = []
    few = f"{len(pairs)} pairs of networks, the paper has 1000; " if len(pairs) < 1000 else ""
    why = few + data.name
    for images, column in (("train", PAPER), ("test", PAPER_TEST)):
        for name, paper in column.items():
            values = {key: both[images][name] for key, both in found.items()}
            share = float(np.mean([values[a] < values[b] for a, b in pairs]))
            loss = min(share, 1 - share)
            within = (0.0, 0.05) if name == "T1 Var" else (max(0.0, paper - 0.12), paper + 0.12)
            quantity = f"rank loss of {name}" + (", test images" if images == "test" else "")
            verdict = None
            if name in FALLS and (share < 0.5) != FALLS[name]:
                verdict = f"differs: more dropout, the other way round; {why}"
            elif within[0] <= loss and within[1] >= 0.5:
                verdict = "near chance (0.5), as in the paper; no order can be read from it"
            rows.append(row("Table 2", quantity, paper, loss, within, why, says=verdict))
    best = max(both["test"]["crashing accuracy"] for both in found.values())
    rows.append(
        row("Supp. Fig. 9", "best crashing test accuracy", 0.9536, best, (0.94, 0.97), data.name)
    )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2))
    for axes, name in zip(figure.subplots(1, 2), ("T1 Var", "crashing MAE"), strict=True):
        for (k, _), both in found.items():
            axes.plot(rates[k], both["train"][name], "ko", ms=3)
        axes.set(xlabel="dropout while training", ylabel=name)
    save_figure(figure, "dropout", options)
    setting = f"{data.name}, networks of each: {networks}, {epochs} epochs, batches of {batch}"
    save("dropout", rows, options, setting, began)


if __name__ == "__main__":
    main()
