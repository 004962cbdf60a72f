"""Networks saved by Keras: .keras archives and .h5 files of Keras 3 and of tf.keras (Keras 2).

Read with h5py from the configuration and the weights; Keras is not needed and no code of the file
is run. Keras keeps feature maps as (height, width, channels) unless `data_format` says otherwise:
what follows a Flatten is written for that order, and the network's inputs are given in it.
"""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurosim.errors import FormatError, InputError
from neurosim.formats.archives import zip_member
from neurosim.formats.keras_layers import Config, constant_of, made_by
from neurosim.formats.keras_weights import Place, Store, stored_by_name, stored_by_number
from neurosim.formats.refusals import has_reason, reason_against
from neurosim.formats.steps import Parts, UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array, Shape

__all__ = ["read_keras"]

_MODELS = ("Sequential", "Functional", "Model")
# What Python raises where a configuration lacks a key or holds a value of another kind.
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True)
class _Call:
    """One use of a layer of a model, its number among those of its class, and what it takes.

    operands: uses of layers, and constants.
    """

    kind: str
    name: str
    use: str
    config: Config
    number: int
    operands: tuple[str | Array, ...]

    @property
    def sources(self) -> list[str]:
        """The uses of layers whose outputs it takes."""
        return [operand for operand in self.operands if isinstance(operand, str)]


def read_keras(path: Path, input_shape: Shape | None = None) -> Parts:
    """Nodes, read-out and input shape of a .keras or .h5 file.

    input_shape: where the file leaves sizes open.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or has a layer that neurosim cannot represent; the
        message names the layer.
    """
    import h5py

    archived = path.suffix == ".keras"
    kind, other = ("a Keras archive", "an HDF5 file") if archived else ("an HDF5 file", "a zip")
    try:
        if (h5py.is_hdf5 if archived else zipfile.is_zipfile)(path):
            ending = ".h5" if archived else ".keras"
            raise FormatError(
                f"{path}: expected {kind}, as the name ends in {path.suffix}, got {other}; "
                f"rename it to end in {ending}"
            )
        if archived:
            with zipfile.ZipFile(path) as archive:
                text: str | bytes | None = zip_member(path, archive, "config.json")
                data = io.BytesIO(zip_member(path, archive, "model.weights.h5"))
            opened = h5py.File(data, "r")
        else:
            opened = h5py.File(path, "r")
        with opened as file:
            if not archived:
                text = file.attrs.get("model_config")
                if text is None or file.get("model_weights", getlink=True) is None:
                    raise FormatError(
                        f"{path}: expected a whole Keras model (model_config and model_weights), "
                        f"got {', '.join(file) or 'an empty file'}; save the model, not its "
                        "weights alone"
                    )
            model, config = _configuration(path, text)
            store = stored_by_number(file) if archived else stored_by_name(file, _names(config))
            return _read(path, model, config, store, input_shape)
    except (OSError, RuntimeError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"{path}: expected {kind}, got {' '.join(str(error).split())}; is it truncated?"
        ) from error


def _configuration(path: Path, text: Any) -> tuple[str, Any]:
    """The class of a model and what it is made of."""
    try:
        model = json.loads(text)
        kind, config = str(model["class_name"]), model["config"]
    except (ValueError, RecursionError, *_MALFORMED) as error:
        raise FormatError(
            f"{path}: expected a model's configuration as JSON, got {error}"
        ) from error
    if kind not in _MODELS:
        raise FormatError(
            f"{path}: expected a Sequential or Functional model, got {kind}; a subclassed model "
            "keeps its graph in code: export it to ONNX"
        )
    return kind, config


def _names(config: Any) -> list[str]:
    """Of all layers, also of models inside others."""
    if isinstance(config, list):
        return [name for item in config for name in _names(item)]
    if not isinstance(config, dict):
        return []
    own = [config["name"]] if isinstance(config.get("name"), str) else []
    return own + _names(config.get("layers")) + _names(config.get("config"))


def _read(path: Path, kind: str, config: Any, store: Store, input_shape: Shape | None) -> Parts:
    start = None if input_shape is None else Tensor.start(input_shape)
    tensor = _model(path, kind, config, start, store, ())
    try:
        return tensor.finished()
    except (UnreadableError, InputError) as error:
        raise FormatError(f"{path}: {error}") from error


def _model(
    path: Path,
    kind: str,
    config: Any,
    start: Tensor | None,
    store: Store,
    inside: tuple[Place, ...],
) -> Tensor:
    """What a model makes of a tensor, or of its own input."""
    try:
        calls, output = _calls(kind, config)
    except _MALFORMED as error:
        raise FormatError(
            f"{path}: expected the configuration of a {kind} model, got {error!r}"
        ) from error
    except UnreadableError as error:
        raise FormatError(f"{path}: {error}") from error
    built = config.get("build_input_shape") if isinstance(config, dict) else None
    uses = Counter(source for call in calls for source in call.sources)
    values: dict[str, Tensor] = {}
    for call in calls:
        label = f"{path}: layer {call.name!r} ({call.kind})"
        try:
            unknown = [source for source in call.sources if source not in values]
            if unknown:
                raise UnreadableError(f"expected sources before it, got {unknown[0]!r}")
            operands = [
                values[operand] if isinstance(operand, str) else operand
                for operand in call.operands
            ]
            if not operands:
                operands = [_input(call.config, start, built)]
            wraps = call.kind == "TimeDistributed"
            held = str(call.config["layer"]["config"]["name"]) if wraps else ""
            place = Place(call.kind, call.name, call.number, held)
            if call.kind in _MODELS:
                (source,) = operands
                assert isinstance(source, Tensor)
                made = _model(path, call.kind, call.config, source, store, (*inside, place))
            else:
                made = made_by(call.kind, call.config, operands, store(place, inside))
        except (UnreadableError, InputError, *_MALFORMED) as error:
            raise FormatError(f"{label}: {_said(error)}") from error
        values[call.use] = made.settled() if uses[call.use] > 1 else made
    return values[output]


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    known = isinstance(error, UnreadableError | InputError)
    return text if known else f"expected a configuration as Keras writes it, got {error!r}"


def _calls(kind: str, config: Any) -> tuple[list[_Call], str]:
    """Layers in an order in which every source comes first, and the one that makes the output."""
    layers = config["layers"] if isinstance(config, dict) else config  # Keras 1 and 2.2: a list
    numbers: Counter[str] = Counter()
    calls: list[_Call] = []
    before: tuple[str, ...] = ()
    several = frozenset(
        _name(item)
        for item in (layers if kind != "Sequential" else ())
        if item["class_name"] != "TFOpLambda" and len(item["inbound_nodes"]) > 1
    )
    for item in layers:
        layer, settings = str(item["class_name"]), item["config"]
        name = _name(item)
        if has_reason(layer):  # whatever it takes
            raise UnreadableError(f"layer {name!r} ({layer}): {reason_against(layer, ())}")
        if kind == "Sequential":
            calls.append(_Call(layer, name, name, settings, numbers[layer], before))
        else:
            nodes = item["inbound_nodes"]
            for at, node in enumerate([[one] for one in nodes] if name in several else [nodes]):
                try:
                    operands, arguments = _taken(node, layer, several)
                    if not operands and layer != "InputLayer":
                        raise UnreadableError("expected a layer that takes others, got no source")
                except UnreadableError as error:
                    raise UnreadableError(f"layer {name!r} ({layer}): {error}") from error
                given = {**settings, **arguments} if arguments else settings
                use = _use(name, at, several)
                calls.append(_Call(layer, name, use, given, numbers[layer], operands))
        numbers[layer] += 1
        before = (name,)
    if not calls or len({call.use for call in calls}) < len(calls):
        raise UnreadableError("expected layers with names of their own")
    if kind == "Sequential":
        return calls, calls[-1].use
    ends = {key: _end(key, config[key], several) for key in ("input_layers", "output_layers")}
    output = ends["output_layers"]
    calls = _counted(calls, {output, *(source for call in calls for source in call.sources)})
    if output not in {call.use for call in calls}:
        raise UnreadableError(f"output_layers: expected a layer of the model, got {output!r}")
    waiting, ordered, made = calls, [], set[str]()
    while waiting:
        ready = [call for call in waiting if made.issuperset(call.sources)]
        if not ready:
            raise UnreadableError(f"layer {waiting[0].name!r}: expected sources that are made")
        ordered += ready
        made.update(call.use for call in ready)
        waiting = [call for call in waiting if call.use not in made]
    return ordered, output


def _counted(calls: list[_Call], taken: set[str]) -> list[_Call]:
    """The same calls; of a model that Keras 2 uses several times the first use has number 1."""
    uses = Counter(call.name for call in calls)
    later = {name for name, n in uses.items() if n > 1 and f"{name} ({n + 1})" in taken}
    several, at = frozenset(later), Counter[str]()
    counted = []
    for call in calls:
        if call.name in later:
            at[call.name] += 1
            call = replace(call, use=_use(call.name, at[call.name], several))
        counted.append(call)
    return counted


def _name(item: Any) -> str:
    """The name of a layer."""
    settings = item["config"]
    return str(settings["name"] if isinstance(settings, dict) else item["name"])


def _use(name: str, at: int, several: frozenset[str]) -> str:
    """A use of a layer: its name, and which use it is if there are several."""
    return f"{name} ({at + 1})" if name in several else name


def _end(key: str, names: Any, several: frozenset[str]) -> str:
    """The layer at which a model begins or ends: [name, 0, 0], also in a list or a table."""
    names = list(names.values()) if isinstance(names, dict) else names
    names = [names] if names and isinstance(names[0], str) else names
    if not isinstance(names, list):
        raise UnreadableError(f"{key}: expected a layer, got {names!r:.60}")
    if len(names) != 1:
        part = (
            "keras.Model(model.inputs[0], layer.output) with a layer in front of which no other "
            "input comes in"
            if key == "input_layers"
            else "keras.Model(model.inputs, model.outputs[0]) for the first output"
        )
        raise UnreadableError(f"{key}: expected one, got {len(names)}; save one part, {part}")
    name, at = names[0][:2]
    return _use(str(name), int(at), several)


def _refuse_arguments(keywords: Mapping[str, Any]) -> None:
    """Of the call of a layer: it must work as it does when a network is run."""
    for key, argument in keywords.items():
        if key == "training" and argument:
            raise UnreadableError("expected a layer as it is after training, got training=True")
        if argument is not None and not isinstance(argument, bool):
            raise UnreadableError(f"expected no argument {key}, got {argument!r:.60}")


def _taken(
    nodes: Any, layer: str, several: frozenset[str]
) -> tuple[tuple[str | Array, ...], dict[str, Any]]:
    """What a layer takes, uses of layers and constants, and the settings that its call gives."""
    taken: list[str | Array] = []
    settings: dict[str, Any] = {}

    def walk(node: Any) -> None:
        if node is True:
            raise UnreadableError("expected a layer called with tensors alone, got True")
        if isinstance(node, int | float) and not isinstance(node, bool):
            taken.append(constant_of(node))
        elif isinstance(node, dict):
            match node.get("class_name"):
                case "__keras_tensor__":
                    name, at = node["config"]["keras_history"][:2]
                    taken.append(_use(str(name), int(at), several))
                case str():
                    taken.append(constant_of(node))
                case _ if "args" in node:
                    walk(node["args"])
                    keywords = node["kwargs"]
                    if layer.startswith("Random"):  # Keras writes it itself; predict overrides it
                        keywords = {**keywords, "training": None}
                    _refuse_arguments(keywords)
                case _:  # tensors by the names of the inputs of a model
                    walk(list(node.values()))
        elif isinstance(node, list) and len(node) >= 3 and isinstance(node[0], str):
            walk_2(*node[:4])
        elif isinstance(node, list):
            for part in node:
                walk(part)

    def walk_2(name: str, at: Any, tensor: Any, keywords: Any = ()) -> None:
        """[name, node, tensor, keywords] of Keras 2; a constant stands in place of a tensor."""
        taken.append(
            constant_of(tensor) if name == "_CONSTANT_VALUE" else _use(name, int(at), several)
        )
        keywords = dict(keywords)
        if layer != "TFOpLambda":
            return _refuse_arguments(keywords)
        other = keywords.pop("y", None)
        if isinstance(other, list) and other and isinstance(other[0], str):
            taken.append(_use(other[0], int(other[1]), several))
        elif other is not None:
            taken.append(constant_of(other))
        if keywords.get("axis") is not None:
            settings["axis"] = keywords.pop("axis")
        return _refuse_arguments({key: v for key, v in keywords.items() if key != "name"})

    walk(nodes)
    return tuple(taken), settings


def _input(config: Config, start: Tensor | None, built: Any) -> Tensor:
    """The input of a model: what is given, which must fit what the file states.

    built: the shape for which a Sequential model without an input was built.
    """
    stated = config.get("batch_shape") or config.get("batch_input_shape") or built
    if stated is None:
        if start is None:
            raise UnreadableError(
                "expected the shape of an input (batch_shape), got none; give input_shape"
            )
        return start
    shape = tuple(0 if n is None else int(n) for n in stated[1:])
    given = start.shape if start is not None else None
    if start is None or given is None:
        return Tensor.start(shape)
    if len(given) != len(shape) or any(n not in (0, m) for n, m in zip(shape, given, strict=True)):
        raise UnreadableError(f"expected values of shape {shape} (0: any), got {given}")
    return start
