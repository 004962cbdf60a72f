from dataclasses import replace

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import InputError

NETWORK = ns.Network.dense(
    weights=[np.ones((4, 6)), np.ones((3, 4))],
    biases=[np.zeros(4), np.zeros(3)],
    activations=["tanh", "softmax"],
    input_shape=(2, 3),
)
FAULTS = [ns.StuckAtZero("neuron", probability=0.1)]


def make(**changes):
    values = {
        "deployment": ns.deploy(NETWORK, ns.Chip.load("ideal")),
        "faults": FAULTS,
        "inputs": np.ones((5, 2, 3)),
        "trials": 100,
        "seed": 42,
        **changes,
    }
    return ns.Campaign(**values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"deployment": NETWORK}, r"deployment: expected what deploy\(network, chip\) returns"),
        ({"faults": []}, "faults: expected at least one fault process"),
        ({"faults": None}, "faults: expected at least one fault process, got none, and chip ideal"),
        ({"faults": [0.1]}, r"faults: expected StuckAtZero\(...\), StuckAt"),
        ({"faults": ns.StuckAtZero("neuron", probability=0.1, layers=[3])}, "got 3"),
        ({"inputs": np.ones((2, 3))}, "one input alone needs a first axis of length 1"),
        ({"inputs": np.ones((5, 7))}, r"inputs: expected shape \(n_inputs, 2, 3\), got \(5, 7\)"),
        ({"inputs": np.full((1, 6), np.nan)}, r"inputs: expected finite numbers, got nan at"),
        ({"inputs": np.ones((0, 6))}, "inputs: expected at least one input"),
        ({"inputs": [["a"] * 6]}, "inputs: expected real numbers"),
        ({"trials": 0}, "trials: expected a whole number from 1"),
        ({"trials": 10.0}, "trials: expected a whole number, got 10.0"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        ({"seed": 2**64}, "seed: expected a whole number from 0"),
        ({"seed": None}, "seed: expected a whole number, got None"),
        ({"targets": [0, 1, 2, 3, 0]}, "targets: expected class numbers from 0 to 2"),
        ({"targets": [0.0] * 5}, r"targets: expected class numbers of shape \(5,\), integers"),
        ({"targets": np.full((5, 3), np.inf)}, "targets: expected finite numbers"),
        ({"loss": "squared_error"}, "targets: expected them for loss 'squared_error'"),
        ({"loss": "hinge", "targets": [0] * 5}, "loss: expected one of"),
        ({"loss": "cross_entropy", "targets": -np.ones((5, 3))}, "expected probabilities"),
        ({"backend": "torch"}, 'backend: expected one of "compiled", "reference"'),
        ({"dtype": "float16"}, "dtype: expected one of"),
        ({"record": ["errors"]}, 'record: expected one of "faults", "error", "hidden"'),
        ({"epsilons": [0.0]}, "epsilons: expected finite numbers above 0"),
        ({"epsilons": ["x"]}, "epsilons: expected numbers"),
        ({"replicas": [3]}, "replicas: expected epsilons beside them"),
        ({"replicas": [0], "epsilons": [1]}, "replicas: expected a whole number from 1"),
    ],
)
def test_bad_values_are_refused_at_the_door(changes, said):
    with pytest.raises(InputError, match=said):
        make(**changes)


def test_values_are_kept_in_one_form():
    campaign = make(epsilons=[1, 0.5, 1], replicas=[5, 3, 3], record=["error", "faults"])
    assert campaign.epsilons == (0.5, 1.0)
    assert campaign.replicas == (3, 5)
    assert campaign.record == ("faults", "error")
    assert campaign.inputs.shape == (5, 6)
    assert not campaign.inputs.flags.writeable


def test_inputs_are_copied():
    inputs = np.ones((5, 6))
    campaign = make(inputs=inputs)
    before = campaign.fingerprint
    inputs[:] = 7
    assert make(inputs=campaign.inputs).fingerprint == before


CHANGES = {
    "faults": [ns.StuckAtZero("neuron", probability=0.1 + 1e-12)],
    "inputs": np.ones((5, 6)) * (1 + 1e-15),
    "seed": 43, "targets": [0, 1, 2, 0, 1], "backend": "reference", "dtype": "float64",
    "record": ("error",), "epsilons": (0.1,), "plan": ns.PlainMonteCarlo(draw_at=(0.5,)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_all_that_determines_the_numbers_is_in_the_fingerprint(name):
    assert make(**{name: CHANGES[name]}).fingerprint != make().fingerprint


def test_the_network_and_its_placement_are_in_the_fingerprint():
    layer = replace(NETWORK.layers[1], bias=[0, 0, 1e-300])
    other = replace(NETWORK, layers=(NETWORK.layers[0], layer))
    fingerprints = {
        make(deployment=ns.deploy(network, chip)).fingerprint
        for network in (NETWORK, other)
        for chip in (ns.Chip.load("ideal"), ns.Chip(name="small", rows=2, columns=2, cores=20))
    }
    assert len(fingerprints) == 4


def test_trials_are_not_in_the_fingerprint():
    assert make(trials=7).fingerprint == make().fingerprint
    assert make().fingerprint == make().fingerprint


def test_fault_sets_are_a_pure_function_of_seed_and_trial():
    campaign = make(faults=[ns.StuckAtZero("synapse", probability=0.3)])
    assert campaign.fault_set(7) == make(
        faults=[ns.StuckAtZero("synapse", probability=0.3)],
        trials=8,
        backend="reference",
        record=("faults",),
        epsilons=(1,),
    ).fault_set(7)
    assert campaign.fault_set(7) == campaign.fault_batch(3, 20)[4]
    assert campaign.fault_set(7) != campaign.fault_set(8)
    with pytest.raises(InputError, match="k: expected a whole number from 0"):
        campaign.fault_set(-1)


def test_chunks_hold_at_least_one_group_of_replicas():
    assert make(replicas=(5000,), epsilons=(1,)).chunk >= 5000
    assert make().chunk == make(trials=10**9).chunk


def test_labels_come_from_classes_and_one_hot_rows_only():
    assert make(targets=[0, 1, 2, 0, 1]).labels.tolist() == [0, 1, 2, 0, 1]
    assert make(targets=np.eye(3)[[0, 1, 2, 0, 1]]).labels.tolist() == [0, 1, 2, 0, 1]
    assert make(targets=np.full((5, 3), 0.5)).labels is None
    np.testing.assert_array_equal(make(targets=[0, 1, 2, 0, 1]).target_outputs[1], [0, 1, 0])


def test_probabilities_can_be_replaced_one_by_one():
    campaign = make().with_probabilities([0.25])
    assert campaign.faults[0].probability == 0.25
    with pytest.raises(InputError, match="one for each of 1 fault processes"):
        make().with_probabilities([0.1, 0.2])


def test_units_of_work_grow_where_little_fails_and_depend_on_the_campaign_only(monkeypatch):
    monkeypatch.setattr("neurosim.campaign._CHUNK_VALUES", 2**17)

    def at(p, **changes):
        return make(faults=[ns.StuckAtZero("synapse", probability=p)], **changes).chunk

    assert at(1e-7) >= at(1e-3) >= at(0.1)
    assert at(1e-7) == at(1e-7, trials=3, seed=1)
    assert at(1e-9, record=["hidden"]) < at(1e-9) == at(1e-9, record=["error"])
    assert at(0) == at(1e-9)


@pytest.mark.parametrize(
    ("persistence", "chunk"),
    [(ns.Permanent(), 8), (ns.Transient(), 4), (ns.Intermittent(mean_duration=2), 4)],
)
def test_units_of_work_hold_few_events_however_much_fails(persistence, chunk):
    # Half of 10^6 synapses on 2 inputs: 2^22 events bound the unit of work, not its 2^22 errors.
    network = ns.Network.dense(
        weights=[np.ones((1000, 1000)), np.ones((1, 1000))],
        biases=[np.zeros(1000), np.zeros(1)],
        activations=["relu", "identity"],
    )
    campaign = make(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("synapse", probability=0.5, persistence=persistence)],
        inputs=np.ones((2, 1000)),
    )
    assert campaign.chunk == chunk
    events = len(campaign.fault_batch(0, chunk).synapses.site)
    assert 2**20 < events < 1.01 * 2**22
