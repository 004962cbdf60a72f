"""Campaigns beyond what a method knows are refused with the reason, never answered wrongly."""

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import InputError
from neurosim.layers import Conv2D, Dense, Flatten


def campaign(faults, network=None, **options):
    if network is None:
        network = ns.Network.dense(
            weights=[np.ones((3, 2)), np.ones((2, 3))],
            biases=[np.zeros(3), np.zeros(2)],
            activations=["sigmoid", "identity"],
        )
    inputs = np.ones((1, *network.input_shape))
    chip = ns.Chip(name="c", rows=4, columns=2)
    return ns.Campaign(
        deployment=ns.deploy(network, chip), faults=faults, inputs=inputs, trials=200, seed=1,
        epsilons=[0.5], **options,
    )  # fmt: skip


def convolutional():
    rng = np.random.default_rng(0)
    return ns.Network(
        layers=[
            Conv2D(weight=rng.normal(size=(2, 1, 2, 2)), bias=np.zeros(2)),
            Flatten(),
            Dense(weight=rng.normal(size=(2, 8)), bias=np.zeros(2)),
        ],
        input_shape=(1, 3, 3),
    )


@pytest.mark.parametrize("network", [None, convolutional()])
@pytest.mark.parametrize(
    "faults",
    [
        [ns.StuckAtZero("column", probability=0.1)],
        [ns.StuckAt("neuron", value=0.5, probability=0.1, layers=[1])],
    ],
)
def test_rare_failures_know_dead_neurons_and_synapses_and_certify_simulates_the_rest(
    faults, network
):
    beyond = campaign(faults, network)
    for ask in (
        lambda: ns.exceedance(beyond, epsilon=0.5),
        lambda: ns.estimate_moments(beyond, evaluations=100),
        lambda: ns.harden(beyond, budget=1),
    ):
        with pytest.raises(InputError, match="expected stuck-at-0 neurons and synapses of a chain"):
            ask()
    certificate = ns.certify(beyond, 0.5, 0.2, check=False, progress=False)
    assert {row.method for row in certificate.rows} == {"cantelli-simulated", "simulation"}
    plain = ns.certify(
        campaign([ns.StuckAtZero("neuron", probability=0.1)]), 0.5, 0.2, check=False,
        progress=False,
    )  # fmt: skip
    assert {"bernstein", "exceedance"} <= {row.method for row in plain.rows}
