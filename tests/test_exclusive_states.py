"""Devices with states that exclude each other, and flipped bits: exact answers, laws, kurtosis.

The oracle goes through all states of all parts of all weights of a small network.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from exact import PlainNetwork

import neurosim as ns
from neurosim.errors import InputError
from neurosim.theory import surrogate
from neurosim.theory.surrogate import surrogate_law
from neurosim.weight_faults import weight_sites

ONE_SIDED = ns.CrossbarDevice(levels=4, g_on_s=2e-5, g_off_s=2e-6, g_stuck_hrs_s=0.0)
OFFSET = ns.CrossbarDevice(mapping="offset", levels=4, slices=2, g_on_s=2e-5, g_off_s=2e-6)
DIGITAL = ns.CrossbarDevice(mapping="digital", bits=3)
STUCK = ns.StuckDevice(stuck_lrs=0.1, stuck_hrs=0.15, layers=[2])
FLIPPED = ns.BitFlip(probability=0.2, layers=[2])


def campaign_of(*faults, device=ONE_SIDED, last="identity", defects=None, **options):
    rng = np.random.default_rng(8)
    network = ns.Network.dense(
        weights=[rng.normal(size=(2, 2)), rng.normal(size=(1, 2))],
        biases=[rng.normal(size=2), [0.1]],
        activations=["sigmoid(2)", last],
    )
    chip = ns.Chip(name="c", rows=2, columns=2, device=device)
    return ns.Campaign(
        deployment=ns.deploy(network, chip, defects, around=False, device_seed=4),
        faults=faults, inputs=rng.normal(size=(3, 2)),
        **{"trials": 1, "seed": 4, **options},
    )  # fmt: skip


def all_states(campaign):
    """Probabilities, errors (n_sets, n_inputs, n_outputs), whether no state alone changes anything.

    Over all states of everything.
    """
    plain, sites = PlainNetwork.of(campaign.network), campaign.deployment.sites
    places, choices = [], []
    for process in campaign.faults:
        part, p = weight_sites(campaign.deployment, process), process.probability
        if part is None:
            kind = process.site
            for layer in process.layers_in(campaign.network.widths):
                shape = plain.weights[layer - 1].shape if kind == "synapse" else (
                    plain.widths[layer],
                )  # fmt: skip
                for place in np.ndindex(*shape):
                    places.append((kind, (layer, *place)))
                    choices.append([(1 - p, None), (p, None)])
            continue
        for s, synapse in enumerate(part.synapse):
            layer, out, in_ = (int(v[0]) for v in sites.synapses(np.array([synapse])))
            places.append(("part", (layer, out, in_)))
            states = zip(part.shares, part.shift[:, s], strict=True)
            choices.append([(1 - p, 0.0), *((p * share, shift) for share, shift in states)])
    dead_for_good = {
        tuple(int(v[0]) for v in sites.synapses(np.array([k])))
        for k in campaign.deployment.defective_synapses
    }
    golden = [plain.with_effect(x) for x in campaign.inputs]
    weights, errors, untouched = [], [], []
    for chosen in product(*(range(len(c)) for c in choices)):
        p, held, neurons, still = 1.0, {}, [], True
        dead = set(dead_for_good)
        for (kind, place), choice, states in zip(places, chosen, choices, strict=True):
            p *= states[choice][0]
            still &= abs(states[choice][1]) < 1e-12 if kind == "part" else not choice
            if kind == "part":
                layer, out, in_ = place
                base = held.get(place, plain.weights[layer - 1][out, in_])
                held[place] = base + states[choice][1]
            elif choice and kind == "neuron":
                neurons.append((*place, 0.0))
            elif choice:
                dead.add(place)
        held.update(dict.fromkeys(dead, 0.0))
        synapses = [(*place, w) for place, w in held.items()]
        weights.append(p)
        untouched.append(still)
        errors.append([plain.with_effect(x, neurons, synapses) - g
                       for x, g in zip(campaign.inputs, golden, strict=True)])  # fmt: skip
    return np.array(weights), np.array(errors), np.array(untouched)


def check_moments(found, weights, errors, untouched):
    mean = np.einsum("s,sxk->xk", weights, errors)
    variance = np.einsum("s,sxk->xk", weights, (errors - mean) ** 2)
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-9)
    fourth = np.einsum("s,sxk->xk", weights, (errors - mean) ** 4)
    np.testing.assert_allclose(found.kurtosis, fourth / variance**2, rtol=1e-9)
    for x in range(3):
        law = found.distribution(x, 0)
        e = errors[:, x, 0]
        # Between the values of the error: those themselves are known up to the lattice.
        values = np.unique(e.round(9))
        gaps = np.diff(values) > 20 * law.step
        at = ((values[1:] + values[:-1]) / 2)[gaps]
        assert len(at) >= 5
        below = (weights[:, None] * (e[:, None] <= at)).sum(axis=0)
        np.testing.assert_allclose(law.cdf(at), below, atol=1e-9)
        # A surrogate does not know of two states that cancel each other.
        nothing = np.abs(e) < 1e-12 if found.method == "enumeration" else untouched
        np.testing.assert_allclose(law.mass_at_zero, weights[nothing].sum(), rtol=1e-9)


CASES = [(STUCK, ONE_SIDED), (STUCK, OFFSET), (FLIPPED, DIGITAL),
         (replace(STUCK, layers=[1]), OFFSET.only())]  # fmt: skip


@pytest.mark.parametrize(("process", "device"), CASES)
def test_the_exact_method_is_the_sum_over_all_states(process, device):
    if process.layers == (1,):
        device = replace(OFFSET, slices=1)
    campaign = campaign_of(process, device=device, last="tanh")
    weights, errors, untouched = all_states(campaign)
    found = ns.predict(campaign, "enumeration")
    assert found.exact
    check_moments(found, weights, errors, untouched)
    mean = np.einsum("s,sxk->xk", weights, errors).mean(axis=0)
    of_trial = errors.mean(axis=1)
    between = (weights[:, None] * (of_trial - mean) ** 2).sum(axis=0)
    np.testing.assert_allclose(found.input_mean_variance, between, rtol=1e-9)
    np.testing.assert_allclose(found.between_chip_variance, between, rtol=1e-9)
    shares = found.site_contributions(process.site, process.layers[0])
    assert shares.shape == (1, len(weight_sites(campaign.deployment, process)))
    assert 0 < shares.sum() <= found.variance.mean() * (1 + 1e-9)


def test_the_exact_method_takes_dead_neurons_and_synapses_beside_devices():
    faults = [
        replace(STUCK, layers=[2]),
        ns.StuckAtZero("synapse", probability=0.3, layers=[2]),
        ns.StuckAtZero("neuron", probability=0.2, layers=[1]),
    ]
    campaign = campaign_of(*faults, last="tanh")
    check_moments(ns.predict(campaign, "enumeration"), *all_states(campaign))
    assert len(ns.predict(campaign, "enumeration").variance_contributions) == 3


def test_flips_that_pass_are_drawn_anew_at_each_input():
    campaign = campaign_of(replace(FLIPPED, persistence=ns.Transient()), device=DIGITAL)
    found = ns.predict(campaign, "enumeration")
    np.testing.assert_allclose(found.input_mean_variance, found.variance.sum(axis=0) / 9)
    assert found.between_chip_variance == 0


@pytest.mark.parametrize("method", ["single-fault", "first-order"])
@pytest.mark.parametrize(("process", "device"), CASES[:3])
def test_the_surrogate_of_a_linear_output_has_the_law_of_all_states(process, device, method):
    campaign = campaign_of(process, device=device)
    found = ns.predict(campaign, method)
    assert found.exact
    check_moments(found, *all_states(campaign))


@pytest.mark.parametrize(("lrs", "hrs"), [(0.25, 0.0), (0.0, 0.25), (0.4, 0.6)])
def test_states_that_are_never_or_always_there(lrs, hrs):
    campaign = campaign_of(replace(STUCK, stuck_lrs=lrs, stuck_hrs=hrs))
    weights, errors, untouched = all_states(campaign)
    check_moments(ns.predict(campaign, "enumeration"), weights, errors, untouched)
    if lrs + hrs < 1:
        check_moments(ns.predict(campaign, "single-fault"), weights, errors, untouched)


def test_what_lies_on_a_defect_stays_dead():
    defects = ns.DefectMap([ns.Defect(1, "synapse", 0, 0)])
    for process in (STUCK, ns.StuckAt("synapse", value=2.0, probability=0.3, layers=[2])):
        campaign = campaign_of(process, defects=defects)
        assert len(campaign.deployment.defective_synapses) == 1
        found = [ns.predict(campaign, m).variance for m in ("enumeration", "single-fault")]
        np.testing.assert_allclose(*found, rtol=1e-9)
        if process is STUCK:
            weights, errors, _ = all_states(campaign)
            mean = np.einsum("s,sxk->xk", weights, errors)
            np.testing.assert_allclose(ns.predict(campaign, "enumeration").mean, mean, atol=1e-12)
            variance = np.einsum("s,sxk->xk", weights, (errors - mean) ** 2)
            np.testing.assert_allclose(found[0], variance, rtol=1e-9)


def test_comparisons_show_the_law_and_a_wrong_one_is_seen(tmp_path):
    # Wide enough that the law is no list of few values.
    rng = np.random.default_rng(1)
    network = ns.Network.dense(
        weights=[rng.normal(size=(30, 3)), rng.normal(size=(1, 30))],
        biases=[np.zeros(30), [0.0]], activations=["sigmoid(2)", "identity"],
    )  # fmt: skip
    chip = ns.Chip(name="c", device=ONE_SIDED)
    campaign = ns.Campaign(
        deployment=ns.deploy(network, chip, device_seed=0), faults=[STUCK],
        inputs=rng.normal(size=(2, 3)), trials=4000, seed=1, epsilons=[0.5],
    )  # fmt: skip
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        right = ns.compare(trace, ns.predict(campaign, "single-fault"), false_alarm_rate=1e-4)
        assert right.agrees, str(right)
        assert right.laws.checked.any() if hasattr(right.laws, "checked") else right.laws
        ns.write_report(right, tmp_path / "report")
        wrong = ns.predict(replace(campaign, faults=[replace(STUCK, stuck_lrs=0.15)]),
                           "single-fault")  # fmt: skip
        control = ns.compare(trace, replace(wrong, campaign=campaign), false_alarm_rate=1e-4)
        assert not control.agrees


@pytest.mark.parametrize("p", [(0.004, 0.006), (0.2, 0.25)])
def test_many_sites_with_two_states_have_the_law_of_all_of_them_one_by_one(p, monkeypatch):
    rng = np.random.default_rng(3)
    # Multiples of a sixtieth of the largest lie on the lattice.
    effects = rng.integers(-60, 61, size=(2, 300)) / 60.0
    effects[0, 0] = 1
    monkeypatch.setattr(surrogate, "_WHOLE", 200)
    many = surrogate_law([(effects, p)], points=2**14)
    monkeypatch.setattr(surrogate, "_WHOLE", 10**6)
    each = surrogate_law([(effects, p)], points=2**14)
    np.testing.assert_allclose(many.mass, each.mass, atol=1e-12)
    monkeypatch.setattr(surrogate, "_WHOLE", 200)
    shares = np.array(p)
    for scattered in (effects, rng.normal(size=(2, 300))):
        law = surrogate_law([(scattered, p)], points=2**14)
        mean = (shares @ scattered).sum()
        variance = (shares @ scattered**2 - (shares @ scattered) ** 2).sum()
        np.testing.assert_allclose([law.mean, law.variance], [mean, variance])
        np.testing.assert_allclose(law.mass @ law.grid, mean, atol=1e-9)
        spread = law.mass @ (law.grid - mean) ** 2
        # Effects between two points of the lattice are split: little is added.
        np.testing.assert_allclose(spread, variance, atol=1.01 * law.location_error**2 + 1e-9)


def test_probabilities_of_states_are_checked():
    for p in ((0.6, 0.5), (-0.1, 0.2), (0.1, 0.1, 0.1), 1.5):
        with pytest.raises(InputError, match="two of at most 1 together"):
            surrogate_law([(np.ones((np.size(p), 1)), p)])
