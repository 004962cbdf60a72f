"""Costs by hand, and the plain word where a profile has no number."""

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import InputError


def load(tmp_path, tables):
    path = tmp_path / "mine.toml"
    path.write_text(f'[chip]\nname = "mine"\ndescription = "mine"\n{tables}')
    return ns.Chip.load(path)


def entry(value, unit):
    return f'{{ value = {value}, unit = "{unit}", source = "data sheet", status = "verified" }}'


NETWORK = ns.Network.dense(
    weights=[np.ones((3, 2)), np.ones((1, 3))],
    biases=[np.zeros(3), np.zeros(1)],
    activations=["relu", "relu"],
)


def test_matrix_products_by_hand(tmp_path):
    chip = load(
        tmp_path,
        f"[geometry]\ncores = {entry(5, '1')}\n"
        f"[energy]\nenergy_per_multiply_accumulate_j = {entry('2e-12', 'J')}\n"
        f"static_power_w = {entry('1e-3', 'W')}\n"
        f"[timing]\ntime_per_matrix_vector_product_s = {entry('1e-7', 's')}\n",
    )
    found = ns.cost(ns.deploy(NETWORK, chip), replicas=3)
    # 9 synapses, 2 layers: 9 x 2 pJ + 1 mW x 2 x 100 ns = 218 pJ a replica.
    assert found.multiply_accumulates == 27
    assert found.latency_s == pytest.approx(2e-7)
    assert found.energy_j == pytest.approx(3 * 218e-12)
    assert (found.cores, found.chips, found.missing) == (6, 2, ())  # 2 replicas of 2 cores a chip


def test_spikes_by_hand(tmp_path):
    chip = load(
        tmp_path,
        f"[energy]\nenergy_per_synaptic_operation_j = {entry('1e-11', 'J')}\n"
        f"energy_per_spike_j = {entry('1e-10', 'J')}\n"
        f"[neurons]\ntime_step_s = {entry('1e-3', 's')}\nduration_s = {entry('0.1', 's')}\n",
    )
    found = ns.cost(ns.deploy(NETWORK, chip), [[1.0, 0.5]])
    # Largest activity of each layer: 1, 1.5, 4.5, which stands for one spike in each of 100 steps.
    # Spikes: 100 + 50, 3 x 100, 100; operations: 150 x 3 + 300 x 1.
    assert found.spikes == pytest.approx(550)
    assert found.synaptic_operations == pytest.approx(750)
    assert found.energy_j == pytest.approx(750e-11 + 550e-10)
    assert found.latency_s == pytest.approx(0.1)
    assert found.missing == ("without static power: the profile has no static_power_w",)
    without = ns.cost(ns.deploy(NETWORK, chip))
    assert without.energy_j is None
    assert "it depends on the spikes, and those on inputs; none given" in str(without)


def test_a_profile_without_numbers_says_so():
    text = str(ns.cost(ns.deploy(NETWORK, ns.Chip.load("crossbar-256"))))
    assert "energy unknown: the profile has no energy_per_multiply_accumulate_j" in text
    assert "latency unknown" in text
    assert " 0 J" not in text
    single = ns.Network.dense(weights=[[[1, 1]]], biases=[[0]], activations=["relu"])
    odin = ns.cost(ns.deploy(single, ns.Chip.load("odin")), [[1.0, 0.5]])
    assert odin.energy_j > 0
    assert "spikes are counted with SpikingModel()" in str(odin)


@pytest.mark.parametrize("replicas", [0, 1.5, True])
def test_impossible_replicas_are_refused(replicas):
    with pytest.raises(InputError, match="replicas: expected a whole number from 1 on"):
        ns.cost(ns.deploy(NETWORK, ns.Chip.load("ideal")), replicas=replicas)
