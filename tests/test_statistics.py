from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.errors import InputError
from neurosim.statistics import Changes, Moments, Statistics, loss_values, summarise

EPSILONS, REPLICAS = (0.05, 0.5, 2.0), (1, 3, 4, 7)


def campaign_of(n_inputs=2, n_outputs=3, **settings):
    network = ns.Network.dense(
        weights=[np.ones((n_outputs, 2))], biases=[np.zeros(n_outputs)], activations=["identity"]
    )
    values = {"epsilons": EPSILONS, "replicas": REPLICAS, **settings}
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=0.1)],
        inputs=np.ones((n_inputs, 2)),
        trials=10,
        seed=0,
        **values,
    )


def errors_of(n_trials, seed=0, n_inputs=2, n_outputs=3):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(n_trials, n_inputs, n_outputs)) * 10.0 ** rng.integers(
        -9, 4, (n_trials, n_inputs, n_outputs)
    )
    errors[rng.random(errors.shape) < 0.4] = 0
    return errors.astype(np.float32)


def folded(campaign, golden, errors, cuts, first=0):
    edges = [0, *cuts, len(errors)]
    parts = [
        summarise(campaign, golden, errors[a:b], first + a) for a, b in pairwise(edges) if b > a
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total.merge(part)
    return total


def check(result, campaign, golden, errors, first=0):
    """Every statistic against its definition, written out."""
    exact = errors.astype(np.float64)
    n = len(errors)
    np.testing.assert_allclose(result.errors.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-15)
    if n > 1:
        np.testing.assert_allclose(result.errors.variance, exact.var(axis=0, ddof=1), rtol=1e-10)
        centred = exact - exact.mean(axis=0)
        for power, ours in ((3, result.errors.third_moment), (4, result.errors.fourth_moment)):
            size = 1e-10 * (np.abs(centred) ** power).mean(axis=0).max()
            np.testing.assert_allclose(ours, (centred**power).mean(axis=0), rtol=1e-9, atol=size)
    assert (result.errors.minimum == exact.min(axis=0)).all()
    assert (result.errors.maximum == exact.max(axis=0)).all()
    np.testing.assert_allclose(result.input_mean.mean, exact.mean(axis=(0, 1)), rtol=1e-9)
    np.testing.assert_allclose(
        result.input_variance.mean, exact.var(axis=1).mean(axis=0), rtol=1e-9
    )
    for e, epsilon in enumerate(EPSILONS):
        assert (result.exceedances[e] == (abs(exact) >= epsilon).sum(axis=0)).all()
        assert (result.exceedances_any[e] == (abs(exact).max(axis=2) >= epsilon).sum(axis=0)).all()
    assert (result.histogram.sum(axis=2) == n).all()
    outputs = errors + golden
    assert (result.class_changes == (outputs.argmax(2) != golden.argmax(1)).sum(axis=0)).all()
    for r, replicas in enumerate(REPLICAS):
        starts = list(range(-(-first // replicas) * replicas, first + n - replicas + 1, replicas))
        medians = np.array(
            [np.median(errors[g - first : g - first + replicas], axis=0) for g in starts]
        ).reshape(len(starts), *errors.shape[1:])
        assert result.median_groups[r] == len(starts)
        for e, epsilon in enumerate(EPSILONS):
            hit = abs(medians.astype(np.float64)) >= epsilon
            assert (result.median_exceedances[r, e] == hit.sum(axis=0)).all()
            assert (result.median_exceedances_any[r, e] == hit.any(axis=2).sum(axis=0)).all()


@given(
    n_trials=st.integers(8, 60),
    cuts=st.lists(st.integers(7, 53), max_size=4, unique=True),
    first=st.integers(0, 30),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_a_fold_over_ranges_gives_what_the_definitions_say(n_trials, cuts, first, seed):
    # Ranges of at least max(REPLICAS) trials, but for the last, as chunks are.
    cuts = [c for c in sorted(cuts) if c < n_trials]
    cuts = [c for i, c in enumerate(cuts) if c - ([0, *cuts][i]) >= max(REPLICAS)]
    campaign = campaign_of()
    golden = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
    errors = errors_of(n_trials, seed)
    check(folded(campaign, golden, errors, cuts, first), campaign, golden, errors, first)


def test_ranges_joined_by_pairs_add_up_like_one_fold():
    campaign, golden, errors = campaign_of(), np.zeros((2, 3), np.float32), errors_of(60)
    left = folded(campaign, golden, errors[:30], [10, 20])
    right = folded(campaign, golden, errors[30:], [8], first=30)
    check(left.merge(right), campaign, golden, errors)


def test_ranges_that_do_not_touch_are_refused():
    campaign, golden = campaign_of(), np.zeros((2, 3), np.float32)
    a, b = (summarise(campaign, golden, errors_of(10), first) for first in (0, 11))
    with pytest.raises(InputError, match="expected trials from 10 on, got 11 on"):
        a.merge(b)


def test_constant_errors_have_exactly_no_variance():
    values = np.full((37, 2), 0.1, np.float32)
    moments = Moments.of(values).merge(Moments.of(values[:5]))
    assert (moments.variance == 0).all()
    assert (moments.mean == np.float32(0.1)).all()


def test_moments_survive_a_large_mean():
    rng = np.random.default_rng(0)
    values = 1e6 + rng.normal(size=(4000, 1))
    moments = Moments.of(values[:1000]).merge(Moments.of(values[1000:]))
    np.testing.assert_allclose(moments.variance, values.var(axis=0, ddof=1), rtol=1e-9)


def test_histogram_bins_hold_low_inclusive_magnitudes_and_a_place_for_zero():
    campaign = campaign_of(1, 2, replicas=())
    edges = campaign.histogram_edges
    assert (np.diff(edges) > 0).all()
    assert (edges == -edges[::-1]).all()
    middle = (len(edges) - 1) // 2
    values = np.array([0, 0.25, -0.25, 0.3, 1e-30, -1e-30, 1e9, -1e9], np.float32)
    errors = np.repeat(values[:, None, None], 2, axis=2)
    counts = summarise(campaign, np.zeros((1, 2), np.float32), errors, 0).histogram[0, 0]
    quarter = np.searchsorted(edges, 0.25, side="right") - 1
    assert counts[middle] == 1
    assert counts[quarter] == 2  # 0.25 and 0.3 share [0.25, 0.3125)
    assert counts[2 * middle - quarter] == 1
    assert counts[[0, -1, middle - 1, middle + 1]].tolist() == [1, 1, 1, 1]


def test_accuracy_and_losses_are_followed():
    labels = np.array([2, 0])
    golden = np.array([[0, 0, 1], [1, 0, 0]], np.float32)
    errors = np.zeros((10, 2, 3), np.float32)
    errors[:4, 0] = [0, 2, 0]
    campaign = campaign_of(targets=labels, loss="squared_error")
    result = summarise(campaign, golden, errors, 0)
    assert result.accuracy.mean == pytest.approx(0.8)
    np.testing.assert_allclose(result.loss.mean, [0.4 * 4 / 3, 0])
    assert result.class_changes.tolist() == [4, 0]


def test_cross_entropy_of_a_lost_class_is_infinite_without_a_warning():
    assert loss_values("cross_entropy", np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])) == np.inf
    assert loss_values("cross_entropy", np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])) == (
        pytest.approx(np.log(2))
    )


def test_storage_form_round_trips():
    for extra in (
        {},
        {"targets": [0, 1], "loss": "absolute_error"},
        {"epsilons": (), "replicas": ()},
    ):
        before = summarise(campaign_of(**extra), np.zeros((2, 3), np.float32), errors_of(20), 0)
        after = Statistics.from_arrays(before.to_arrays())
        assert after.to_arrays().keys() == before.to_arrays().keys()
        for name, array in before.to_arrays().items():
            np.testing.assert_array_equal(after.to_arrays()[name], array)
        assert (after.replicas, after.epsilons, after.loss is None) == (
            before.replicas,
            before.epsilons,
            before.loss is None,
        )


def changes_of(n_trials, seed, n_inputs=4, n_outputs=3):
    """Errors in which few fault sets repeat and most inputs do not change; and the same dense."""
    rng = np.random.default_rng(seed)
    sets = rng.integers(-1, 5, n_trials)
    sets = np.unique(np.append(sets, -1), return_inverse=True)[1][:-1] - 1  # each is some trial's
    offsets, inputs = [0], [np.empty(0, np.int64)]
    for _ in range(sets.max() + 1):
        inputs.append(np.sort(rng.choice(n_inputs, rng.integers(0, n_inputs + 1), replace=False)))
        offsets.append(offsets[-1] + len(inputs[-1]))
    values = rng.normal(size=(offsets[-1], n_outputs)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = 0
    changes = Changes(
        n_inputs=n_inputs,
        sets=sets,
        offsets=np.array(offsets),
        inputs=np.concatenate(inputs).astype(np.int32),
        values=values,
    )
    dense = np.zeros((n_trials, n_inputs, n_outputs), np.float32)
    for t, s in enumerate(changes.sets):
        if s >= 0:
            dense[t, inputs[s + 1]] = values[offsets[s] : offsets[s + 1]]
    return changes, dense


@given(n_trials=st.integers(1, 50), first=st.integers(0, 30), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_changed_pairs_and_dense_errors_have_the_same_statistics(n_trials, first, seed):
    campaign = campaign_of(4, 3, targets=[0, 1, 2, 0], loss="squared_error")
    golden = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    changes, dense = changes_of(n_trials, seed)
    np.testing.assert_array_equal(changes.dense(), dense)
    sparse = summarise(campaign, golden, changes, first)
    check(sparse, campaign, golden, dense, first)
    expected = summarise(campaign, golden, dense, first).to_arrays()
    for name, array in sparse.to_arrays().items():
        if array.dtype.kind == "f" and name not in ("head", "tail"):
            np.testing.assert_allclose(array, expected[name], rtol=1e-10, atol=1e-13, err_msg=name)
        else:
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    outputs = (dense + golden).astype(np.float64)
    losses = loss_values("squared_error", outputs, np.eye(3)[[0, 1, 2, 0]])
    losses = losses - loss_values("squared_error", golden.astype(float), np.eye(3)[[0, 1, 2, 0]])
    np.testing.assert_allclose(sparse.loss.mean, losses.mean(axis=0), rtol=1e-9, atol=1e-12)
    right = (outputs.argmax(axis=2) == [0, 1, 2, 0]).mean(axis=1)
    np.testing.assert_allclose(sparse.accuracy.mean, right.mean(), rtol=1e-12)
    np.testing.assert_allclose(sparse.accuracy.m2, ((right - right.mean()) ** 2).sum(), atol=1e-12)


def test_the_bins_of_the_histogram_are_those_of_its_edges():
    campaign = campaign_of(1, 1, replicas=())
    edges = campaign.histogram_edges
    inner = edges[np.isfinite(edges)]
    values = np.concatenate([inner, inner * (1 + 1e-6), inner * (1 - 1e-6), [1e-310, -1e-310, 0]])
    counts = summarise(campaign, np.zeros((1, 1)), values[:, None, None], 0).histogram[0, 0]
    middle = (len(edges) - 1) // 2
    expected = np.zeros(len(edges) - 1, int)
    for v in values:
        side = np.searchsorted(edges[middle + 1 :], abs(v), side="right")
        expected[middle + int(np.sign(v)) * min(side, middle)] += 1
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("r", [1, 2, 3, 4, 5, 8])
def test_medians_at_the_very_threshold_are_those_of_numpy(r):
    rng = np.random.default_rng(r)
    campaign = campaign_of(2, 3, replicas=(r,), epsilons=(0.25, 0.5, 1.0))
    errors = rng.choice([0, 0, 0.25, 0.5, 0.75, 1.25, -0.25, -0.75, -2], size=(40 * r, 2, 3))
    result = summarise(campaign, np.zeros((2, 3), np.float32), errors.astype(np.float32), 0)
    medians = np.abs(np.median(errors.reshape(40, r, 2, 3), axis=1))
    for e, epsilon in enumerate((0.25, 0.5, 1.0)):
        hit = medians >= epsilon
        np.testing.assert_array_equal(result.median_exceedances[0, e], hit.sum(axis=0))
        np.testing.assert_array_equal(
            result.median_exceedances_any[0, e], hit.any(axis=2).sum(axis=0)
        )


@given(
    n_inputs=st.integers(1, 3),
    density=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_changes_give_back_any_range_of_trials(n_inputs, density, seed, data):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(6, n_inputs, 2)).astype(np.float32)
    errors[rng.random((6, n_inputs)) >= density] = 0
    first = data.draw(st.integers(0, 6))
    stop = data.draw(st.integers(first, 6))
    found = Changes.of(errors).dense(first, stop)
    assert found.shape == (stop - first, n_inputs, 2)
    np.testing.assert_array_equal(found, errors[first:stop])


@pytest.mark.parametrize("changed", [np.s_[:, 1], np.s_[::2]])
def test_half_of_the_pairs_of_all_trials_are_not_all_pairs_of_half(changed):
    errors = np.zeros((4, 2, 1), np.float32)
    errors[changed] = 1
    np.testing.assert_array_equal(Changes.of(errors).dense(0, 2), errors[:2])
