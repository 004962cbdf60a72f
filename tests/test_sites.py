"""Moments for sites of any kind against enumeration of all their states (tests/exact.py)."""

from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import pytest
from exact import ExactLaw, PlainNetwork, effect_error, enumerate_states, loss_value
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.errors import InputError
from neurosim.theory import Effect, Site, predict_sites, site_moments

ACTIVATIONS = ["identity", "relu", "leaky_relu(0.1)", "sigmoid(4)", "tanh", "softplus"]
SMOOTH = ["identity", "sigmoid(4)", "tanh", "softplus"]
LOSSES = ["squared_error", "absolute_error", "cross_entropy"]


@dataclass(frozen=True)
class Case:
    network: ns.Network
    plain: PlainNetwork
    inputs: np.ndarray
    targets: np.ndarray
    sites: list  # of lists of (probability, neurons, synapses), as in exact.enumerate_states
    options: dict

    def predict(self, method, scale=1.0, **options):
        sites = [
            Site(states=[(p * scale, Effect(neurons=n, synapses=s)) for p, n, s in site])
            for site in self.sites
        ]
        if "loss" in self.options:
            options["targets"] = self.targets
        return predict_sites(self.network, self.inputs, sites, method, **self.options, **options)

    def oracle(self, x):
        extra = {"target": self.targets[x]} if "loss" in self.options else {}
        return {**self.options, **extra}

    def changes(self, x):
        """Errors of each state of each site alone."""
        return [
            [effect_error(self.plain, self.inputs[x], n, s, **self.oracle(x)) for _, n, s in site]
            for site in self.sites
        ]

    def law(self, x, scale=1.0):
        sites = [[(p * scale, n, s) for p, n, s in site] for site in self.sites]
        return enumerate_states(self.plain, self.inputs[x], sites, **self.oracle(x))


@st.composite
def cases(
    draw, activations=ACTIVATIONS, agree=False, late=False, max_sites=4, sparse=True, asked=None
):
    """A small network, and a few sites with a few states of a few members each.

    asked: what may be predicted. agree: every place is set to one value only. late: the last
    layers are linear, and sites touch them only, so that errors often add.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    depth = draw(st.integers(1, 3))
    widths = [draw(st.integers(1, 4)) for _ in range(depth + 1)]
    chosen = [draw(st.sampled_from(activations)) for _ in range(depth)]
    softmax = draw(st.booleans()) and not late
    if late:
        chosen[-1] = "identity"
    if softmax:
        chosen[-1] = "softmax"
    weights = [rng.normal(size=(b, a)) for a, b in pairwise(widths)]
    if sparse and draw(st.booleans()):
        weights = [w * (rng.random(w.shape) < 0.6) for w in weights]
    network = ns.Network.dense(
        weights=weights, biases=[rng.normal(size=n) for n in widths[1:]], activations=chosen
    )
    plain = PlainNetwork.of(network)
    lowest = depth if late else 1
    places = plain.neurons(*range(lowest - 1, depth + 1))
    places += plain.synapses(*range(lowest, depth + 1))
    usual = {place: draw(st.sampled_from([0.0, float(rng.normal())])) for place in places}
    sites = []
    for _ in range(draw(st.integers(1, max_sites))):
        # Often of one kind in one layer, as columns and cores are.
        block = draw(st.sampled_from([None, *sorted({place[:2] for place in places})]))
        pool = [place for place in places if block is None or place[:2] == block]
        n_states = draw(st.integers(1, 2))
        chance = rng.dirichlet(np.ones(n_states + 1))[:n_states]
        states = []
        for p in chance:
            members = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4, unique=True))
            rows = ([], [])
            for kind, *place in members:
                value = usual[kind, *place]
                if not agree and draw(st.booleans()):
                    value = float(rng.normal())
                rows[kind == "synapse"].append((*place, value))
            states.append((float(p), *rows))
        sites.append(states)
    options = {}
    outcomes = asked or ["outputs", "outputs", "layer", *([] if late else ["loss"])]
    outcome = draw(st.sampled_from(outcomes))
    if outcome == "layer":
        options["layer"] = draw(st.integers(0, depth))
    elif outcome == "loss":
        options["loss"] = draw(st.sampled_from(LOSSES if softmax else LOSSES[:2]))
    targets = rng.dirichlet(np.ones(widths[-1]), size=2)
    return Case(network, plain, rng.normal(size=(2, widths[0])), targets, sites, options)


def state_moments(sites, changes):
    """Mean and covariance of independent sites whose changes add, from the definitions."""
    n = len(changes[0][0])
    means, covariances = [], []
    for site, ds in zip(sites, changes, strict=True):
        mean, second = np.zeros(n), np.zeros((n, n))
        for (p, *_), d in zip(site, ds, strict=True):
            mean = mean + p * d
            second = second + p * np.outer(d, d)
        means.append(mean)
        covariances.append(second - np.outer(mean, mean))
    return np.array(means), np.array(covariances)


@given(case=cases())
@settings(max_examples=200, deadline=None)
def test_single_fault_moments_are_those_of_exclusive_states_that_add(case):
    prediction = case.predict("single-fault")
    site_means, site_variances = 0, 0
    for x in range(2):
        means, covariances = state_moments(case.sites, case.changes(x))
        close = {"rtol": 1e-7, "atol": 1e-10}
        np.testing.assert_allclose(prediction.mean[x], means.sum(axis=0), **close)
        np.testing.assert_allclose(prediction.covariance[x], covariances.sum(axis=0), **close)
        np.testing.assert_allclose(prediction.variance[x], np.diag(covariances.sum(0)), **close)
        site_means = site_means + means / 2
        site_variances = site_variances + np.array([np.diag(c) for c in covariances]) / 2
    np.testing.assert_allclose(prediction.site_means, site_means, **close)
    np.testing.assert_allclose(prediction.site_variances, site_variances, **close)
    assert prediction.by_single_fault == ()


@given(case=cases(agree=True) | cases())
@settings(max_examples=200, deadline=None)
def test_enumeration_is_exact(case):
    law = case.law(0)
    if law is None:
        # What reaches a hidden layer may agree where the whole does not.
        if "layer" not in case.options:
            with pytest.raises(InputError, match="sites that agree on what they set"):
                case.predict("enumeration")
        return
    prediction = case.predict("enumeration")
    assert prediction.exact
    assert prediction.site_means is None
    for x in range(2):
        law = case.law(x)
        close = {"rtol": 1e-7, "atol": 1e-10}
        np.testing.assert_allclose(prediction.mean[x], law.mean, **close)
        np.testing.assert_allclose(prediction.variance[x], law.variance, **close)
        np.testing.assert_allclose(prediction.covariance[x], law.covariance, **close)


@given(case=cases(agree=True))
@settings(max_examples=100, deadline=None)
def test_single_fault_tends_to_enumeration_as_faults_become_rare(case):
    gaps = []
    for scale in (1e-3, 1e-4):
        single, exact = case.predict("single-fault", scale), case.predict("enumeration", scale)
        gaps.append([abs(single.mean - exact.mean), abs(single.variance - exact.variance)])
    # The gap is of second order in p: a tenth of p, a hundredth of the gap.
    size = 1 + max(abs(np.array(case.changes(x)[0])).max() for x in range(2)) ** 2
    assert (np.array(gaps[1]) <= np.array(gaps[0]) / 50 + 1e-11 * size).all()


@pytest.mark.parametrize("method", ["single-fault", "first-order"])
def test_exact_means_exact(method):
    seen = {True: 0, False: 0}

    @given(case=cases(agree=True, late=True) | cases(agree=True))
    @settings(max_examples=200, deadline=None)
    def check(case):
        prediction = case.predict(method)
        seen[prediction.exact] += 1
        if prediction.exact:
            for x in range(2):
                law = case.law(x)
                close = {"rtol": 1e-7, "atol": 1e-10}
                np.testing.assert_allclose(prediction.mean[x], law.mean, **close)
                np.testing.assert_allclose(prediction.covariance[x], law.covariance, **close)

    check()
    assert min(seen.values()) >= 20


def test_sites_that_meet_in_a_neuron_add_only_if_it_is_linear():
    for activation in ACTIVATIONS:
        network = ns.Network.dense(
            weights=[[[1.0, -2.0]], [[3.0]]],
            biases=[[0.5], [0.0]],
            activations=[activation, "identity"],
        )
        for places in (
            [("neuron", 0, 0), ("neuron", 0, 1)],
            [("synapse", 1, 0, 0), ("synapse", 1, 0, 1)],
            [("neuron", 0, 0), ("synapse", 1, 0, 1)],
        ):
            for method in ("single-fault", "first-order"):
                prediction = predict_sites(network, [[1.0, 1.0]], dead_each(places, 0.1), method)
                assert prediction.exact is (activation == "identity")


def line(*, last="identity"):
    """Two chains side by side, 2 - 2 - 2, so that paths can be told by eye."""
    return ns.Network.dense(
        weights=[np.diag([1.0, 2.0]), np.diag([3.0, 4.0])],
        biases=[[0.5, 0.5], [0.0, 0.0]],
        activations=["relu", last],
    )


@pytest.mark.parametrize(
    ("places", "exact"),
    [
        # Two neurons in chains of their own: nothing is shared, though relu is no straight line.
        ([("neuron", 0, 0), ("neuron", 0, 1)], True),
        ([("neuron", 0, 0), ("synapse", 2, 1, 1)], True),
        # One behind the other.
        ([("neuron", 0, 0), ("neuron", 1, 0)], False),
        ([("neuron", 0, 0), ("synapse", 2, 0, 0)], False),
        ([("neuron", 1, 1), ("synapse", 2, 1, 1)], False),
        ([("synapse", 1, 1, 1), ("neuron", 1, 1)], False),
        # A weight of 0 that is set to 0 changes nothing.
        ([("neuron", 1, 0), ("synapse", 2, 1, 0)], True),
        # Two sites on one thing.
        ([("neuron", 1, 0), ("neuron", 1, 0)], False),
        ([("synapse", 2, 0, 0), ("synapse", 2, 0, 0)], False),
    ],
)
def test_which_pairs_of_sites_add(places, exact):
    prediction = predict_sites(line(), [[1.0, 1.0]], dead_each(places, 0.1))
    assert prediction.exact is exact
    law = predict_sites(line(), [[1.0, 1.0]], dead_each(places, 0.1), "enumeration")
    assert np.allclose(prediction.variance, law.variance, rtol=1e-12) is exact
    # A softmax couples all outputs.
    assert not predict_sites(line(last="softmax"), [[1.0, 1.0]], dead_each(places, 0.1)).exact or (
        places[1] == ("synapse", 2, 1, 0)
    )


def dead_each(places, p):
    """A site for each place ("neuron", layer, unit) or ("synapse", layer, out, in)."""
    return [Site.dead(**{f"{kind}s": [place]}, probability=p) for kind, *place in places]


def behind_another(case, neurons, synapses, x):
    """Whether changing one member alone changes what goes into another: seen in the numbers."""
    members = [("neuron", *row) for row in neurons] + [("synapse", *row) for row in synapses]
    plain, golden = case.plain, case.inputs[x]
    for cause, behind in product(members, members):
        if cause is behind:
            continue
        rows = ([cause[1:]], []) if cause[0] == "neuron" else ([], [cause[1:]])
        kind, layer, *unit = behind[:-1]
        at, unit = (layer, unit[0]) if kind == "neuron" else (layer - 1, unit[1])
        if kind == "synapse" and behind[-1] == plain.weights[layer - 1][behind[2], behind[3]]:
            continue  # a weight set to what it is changes nothing
        before = plain.with_effect(golden, layer=at)[unit]
        if plain.with_effect(golden, *rows, layer=at)[unit] != before:
            return True
    return False


def part_way(case, neurons, synapses, x, h):
    """The error when each member goes the share h of its way."""
    plain = case.plain
    golden = [plain.with_effect(case.inputs[x], layer=n) for n in range(len(plain.widths))]
    moved_neurons = [(n, i, golden[n][i] + h * (v - golden[n][i])) for n, i, v in neurons]
    moved_synapses = [
        (n, i, j, plain.weights[n - 1][i, j] * (1 - h) + h * w) for n, i, j, w in synapses
    ]
    return effect_error(plain, case.inputs[x], moved_neurons, moved_synapses, **case.oracle(x))


@given(case=cases(activations=SMOOTH, asked=["outputs", "outputs", "layer"]))
@settings(max_examples=200, deadline=None)
def test_first_order_is_the_derivative_or_by_single_fault(case):
    prediction = case.predict("first-order")
    depth = case.options.get("layer", case.network.depth)
    h, flagged = 1e-5, set()
    for x in range(2):
        changes = []
        for number, site in enumerate(case.sites):
            changes.append([])
            for _, *kinds in site:
                n, s = ([row for row in rows if row[0] <= depth] for rows in kinds)
                if behind_another(case, n, s, x):
                    flagged.add(number)
                    d = effect_error(case.plain, case.inputs[x], n, s, **case.oracle(x))
                else:
                    d = (part_way(case, n, s, x, h) - part_way(case, n, s, x, -h)) / (2 * h)
                changes[-1].append(d)
        means, covariances = state_moments(case.sites, changes)
        close = {"rtol": 1e-4, "atol": 1e-6}
        np.testing.assert_allclose(prediction.mean[x], means.sum(axis=0), **close)
        np.testing.assert_allclose(prediction.covariance[x], covariances.sum(axis=0), **close)
    assert prediction.by_single_fault == tuple(f"site {k}" for k in sorted(flagged))


def quadratic_law(case, x, changes):
    """The law of a.D + 1/2 D.H D, D the sum of changes of the outputs over independent sites."""
    loss, target = case.options["loss"], case.targets[x]
    softmax = case.plain.forward(case.inputs[x])[0]
    n = len(softmax)
    if loss == "cross_entropy":
        total = target.sum()
        slope = softmax * total - target
        bend = total * (np.diag(softmax) - np.outer(softmax, softmax))
    elif loss == "squared_error":
        slope, bend = 2 * (softmax - target) / n, 2 / n * np.eye(n)
    else:
        slope, bend = np.sign(softmax - target) / n, np.zeros((n, n))
    total, chance = np.zeros((1, n)), np.ones(1)
    for site, of_states in zip(case.sites, changes, strict=True):
        p = np.array([state[0] for state in site])
        moves = np.array([np.zeros(n), *of_states])
        total = (total[:, None] + moves).reshape(-1, n)
        chance = (chance[:, None] * np.array([1 - p.sum(), *p])).ravel()
    values = total @ slope + 0.5 * np.einsum("ak,kl,al->a", total, bend, total)
    return ExactLaw(values[:, None], chance), chance @ total @ slope


@given(case=cases(activations=SMOOTH, asked=["loss"]))
@settings(max_examples=200, deadline=None)
def test_losses_to_first_order_are_quadratic_forms_of_the_changes(case):
    prediction = case.predict("first-order")
    softmax = case.plain.softmax and case.options["loss"] != "cross_entropy"
    plain = replace(case.plain, softmax=softmax)
    outputs = replace(case, plain=plain, options={})
    h = 1e-5
    for x in range(2):
        changes = []
        for site in case.sites:
            changes.append([])
            for _, n, s in site:
                if behind_another(case, n, s, x):
                    changes[-1].append(effect_error(plain, case.inputs[x], n, s))
                else:
                    d = part_way(outputs, n, s, x, h) - part_way(outputs, n, s, x, -h)
                    changes[-1].append(d / (2 * h))
        law, linear = quadratic_law(case, x, changes)
        close = {"rtol": 1e-4, "atol": 1e-5 * (1 + np.abs(law.values).max() ** 2)}
        np.testing.assert_allclose(prediction.mean[x], law.mean, **close)
        np.testing.assert_allclose(prediction.variance[x], law.variance, **close)
        np.testing.assert_allclose(prediction.mean_paper[x], linear, **close)


def test_first_order_counts_no_synapse_twice():
    network = ns.Network.dense(
        weights=[np.eye(2), [[2.0, 5.0]]], biases=[[0, 0], [0]], activations=["identity"] * 2
    )
    x = [[1.0, 1.0]]
    neuron_and_synapse = Site.dead(
        neurons=[(1, 0)], synapses=[(2, 0, 0)], probability=0.1, name="column 0"
    )
    prediction = predict_sites(network, x, [neuron_and_synapse], "first-order")
    assert prediction.mean[0, 0] == pytest.approx(-0.2)
    assert prediction.by_single_fault == ("column 0",)
    assert "by its exact change alone: column 0" in str(prediction)
    side_by_side = Site.dead(neurons=[(1, 0)], synapses=[(2, 0, 1)], probability=0.1)
    prediction = predict_sites(network, x, [side_by_side], "first-order")
    assert prediction.mean[0, 0] == pytest.approx(-0.7)
    assert prediction.by_single_fault == ()


def test_exclusive_states_are_one_categorical_draw():
    network = ns.Network.dense(weights=[[[2.0]]], biases=[[1.0]], activations=["identity"])
    site = Site(states=[
        (0.25, Effect(neurons=[(0, 0, 3.0)])),
        (0.5, Effect(synapses=[(1, 0, 0, -1.0)])),
    ])  # fmt: skip
    for method in ("single-fault", "first-order", "enumeration"):
        prediction = predict_sites(network, [[1.0]], [site], method)
        assert prediction.exact
        # Changes 4 and -3 and 0.
        assert prediction.mean[0, 0] == pytest.approx(1.0 - 1.5)
        assert prediction.variance[0, 0] == pytest.approx(4.0 + 4.5 - 0.25)
    certain = Site(states=[(1.0, Effect(neurons=[(0, 0, 0.7)]))])
    for method in ("single-fault", "enumeration"):
        assert predict_sites(network, [[0.1]], [certain], method).variance[0, 0] == 0


@pytest.mark.parametrize("method", ["single-fault", "first-order"])
def test_plain_sites_are_those_of_predict(method):
    @given(
        seed=st.integers(0, 2**32),
        softmax=st.booleans(),
        hidden=st.booleans(),
        kinds=st.lists(st.sampled_from(["neuron", "synapse"]), min_size=1, unique=True),
    )
    @settings(max_examples=60, deadline=None)
    def check(seed, softmax, hidden, kinds):
        rng = np.random.default_rng(seed)
        widths = rng.integers(1, 6, size=4)
        chosen = [str(name) for name in rng.choice(ACTIVATIONS, 3)]
        if softmax:
            chosen[-1] = "softmax"
        network = ns.Network.dense(
            weights=[rng.normal(size=(b, a)) for a, b in pairwise(widths)],
            biases=[rng.normal(size=n) for n in widths[1:]],
            activations=chosen,
        )
        inputs = rng.normal(size=(3, widths[0]))
        layer = 2 if hidden else None
        number = int(rng.integers(1, 4))
        prediction = ns.predict(
            ns.Campaign(
                deployment=ns.deploy(network, ns.Chip.load("ideal")),
                faults=[ns.StuckAtZero(kind, probability=0.07, layers=[number]) for kind in kinds],
                inputs=inputs,
                trials=1,
                seed=0,
            ),
            method=method,
            layer=layer,
        )
        plain = PlainNetwork.of(network)
        places = []
        for kind in kinds:
            places += plain.neurons(number) if kind == "neuron" else plain.synapses(number)
        ours = predict_sites(network, inputs, dead_each(places, 0.07), method, layer=layer)
        np.testing.assert_allclose(ours.mean, prediction.mean, rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(ours.variance, prediction.variance, rtol=1e-9, atol=1e-13)
        assert ours.exact or not prediction.exact
        if layer is None:
            assert bool(prediction.overlaps) is bool(ours.overlaps)

    check()


def test_overlaps_are_said_in_words():
    network = line()
    neuron = Site.dead(neurons=[(1, 0)], probability=0.1, name="neuron circuit")
    out_of = Site.dead(synapses=[(2, 0, 0)], probability=0.1, name="column A")
    into = Site.dead(synapses=[(1, 0, 1)], probability=0.1, name="column B")
    apart = Site.dead(neurons=[(1, 1)], synapses=[(2, 1, 1)], probability=0.1)
    same = Site.stuck_neuron(1, 1, value=0.0, probability=0.2, name="stuck")
    x = [[1.0, 1.0]]
    prediction = predict_sites(network, x, [neuron, out_of, into, apart, same])
    assert prediction.overlaps == (
        "neuron circuit and column A: neuron circuit sets neuron 0 of layer 1 and hides the "
        "synapses out of it, which column A sets",
        "neuron circuit and column B: neuron circuit sets neuron 0 of layer 1 and hides the "
        "synapses into it, which column B sets",
        "site 3 and stuck: both set neuron 1 of layer 1",
    )
    assert "overlap: site 3 and stuck" in str(prediction)
    # What cannot reach the layer predicted does not matter, nor what never fails.
    assert len(predict_sites(network, x, [neuron, out_of, into], layer=1).overlaps) == 1
    never = Site.dead(neurons=[(1, 0)], probability=0.0)
    assert predict_sites(network, x, [neuron, never]).overlaps == ()
    twice = Site.dead(synapses=[(2, 0, 0)], probability=0.3)
    (text,) = predict_sites(network, x, [out_of, twice]).overlaps
    assert text == "column A and site 1: both set synapse [0, 0] of layer 2"
    # Synapse [0, 1] of layer 2 comes out of neuron 1 of layer 1 and goes into neuron 0 of layer 2.
    across = Site.dead(synapses=[(2, 0, 1)], probability=0.1)
    for layer, unit, how in ((1, 0, None), (1, 1, "out of"), (2, 0, "into"), (2, 1, None)):
        other = Site.dead(neurons=[(layer, unit)], probability=0.1)
        found = predict_sites(network, x, [across, other]).overlaps
        assert [text for text in found if f"hides the synapses {how} it" in text] == list(found)
        assert bool(found) is (how is not None)


def test_the_same_effect_twice_counts_once():
    network = ns.Network.dense(weights=[[[2.0]]], biases=[[0]], activations=["identity"])
    for kind, place in (("neurons", (0, 0)), ("synapses", (1, 0, 0))):
        sites = [Site.dead(**{kind: [place]}, probability=p) for p in (0.5, 0.2)]
        prediction = predict_sites(network, [[1.0]], sites, "enumeration")
        merged = 1 - 0.5 * 0.8
        assert prediction.mean[0, 0] == pytest.approx(-2 * merged)
        assert prediction.variance[0, 0] == pytest.approx(4 * merged * (1 - merged))


@pytest.mark.parametrize("order", [0, 1])
def test_sites_that_disagree_are_refused_in_an_enumeration(order):
    network = line()
    both = Site(states=[(0.1, Effect(neurons=[(1, 0, v)])) for v in (0.0, 1.0)], name="two-faced")
    for value in (0.0, 1.0):
        other = Site.stuck_neuron(1, 0, value=value, probability=0.1, name="other")
        sites = [both, other] if order == 0 else [other, both]
        with pytest.raises(InputError, match="neuron 0 of layer 1 to") as refused:
            predict_sites(network, [[1.0, 1.0]], sites, "enumeration")
        assert "two-faced" in str(refused.value)
        assert "other" in str(refused.value)
        assert predict_sites(network, [[1.0, 1.0]], sites).overlaps
    # One site may well set a value in two ways.
    assert predict_sites(network, [[1.0, 1.0]], [both], "enumeration").exact


@given(case=cases(agree=True))
@settings(max_examples=60, deadline=None)
def test_batches_do_not_matter(case):
    for method in ("single-fault", "first-order", "enumeration"):
        whole = case.predict(method)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(site_moments, "_VALUES", 40)
            parts = case.predict(method)
            covariance = parts.covariance
        close = {"rtol": 1e-9, "atol": 1e-12}
        np.testing.assert_allclose(parts.mean, whole.mean, **close)
        np.testing.assert_allclose(parts.variance, whole.variance, **close)
        np.testing.assert_allclose(covariance, whole.covariance, **close)


def test_impossible_combinations_may_fill_a_batch():
    certain = Site.stuck_neuron(0, 0, value=0.0, probability=1.0)
    often = Site.dead(neurons=[(0, 1)], probability=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site_moments, "_VALUES", 1)
        prediction = predict_sites(line(), [[1.0, 1.0]], [certain, often], "enumeration")
    # relu(x + .5) and relu(2 x + .5): chain 0 loses 3, chain 1 loses 8 half the time.
    np.testing.assert_allclose(prediction.mean, [[-3.0, -4.0]])
    np.testing.assert_allclose(prediction.variance, [[0.0, 16.0]])


def test_printing_stops_after_ten_outputs():
    wide = ns.Network.dense(
        weights=[np.ones((12, 1))], biases=[np.zeros(12)], activations=["identity"]
    )
    site = Site.dead(neurons=[(0, 0)], probability=0.5)
    text = str(predict_sites(wide, [[2.0]], [site]))
    assert "single-fault prediction of 1 sites for 1 inputs (exact)" in text
    assert "9  -1.000e+00   1.000e+00   1.000e+00" in text
    assert "... 2 more outputs" in text


def test_small_changes_keep_their_digits():
    # sigma(50) is 1 in float64: the change by a stuck input is -exp(-50) (exp(1) - 1), to 1e-20.
    network = ns.Network.dense(
        weights=[[[1.0]], [[1.0]]], biases=[[0.0], [0.0]], activations=["sigmoid(1)", "identity"]
    )
    site = Site.stuck_neuron(0, 0, value=49.0, probability=1.0)
    for method in ("single-fault", "enumeration"):
        prediction = predict_sites(network, [[50.0]], [site], method)
        assert prediction.mean[0, 0] == pytest.approx(-np.exp(-50) * np.expm1(1), rel=1e-13)
    # Whole trials hold one value, of a probability near 1: the variance is that of the rest.
    rare = Site.stuck_neuron(0, 0, value=0.0, probability=1 - 2.0**-40)
    linear = ns.Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["identity"])
    for method in ("single-fault", "enumeration"):
        prediction = predict_sites(linear, [[3.0]], [rare], method)
        variance = 9 * 2.0**-40 * (1 - 2.0**-40)
        assert prediction.variance[0, 0] == pytest.approx(variance, rel=1e-13)


def test_a_core_of_many_synapses_is_one_site():
    rng = np.random.default_rng(5)
    network = ns.Network.dense(
        weights=[rng.normal(size=(40, 30)), rng.normal(size=(3, 40))],
        biases=[rng.normal(size=40), rng.normal(size=3)],
        activations=["tanh", "softmax"],
    )
    inputs = rng.normal(size=(5, 30))
    out, in_ = np.meshgrid(np.arange(8, 24), np.arange(16), indexing="ij")
    block = np.stack([np.ones(out.size), out.ravel(), in_.ravel()], axis=1)
    prediction = predict_sites(network, inputs, [Site.dead(synapses=block, probability=0.2)])
    weight = network.layers[0].weight.copy()
    weight[8:24, :16] = 0
    hidden = np.tanh(inputs @ weight.T + network.layers[0].bias)
    faulty = network.read_out(hidden @ network.layers[1].weight.T + network.layers[1].bias)
    d = faulty - network(inputs)
    np.testing.assert_allclose(prediction.mean, 0.2 * d, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(prediction.variance, 0.16 * d**2, rtol=1e-10, atol=1e-14)


def test_losses_follow_their_definitions():
    # The error of a loss is not the loss of the error.
    network = ns.Network.dense(
        weights=[[[1.0, 2.0], [0.5, -1.0]]], biases=[[0.0, 0.1]], activations=["softmax"]
    )
    x, site = np.array([[1.0, -0.5]]), Site.dead(neurons=[(0, 0)], probability=0.3)
    for loss in LOSSES:
        prediction = predict_sites(network, x, [site], loss=loss, targets=[1])
        faulty, golden = network(x * [0, 1]), network(x)
        target = np.array([0.0, 1.0])
        d = loss_value(loss, faulty, target) - loss_value(loss, golden, target)
        assert prediction.mean.shape == (1, 1)
        assert prediction.mean[0] == pytest.approx(0.3 * d)


def test_nothing_fails_nothing_happens():
    for sites in ([], [Site(states=[])], [Site(states=[(0.5, Effect())])]):
        for method in ("single-fault", "first-order", "enumeration"):
            prediction = predict_sites(line(), [[1.0, 1.0]], sites, method)
            assert prediction.exact
            assert not prediction.mean.any()
            assert not prediction.covariance.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Effect(neurons=[(1, 0)]), r"neurons: expected rows of \(layer, unit, value\)"),
        (lambda: Effect(neurons=3), "neurons: expected rows of"),
        (lambda: Effect(neurons=[(1, "a", 0)]), "neurons: expected rows of"),
        (lambda: Effect(synapses=[(1, 0.5, 0, 0)]), r"whole numbers .* got \(1, 0.5, 0\)"),
        (lambda: Effect(neurons=[(1, -1, 0)]), "whole numbers from 0 on"),
        (lambda: Effect(neurons=[(1e300, 0, 0)]), "whole numbers from 0 on"),
        (lambda: Effect(neurons=[(1, 0, np.nan)]), "not finite"),
        (lambda: Effect(neurons=[(1, 0, 1), (1, 0, 2)]), "expected one value for .* got 1 and 2"),
        (lambda: Site(states=[(1.5, Effect())]), "a percentage"),
        (lambda: Site(states=[(-0.1, Effect())]), r"probabilities in \[0, 1\]"),
        (lambda: Site(states=[(0.6, Effect()), (0.6, Effect())]), "at most 1 together, got 1.2"),
        (lambda: Site(states=[Effect()]), "expected pairs"),
        (lambda: Site(states=[(0.1, "dead")]), "expected pairs"),
        (lambda: Site.dead(neurons=[(1, 0, 0)], probability=0.1), r"rows of \(layer, unit\)"),
    ],
)
def test_wrong_effects_and_sites_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("sites", "options", "message"),
    [
        (["dead"], {}, "sites: expected Site values"),
        ([Site.dead(neurons=[(3, 0)], probability=0)], {}, "layers from 0 to 2, got 3"),
        ([Site.dead(synapses=[(0, 0, 0)], probability=0)], {}, "layers from 1 to 2, got 0"),
        ([Site.dead(neurons=[(1, 2)], probability=0)], {}, "unit from 0 to 1 in layer 1, got 2"),
        ([Site.dead(synapses=[(1, 0, 2)], probability=0)], {}, "site 0: synapses: expected in"),
        ([], {"method": "mean-field"}, "method: expected one of"),
        ([], {"layer": 3}, "layer: expected a layer from 0"),
        ([], {"layer": 1, "loss": "squared_error"}, "loss: expected none beside layer 1"),
        ([], {"loss": "squared_error"}, "targets: expected them for loss"),
        (
            [Site.stuck_neuron(0, 0, value=0, probability=0.1) for _ in range(21)],
            {"method": "enumeration"},
            "at most 2.20 combinations .* got 21 sites with 2.21",
        ),
    ],
)
def test_wrong_questions_are_refused(sites, options, message):
    with pytest.raises(InputError, match=message):
        predict_sites(line(), [[1.0, 1.0]], sites, **options)


def test_values_are_kept_sorted_once_and_read_only():
    effect = Effect(neurons=[(1, 3, 0.5), (0, 2, 1.0), (1, 3, 0.5)])
    assert effect.neurons.tolist() == [(0, 2, 1.0), (1, 3, 0.5)]
    assert Effect(neurons=effect.neurons).neurons.tolist() == effect.neurons.tolist()
    with pytest.raises(ValueError, match="read-only"):
        effect.neurons["value"] = 0


@pytest.mark.parametrize("sites", [None, 1.0, "x", [None], [[1, 2], [3]]])
def test_what_are_no_sites_is_refused(sites):
    network = ns.Network.dense(weights=[[[1.0, 2.0]]], biases=[[0]], activations=["identity"])
    with pytest.raises(InputError, match="sites: expected Site values, got"):
        predict_sites(network, [[1.0, 1.0]], sites)


def test_ragged_lists_and_moments_beyond_a_float_are_refused():
    network = ns.Network.dense(weights=[[[1.0, 2.0]]], biases=[[0]], activations=["identity"])
    site = Site.stuck_neuron(0, 0, value=1e200, probability=0.1)
    for method in ("first-order", "single-fault", "enumeration"):
        with pytest.raises(InputError, match="network: expected weights and inputs for which"):
            predict_sites(network, [[1.0, 1.0]], site, method)
    with pytest.raises(InputError, match=r"inputs: expected .* ragged"):
        predict_sites(network, [[1.0, 1.0], [1.0]], site)
    with pytest.raises(InputError, match=r"targets: expected .* ragged"):
        predict_sites(network, [[1.0, 1.0]], site, targets=[[1.0], [1.0, 2.0]])
