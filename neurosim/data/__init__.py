"""The small trained network and the images of `neurosim demo` (README.md says where from)."""

from pathlib import Path

__all__ = ["images_path", "network_path"]


def network_path() -> Path:
    """The network, 784-64-32-10, as .npz."""
    return Path(__file__).parent / "digits.npz"


def images_path() -> Path:
    """200 test images and their labels: .npz with `inputs` (200, 784) and `targets` (200,)."""
    return Path(__file__).parent / "digits-test.npz"
