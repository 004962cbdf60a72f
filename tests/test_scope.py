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


def names(certificate):
    return {row.method for row in certificate.rows}


def test_values_are_refused_with_the_reason_and_certify_simulates_them():
    beyond = campaign([ns.StuckAt("neuron", value=0.5, probability=0.1, layers=[1])])
    for ask in (
        lambda: ns.exceedance(beyond, epsilon=0.5),
        lambda: ns.estimate_moments(beyond, evaluations=100),
    ):
        with pytest.raises(InputError, match="which sets values: such fault sets are computed"):
            ask()
    with pytest.raises(InputError, match="expected stuck-at-0 neurons and synapses of a chain"):
        ns.harden(beyond, budget=1)
    certificate = ns.certify(beyond, 0.5, 0.2, check=False, progress=False)
    assert names(certificate) == {"cantelli-simulated", "simulation"}


@pytest.mark.parametrize(
    "fault",
    [
        ns.StuckAtZero("neuron", probability=0.1),
        ns.StuckAtZero("column", probability=0.1),
        ns.StuckAt("neuron", value=0.5, probability=0.1, layers=[1]),
    ],
)
def test_graphs_are_refused_with_the_reason_and_certify_simulates_them(fault):
    beyond = campaign([fault], convolutional())
    with pytest.raises(InputError, match="output ranges are not known"):
        ns.exceedance(beyond, epsilon=0.5)
    certificate = ns.certify(beyond, 0.5, 0.2, check=False, progress=False)
    assert names(certificate) == {"cantelli-simulated", "simulation"}


def test_hardening_knows_neurons_and_synapses_only():
    columns = campaign([ns.StuckAtZero("column", probability=0.1)])
    for ask in (
        lambda: ns.harden(columns, budget=1),
        lambda: ns.compare_networks(columns, columns.network),
    ):
        with pytest.raises(InputError, match="expected stuck-at-0 neurons and synapses of a chain"):
            ask()


@pytest.mark.parametrize("site", ["neuron", "row", "column", "core", "link"])
def test_certificates_of_dead_sites_have_every_row(site):
    work = campaign([ns.StuckAtZero(site, probability=0.1)])
    certificate = ns.certify(work, 0.5, 0.2, check=False, progress=False)
    assert {"bernstein", "variance-bound", "enumeration", "exceedance"} <= names(certificate)
    exact = certificate.row("enumeration").tails.any_output
    for row in certificate.rows:
        if row.guarantee:
            assert (row.tails.any_output >= exact - 1e-12).all()
    np.testing.assert_allclose(certificate.row("exceedance").tails.any_output, exact, rtol=1e-9)
    found = ns.largest_probability(work, 0.5, 0.01, method="enumeration", precision=1e-4)
    assert found.failure <= 0.01
