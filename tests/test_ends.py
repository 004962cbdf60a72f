"""Networks that end behind their last weighted layer: heads side by side, a pool, a part.

Each is the same function as a chain of dense layers, whose theory and simulation are checked
elsewhere: neurons of the layers before must do the same in both.
"""

import numpy as np
import pytest
from graphs import dense

import neurosim as ns
from neurosim.errors import InputError
from neurosim.graph import Node
from neurosim.layers import AveragePool2D, Concatenate, Flatten, Reshape, Slice

SHAPE = 5


def ending(how):
    """A network, and the chain that computes the same."""
    rng = np.random.default_rng(4)
    first, body = dense(rng, SHAPE, 6, "tanh"), dense(rng, 6, 4, "tanh")
    start = [Node(first, (0,)), Node(body, (1,))]
    if how == "heads":
        heads = dense(rng, 4, 3), dense(rng, 4, 1)
        end = [Node(heads[0], (2,)), Node(heads[1], (2,)), Node(Concatenate(), (3, 4))]
        weight = np.vstack([head.weight for head in heads])
        bias = np.concatenate([head.bias for head in heads])
    else:
        last = dense(rng, 4, 8)
        if how == "pool":
            pools = [Reshape(shape=(2, 2, 2)), AveragePool2D(size=2), Flatten()]
            mixed = np.kron(np.eye(2), np.full((1, 4), 0.25))
        else:
            pools, mixed = [Slice(start=2, stop=5)], np.eye(8)[2:5]
        end = [Node(layer, (k,)) for k, layer in enumerate([last, *pools], start=2)]
        weight, bias = mixed @ last.weight, mixed @ last.bias
    chain = ns.Network.dense(
        weights=[first.weight, body.weight, weight],
        biases=[first.bias, body.bias, bias],
        activations=["tanh", "tanh", "identity"],
    )
    return ns.Network(nodes=[*start, *end], input_shape=(SHAPE,)), chain, rng


def campaign_of(network, rng_seed=1, **options):
    inputs = np.random.default_rng(rng_seed).normal(size=(3, SHAPE))
    given = {
        "faults": [ns.StuckAtZero("neuron", probability=0.1, layers=[0, 1, 2])],
        "trials": 200, "seed": 3, "dtype": "float64", "record": ["error"],
    }  # fmt: skip
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")), inputs=inputs, **given | options
    )


@pytest.mark.parametrize("how", ["heads", "pool", "part"])
@pytest.mark.parametrize("method", ["first-order", "single-fault"])
def test_moments_are_those_of_the_chain(how, method):
    network, chain, _ = ending(how)
    one, other = (ns.predict(campaign_of(n), method) for n in (network, chain))
    assert one.n_outputs == chain.widths[-1]
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-9)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("how", ["heads", "pool", "part"])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
@pytest.mark.parametrize("method", ["first-order", "single-fault"])
def test_losses_are_those_of_the_chain(how, loss, method, tmp_path):
    network, chain, rng = ending(how)
    targets = rng.integers(0, chain.widths[-1], 3)
    targets[0] = chain.widths[-1] - 1
    found = []
    for number, each in enumerate((network, chain)):
        campaign = campaign_of(each, targets=targets, loss=loss)
        prediction = ns.predict(campaign, method, loss=loss)
        with ns.run(campaign, tmp_path / f"{number}.h5", progress=False) as trace:
            simulated = [np.asarray(trace.errors), trace.loss.mean, trace.accuracy]
        found.append([prediction.mean, prediction.variance, *simulated])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-13)


@pytest.mark.parametrize("how", ["heads", "pool", "part"])
def test_classes_are_those_of_the_outputs(how):
    network, chain, _ = ending(how)
    n = chain.widths[-1]
    assert network.n_outputs == campaign_of(network).n_outputs == n
    wanted = campaign_of(network, targets=np.zeros((3, n))).target_outputs
    assert wanted.shape == (3, n)
    with pytest.raises(InputError, match=f"class numbers from 0 to {n - 1}, got 0 to {n}"):
        campaign_of(network, targets=[0, 0, n])


def test_deployments_are_compared_by_their_outputs():
    network, chain, rng = ending("heads")
    chip = ns.Chip.load("ideal")
    inputs = rng.normal(size=(2, SHAPE))
    faults = [ns.StuckAtZero("neuron", probability=0.1, layers=[1])]
    one, other = ns.deploy(network, chip), ns.deploy(chain, chip)
    compared = ns.compare_deployments(one, other, inputs, faults=faults, trials=50, seed=1)
    assert compared.predicted_variance.shape == (2, 2, 4)
