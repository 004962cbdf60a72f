"""Convolutional networks of ImageNet size: golden pass beside ONNX Runtime, deployment, campaigns.

VGG16 and a MobileNet of depthwise convolutions, 224 x 224, random weights: ratios within one run.
Campaigns have faults of probability p at every layer, are killed halfway and continued. `golden`
and `campaign` write their results, `document` puts them into docs/convolutions.md.
"""

import argparse
import csv
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from machine import RESULTS, THREADS, interleaved, print_table, write_rows
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
from neurosim.trace.writer import checkpointed


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


def network_of(name, size=224):
    """A network with random weights, and one input of it."""
    rng = np.random.default_rng(0)
    network = {"vgg16": vgg16, "mobilenet": mobilenet}[name](rng, size)
    return network, rng.standard_normal((1, 3 * size**2), dtype=np.float32)


def memory_gb():
    """The largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def rounded(seconds):
    """Milliseconds to three digits."""
    return f"{1e3 * seconds:.3g}"


def golden(arguments):
    """The golden pass beside ONNX Runtime, in turns, and both beside float64."""
    network, x = network_of(arguments.network, arguments.size)
    start = time.perf_counter()
    text = str(ns.deploy(network, ns.Chip.load("crossbar-256"))).splitlines()[0]
    print(f"deploy and print: {time.perf_counter() - start:.2f} s; {text}")
    exact = network.graph.outputs(x.astype(np.float64))
    found = network.graph.outputs(x)
    session = session_of(network, arguments.threads)
    image = {"x": x.reshape(1, *network.input_shape)}
    peer = session.run(None, image)[0]
    timings = interleaved(
        {
            "neurosim": (lambda: network.graph.outputs(x), 1),
            "onnxruntime": (lambda: session.run(None, image), 1),
        },
        arguments.rounds,
    )
    ours, theirs = timings["neurosim"], timings["onnxruntime"]

    def error(outputs):
        return f"{np.abs(outputs - exact).max() / np.abs(exact).max():.1e}"

    row = {
        "network": f"{arguments.network}, {arguments.size} x {arguments.size}",
        "multiplications": f"{network.multiplications / 1e9:.3g}",
        "neurosim_ms": rounded(ours.median),
        "onnxruntime_ms": rounded(theirs.median),
        "ratio": f"{ours.median / theirs.median:.2f}",
        "neurosim_error": error(found),
        "onnxruntime_error": error(peer),
        "trusted": "yes" if ours.trusted and theirs.trusted else "no",
    }
    print_table(list(row), [list(row.values())])
    write_rows("convolutions.csv", [row], keep=("network",))


def trials(arguments):
    """Trials of a campaign into a trace, or the rest of them: time and memory of this process."""
    network, x = network_of(arguments.network, arguments.size)
    faults = [ns.StuckAtZero("neuron", probability=arguments.probability)]
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("crossbar-256")), inputs=x, faults=faults,
        trials=arguments.trials, seed=1,
    )  # fmt: skip
    wall, cores = time.perf_counter(), time.process_time()
    with ns.run(campaign, arguments.trace, checkpoint_seconds=0):
        wall, cores = time.perf_counter() - wall, time.process_time() - cores
    print(json.dumps({"wall": wall, "cores": cores, "memory_gb": memory_gb()}))


def started(arguments, trace):
    """A process of its own that computes the trials."""
    asked = {"network": arguments.network, "size": arguments.size, "trials": arguments.trials,
             "probability": arguments.probability, "trace": trace}  # fmt: skip
    options = [text for name, value in asked.items() for text in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, __file__, "trials", *options], stdout=subprocess.PIPE, text=True
    )


def results(trace):
    """Moments and histogram of the errors."""
    return *vars(trace.statistics.errors).values(), trace.statistics.histogram


def campaign(arguments):
    """A campaign killed halfway and continued, and the same one in a piece: time, memory, bits."""
    with tempfile.TemporaryDirectory() as folder:
        broken, whole = Path(folder) / "broken.h5", Path(folder) / "whole.h5"
        first = started(arguments, broken)
        while (kept := checkpointed(broken) or 0) < arguments.trials // 2:
            if first.poll() is not None:
                raise SystemExit(f"the campaign ended before it was killed, with {first.poll()}")
            time.sleep(0.02)
        first.kill()
        first.wait()
        kept = checkpointed(broken)
        print(f"killed after {kept} of {arguments.trials} trials")
        said = []
        for trace in (broken, whole):
            output, _ = (process := started(arguments, trace)).communicate()
            if process.returncode:
                raise SystemExit("the campaign failed")
            said.append(json.loads(output.splitlines()[-1]))
        with ns.Trace(broken) as one, ns.Trace(whole) as other:
            pairs = zip(results(one), results(other), strict=True)
            same = all(np.array_equal(a, b) for a, b in pairs)
    row = {
        "network": f"{arguments.network}, {arguments.size} x {arguments.size}",
        "trials": arguments.trials,
        "probability": f"{arguments.probability:g}",
        "core_seconds": f"{said[1]['cores']:.3g}",
        "memory_gb": f"{max(one['memory_gb'] for one in said):.2f}",
        "killed_after": kept,
        "same_bits": "yes" if same else "no",
    }
    print_table(list(row), [list(row.values())])
    print(f"in {said[1]['wall']:.3g} s")
    write_rows("convolution-campaigns.csv", [row], keep=("network", "trials", "probability"))


PAGE = Path(__file__).parents[2] / "docs" / "convolutions.md"
DATA = PAGE.parent / "data" / "performance"

# Tables of the page: the file of each, and the names of its columns for readers.
TABLES = {
    "golden": ("convolutions.csv", (
        "network", "G multiplications", "neurosim, ms", "ONNX Runtime, ms", "ratio",
        "largest error, neurosim", "ONNX Runtime", "quiet",
    )),
    "campaigns": ("convolution-campaigns.csv", (
        "network", "trials", "p", "ns.run, s of one core", "peak memory, GB", "killed after",
        "same bits",
    )),
}  # fmt: skip


def fill(text):
    """The page with its tables written anew from the documented results."""
    for name, (file, header) in TABLES.items():
        with (DATA / file).open(newline="") as source:
            rows = [list(row.values()) for row in csv.DictReader(source)]
        lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(
            pattern, lambda m, t=table: f"{m[1]}\n{t}\n\n{m[2]}", text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"{PAGE.name}: expected one place for table {name}")
    return text


def document(arguments):
    """Put the results into docs/convolutions.md."""
    for file, _ in TABLES.values():
        if not (RESULTS / file).exists():
            raise SystemExit(f"no results {file} in {RESULTS}; run the other commands first")
        shutil.copy(RESULTS / file, DATA / file)
    PAGE.write_text(fill(PAGE.read_text("utf-8")), "utf-8")
    print(f"written: {PAGE}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for command in (golden, campaign, trials, document):
        told = command.__doc__.splitlines()[0]
        one = commands.add_parser(command.__name__, help=told, description=told)
        one.set_defaults(command=command)
        if command is document:
            continue
        one.add_argument("--network", choices=["vgg16", "mobilenet"], default="vgg16")
        one.add_argument("--size", type=int, default=224, help="height and width of the input")
        if command is golden:
            one.add_argument("--threads", type=int, default=THREADS)
            one.add_argument("--rounds", type=int, default=15, help="quiet windows of each")
            continue
        one.add_argument("--trials", type=int, default=100)
        one.add_argument("--probability", type=float, default=0.01, help="of neurons, each layer")
        if command is trials:
            one.add_argument("--trace", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
