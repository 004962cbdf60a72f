"""Clusters: runs of adjacent rows, columns or crosspoints, against a crossbar drawn by hand."""

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
from neurosim.physical_sites import groups_of, site_groups

KINDS = [("row", None), ("column", None), ("synapse", "row"), ("synapse", "column")]


def cluster(kind, length, p=0.05, **options):
    site, along = kind
    return ns.Cluster(site, length=length, along=along, probability=p, **options)


def by_hand(deployment, process):
    """Name -> synapses (layer, out, in) of every cluster that reaches one in use."""
    chip = deployment.chip
    held = {}  # core -> crossbar of what lies on each crosspoint
    for block in deployment.blocks:
        crossbar = held.setdefault(block.core, {})
        for i, row in enumerate(deployment.rows_of(block)):
            for o, column in enumerate(deployment.columns_of(block)):
                crossbar[int(row), int(column)] = (
                    block.layer, block.out_start + o, block.in_start + i,
                )  # fmt: skip
    found = {}
    for core, crossbar in held.items():
        for row, column in product(range(chip.rows), range(chip.columns)):
            if process.site == "row":
                starts = column == 0
                places = [(row + d, c) for d in range(process.length) for c in range(chip.columns)]
            elif process.site == "column":
                starts = row == 0
                places = [(r, column + d) for d in range(process.length) for r in range(chip.rows)]
            else:
                starts = True
                step = (0, 1) if process.along == "row" else (1, 0)
                places = [(row + step[0] * d, column + step[1] * d) for d in range(process.length)]
            members = {crossbar[place] for place in places if place in crossbar}
            if starts and members:
                found[core, row, column] = members
    return found


def members(deployment, groups):
    sites = deployment.sites
    return [
        set(zip(*(a.tolist() for a in sites.synapses(groups.synapses[a:b])), strict=True))
        for a, b in zip(groups.synapse_offsets[:-1], groups.synapse_offsets[1:], strict=True)
    ]


@given(
    case=networks(max_depth=3, max_width=7),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    kind=st.sampled_from(KINDS),
    length=st.integers(1, 7),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_clusters_are_the_runs_of_a_crossbar(case, size, kind, length, data):
    network, _ = case
    chip = ns.Chip(name="c", rows=size[0], columns=size[1])
    defects = None
    if data.draw(st.booleans()):  # rows and columns are then permuted, with spares between them
        places = st.tuples(st.integers(0, 2), st.integers(0, chip.rows - 1),
                           st.integers(0, chip.columns - 1))  # fmt: skip
        defects = ns.DefectMap(
            ns.Defect(core, "synapse", row, column)
            for core, row, column in data.draw(st.lists(places, max_size=4))
        )
    deployment = ns.deploy(network, chip, defects)
    process = cluster(kind, length)
    groups = groups_of(deployment, process)
    expected = by_hand(deployment, process)
    found = members(deployment, groups)
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected.values()))
    assert len(set(groups.names)) == len(groups)
    assert all((np.diff(groups.synapses[a:b]) > 0).all() for a, b in zip(
        groups.synapse_offsets[:-1], groups.synapse_offsets[1:], strict=True))  # fmt: skip


@pytest.mark.parametrize("kind", ["row", "column"])
def test_a_cluster_of_one_is_a_row_or_a_column(kind):
    deployment = campaign_of(("row", None)).deployment
    one = groups_of(deployment, cluster((kind, None), 1))
    whole = site_groups(deployment, kind, [1, 2])
    assert sorted(map(sorted, members(deployment, one))) == sorted(
        map(sorted, members(deployment, whole))
    )
    assert sorted(one.names) == sorted(whole.names)


def campaign_of(kind, length=2, p=0.05, trials=2000, persistence=None, **options):
    rng = np.random.default_rng(3)
    network = ns.Network.dense(
        weights=[rng.normal(size=(3, 2)), rng.normal(size=(2, 3))],
        biases=[rng.normal(size=3), rng.normal(size=2)],
        activations=["tanh", "identity"],
    )
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip(name="c", rows=3, columns=3)),
        faults=[cluster(kind, length, p, persistence=persistence or ns.Permanent())],
        inputs=rng.normal(size=(3, 2)), trials=trials, seed=11, **options,
    )  # fmt: skip


def exact_moments(campaign, p):
    """Mean and variance over all sets of clusters; a synapse that two of them hit is dead once."""
    sets = list(by_hand(campaign.deployment, campaign.faults[0]).values())
    plain = PlainNetwork.of(campaign.network)
    golden = np.array([plain.with_effect(x) for x in campaign.inputs])
    seen, weights, errors = {}, [], []
    for bits in product([False, True], repeat=len(sets)):
        dead = frozenset().union(*(s for s, bit in zip(sets, bits, strict=True) if bit))
        if dead not in seen:
            rows = [(*place, 0.0) for place in dead]
            seen[dead] = np.array([plain.with_effect(x, (), rows) for x in campaign.inputs])
        errors.append(seen[dead] - golden)
        weights.append(p ** sum(bits) * (1 - p) ** (len(bits) - sum(bits)))
    mean = np.einsum("s,sxk->xk", weights, errors)
    return mean, np.einsum("s,sxk->xk", weights, (np.array(errors) - mean) ** 2)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_all_sets_of_clusters(kind):
    campaign = campaign_of(kind, p=0.2)
    mean, variance = exact_moments(campaign, 0.2)
    found = ns.predict(campaign, "enumeration")
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-9)
    rare = campaign.with_probabilities([1e-7])
    exact, single = (ns.predict(rare, method) for method in ("enumeration", "single-fault"))
    for name in ("mean", "variance", "input_mean_variance"):
        np.testing.assert_allclose(getattr(single, name), getattr(exact, name), rtol=1e-5)
    # Clusters share members: single faults do not add up, and nothing says that they do.
    assert not ns.predict(campaign, "single-fault").exact
    kind_name = campaign.faults[0].kind
    shares = single.site_contributions(kind_name, 1)
    assert (
        shares.shape[1] == (np.array(groups_of(rare.deployment, rare.faults[0]).layer) == 1).sum()
    )
    np.testing.assert_allclose(
        shares.sum(axis=1), single.variance_contributions[kind_name, 1].mean(axis=0), rtol=1e-12
    )


def test_first_order_sums_the_derivatives_of_a_cluster():
    campaign = campaign_of(("column", None), p=1e-6)
    layers = tuple(
        replace(layer, weight=1e-5 * layer.weight) if n == 0 else layer
        for n, layer in enumerate(campaign.network.layers)
    )
    network = replace(campaign.network, layers=layers)
    deployment = ns.deploy(network, campaign.deployment.chip)
    faults = [replace(campaign.faults[0], layers=[1])]
    small = replace(campaign, deployment=deployment, faults=faults)
    first, single = (ns.predict(small, method) for method in ("first-order", "single-fault"))
    np.testing.assert_allclose(first.variance, single.variance, rtol=1e-3)
    assert not np.array_equal(first.variance, single.variance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("persistence", [ns.Permanent(), ns.Intermittent(mean_duration=2)])
def test_simulation_agrees_with_enumeration_and_a_wrong_length_is_seen(kind, persistence, tmp_path):
    campaign = campaign_of(kind, trials=20_000, persistence=persistence, epsilons=[0.3])
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        right = ns.compare(trace, ns.predict(campaign, "enumeration"), false_alarm_rate=1e-4)
        assert right.agrees, str(right)
        other = ns.predict(campaign_of(kind, length=1), "enumeration")
        wrong = ns.compare(
            trace, replace(other, campaign=campaign), false_alarm_rate=1e-4, law_inputs=1
        )
        assert not wrong.agrees


def test_lengths_of_several_processes_lie_side_by_side():
    campaign = campaign_of(("row", None))
    both = [cluster(("row", None), n, 1e-6) for n in (1, 2, 3)]
    mixed = replace(campaign, faults=both)
    found = ns.predict(mixed, "single-fault")
    parts = [ns.predict(replace(campaign, faults=[one]), "single-fault").variance for one in both]
    np.testing.assert_allclose(found.variance, sum(parts), rtol=1e-12)
    assert {kind for kind, _ in found.variance_contributions} == {
        "1-row cluster", "2-row cluster", "3-row cluster",
    }  # fmt: skip
    same = replace(campaign, faults=[both[1], both[1]])
    merged = ns.predict(same, "single-fault")
    np.testing.assert_allclose(merged.variance, 2 * parts[1], rtol=1e-5)
    assert "do not add up" in str(found)


def test_what_is_refused():
    with pytest.raises(
        InputError, match='"row", "column" or "synapse" for a cluster, got \'core\''
    ):
        ns.Cluster("core", length=2, probability=0.1)
    for length in (0, -1, 2.0, True, None):
        with pytest.raises(InputError, match="length: expected a whole number from 1 on"):
            ns.Cluster("row", length=length, probability=0.1)
    with pytest.raises(InputError, match='along: expected "row" or "column"'):
        ns.Cluster("synapse", length=2, probability=0.1)
    with pytest.raises(InputError, match="along: expected none for a cluster of rows"):
        ns.Cluster("row", length=2, along="row", probability=0.1)
    for method in ("second-order", "mean-field"):
        with pytest.raises(InputError, match='expected "single-fault", "first-order"'):
            ns.predict(campaign_of(("row", None)), method)
    for ask in (ns.exceedance, lambda c, **_: ns.harden(c, budget=1)):
        with pytest.raises(InputError, match=r"expected stuck-at-0 neurons.* share members"):
            ask(campaign_of(("synapse", "row")), epsilon=0.5)


def test_files_have_clusters(tmp_path):
    campaign = campaign_of(("row", None))
    campaign.network.save(tmp_path / "net.npz")
    np.save(tmp_path / "x.npy", campaign.inputs)
    source = 'unit = "1", status = "assumption", source = "test" }\n'
    (tmp_path / "chip.toml").write_text(
        f'[chip]\nname = "c"\ndescription = "d"\n[geometry]\nrows = {{ value = 3, {source}'
        f"columns = {{ value = 3, {source}"
        f'[[faults]]\nsite = "synapse"\nalong = "column"\npersistence = "transient"\n'
        f"probability = {{ value = 0.01, {source}length = {{ value = 4, {source}"
    )
    chip = ns.Chip.load(tmp_path / "chip.toml")
    assert chip.faults == (cluster(("synapse", "column"), 4, 0.01, persistence=ns.Transient()),)
    assert chip.quantities["faults.1.length"].value == 4
    head = 'network = "net.npz"\ninputs = "x.npy"\nchip = "chip.toml"\ntrials = 5\nseed = 1\n'
    table = '[[faults]]\nsite = "row"\nprobability = 0.1\nlength = 2\n'
    path = tmp_path / "c.toml"
    path.write_text(head + table)
    assert ns.load_campaign(path).faults == (cluster(("row", None), 2, 0.1),)
    path.write_text(head + table.replace("length = 2", 'along = "row"'))
    with pytest.raises(InputError, match="length: expected one"):
        ns.load_campaign(path)
    path.write_text(head + table + "value = 1.0\n")
    with pytest.raises(InputError, match="got length too"):
        ns.load_campaign(path)
