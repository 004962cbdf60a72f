"""Convolutional networks of ImageNet size: golden pass beside ONNX Runtime, deployment, a campaign.

VGG16 and a MobileNet of depthwise convolutions, 224 x 224, random weights: ratios within one run.
The campaign has faults of probability p at every layer, and is resumed once.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import neurosim as ns
from neurosim.layers import (
    Activation,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
)
from neurosim.network import Network


def kernel(rng, c_in, c_out, size, activation, groups=1, stride=1):
    """A convolution that keeps the size of its map, with weights of He's scale."""
    shape = (c_out, c_in // groups, size, size)
    weight = rng.standard_normal(shape, dtype=np.float32) * np.sqrt(2 / np.prod(shape[1:]))
    return Conv2D(
        weight=weight, bias=np.zeros(c_out), activation=Activation(activation),
        padding=size // 2, groups=groups, stride=stride,
    )  # fmt: skip


def dense(rng, n_in, n_out, activation):
    """A dense layer with weights of He's scale."""
    weight = rng.standard_normal((n_out, n_in), dtype=np.float32) * np.sqrt(2 / n_in)
    return Dense(weight=weight, bias=np.zeros(n_out), activation=Activation(activation))


def vgg16(rng, size):
    """Thirteen convolutions in five stages, three dense layers."""
    layers, channels = [], 3
    for width, number in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(number):
            layers.append(kernel(rng, channels, width, 3, "relu"))
            channels = width
        layers.append(MaxPool2D(size=2))
    layers.append(Flatten())
    widths = (512 * (size // 32) ** 2, 4096, 4096, 1000)
    kinds = ("relu", "relu", "identity")
    layers += [
        dense(rng, *pair, kind) for *pair, kind in zip(widths[:-1], widths[1:], kinds, strict=True)
    ]
    return Network(layers=layers, input_shape=(3, size, size), readout="softmax")


def mobilenet(rng, size):
    """A first convolution, thirteen pairs of a depthwise and a pointwise one, a dense layer."""
    layers, channels = [kernel(rng, 3, 32, 3, "relu6", stride=2)], 32
    steps = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5,
             (1024, 2), (1024, 1))  # fmt: skip
    for width, stride in steps:
        layers.append(kernel(rng, channels, channels, 3, "relu6", channels, stride))
        layers.append(kernel(rng, channels, width, 1, "relu6"))
        channels = width
    layers += [GlobalAveragePool(), dense(rng, channels, 1000, "identity")]
    return Network(layers=layers, input_shape=(3, size, size), readout="softmax")


def session_of(network, threads):
    """The same network in ONNX Runtime, before the read-out."""
    nodes, constants, value = [], [], "x"

    def put(op, *arrays, **attributes):
        nonlocal value
        names = [f"c{len(constants) + k}" for k in range(len(arrays))]
        constants.extend(
            numpy_helper.from_array(np.float32(a), n) for a, n in zip(arrays, names, strict=True)
        )
        nodes.append(helper.make_node(op, [value, *names], [f"v{len(nodes)}"], **attributes))
        value = f"v{len(nodes) - 1}"

    for layer in (node.layer for node in network.graph.nodes):
        if isinstance(layer, Conv2D):
            (top, bottom), (left, right) = layer.padding
            put("Conv", layer.weight, layer.bias, strides=layer.stride, group=layer.groups,
                pads=[top, left, bottom, right])  # fmt: skip
        elif isinstance(layer, MaxPool2D):
            put("MaxPool", kernel_shape=layer.size, strides=layer.stride)
        elif isinstance(layer, GlobalAveragePool):
            put("GlobalAveragePool")
            put("Flatten")
        elif isinstance(layer, Flatten):
            put("Flatten")
        else:
            put("Gemm", layer.weight, layer.bias, transB=1)
        if layer.activation.kind == "relu":
            put("Relu")
        elif layer.activation.kind == "relu6":
            put("Clip", 0.0, 6.0)
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *network.input_shape])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def best(function, repeats):
    """The shortest of several times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def memory_gb():
    """The largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main():
    """Print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=["vgg16", "mobilenet"], default="vgg16")
    parser.add_argument("--size", type=int, default=224, help="height and width of the input")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=0, help="of a campaign; none by default")
    parser.add_argument("--probability", type=float, default=0.01, help="of neurons, each layer")
    parser.add_argument("--skip-peer", action="store_true", help="no ONNX Runtime, less memory")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    network = {"vgg16": vgg16, "mobilenet": mobilenet}[args.network](rng, args.size)
    print(f"{args.network} {args.size}: {network.multiplications / 1e9:.2f} G multiplications")
    start = time.perf_counter()
    text = str(ns.deploy(network, ns.Chip.load("crossbar-256"))).splitlines()[0]
    print(f"deploy and print: {time.perf_counter() - start:.2f} s; {text}")
    x = rng.standard_normal((1, 3 * args.size**2), dtype=np.float32)
    network.graph.outputs(x)
    ours = best(lambda: network.graph.outputs(x), args.repeats)
    print(f"golden pass: {ours * 1e3:.1f} ms; memory {memory_gb():.2f} GB")
    if not args.skip_peer:
        session = session_of(network, args.threads)
        image = {"x": x.reshape(1, *network.input_shape)}
        peer = best(lambda: session.run(None, image), args.repeats)
        logits = session.run(None, image)[0]
        gap = np.abs(network.graph.outputs(x) - logits).max() / np.abs(logits).max()
        print(
            f"onnxruntime: {peer * 1e3:.1f} ms; ratio {ours / peer:.2f}; they differ by {gap:.1e}"
        )
        del session
    if args.trials:
        campaign(network, x, args.trials, args.probability)


def campaign(network, x, trials, probability):
    """Run half of the trials, then all of them: the second run continues."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.h5"
        for part in (max(1, trials // 2), trials):
            planned = ns.Campaign(
                deployment=ns.deploy(network, ns.Chip.load("crossbar-256")), inputs=x,
                faults=[ns.StuckAtZero("neuron", probability=probability)], trials=part, seed=1,
            )  # fmt: skip
            start = time.perf_counter()
            with ns.run(planned, path):
                print(
                    f"campaign: {part} of {trials} trials, chunks of {planned.chunk}, "
                    f"{time.perf_counter() - start:.1f} s; memory {memory_gb():.2f} GB"
                )


if __name__ == "__main__":
    main()
