from itertools import pairwise

import numpy as np
import pytest
from backend_contract import networks
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.errors import DeploymentError, InputError

sizes = st.one_of(st.none(), st.integers(1, 9))


@given(case=networks(max_depth=3, max_width=14), rows=sizes, columns=sizes)
@settings(max_examples=80, deadline=None)
def test_every_synapse_sits_on_exactly_one_place_of_its_own(case, rows, columns):
    network, _ = case
    deployment = ns.deploy(network, ns.Chip(name="c", rows=rows, columns=columns))
    seen = set()
    for number, layer in enumerate(network.layers, start=1):
        out, in_ = (a.ravel() for a in np.indices(layer.weight.shape))
        core, row, column = deployment.synapse_places(number, out, in_)
        places = set(zip(core.tolist(), row.tolist(), column.tolist(), strict=True))
        assert len(places) == layer.weight.size
        assert not places & seen
        seen |= places
        assert (row < (rows or layer.n_in)).all()
        assert (column < (columns or layer.n_out)).all()
        for c, r, k, weight in zip(core, row, column, layer.weight.ravel(), strict=True):
            assert deployment.core_weights(c)[r, k] == weight
    assert {core for core, _, _ in seen} == set(range(deployment.n_cores))
    assert len(seen) == sum(block.size for block in deployment.blocks)


@given(case=networks(), rows=sizes, columns=sizes)
@settings(max_examples=60, deadline=None)
def test_evaluation_block_by_block_is_the_plain_product(case, rows, columns):
    network, inputs = case
    deployment = ns.deploy(network, ns.Chip(name="c", rows=rows, columns=columns))
    np.testing.assert_allclose(
        deployment.by_blocks(inputs), network(inputs), rtol=1e-10, atol=1e-12
    )


def big(*widths):
    return ns.Network.dense(
        weights=[np.zeros((b, a)) for a, b in pairwise(widths)],
        biases=[np.zeros(n) for n in widths[1:]],
        activations=["relu"] * (len(widths) - 1),
    )


def test_what_does_not_fit_is_refused_with_what_is_short():
    with pytest.raises(
        DeploymentError,
        match=r"at most 5 cores of 256 x 256, got one that needs "
        r"10: 5 short; layer 1 alone takes 8",
    ):
        ns.deploy(big(784, 500, 10), ns.Chip(name="c", rows=256, columns=256, cores=5))
    assert (
        ns.deploy(big(784, 500, 10), ns.Chip(name="c", rows=256, columns=256, cores=10)).n_cores
        == 10
    )


def test_a_deployment_prints_cores_utilisation_and_one_line_a_layer():
    text = str(ns.deploy(big(784, 500, 10), ns.Chip.load("crossbar-256")))
    lines = text.splitlines()
    assert lines[0] == "on crossbar-256: 10 of 8192 cores (256 x 256), mean utilisation 60.6%"
    assert lines[1] == "  layer 1: 784 -> 500 relu, 392000 synapses, cores 0-7, utilisation 74.8%"
    assert len(lines) == 3


def test_weight_precision_that_is_not_modelled_is_said():
    deployment = ns.deploy(big(4, 2), ns.Chip.load("truenorth"))
    assert "weight precision is not modelled: truenorth has 2 weight levels" in str(deployment)
    assert ns.deploy(big(4, 2), ns.Chip.load("crossbar-256")).notes == ()


def test_places_that_do_not_exist_are_refused():
    deployment = ns.deploy(big(4, 2), ns.Chip.load("ideal"))
    with pytest.raises(InputError, match="layer: expected 1 to 1, got 2"):
        deployment.synapse_places(2, 0, 0)
    with pytest.raises(InputError, match="in: expected 0 to 3 in layer 1"):
        deployment.synapse_places(1, 0, 4)
    with pytest.raises(InputError, match="core: expected 0 to 0"):
        deployment.core_weights(1)
    with pytest.raises(InputError, match="expected a Network and a Chip"):
        ns.deploy("net.onnx", ns.Chip.load("ideal"))
