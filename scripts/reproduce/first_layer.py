"""First-layer weights as images, trained with and without smoothing (Supp. Fig. 2).

MNIST 784-N-100-10, the authors' psi. With smoothing neighbouring neurons see nearly the same image,
and the images mean something; without, each is noise of its own.
"""

import time

import numpy as np
from datasets import mnist
from results import parser, row, save, save_figure, trained

SHOWN = 8


def neighbours(weight):
    """Mean correlation of the weights of neurons next to each other."""
    centred = weight - weight.mean(axis=1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return float((unit[1:] * unit[:-1]).sum(axis=1).mean())


def roughness(weight):
    """Share of the weights' variance, as images, that differs from the next pixel's."""
    images = (weight - weight.mean(axis=1, keepdims=True)).reshape(-1, 28, 28)
    steps = [(np.diff(images, axis=axis) ** 2).mean() for axis in (1, 2)]
    return float(np.mean(steps) / (2 * (images**2).mean()))


def main():
    options = parser(__doc__, mnist=True).parse_args()
    began = time.perf_counter()
    from neurosim import training

    data, quick = mnist(options.mnist), options.quick
    n, epochs, batch = (100, 150, 1000) if quick else (500, data.epochs_of(30), 1000)
    smooth = training.Regularisation(paper_derivative=1e-4, paper_gaussian=1e-2)
    weights = {
        name: trained(
            data, (784, n, 100, 10), 0, epochs=epochs, batch=batch, regularisation=terms
        ).layers[0].weight
        for name, terms in (("no smoothing", None), ("smoothing", smooth))
    }  # fmt: skip
    alike = {name: neighbours(weight) for name, weight in weights.items()}
    rough = {name: roughness(weight) for name, weight in weights.items()}
    why = "shorter training" if quick else data.name
    rows = [
        row("Supp. Fig. 2", "first layer, no smoothing: correlation of neighbours", "near 0",
            alike["no smoothing"],
            says="reproduced" if abs(alike["no smoothing"]) < 0.2 else f"differs: {why}"),
        row("Supp. Fig. 2", "first layer, smoothing: correlation of neighbours", "near 1",
            alike["smoothing"],
            says="reproduced" if alike["smoothing"] > 0.9 else f"differs: {why}"),
        row("Supp. Fig. 2", "first layer: roughness from pixel to pixel, smoothing "
            "over none", "below 1", rough["smoothing"] / rough["no smoothing"],
            says="reproduced" if rough["smoothing"] < rough["no smoothing"] else f"differs: {why}"),
    ]  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.9))
    axes = figure.subplots(2, SHOWN)
    for line, (name, weight) in zip(axes, weights.items(), strict=True):
        first = n // 2 - SHOWN // 2
        for k, place in enumerate(line):
            image = weight[first + k].reshape(28, 28)
            limit = np.abs(image).max()
            place.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
            place.set(xticks=[], yticks=[])
            place.set_title(f"neuron {first + k}", fontsize=8)
        line[0].set_ylabel(name, fontsize=8)
    save_figure(figure, "first_layer", options)
    save("first_layer", rows, options, f"{data.name}, N = {n}, {epochs} epochs of {batch}", began)


if __name__ == "__main__":
    main()
