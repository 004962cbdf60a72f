import numpy as np
import pytest

from neurosim.errors import InputError
from neurosim.faults import (
    FaultBatch,
    FaultSet,
    Intermittent,
    Permanent,
    Sites,
    StuckAtZero,
    Transient,
)


@pytest.mark.parametrize("probability", [-1e-9, 1.0000001, float("nan"), "0.1", True, None])
def test_a_probability_outside_the_unit_interval_is_refused(probability):
    with pytest.raises(InputError, match=r"probability: expected a number in \[0, 1\]"):
        StuckAtZero("neuron", probability=probability)


def test_a_percentage_is_suspected():
    with pytest.raises(InputError, match="is it a percentage"):
        StuckAtZero("neuron", probability=5)


@pytest.mark.parametrize("probability", [0, 1, 1e-300])
def test_the_ends_of_the_unit_interval_are_legal(probability):
    assert StuckAtZero("synapse", probability=probability).probability == probability


def test_an_unknown_site_is_refused():
    with pytest.raises(InputError, match='site: expected one of "neuron", "synapse", "row"'):
        StuckAtZero("axon", probability=0.1)


@pytest.mark.parametrize("layers", [[-1], [0.5], "0", [], [1, 1], 3])
def test_wrong_layers_are_refused(layers):
    with pytest.raises(InputError, match="layers: expected"):
        StuckAtZero("neuron", probability=0.1, layers=layers)


def test_a_persistence_that_is_a_class_or_text_is_refused():
    for wrong in (Permanent, "transient"):
        with pytest.raises(InputError, match="persistence: expected Permanent"):
            StuckAtZero("neuron", probability=0.1, persistence=wrong)


@pytest.mark.parametrize("duration", [0.99, float("inf"), float("nan"), -1, "3"])
def test_a_burst_shorter_than_one_presentation_is_refused(duration):
    with pytest.raises(InputError, match="mean_duration: expected at least 1"):
        Intermittent(mean_duration=duration)


def test_a_burst_too_short_for_the_probability_is_refused():
    with pytest.raises(InputError, match=r"at least p / \(1 - p\) = 9 presentations"):
        StuckAtZero("neuron", probability=0.9, persistence=Intermittent(mean_duration=8.9))
    StuckAtZero("neuron", probability=0.9, persistence=Intermittent(mean_duration=9.1))
    StuckAtZero("neuron", probability=1, persistence=Intermittent(mean_duration=1))


def test_layers_default_to_all_that_may_fail_on_the_chip():
    widths = (5, 4, 3)
    assert StuckAtZero("neuron", probability=0.1).layers_in(widths) == (0, 1)
    assert StuckAtZero("synapse", probability=0.1).layers_in(widths) == (1, 2)
    assert StuckAtZero("neuron", probability=0.1, layers=[2, 0]).layers_in(widths) == (0, 2)


@pytest.mark.parametrize(("site", "layer"), [("neuron", 3), ("synapse", 0), ("synapse", 3)])
def test_a_layer_the_network_does_not_have_is_refused(site, layer):
    with pytest.raises(InputError, match=f"got {layer}"):
        StuckAtZero(site, probability=0.1, layers=[layer]).layers_in((5, 4, 3))


def test_site_numbers_and_places_are_inverse():
    sites = Sites((3, 4, 2))
    layer, unit = sites.neurons(np.arange(9))
    assert list(zip(layer, unit, strict=True)) == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]  # fmt: skip
    assert (sites.neuron_numbers(layer, unit) == np.arange(9)).all()
    numbers = np.arange(3 * 4 + 4 * 2)
    assert (sites.synapse_numbers(*sites.synapses(numbers)) == numbers).all()
    assert [int(v[0]) for v in sites.synapses(np.array([13]))] == [2, 0, 1]


def test_masks_follow_the_windows():
    faults = FaultSet(
        n_presentations=4, neurons=[(1, 2, 1, 3), (0, 0, 0, 4)], synapses=[(1, 0, 1, 3, 4)]
    )
    assert [m.tolist() for m in faults.masks(0)] == [[[0, 0]], []]
    assert [m.tolist() for m in faults.masks(2)] == [[[0, 0], [1, 2]], []]
    assert [m.tolist() for m in faults.masks(3)] == [[[0, 0]], [[1, 0, 1]]]
    with pytest.raises(InputError, match="presentation: expected 0 to 3, got 4"):
        faults.masks(4)


def test_a_fault_set_is_sorted_and_free_of_repetitions():
    faults = FaultSet(n_presentations=1, neurons=[(1, 2, 0, 1), (0, 1, 0, 1), (1, 2, 0, 1)])
    assert faults.neurons["layer"].tolist() == [0, 1]
    assert len(faults) == 2
    with pytest.raises(ValueError, match="read-only"):
        faults.neurons["unit"] = 0


@pytest.mark.parametrize("window", [(0, 0), (2, 1), (0, 3), (-1, 1)])
def test_windows_outside_the_trial_are_refused(window):
    with pytest.raises(InputError, match="expected windows 0 <= start < stop <= 2"):
        FaultSet(n_presentations=2, neurons=[(0, 0, *window)])


def test_rows_of_a_wrong_length_are_refused():
    with pytest.raises(InputError, match=r"neurons: expected rows of \(layer, unit, start, stop\)"):
        FaultSet(n_presentations=1, neurons=[(0, 0)])


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ({"neurons": [(3, 0, 0, 1)]}, "layers from 0 to 2, got 3"),
        ({"neurons": [(0, 3, 0, 1)]}, "unit from 0 to 2 in layer 0, got 3"),
        ({"synapses": [(0, 0, 0, 0, 1)]}, "layers from 1 to 2, got 0"),
        ({"synapses": [(1, 4, 0, 0, 1)]}, "out from 0 to 3 in layer 1, got 4"),
        ({"synapses": [(1, 0, 3, 0, 1)]}, "in from 0 to 2 in layer 1, got 3"),
    ],
)
def test_a_fault_set_that_does_not_fit_the_network_is_refused(events, said):
    with pytest.raises(InputError, match=said):
        FaultBatch.of(FaultSet(n_presentations=1, **events), Sites((3, 4, 2)))


def test_overlapping_windows_given_by_a_user_are_united():
    faults = FaultSet(n_presentations=5, neurons=[(0, 1, 0, 3), (0, 1, 1, 2), (0, 1, 2, 5)])
    batch = FaultBatch.of(faults, Sites((3, 4, 2)))
    assert batch[0].neurons.tolist() == [(0, 1, 0, 5)]


def test_processes_read_aloud_well():
    process = StuckAtZero(
        "synapse", probability=1e-4, layers=[1, 2], persistence=Intermittent(mean_duration=5)
    )
    assert str(process) == (
        "stuck-at-0 synapses of layers 1, 2, p = 0.0001, "
        "intermittent, mean duration 5 presentations or ticks"
    )
    assert "transient" in str(StuckAtZero("neuron", probability=0.1, persistence=Transient()))
