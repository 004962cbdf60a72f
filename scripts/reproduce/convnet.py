"""A small convnet on MNIST, its input pixels failing: T1 beside simulation (section 7).

Two 3x3 convolutions (32, 64), a max-pool, two more (64, 64), a max-pool, dense 128 and 10 with
softmax; softplus; the grey image three times as channels. One image, a "4", 2352 values that fail
with p = 1e-4.
"""

import time
from functools import partial

import numpy as np
from datasets import Data, mnist
from results import crash_campaign, estimate, parser, row, save, save_figure, simulate

import neurosim as ns

P, DIGIT = 1e-4, 4
# Images and trials of an estimate.
FEW_IMAGES, FEW_TRIALS = 512, 10_000


def convnet(data, epochs, quick):
    """As Keras' example of the time: Adadelta, dropout .25 and .5, cross-entropy.

    Quick: a quarter of the channels, Adam, and `spread` before it, for softplus networks that start
    as Keras' do send every image to the same outputs, and take thousands of steps to leave that.
    """
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    share = 4 if quick else 1
    channels, layers = (3, 32 // share, *(64 // share,) * 3), []
    for k in range(4):
        layers += [
            nn.Conv2d(channels[k], channels[k + 1], 3, padding=0 if k < 2 else 1),
            nn.Softplus(),
        ]
        if k % 2:
            layers.append(nn.MaxPool2d(2))
    layers += [
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(channels[-1] * 36, 128 // share), nn.Softplus(),
        nn.Dropout(0.5), nn.Linear(128 // share, 10),
    ]  # fmt: skip
    body = nn.Sequential(*layers)
    for layer in body:
        if hasattr(layer, "weight"):  # as Keras starts
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    images = torch.tensor(three_channels(data.inputs), dtype=torch.float32)
    labels = torch.tensor(data.targets)
    if quick:
        spread(body, images[:64])
        optimiser, batch = torch.optim.Adam(body.parameters(), lr=3e-3), 64
    else:
        optimiser = torch.optim.Adadelta(body.parameters(), lr=1.0, rho=0.95, eps=1e-7)
        batch = 128
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(images)), batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(body(images[rows]), labels[rows]).backward()
            optimiser.step()
    return nn.Sequential(body, nn.Softmax(dim=1)).eval()


def spread(body, images):
    """Scale and shift every weighted layer: mean 0 a channel, deviation 1, over some images."""
    import torch

    body.eval()
    with torch.no_grad():
        for layer in body:
            before, images = images, layer(images)
            if hasattr(layer, "weight"):
                layer.bias -= images.mean(dim=[0, *range(2, images.ndim)])
                scale = layer(before).std()
                layer.weight /= scale
                layer.bias /= scale
                images = layer(before)
    body.train()


def three_channels(inputs):
    return np.repeat(np.reshape(inputs, (-1, 1, 28, 28)), 3, axis=1)


def estimate_full(data, epochs, trials, options):
    some = Data("", *(part[:FEW_IMAGES] for part in (data.inputs, data.targets)), *([], []))
    network = ns.Network.load(convnet(some, 1, quick=False), input_shape=(3, 28, 28))
    campaign = crash_campaign(network, three_channels(data.inputs[:1]), [0], P, FEW_TRIALS)
    parts = [
        (epochs * len(data.inputs) / FEW_IMAGES, partial(convnet, some, 1, quick=False)),
        (trials / FEW_TRIALS, partial(simulate, campaign)),
        (1, partial(ns.predict, campaign, "single-fault")),
    ]
    what = f"{FEW_IMAGES} of {epochs * len(data.inputs)} images and {FEW_TRIALS} of {trials} trials"
    estimate("convnet", parts, what, options)


def main():
    options = parser(__doc__, mnist=True, long=True).parse_args()
    began = time.perf_counter()
    data, quick = mnist(options.mnist), options.quick and not options.estimate
    epochs, trials = (8, 100_000) if quick else (data.epochs_of(10), 1_000_000)
    if options.estimate:
        estimate_full(data, epochs, trials, options)
        return
    module = convnet(data, epochs, quick)
    network = ns.Network.load(module, input_shape=(3, 28, 28))
    test = network(three_channels(data.test_inputs[: 500 if quick else None]))
    accuracy = float((test.argmax(axis=1) == data.test_targets[: len(test)]).mean())
    image = three_channels(data.inputs[np.flatnonzero(data.targets == DIGIT)[:1]])

    campaign = crash_campaign(network, image, [0], P, trials)
    errors = simulate(campaign).errors
    found = {"simulated": (errors.mean[0], np.sqrt(errors.variance[0]))}
    for method in ("first-order", "single-fault"):
        predicted = ns.predict(campaign, method)
        found[method] = (predicted.mean[0], np.sqrt(predicted.variance[0]))
    simulated = found["simulated"]
    # Of the mean of a rare and skewed error simulation knows little: what it knows.
    noise = np.linalg.norm(simulated[1]) / np.sqrt(trials) / np.linalg.norm(simulated[0])
    rows = [
        row("Convnet", "test accuracy", "-", accuracy,
            says="not in the paper" if accuracy > 0.8 else "not trained: read nothing from below"),
        row("Convnet", "nonzero input values of 2352, dead ones a trial", "-",
            f"{np.count_nonzero(image)}, {P * image.size:.3g}", says="not in the paper"),
    ]  # fmt: skip
    for method, name in (("first-order", "T1"), ("single-fault", "b4")):
        for k, what in enumerate(("mean", "deviation")):
            ratio = float(np.linalg.norm(found[method][k]) / np.linalg.norm(simulated[k]))
            rows.append(
                row("Convnet", f"{what} of the 10 outputs by {name} over simulated, norms", 1.0,
                    ratio, (0.8, 1.25), "one pixel is no infinitesimal change"
                    if name == "T1" else "noise of the simulation")
            )  # fmt: skip
    rows.append(
        row("Convnet", "standard error of the simulated mean, as a share", "-", float(noise),
            says="not in the paper")
    )  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2))
    for axes, k, what in zip(
        figure.subplots(1, 2), (0, 1), ("|mean error|", "deviation"), strict=True
    ):
        for (name, values), mark in zip(found.items(), ("ks", "C0o", "C1x"), strict=True):
            axes.semilogy(np.abs(values[k]), mark, label=name, mfc="none")
        axes.set(xlabel="output", ylabel=what, xticks=range(10))
    axes.legend()
    save_figure(figure, "convnet", options)
    what = "a quarter of the channels, Adam" if quick else "Adadelta"
    setting = f"{data.name}, {epochs} epochs, {what}, {trials} trials"
    save("convnet", rows, options, setting, began)


if __name__ == "__main__":
    main()
