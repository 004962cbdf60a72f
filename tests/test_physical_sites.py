"""Rows, columns, cores and links: their logical effect against a simulation core by core."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from backend_contract import networks
from exact import PlainNetwork
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.errors import InputError
from neurosim.faults import FaultBatch, Sites
from neurosim.physical_sites import site_groups
from neurosim.sampling import PlainMonteCarlo, draw

PHYSICAL = ["row", "column", "core", "link"]


def by_cores(deployment, inputs, dead):
    """Outputs before the read-out, crossbar by crossbar; `dead` names physical sites."""
    chip, rows = deployment.chip, []
    sites = [(re.sub(r" ?\d+", "", name), [int(n) for n in re.findall(r"\d+", name)])
             for name in dead]  # fmt: skip
    defects = [] if deployment.defects is None else list(deployment.defects)
    for x in inputs:
        y, home = np.array(x), [None] * len(x)  # home: the core that holds the circuit of a neuron
        for number, layer in enumerate(deployment.network.layers, start=1):
            z, place, killed = layer.bias.copy(), [None] * layer.n_out, set()
            for block in deployment.blocks:
                if block.layer != number:
                    continue
                crossbar = np.zeros((chip.rows or layer.n_in, chip.columns or layer.n_out))
                drive = np.zeros(len(crossbar))
                r, c = deployment.rows_of(block), deployment.columns_of(block)
                inside = layer.weight[
                    block.out_start : block.out_stop, block.in_start : block.in_stop
                ]
                crossbar[np.ix_(r, c)] = inside.T
                drive[r] = y[block.in_start : block.in_stop]
                for kind, at in sites:
                    if kind == "link from core to core" and at[1] == block.core:
                        sent = [home[i] == at[0] for i in range(block.in_start, block.in_stop)]
                        drive[r[sent]] = 0
                    elif at[0] == block.core and kind == "core, row":
                        drive[at[1]] = 0
                    elif at[0] == block.core and kind == "core, column":
                        crossbar[:, at[1]] = 0
                    elif at == [block.core]:
                        crossbar[:] = 0
                for one in defects:
                    if one.core == block.core:
                        row = slice(None) if one.row is None else one.row
                        column = slice(None) if one.column is None else one.column
                        crossbar[row, column] = 0
                z[block.out_start : block.out_stop] += (drive @ crossbar)[c]
                if block.in_start == 0:
                    for unit in range(block.out_start, block.out_stop):
                        place[unit] = block.core
                        if ("core", [block.core]) in sites:
                            killed.add(unit)
            y, home = layer.activation(z), place
            y[list(killed)] = 0
        rows.append(y)
    return np.array(rows)


def lowered(deployment, dead, n):
    """The fault set that sites make: (groups, number) pairs."""
    widths = Sites(deployment.network.widths)
    neurons, synapses = [], []
    for groups, s in dead:
        numbers = groups.neurons[slice(*groups.neuron_offsets[s : s + 2])]
        neurons += [(*where, 0, n) for where in zip(*widths.neurons(numbers), strict=True)]
        numbers = groups.synapses[slice(*groups.synapse_offsets[s : s + 2])]
        synapses += [(*where, 0, n) for where in zip(*widths.synapses(numbers), strict=True)]
    return ns.FaultSet(n_presentations=n, neurons=neurons, synapses=synapses)


sizes = st.integers(1, 6)


@given(case=networks(max_depth=3, max_width=9), rows=sizes, columns=sizes, data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_chip_core_by_core_is_the_network_with_the_lowered_faults(case, rows, columns, data):
    network, inputs = case
    chip = ns.Chip(name="c", rows=rows, columns=columns)
    defects = None
    if data.draw(st.booleans()):
        cores = ns.deploy(network, chip).n_cores
        some = st.builds(
            ns.Defect, st.integers(0, cores - 1), st.just("synapse"), st.integers(0, rows - 1),
            st.integers(0, columns - 1)
        ) | st.builds(ns.Defect, st.integers(0, cores - 1), st.just("core"))  # fmt: skip
        defects = ns.DefectMap(data.draw(st.lists(some, max_size=6)))
    deployment = ns.deploy(network, chip, defects, around=data.draw(st.booleans()))
    dead, names = [], []
    for kind in PHYSICAL:
        groups = site_groups(deployment, kind, range(1, network.depth + 1))
        if len(groups):
            chosen = data.draw(st.lists(st.integers(0, len(groups) - 1), max_size=2, unique=True))
            dead += [(groups, s) for s in chosen]
            names += [groups.names[s] for s in chosen]
    fault_set = lowered(deployment, dead, len(inputs))
    known = Sites(network.widths).synapses(deployment.defective_synapses)
    synapses = [*fault_set.synapses.tolist(),
                *((*where, 0, len(inputs)) for where in zip(*known, strict=True))]  # fmt: skip
    fault_set = replace(fault_set, synapses=synapses)
    expected = network.read_out(by_cores(deployment, inputs, names)) - network(inputs)
    for backend in ("reference", "compiled"):
        errors = ns.evaluate(deployment, fault_set, inputs, backend=backend)
        np.testing.assert_allclose(errors, expected, rtol=1e-10, atol=1e-11)


def small(seed=0, activation="tanh", last="identity"):
    rng = np.random.default_rng(seed)
    network = ns.Network.dense(
        weights=[rng.normal(size=(4, 5)), rng.normal(size=(2, 4))],
        biases=[rng.normal(size=4), rng.normal(size=2)],
        activations=[activation, last],
    )
    return network, rng.normal(size=(3, 5))


def campaign_of(kind, p=0.05, rows=3, columns=2, trials=4000, persistence=None, **options):
    network, inputs = small()
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip(name="c", rows=rows, columns=columns)),
        faults=[
            ns.StuckAtZero(kind, probability=p, persistence=persistence or ns.Permanent())
        ],
        inputs=inputs,
        trials=trials,
        seed=4,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", PHYSICAL)
def test_enumeration_is_the_sum_over_all_sets_of_sites(kind):
    campaign = campaign_of(kind, p=0.2, rows=5, columns=2)
    groups = site_groups(campaign.deployment, kind, campaign.faults[0].layers_in((5, 4, 2)))
    plain, sites = PlainNetwork.of(campaign.network), Sites((5, 4, 2))
    found, weights = [], []
    for bits in product([0, 1], repeat=len(groups)):
        chosen = [(groups, s) for s, bit in enumerate(bits) if bit]
        fault_set = lowered(campaign.deployment, chosen, 1)
        neurons, synapses = fault_set.masks(0)
        effect = ([(*row, 0.0) for row in neurons], [(*row, 0.0) for row in synapses])
        found.append([plain.with_effect(x, *effect) - plain.with_effect(x)
                      for x in campaign.inputs])  # fmt: skip
        weights.append(0.2 ** sum(bits) * 0.8 ** (len(bits) - sum(bits)))
    mean = np.einsum("s,sxk->xk", weights, found)
    variance = np.einsum("s,sxk->xk", weights, (np.array(found) - mean) ** 2)
    prediction = ns.predict(campaign, "enumeration")
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-12)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-10, atol=1e-13)
    assert len(sites.widths) == 3


@pytest.mark.parametrize("kind", PHYSICAL)
@pytest.mark.parametrize(
    "persistence", [ns.Permanent(), ns.Transient(), ns.Intermittent(mean_duration=2)]
)
def test_single_faults_are_the_enumeration_as_faults_become_rare(kind, persistence):
    campaign = campaign_of(kind, p=1e-7, rows=5, columns=2, persistence=persistence)
    exact, first = (ns.predict(campaign, method) for method in ("enumeration", "single-fault"))
    for name in ("mean", "variance", "input_mean_variance", "between_chip_variance"):
        np.testing.assert_allclose(getattr(first, name), getattr(exact, name), rtol=1e-5)
    np.testing.assert_allclose(first.covariance, exact.covariance, rtol=1e-5, atol=1e-16)


def test_first_order_sums_the_derivatives_of_the_members():
    network, inputs = small()
    tiny = replace(network.layers[0], weight=1e-6 * network.layers[0].weight)
    network = replace(network, layers=(tiny, network.layers[1]))
    deployment = ns.deploy(network, ns.Chip(name="c", rows=3, columns=2))
    faults = [ns.StuckAtZero(kind, probability=0.01, layers=[1]) for kind in ("row", "column")]
    campaign = ns.Campaign(deployment=deployment, faults=faults, inputs=inputs, trials=1, seed=0)
    first, single = (ns.predict(campaign, method) for method in ("first-order", "single-fault"))
    np.testing.assert_allclose(first.variance, single.variance, rtol=1e-4)
    assert not np.array_equal(first.variance, single.variance)


@pytest.mark.parametrize("kind", PHYSICAL)
def test_simulation_agrees_with_enumeration_and_a_wrong_rate_is_seen(kind, tmp_path):
    campaign = campaign_of(kind, rows=5, columns=2, trials=40_000, epsilons=[0.3])
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        right = ns.compare(trace, ns.predict(campaign, "enumeration"), false_alarm_rate=1e-4)
        assert right.agrees, str(right)
        wrong = ns.predict(campaign.with_probabilities([0.0625]), "enumeration")
        control = ns.compare(
            trace, replace(wrong, campaign=campaign), false_alarm_rate=1e-4, law_inputs=1
        )
        assert not control.agrees


def test_faults_of_every_kind_together_agree_with_simulation(tmp_path):
    network, inputs = small()
    faults = [
        ns.StuckAtZero("neuron", probability=1e-3),
        ns.StuckAtZero("synapse", probability=1e-3, persistence=ns.Transient()),
        *(ns.StuckAtZero(kind, probability=2e-3) for kind in PHYSICAL),
    ]
    deployment = ns.deploy(network, ns.Chip(name="c", rows=3, columns=2))
    campaign = ns.Campaign(
        deployment=deployment, faults=faults, inputs=inputs, trials=100_000, seed=1,
        epsilons=[0.5], record=["faults"],
    )  # fmt: skip
    prediction = ns.predict(campaign, "single-fault")
    assert len(prediction.variance_contributions) == 11
    assert "they do not add up" in str(prediction)
    total = sum(prediction.variance_contributions.values())
    np.testing.assert_allclose(total, prediction.variance, rtol=1e-12)
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        comparison = ns.compare(trace, prediction, false_alarm_rate=1e-3)
        assert comparison.agrees, str(comparison)
        assert 'Trust "single-fault"' in str(comparison)
        k = int(np.flatnonzero(np.asarray(trace.fault_counts)[:, 4])[0])
        assert trace.fault_set(k) == campaign.fault_set(k)


def test_site_contributions_are_those_of_the_sites():
    campaign = campaign_of("column")
    prediction = ns.predict(campaign, "single-fault")
    parts = prediction.site_contributions("column", 1)
    assert parts.shape == (2, len(site_groups(campaign.deployment, "column", [1])))
    assert prediction.site_contributions("core", 1).shape == (2, 0)
    whole = prediction.variance_contributions["column", 1].mean(axis=0)
    np.testing.assert_allclose(parts.sum(axis=1), whole, rtol=1e-12)


def test_a_fault_set_does_not_depend_on_the_batch_it_is_drawn_in():
    campaign = campaign_of("row", p=0.3, persistence=ns.Intermittent(mean_duration=2))
    batch = campaign.fault_batch(5, 12)
    for k in range(7):
        assert campaign.fault_set(5 + k) == batch[k]
    assert batch.counts.sum() > 0


def test_physical_processes_leave_the_streams_of_others_alone():
    sites = Sites((5, 4, 2))
    deployment = campaign_of("row").deployment
    one = ns.StuckAtZero("neuron", probability=0.2)
    row = ns.StuckAtZero("core", probability=0.0)
    groups = (None, site_groups(deployment, "core", [1, 2]))
    alone = draw([one], PlainMonteCarlo(), sites, 3, 7, 0, 50)
    both = draw([one, row], PlainMonteCarlo(), sites, 3, 7, 0, 50, groups)
    assert list(alone) == list(both)
    assert isinstance(alone, FaultBatch)


def test_a_dead_core_with_circuits_is_its_neurons_and_one_without_is_its_weights():
    deployment = campaign_of("core").deployment
    groups = site_groups(deployment, "core", [1])
    assert np.diff(groups.neuron_offsets).tolist() == [2, 0, 2, 0]
    assert np.diff(groups.synapse_offsets).tolist() == [0, 4, 0, 4]


def test_what_does_not_go_together_is_refused():
    network, inputs = small()
    one_layer = ns.Network(layers=network.layers[:1])
    with pytest.raises(InputError, match="expected links on this deployment, got none"):
        ns.Campaign(
            deployment=ns.deploy(one_layer, ns.Chip(name="c")),
            faults=[ns.StuckAtZero("link", probability=0.1)], inputs=inputs, trials=1, seed=0,
        )  # fmt: skip
    for method in ("second-order", "mean-field"):
        with pytest.raises(InputError, match='expected "single-fault", "first-order"'):
            ns.predict(campaign_of("core"), method)
    with pytest.raises(InputError, match="link layers from 2 to 2"):
        ns.StuckAtZero("link", probability=0.1, layers=[1]).layers_in((5, 4, 2))
    with pytest.raises(InputError, match="for a loss where cores fail"):
        ns.predict(campaign_of("core", targets=[0, 1, 0]), loss="squared_error")


def test_the_error_of_a_loss_is_that_of_the_enumeration_as_faults_become_rare():
    for p, near in ((1e-7, True), (0.2, False)):
        campaign = campaign_of("column", p=p, rows=5, targets=[0, 1, 0])
        rough, exact = (
            ns.predict(campaign, method, loss="squared_error").mean
            for method in ("single-fault", "enumeration")
        )
        assert np.allclose(rough, exact, rtol=1e-4, atol=0) == near
