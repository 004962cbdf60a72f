"""Spiking networks written as NIR graphs."""

from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import (
    AveragePool2D,
    Conv2D,
    Flatten,
    GlobalAveragePool,
    Layer,
    Shape,
    Weighted,
)
from neurosim.network import Network
from neurosim.spiking_model import SpikingModel

__all__ = ["save_nir"]


def save_nir(network: Network, model: SpikingModel, path: str | PathLike[str]) -> None:
    """Write a network with its spiking model as a NIR graph.

    Weights are those of the spikes, scaled by `model.scales`. Time steps, coding of inputs and
    ticks have no place in NIR; that a reset subtracts is written as metadata.

    Parameters
    ----------
    network : Network
        A chain of dense layers, convolutions, average pools and flattens, with relu neurons; the
        last ones may be identities that are read out by membrane.
    model : SpikingModel
        With scales (`SpikingModel.calibrated`).
    path : str or path-like

    Raises
    ------
    InputError
        If NIR cannot represent the two, with the reason.

    Examples
    --------
    >>> save_nir(network, model.calibrated(network, inputs), "net.nir")  # doctest: +SKIP
    """
    import nir

    if model.scales is None or len(model.scales) != network.depth + 1:
        raise InputError(
            "model: expected scales for every layer, got "
            f"{model.scales!r}; use model.calibrated(network, inputs)"
        )
    if model.refractory_steps > 1:
        raise InputError("refractory_s: expected none, for NIR has no refractory neurons")
    graph = network.graph
    theta, rate = model.threshold_v, model.largest_rate
    leak = (model.membrane_time_constant_s or 1.0) / model.time_step_s
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array(graph.shapes[0])})}
    depth = 0
    for number, node in enumerate(graph.nodes, start=1):
        layer, shape = node.layer, graph.shapes[number - 1]
        if node.sources != (number - 1,):
            raise InputError(
                f"node {number}: expected what the node before it sends, got {node.sources}; "
                "branches would need weights where their spikes meet, which networks here have not"
            )
        if not isinstance(layer, Weighted):
            nodes |= _nir_steps(f"node {number}", f"step_{number}", layer, shape)
            continue
        depth += 1
        last = depth == network.depth and model.readout == "membrane"
        kind = layer.activation.kind
        if kind != ("identity" if last else "relu"):
            raise InputError(
                f"layer {depth}: expected {'identity' if last else 'relu'}, got "
                f"{layer.activation}: NIR has no neurons with other functions"
            )
        if model.synaptic_time_constant_s is not None and layer.bias.any() and not last:
            raise InputError(
                f"layer {depth}: expected no bias with synaptic currents, got one: NIR would "
                "filter it"
            )
        # Other simulators want resistances of 1: weights make up for the time constants.
        to = 1.0 if last else theta * rate / model.scales[depth] * leak
        of = model.scales[depth - 1] / rate
        if depth == 1 and model.coding == "current":
            of = 1.0
        nodes[f"weights_{depth}"] = _nir_weights(depth, layer, shape, to * of, to)
        if not last:
            nodes[f"neurons_{depth}"] = _nir_neurons(model, graph.shapes[number])
    nodes["output"] = nir.Output({"output": np.array([network.widths[-1]])})
    names = list(nodes)
    whole = nir.NIRGraph(
        nodes=nodes,
        edges=list(pairwise(names)),
        metadata={"reset": model.reset},
        type_check=False,  # it takes no groups and no kernels that are not square
    )
    try:
        nir.write(Path(path), whole)
    except OSError as error:
        raise InputError(f"path: expected one that can be written, got {error}") from error


def _nir_steps(where: str, name: str, layer: Layer, shape: Shape) -> dict[str, Any]:
    """The nodes of a layer without weights that takes a shape.

    Raises
    ------
    InputError
        Saying why NIR has no such node.
    """
    import nir

    def flatten(before: Shape) -> Any:
        return nir.Flatten({"input": np.array(before)}, start_dim=0, end_dim=-1)

    if isinstance(layer, Flatten):
        return {name: flatten(shape)}
    if isinstance(layer, GlobalAveragePool):
        pool = AveragePool2D(size=shape[1:])  # type: ignore[arg-type]
        return {**_nir_steps(where, name, pool, shape), f"{name}_flat": flatten((shape[0], 1, 1))}
    if not isinstance(layer, AveragePool2D):
        raise InputError(
            f"{where}: expected an average pool or a flatten, got {type(layer).__name__}, for "
            "which NIR has no node"
        )
    (top, bottom), (left, right) = layer.padding
    if (top, left) != (bottom, right) or layer.dilation != (1, 1):
        raise InputError(
            f"{where}: expected a pool without dilation and with as much padding before as after, "
            f"got dilation {layer.dilation} and padding {layer.padding}: NIR has no other"
        )
    if (top or left) and not layer.count_padding:
        raise InputError(
            f"{where}: expected padding that counts as zeros, got a mean without it, which NIR "
            "does not have"
        )
    return {
        name: nir.AvgPool2d(
            kernel_size=np.array(layer.size),
            stride=np.array(layer.stride),
            padding=np.array([top, left]),
        )
    }


def _nir_weights(number: int, layer: Weighted, shape: Shape, factor: float, to: float) -> Any:
    """Weights times a factor and bias times another one."""
    import nir

    weight, bias = layer.weight * factor, layer.bias * to
    if not isinstance(layer, Conv2D):
        return nir.Affine(weight=weight, bias=bias)
    (top, bottom), (left, right) = layer.padding
    if (top, left) != (bottom, right):
        raise InputError(
            f"layer {number}: expected as much padding before as after, got {layer.padding}: NIR "
            "has no other"
        )
    node = nir.Conv2d(
        input_shape=None, weight=weight, bias=bias, stride=layer.stride, padding=(top, left),
        dilation=layer.dilation, groups=layer.groups,
    )  # fmt: skip
    # Its own rule for the shape of what it sends takes kernels for square.
    node.input_shape = shape[1:]
    node.input_type = {"input": np.array(shape)}
    node.output_type = {"output": np.array(layer.output_shape(shape))}
    return node


def _nir_neurons(model: SpikingModel, shape: Shape) -> Any:
    """Neurons of one layer, with resistances of 1."""
    import nir

    one = np.ones(shape)
    threshold = {"v_threshold": model.threshold_v * one, "v_reset": 0 * one}
    tau, synaptic = model.membrane_time_constant_s, model.synaptic_time_constant_s
    if synaptic is not None:
        if tau is None:
            raise InputError('neuron: expected "lif" with synaptic currents, for NIR has CubaLIF')
        return nir.CubaLIF(
            tau_syn=synaptic * one,
            tau_mem=tau * one,
            r=one,
            v_leak=0 * one,
            w_in=one,
            **threshold,
        )
    if tau is not None:
        return nir.LIF(tau=tau * one, r=one, v_leak=0 * one, **threshold)
    return nir.IF(r=one, **threshold)
