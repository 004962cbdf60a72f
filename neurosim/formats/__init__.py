"""One reader for each foreign format. Heavy libraries load when needed.

Readers walk through a file and make a `Tensor` (neurosim.formats.tensor) of each step, which knows
what makes a network.
"""

import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from neurosim.errors import FormatError, InputError, path_of
from neurosim.formats.keras import read_keras
from neurosim.formats.npz import read_npz, write_npz
from neurosim.formats.safetensors import read_safetensors
from neurosim.formats.sklearn import read_sklearn
from neurosim.formats.steps import Parts
from neurosim.formats.weights import read_weights
from neurosim.layers import Array, Shape

__all__ = ["Architecture", "Parts", "compare_outputs", "read_network", "write_network"]

# What describes the layers where a file holds weights alone: a TOML file, or what is in one.
Architecture: TypeAlias = str | PathLike[str] | Mapping[str, Any]

_WHOLE = (".npz", ".onnx", ".keras", ".h5", ".hdf5")
_WEIGHTS_ALONE = (".safetensors", ".pt", ".pth")
_ENDINGS = ", ".join((*_WHOLE, *_WEIGHTS_ALONE))


@contextmanager
def _package(name: str, path: Path) -> Iterator[None]:
    """Say so where a package cannot be imported."""
    try:
        yield
    except Exception as error:  # a protobuf that does not fit raises TypeError or its own errors
        raise FormatError(
            f"{path}: expected the package {name} to handle {path.suffix} files, got: "
            f"{' '.join(str(error).split())}; is it installed and does it import?"
        ) from error


def read_network(
    source: Any, *, architecture: Architecture | None = None, input_shape: Shape | None = None
) -> Parts:
    """Nodes, read-out and input shape of a network file, by its ending, or of a trained model.

    Raises
    ------
    FormatError
        If the file is missing, of an unknown kind, truncated, or holds what neurosim has no
        layers for.
    InputError
        If a keyword says nothing about a source of this kind.
    """
    input_shape = _sizes(input_shape)
    if architecture is not None and not isinstance(architecture, Mapping):
        architecture = path_of(architecture, "architecture")
    if not isinstance(source, str | PathLike):
        return _from_memory(source, architecture, input_shape)
    path = Path(source)
    if path.suffix == ".nir":
        raise FormatError(
            f"{path}: expected a network without spikes; neurosim.load_nir reads NIR graphs"
        )
    if path.suffix not in (*_WHOLE, *_WEIGHTS_ALONE):
        raise FormatError(
            f"{path}: expected a network file ending in {_ENDINGS}, got "
            f"{path.suffix or 'no ending'}"
        )
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise FormatError(f"{path}: expected a network file ({_ENDINGS} are read), got {found}")
    if input_shape is not None and path.suffix not in (".onnx", ".keras", ".h5", ".hdf5"):
        raise InputError(f"input_shape: expected none, for {path.suffix} files state it themselves")
    if path.suffix in _WEIGHTS_ALONE:
        return read_weights(path, _arrays(path), architecture)
    if architecture is not None:
        raise InputError(f"architecture: expected none, for {path.suffix} files hold their own")
    if path.suffix == ".onnx":
        with _package("onnx", path):
            from neurosim.formats.onnx import read_onnx
        return read_onnx(path, input_shape)
    return read_npz(path) if path.suffix == ".npz" else read_keras(path, input_shape)


def _sizes(given: Any) -> Shape | None:
    """The shape of one input that a caller gives, if any."""
    if given is None:
        return None
    try:
        sizes = () if isinstance(given, bytes) else tuple(operator.index(n) for n in given)
    except TypeError:
        sizes = ()
    if not sizes or min(sizes) < 1 or any(isinstance(n, bool) for n in given):
        raise InputError(
            "input_shape: expected whole numbers from 1 on, the shape of one input, for instance "
            f"(3, 224, 224), got {given!r:.60}"
        )
    return sizes


def _arrays(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    from neurosim.formats.pytorch import read_state_dict

    return read_state_dict(path)


def _from_memory(model: Any, architecture: Architecture | None, input_shape: Shape | None) -> Parts:
    if architecture is not None:
        raise InputError("architecture: expected none, for a model in memory holds its own")
    if _of_torch(model):
        from neurosim.formats.pytorch import read_module

        return read_module(model, input_shape)
    kind = model if isinstance(model, type) else type(model)
    if kind.__module__.split(".")[0] == "sklearn":
        if input_shape is not None:
            raise InputError("input_shape: expected none, for scikit-learn models state it")
        return read_sklearn(model)
    if type(model).__module__.split(".")[0] in ("keras", "tf_keras"):
        raise InputError(
            "source: expected the path of a network file, got a Keras model in memory; "
            'model.save("mine.keras") and load that'
        )
    weights = isinstance(model, Mapping)
    found = f"{type(model).__module__}.{type(model).__name__}"
    raise InputError(
        "source: expected the path of a network file, a torch module, an exported program or a "
        f"fitted MLP or linear model of scikit-learn, got {found}"
        + ("; a state_dict says nothing of the layers: give the module" if weights else "")
    )


def _of_torch(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module | torch.export.ExportedProgram)


def compare_outputs(source: Any, shape: Shape, outputs: Callable[[Array], Array]) -> None:
    """Refuse outputs (n, n_outputs) for inputs (n, *shape) that are not those of the source.

    Only what runs as it is, a torch module or an exported program, is compared.

    Raises
    ------
    FormatError
        If some are further off than rounding.
    """
    if _of_torch(source):
        from neurosim.formats.pytorch import compare_module

        compare_module(source, shape, outputs)


def write_network(path: Path, nodes: Any, readout: str | None, input_shape: Shape) -> None:
    """Write a network as .npz or .onnx, by the ending of the path.

    Raises
    ------
    FormatError
        If the ending is another one or the file cannot be written.
    """
    if path.suffix == ".npz":
        write_npz(path, nodes, readout, input_shape)
    elif path.suffix == ".onnx":
        with _package("onnx", path):
            from neurosim.formats.onnx_writer import write_onnx
        write_onnx(path, nodes, readout, input_shape)
    else:
        raise FormatError(
            f"{path}: expected a path that ends in .npz or .onnx, got {path.suffix!r}"
        )
