"""Where Keras keeps the weights of a layer: by number in .keras archives, by name in .h5 files."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from neurosim.formats.archives import hdf5_array, hdf5_child
from neurosim.formats.steps import UnreadableError
from neurosim.layers import Array

__all__ = ["Place", "Store", "Weights", "stored_by_name", "stored_by_number"]

# A layer's first arrays from their shapes, in the order in which Keras makes them, and how many
# more it has that are not read.
Weights: TypeAlias = Callable[..., list[Array]]

# The list of layers in an archive: of Keras 3 and tf.keras from 2.14 on, of tf.keras before.
_LISTS = ("layers", "_layer_checkpoint_dependencies")


@dataclass(frozen=True)
class Place:
    """A layer: its class, its name, its number among those of its class.

    held: the name of the layer that it wraps, whose weights it has.
    """

    kind: str
    name: str
    number: int
    held: str = ""


# The arrays of a layer from its place, and those of the models around it.
Store: TypeAlias = Callable[[Place, Sequence[Place]], Weights]


def stored_by_number(file: Any) -> Store:
    """Archives: layers/conv2d_1/vars/0, by class and number."""

    def store(place: Place, inside: Sequence[Place]) -> Weights:
        def weights(shapes: Sequence[tuple[int, ...]], unread: int = 0) -> list[Array]:
            where, group = "", file
            for level in (*inside, place):
                key = next((key for key in _LISTS if key in (group or ())), _LISTS[0])
                listed = hdf5_child(group, key)
                folder = _folder(listed or {}, level)
                group = hdf5_child(listed, folder)
                where += f"{key}/{folder}/"
            if place.held:
                where, group = f"{where}layer/", hdf5_child(group, "layer")
            name = place.held or place.name
            where += "vars"
            arrays = [hdf5_array(file, f"{where}/{k}", n) for k, n in enumerate(shapes)]
            stored = hdf5_child(group, "vars")
            written = stored.attrs.get("name", name)
            if written != name:  # newer versions write it down
                raise UnreadableError(
                    f"{where}: expected the weights of layer {name!r}, got those of {written!r}"
                )
            if len(stored) != len(shapes) + unread:
                raise UnreadableError(
                    f"{where}: expected {len(shapes) + unread} arrays, got {len(stored)}"
                )
            return arrays

        return weights

    return store


def _folder(listed: Mapping[str, Any], place: Place) -> str:
    """The folder of a layer: those of its class are numbered in order, but not without gaps.

    tf.keras before 2.14 counts a layer with weights twice: dense, dense_2, dense_4.
    """
    stem = _snake_case(place.kind)
    pattern = re.compile(rf"{re.escape(stem)}(?:_(\d+))?")
    found = {int(match[1] or 0): key for key in listed if (match := pattern.fullmatch(key))}
    numbers = sorted(found)
    if place.number < len(numbers):
        return found[numbers[place.number]]
    return stem + (f"_{place.number}" if place.number else "")


def _snake_case(name: str) -> str:
    """The name of a class as Keras writes it in a path."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def stored_by_name(file: Any, names: Sequence[str]) -> Store:
    """.h5 files: model_weights/NAME, whose attribute weight_names lists all arrays.

    names: of all layers, for those of a model inside another lie in one list.
    """
    known = sorted((name.split("/") for name in names), key=len, reverse=True)

    def owner(written: str) -> str | None:
        """The layer an array is of: "conv1/bn/gamma:0" is of "conv1/bn", not of a layer "bn"."""
        parts = written.split("/")[:-1]
        found = (name for name in known if parts[len(parts) - len(name) :] == name)
        return "/".join(next(found, [])) or None

    def store(place: Place, inside: Sequence[Place]) -> Weights:
        outer = inside[0].name if inside else place.name

        def weights(shapes: Sequence[tuple[int, ...]], unread: int = 0) -> list[Array]:
            where, group = "model_weights", file["model_weights"]
            for part in outer.split("/"):
                where, group = f"{where}/{part}", hdf5_child(group, part)
                if group is None:
                    raise UnreadableError(f"{where}: expected the weights of the layer")
            listed = _attribute(group, "weight_names")
            if inside:
                listed = [name for name in listed if owner(name) == place.name]
            if len(listed) != len(shapes) + unread:
                raise UnreadableError(
                    f"{where}: expected {len(shapes) + unread} arrays of the layer, got "
                    f"{len(listed)}"
                )
            return [
                hdf5_array(file, f"{where}/{name}", shape)
                for name, shape in zip(listed, shapes, strict=False)
            ]

        return weights

    return store


def _attribute(group: Any, key: str) -> list[str]:
    """A list of texts; one too long for an attribute is cut into key0, key1 and so on."""
    if key in group.attrs:
        pieces = [group.attrs[key]]
    else:
        pieces = []
        while f"{key}{len(pieces)}" in group.attrs:
            pieces.append(group.attrs[f"{key}{len(pieces)}"])
    texts = [text for piece in pieces for text in piece]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]
