"""Convolutional networks on the cores of a chip: physical faults, devices and defects.

The oracle simulates the chip core by core and position by position with loops: it knows where each
synapse sits (`synapse_places`), and nothing of the lowering to neurons and synapses.
"""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from graphs import KERNELS, as_dense, convolution, dense, networks
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.backends import make_backend
from neurosim.crossbar import NONIDEALITIES, scale_of
from neurosim.crossbar_simulation import crossbar_outputs
from neurosim.errors import InputError
from neurosim.graph import Node
from neurosim.layers import (
    Activation,
    Add,
    Affine,
    AveragePool2D,
    Conv2D,
    Flatten,
    MaxPool2D,
    Reshape,
)
from neurosim.physical_sites import groups_of, site_groups
from neurosim.theory import Site, predict_sites
from neurosim.theory.graph_effects import GraphEffects
from neurosim.theory.setting import Setting
from neurosim.weight_faults import count_sites, weight_sites

PHYSICAL = ["row", "column", "core", "link"]


class CoreByCore:
    """A deployed network, crossbar by crossbar and position by position."""

    def __init__(self, deployment):
        self.deployment, self.graph = deployment, deployment.network.graph
        self.places, self.crossbars = {}, {}
        for number, layer in enumerate(deployment.network.layers, start=1):
            n_out, n_in = deployment.sites.weight_shapes[number - 1]
            out, in_ = np.indices((n_out, n_in))
            core, row, column = deployment.synapse_places(number, out, in_)
            self.places[number] = core, row, column
            matrix = layer.weight.reshape(layer.matrix_shape)
            for o, i in product(range(n_out), range(n_in)):
                at = (int(core[o, i]), int(row[o, i]), int(column[o, i]))
                assert at not in self.crossbars  # a place of its own
                self.crossbars[at] = matrix[o % len(matrix), i]

    def outputs(self, x, dead=(), defects=()):
        """Outputs before the read-out for one input, where sites of these names are dead."""
        sites = [(re.sub(r" ?\d+", "", name), [int(n) for n in re.findall(r"\d+", name)])
                 for name in dead]  # fmt: skip
        graph = self.graph
        values, sent_by = [graph.shaped(np.reshape(x, (1, -1)))], [{}]
        for number, node in enumerate(graph.nodes, start=1):
            if number not in graph.weighted:
                values.append(node.layer(*(values[k] for k in node.sources)))
                cores = {core for k in node.sources for core in sent_by[k]}
                sent_by.append({core: self._passed_on(node, core, sent_by) for core in cores})
                continue
            y, senders = values[node.sources[0]], sent_by[node.sources[0]]
            z, circuits, killed = self._layer(number, y, senders, sites, defects)
            value = node.layer.activation(z.reshape(1, *graph.shapes[number]))
            value.reshape(-1)[killed.ravel()] = 0
            values.append(value)
            sent_by.append({core: (circuits == core).reshape(1, *graph.shapes[number])
                            for core in np.unique(circuits)})  # fmt: skip
        return values[-1].ravel()

    def _passed_on(self, node, core, sent_by):
        """Which values depend on what a core sends."""
        shapes = [self.graph.shapes[k] for k in node.sources]
        marks = [np.asarray(sent_by[k].get(core, np.zeros((1, *shape))), float)
                 for k, shape in zip(node.sources, shapes, strict=True)]  # fmt: skip
        if isinstance(node.layer, Affine):
            return marks[0]
        return node.layer.preactivation(*marks) > 0

    def _layer(self, number, y, senders, sites, defects):
        """z (channels, positions), the core of the circuit of each, and which are dead."""
        layer_number = self.graph.weighted.index(number)
        layer = self.deployment.network.layers[layer_number - 1]
        channels = len(layer.weight)
        core, row, column = self.places[layer_number]
        seen, sources = (
            self._patches(layer, y),
            {c: self._patches(layer, np.asarray(mark, float)) > 0 for c, mark in senders.items()},
        )
        n_positions, copies = seen.shape[2], len(core) // channels
        z = np.repeat(layer.bias[:, None], n_positions, axis=1)
        circuits = np.zeros((channels, n_positions), int)
        killed = np.zeros((channels, n_positions), bool)
        groups = layer.groups if isinstance(layer, Conv2D) else 1
        for channel, q in product(range(channels), range(n_positions)):
            out, group = (
                q * copies // n_positions * channels + channel,
                channel * groups // channels,
            )
            circuits[channel, q] = core[out, 0]
            killed[channel, q] = ("core", [circuits[channel, q]]) in sites
            for i in range(core.shape[1]):
                c, r, k = int(core[out, i]), int(row[out, i]), int(column[out, i])
                weight, drive = self.crossbars[c, r, k], seen[group, i, q]
                for kind, at in sites:
                    if kind == "link from core to core" and at[1] == c:
                        drive = 0.0 if at[0] in sources and sources[at[0]][group, i, q] else drive
                    elif kind == "core, row" and at == [c, r]:
                        drive = 0.0
                    elif (kind == "core, column" and at == [c, k]) or at == [c]:
                        weight = 0.0
                for one in defects:
                    if one.core == c and one.row in (None, r) and one.column in (None, k):
                        weight = 0.0
                z[channel, q] += weight * drive
        return z, circuits, killed

    @staticmethod
    def _patches(layer, y):
        """What the rows carry: (groups, n_in, positions)."""
        if not isinstance(layer, Conv2D):
            return y.reshape(1, -1, 1)
        (top, bottom), (left, right) = layer.padding
        padded = np.pad(y[0], [(0, 0), (top, bottom), (left, right)])
        _, rows, columns = layer.output_shape(y.shape[1:])
        _, n_in, kh, kw = layer.weight.shape
        (sh, sw), (dh, dw) = layer.stride, layer.dilation
        found = np.zeros((layer.groups, n_in * kh * kw, rows * columns))
        for g, c, i, j, r, s in product(*map(range, (layer.groups, n_in, kh, kw, rows, columns))):
            value = padded[g * n_in + c, r * sh + i * dh, s * sw + j * dw]
            found[g, (c * kh + i) * kw + j, r * columns + s] = value
        return found


def lowered(deployment, dead, n, known=()):
    """The fault set that sites make: (groups, number) pairs, and synapses known to be dead."""
    sites, neurons, synapses = deployment.sites, [], []
    for groups, s in dead:
        numbers = groups.neurons[slice(*groups.neuron_offsets[s : s + 2])]
        neurons += [(*where, 0, n) for where in zip(*sites.neurons(numbers), strict=True)]
        numbers = groups.synapses[slice(*groups.synapse_offsets[s : s + 2])]
        synapses += [(*where, 0, n) for where in zip(*sites.synapses(numbers), strict=True)]
    known = sites.synapses(np.asarray(known, np.int64))
    synapses += [(*where, 0, n) for where in zip(*known, strict=True)]
    return ns.FaultSet(n_presentations=n, neurons=neurons, synapses=synapses)


def check(deployment, inputs, dead, names, defects=()):
    chip, network = CoreByCore(deployment), deployment.network
    flat = network.flatten(inputs)
    outputs = np.array([chip.outputs(x, names, defects) for x in flat])
    expected = network.read_out(outputs) - network(inputs)
    known = deployment.defective_synapses
    fault_set = lowered(deployment, dead, len(inputs), known)
    for backend in ("reference", "compiled"):
        errors = ns.evaluate(deployment, fault_set, inputs, backend=backend)
        np.testing.assert_allclose(errors, expected, rtol=1e-9, atol=1e-10)
    return expected


def sites_of(deployment, kind):
    """The sites of a kind; of links those of the layers that have them."""
    found = []
    for layer in range(1, deployment.network.depth + 1):
        try:
            groups = site_groups(deployment, kind, [layer])
        except InputError:
            continue
        found += [(groups, s) for s in range(len(groups))]
    return found


@given(
    case=networks(), rows=st.integers(2, 30), columns=st.integers(1, 8),
    kernels=st.sampled_from(KERNELS), data=st.data(),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_chip_core_by_core_is_the_network_with_the_lowered_faults(
    case, rows, columns, kernels, data
):
    network, inputs = case
    chip = ns.Chip(name="c", rows=rows, columns=columns, kernels=kernels)
    defects = None
    if data.draw(st.booleans()):
        cores = ns.deploy(network, chip).n_cores
        some = st.builds(
            ns.Defect, st.integers(0, cores - 1), st.just("synapse"), st.integers(0, rows - 1),
            st.integers(0, columns - 1)
        ) | st.builds(ns.Defect, st.integers(0, cores - 1), st.just("core"))  # fmt: skip
        defects = ns.DefectMap(data.draw(st.lists(some, max_size=6)))
    deployment = ns.deploy(network, chip, defects, around=data.draw(st.booleans()))
    dead = []
    for kind in PHYSICAL:
        sites = sites_of(deployment, kind)
        if sites:
            dead += data.draw(st.lists(st.sampled_from(sites), max_size=2))
    names = [groups.names[s] for groups, s in dead]
    check(deployment, inputs[:1], dead, names, defects or ())


def convnet(seed=0):
    """Two convolutions, one in groups, pools and a dense layer; 1 x 5 x 5 inputs."""
    rng = np.random.default_rng(seed)
    layers = [
        convolution(rng, 1, 4, 2, "tanh", padding=((0, 1), (1, 0))),
        AveragePool2D(size=2),
        convolution(rng, 4, 4, 2, "relu", groups=2),
        Flatten(),
        dense(rng, 4, 2),
    ]
    return ns.Network(layers=layers, input_shape=(1, 5, 5)), rng.normal(size=(2, 1, 5, 5))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (16, 8)])
def test_all_sites_one_by_one(kernels, rows, columns):
    network, inputs = convnet()
    chip = ns.Chip(name="c", rows=rows, columns=columns, kernels=kernels)
    deployment = ns.deploy(network, chip)
    matter, simulated = 0, CoreByCore(deployment)
    backends = [make_backend(name, network, network.flatten(inputs), "float64")
                for name in ("reference", "compiled")]  # fmt: skip
    golden = [simulated.outputs(x) for x in inputs]
    for kind in PHYSICAL:
        sites = sites_of(deployment, kind)
        n = sum(count_sites(deployment, ns.StuckAtZero(kind, probability=0.1, layers=[layer]))
                for layer in {int(groups.layer[0]) for groups, _ in sites})  # fmt: skip
        assert len(sites) == n > 0
        for groups, s in sites[:: max(1, len(sites) // 40)]:
            expected = [simulated.outputs(x, [groups.names[s]]) for x in inputs]
            fault_set = lowered(deployment, [(groups, s)], 2)
            batch = ns.faults.FaultBatch.of(fault_set, deployment.sites)
            for backend in backends:
                found = backend.errors(batch)[0]
                np.testing.assert_allclose(found, np.subtract(expected, golden), atol=1e-12)
            matter += bool(np.any(found))
    assert matter > 20


def test_a_row_of_a_shared_kernel_is_an_input_weight_at_every_position():
    network, _ = convnet()
    deployment = ns.deploy(network, ns.Chip(name="c", rows=16, columns=16))
    rows = site_groups(deployment, "row", [1])
    _, out, in_ = deployment.sites.synapses(rows.synapses)
    assert len(rows) == 4  # elements of a 1 x 2 x 2 patch
    assert out.tolist() == [0, 1, 2, 3] * 4
    assert in_.tolist() == np.repeat(np.arange(4), 4).tolist()
    space = replace(deployment.chip, kernels="replicated_in_space")
    several = site_groups(ns.deploy(network, space), "row", [1])
    assert len(several) == 4 * 25  # the same for each of 5 x 5 positions
    assert (np.diff(several.synapse_offsets) == 4).all()


def test_links_lead_from_pooled_maps_and_not_where_several_cores_meet():
    network, _ = convnet()
    chip = ns.Chip(name="c", rows=16, columns=4)
    shared = ns.deploy(network, chip)
    assert site_groups(shared, "link", [2]).names == ("link from core 0 to core 1",)
    assert len(site_groups(shared, "link", [1])) == 0
    # A pool over positions that several copies on several cores compute.
    copied = ns.deploy(network, replace(chip, kernels="replicated_in_space"))
    with pytest.raises(InputError, match="layer 2, where sums, pools or positions of a map join"):
        site_groups(copied, "link", [2])
    rng = np.random.default_rng(0)
    # A map of a dense layer on two cores into a kernel that is shared in time.
    reshaped = ns.Network(
        layers=[dense(rng, 4, 4, "tanh"), Reshape(shape=(1, 2, 2)), convolution(rng, 1, 2, 1),
                Flatten(), dense(rng, 8, 1)],
        input_shape=(4,),
    )  # fmt: skip
    with pytest.raises(InputError, match="layer 2, where"):
        site_groups(ns.deploy(reshaped, replace(chip, columns=2)), "link", [2])
    faults = [ns.StuckAtZero("link", probability=0.1)]
    with pytest.raises(InputError, match="name the layers of the process"):
        ns.Campaign(deployment=ns.deploy(reshaped, replace(chip, columns=2)), faults=faults,
                    inputs=np.ones((1, 4)), trials=1, seed=0)  # fmt: skip
    # A sum of two cores.
    summed = ns.Network(
        nodes=[Node(convolution(rng, 1, 1, 1), (0,)), Node(convolution(rng, 1, 1, 1), (0,)),
               Node(Add(), (1, 2)), Node(Flatten(), (3,)), Node(dense(rng, 4, 1), (4,))],
        input_shape=(1, 2, 2),
    )  # fmt: skip
    with pytest.raises(InputError, match="layer 3, where"):
        site_groups(ns.deploy(summed, chip), "link", [3])


def campaign_of(network, inputs, faults, kernels="shared_in_time", device=None, **options):
    chip = ns.Chip(name="c", rows=6, columns=3, kernels=kernels, device=device)
    return ns.Campaign(deployment=ns.deploy(network, chip), faults=faults, inputs=inputs,
                       **{"trials": 1, "seed": 3, **options})  # fmt: skip


def alone(campaign, groups):
    """The error that each site makes alone, (n_sites, n_inputs, n_outputs), by the reference."""
    deployment, n = campaign.deployment, campaign.n_inputs
    fault_sets = []
    for s in range(len(groups)):
        neurons = groups.neurons[slice(*groups.neuron_offsets[s : s + 2])]
        at = slice(*groups.synapse_offsets[s : s + 2])
        where = (deployment.sites.neurons(neurons), deployment.sites.synapses(groups.synapses[at]))
        fault_sets.append(ns.FaultSet(
            n_presentations=n,
            neuron_values=[(*w, 0, n, groups.value) for w in zip(*where[0], strict=True)],
            synapse_weights=[(*w, 0, n, v) for *w, v in
                             zip(*where[1], groups.synapse_weights[at], strict=True)],
        ))  # fmt: skip
    return np.array([
        ns.evaluate(deployment, one, campaign.inputs, backend="reference") for one in fault_sets
    ])  # fmt: skip


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kind", ["row", "column", "core"])
def test_single_faults_of_groups_are_those_of_the_simulator(kernels, kind):
    network, inputs = convnet()
    for layer in (1, 2, 3):
        faults = [ns.StuckAtZero(kind, probability=0.1, layers=[layer])]
        campaign = campaign_of(network, inputs, faults, kernels)
        d = alone(campaign, site_groups(campaign.deployment, kind, [layer]))
        found = ns.predict(campaign, "single-fault")
        np.testing.assert_allclose(found.mean, 0.1 * d.sum(axis=0), atol=1e-12)
        np.testing.assert_allclose(found.variance, 0.09 * (d**2).sum(axis=0), atol=1e-12)
        parts = found.site_contributions(kind, layer)
        np.testing.assert_allclose(parts.T, 0.09 * (d**2).mean(axis=1), atol=1e-12)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kind", ["row", "column", "core", "link"])
def test_first_order_of_a_group_is_the_sum_over_its_members(kernels, kind):
    network, inputs = convnet()
    layer = 3 if kind == "link" else 2
    faults = [ns.StuckAtZero("neuron", probability=0.1, layers=[layer]),
              ns.StuckAtZero("synapse", probability=0.1, layers=[layer]),
              ns.StuckAtZero(kind, probability=0.1, layers=[layer])]  # fmt: skip
    campaign = campaign_of(network, inputs, faults, kernels)
    effects = GraphEffects(setting=Setting.of(campaign))
    groups, sites = site_groups(campaign.deployment, kind, [layer]), campaign.deployment.sites
    for x in range(2):
        neurons, synapses, found = (
            effects.site_effects((k, layer), x) for k in ("neuron", "synapse", kind)
        )
        for s in range(len(groups)):
            own = groups.neurons[slice(*groups.neuron_offsets[s : s + 2])]
            expected = neurons[:, own - sites.neuron_offsets[layer]].sum(axis=1)
            own = groups.synapses[slice(*groups.synapse_offsets[s : s + 2])]
            expected = expected + synapses[:, own - sites.synapse_offsets[layer]].sum(axis=1)
            np.testing.assert_allclose(found[:, s], expected, atol=1e-12)


@pytest.mark.parametrize("method", ["single-fault", "first-order"])
def test_moments_of_rows_are_those_of_the_equivalent_dense_network(method):
    rng = np.random.default_rng(1)
    network = ns.Network(
        layers=[convolution(rng, 1, 2, 2, "tanh"), convolution(rng, 2, 3, 2, "tanh"),
                Flatten(), dense(rng, 12, 2)],
        input_shape=(1, 4, 4),
    )  # fmt: skip
    inputs = rng.normal(size=(2, 1, 4, 4))
    faults = [ns.StuckAtZero(kind, probability=0.05, layers=[2]) for kind in ("row", "column")]
    campaign = campaign_of(network, inputs, faults)
    plain, sites = as_dense(network), []
    # Rows of the second kernel as what they cut in the dense matrix: element (c, i, j) of a patch
    # at position (r, s) is unit (c, r + i, s + j) of a 2 x 3 x 3 map.
    for groups in (site_groups(campaign.deployment, kind, [2]) for kind in ("row", "column")):
        for s in range(len(groups)):
            at = groups.synapses[slice(*groups.synapse_offsets[s : s + 2])]
            _, out, in_ = campaign.deployment.sites.synapses(at)
            cut = []
            for o, element in zip(out, in_, strict=True):
                c, i, j = np.unravel_index(element, (2, 2, 2))
                for r, q in product(range(2), range(2)):
                    unit = np.ravel_multi_index((c, r + i, q + j), (2, 3, 3))
                    cut.append((2, o * 4 + r * 2 + q, unit))
            sites.append(Site.dead(synapses=cut, probability=0.05))
    wanted = predict_sites(plain, inputs.reshape(2, -1), sites, method)
    found = ns.predict(campaign, method)
    np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-12)
    np.testing.assert_allclose(found.variance, wanted.variance, rtol=1e-9)


def test_simulation_of_rows_agrees_with_theory_and_a_wrong_rate_is_seen(tmp_path):
    network, inputs = convnet()
    faults = [ns.StuckAtZero(kind, probability=2e-3) for kind in ("row", "core")]
    campaign = campaign_of(network, inputs, faults, trials=30_000, epsilons=[0.3])
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        right = ns.compare(trace, ns.predict(campaign, "single-fault"), false_alarm_rate=1e-4)
        assert right.agrees, str(right)
        assert 'Trust "single-fault"' in str(right)
        wrong = ns.predict(campaign.with_probabilities([5e-3, 2e-3]), "single-fault")
        control = ns.compare(trace, replace(wrong, campaign=campaign), false_alarm_rate=1e-4)
        assert not control.agrees


ANALOG = ns.CrossbarDevice(levels=4, slices=2, g_on_s=2e-5, g_off_s=2e-6, g_stuck_hrs_s=0.0)
DIGITAL = ns.CrossbarDevice(mapping="digital", bits=4)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("process", "device"),
    [
        (ns.StuckDevice(stuck_lrs=0.02, stuck_hrs=0.03), ANALOG),
        (ns.BitFlip(probability=0.04, persistence=ns.Transient()), DIGITAL),
        (ns.StuckAt("neuron", value=0.7, probability=0.05, layers=[0, 1, 2]), None),
        (ns.StuckAt("synapse", value=-0.7, probability=0.02), None),
    ],
)
def test_backends_agree_about_values(kernels, process, device, tmp_path):
    network, inputs = convnet()
    others = [ns.StuckAtZero("neuron", probability=0.1), ns.StuckAtZero("synapse", probability=0.1)]
    found = []
    for backend in ("reference", "compiled"):
        campaign = campaign_of(
            network, inputs, [process, *others], kernels, device, trials=12, backend=backend,
            dtype="float64", record=["error", "hidden"],
        )  # fmt: skip
        with ns.run(campaign, tmp_path / f"{backend}.h5", progress=False) as trace:
            found.append(np.asarray(trace.errors))
    assert np.any(found[0])
    np.testing.assert_allclose(*found, atol=1e-11)
    assert len(campaign.fault_batch(0, 12).valued) > 5


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("process", "device"),
    [
        (ns.StuckDevice(stuck_lrs=0.02, stuck_hrs=0.03, layers=[2]), ANALOG),
        (ns.BitFlip(probability=0.04, layers=[2]), DIGITAL),
        (ns.StuckAt("neuron", value=0.7, probability=0.05, layers=[1]), None),
    ],
)
def test_theory_of_values_sums_the_changes_of_single_states(kernels, process, device):
    network, inputs = convnet()
    campaign = campaign_of(network, inputs, [process], kernels, device)
    groups = next(iter(Setting.of(campaign).groups.values()))
    d, p = alone(campaign, groups), process.probability
    d = d.reshape(len(groups.shares), -1, *d.shape[1:])
    shares = p * np.array(groups.shares)
    mean = np.einsum("a,as...->s...", shares, d)
    variance = np.einsum("a,as...->s...", shares, d**2) - mean**2
    found = ns.predict(campaign, "single-fault")
    np.testing.assert_allclose(found.mean, mean.sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.variance, variance.sum(axis=0), atol=1e-12)
    kind = "stuck neuron" if process.site == "neuron" else process.site
    parts = found.site_contributions(kind, process.layers[0])
    np.testing.assert_allclose(parts.T, variance.mean(axis=1), atol=1e-12)
    fourth = np.einsum("a,as...->s...", shares, (d - mean) ** 4) + (1 - p) * mean**4
    kurtosis = 3 + (fourth - 3 * variance**2).sum(axis=0) / variance.sum(axis=0) ** 2
    np.testing.assert_allclose(found.kurtosis, kurtosis, rtol=1e-9)
    law = found.distribution(1, 0)
    np.testing.assert_allclose(law.mean, mean[:, 1, 0].sum(), atol=1e-12)
    np.testing.assert_allclose(law.variance, variance[:, 1, 0].sum(), rtol=1e-9)
    if process.site != "neuron":
        small = replace(network, layers=(), nodes=tuple(
            Node(replace(n.layer, activation=Activation("identity")), n.sources)
            if hasattr(n.layer, "weight") else n for n in network.nodes
        ))  # fmt: skip
        linear = campaign_of(small, inputs, [process], kernels, device)
        first, single = (ns.predict(linear, m) for m in ("first-order", "single-fault"))
        np.testing.assert_allclose(first.variance, single.variance, rtol=1e-9)
        np.testing.assert_allclose(first.mean, single.mean, rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(first.kurtosis, single.kurtosis, rtol=1e-9)


@given(
    case=networks(), rows=st.integers(2, 30), columns=st.integers(1, 8),
    kernels=st.sampled_from(KERNELS),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_block_by_block_is_the_plain_network(case, rows, columns, kernels):
    network, inputs = case
    device = ns.CrossbarDevice(g_on_s=2e-5, g_off_s=2e-6, adc_bits=32, dac_bits=32)
    chip = ns.Chip(name="c", rows=rows, columns=columns, kernels=kernels, device=device)
    deployment = ns.deploy(network, chip, device_seed=2)
    np.testing.assert_allclose(deployment.by_blocks(inputs), network(inputs), atol=1e-10)
    off = crossbar_outputs(deployment, inputs, off=NONIDEALITIES).outputs
    np.testing.assert_array_equal(off, network(inputs))
    exact = crossbar_outputs(deployment, inputs).outputs
    np.testing.assert_allclose(exact, network(inputs), atol=1e-4)


NOISY = ns.CrossbarDevice(
    levels=8, slices=2, g_on_s=2e-5, g_off_s=2e-6, programming_error=[2e-7, 0.02], drift_nu=0.05,
    drift_nu_sd=0.01, drift_t0_s=20.0, drift_time_s=1e3, dac_bits=6, adc_bits=8,
    read_noise=[0.0, 0.01],
)  # fmt: skip


def test_the_devices_of_a_kernel_are_those_of_its_matrix():
    rng = np.random.default_rng(3)
    kernel = convolution(rng, 4, 4, 2, "identity", groups=2)
    network = ns.Network(layers=[kernel, Flatten()], input_shape=(4, 2, 2))
    chip = ns.Chip(name="c", rows=16, columns=8, device=NOISY)
    deployment = ns.deploy(network, chip, device_seed=5)
    held = deployment.network.layers[0].weight
    assert held.shape == kernel.weight.shape
    # Group by group along the diagonal of core 0: a dense layer with these devices.
    matrix = np.zeros((4, 16))
    for out in range(4):
        matrix[out, out // 2 * 8 : out // 2 * 8 + 8] = kernel.weight[out].ravel()
    plain = ns.Network.dense(weights=[matrix], biases=[kernel.bias], activations=["identity"])
    dense_held = ns.deploy(plain, chip, device_seed=5).network.layers[0].weight
    for out in range(4):
        np.testing.assert_array_equal(
            held[out].ravel(), dense_held[out, out // 2 * 8 : out // 2 * 8 + 8]
        )
    assert deployment.trained is network
    assert scale_of(kernel.weight) == scale_of(matrix)
    # One position: the converters see what those of the dense layer see, but for the weights 0.
    quiet = replace(NOISY, read_noise=(), programming_error=(), drift_nu_sd=0.0)
    inputs = rng.normal(size=(5, 4, 2, 2))
    found = [
        crossbar_outputs(ns.deploy(n, replace(chip, device=quiet), device_seed=5), x).outputs
        for n, x in ((network, inputs), (plain, inputs.reshape(5, 4, 4).reshape(5, 16)))
    ]
    np.testing.assert_allclose(*found, atol=1e-12)


def test_non_idealities_of_a_convolutional_network_are_shown():
    network, inputs = convnet()
    chip = ns.Chip(name="c", rows=16, columns=8, device=NOISY)
    found = ns.nonidealities(ns.deploy(network, chip), inputs, [0, 1], chips=2)
    assert [part.name for part in found.parts] == [*NOISY.nonidealities, "all"]
    assert all(0 < part.error < 1 for part in found.parts)
    # Each position of the map is a reading of its own.
    noise = ns.CrossbarDevice(g_on_s=2e-5, g_off_s=2e-6, read_noise=[0.0, 0.01])
    kernel = Conv2D(weight=[[[[1.0]]]], bias=[0])
    one = ns.Network(layers=[kernel, Flatten()], input_shape=(1, 1, 4000))
    deployment = ns.deploy(one, ns.Chip(name="c", device=noise), device_seed=0)
    outputs = crossbar_outputs(deployment, np.ones((1, 1, 1, 4000))).outputs[0]
    wanted = 1e-4 * (20**2 + 2**2) / 18**2
    # A false alarm in 1e-6 runs: 4.9 standard errors.
    assert abs(outputs.var() / wanted - 1) < 4.9 * np.sqrt(2 / 4000)
    assert abs(outputs.var() / (1.25 * wanted) - 1) > 4.9 * np.sqrt(2 / 4000)


def test_copies_of_a_kernel_have_no_errors_of_their_own():
    network, inputs = convnet()
    chip = ns.Chip(name="c", kernels="replicated_in_space", device=NOISY)
    with pytest.raises(InputError, match='expected kernels "shared_in_time" for devices with err'):
        ns.deploy(network, chip, device_seed=0)
    with pytest.raises(InputError, match="each copy of a kernel would hold other weights"):
        ns.nonidealities(ns.deploy(network, chip), inputs)
    alike = replace(chip, device=replace(NOISY.without("programming"), drift_nu_sd=0.0))
    shared = replace(alike, kernels="shared_in_time")
    held = [ns.deploy(network, c, device_seed=0).network(inputs) for c in (alike, shared)]
    np.testing.assert_array_equal(*held)


def test_theory_knows_defects_of_shared_kernels_and_not_of_one_of_several_copies(tmp_path):
    network, inputs = convnet()
    defects = ns.DefectMap([ns.Defect(0, "row", row=1), ns.Defect(2, "synapse", 0, 1)])
    chip = ns.Chip(name="c", rows=6, columns=3, cores=100)
    deployment = ns.deploy(network, chip, defects, around=False)
    assert len(deployment.defective_synapses) > 2
    around = ns.deploy(network, chip, defects)
    assert len(around.defective_synapses) < len(deployment.defective_synapses)
    faults = [ns.StuckAtZero("neuron", probability=2e-3), ns.StuckAtZero("row", probability=1e-3)]
    campaign = ns.Campaign(deployment=deployment, faults=faults, inputs=inputs, trials=20_000,
                           seed=2)  # fmt: skip
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        agreed = ns.compare(trace, ns.predict(campaign, "single-fault"), false_alarm_rate=1e-4)
        assert agreed.agrees, str(agreed)
    none = ns.predict(campaign.with_probabilities([0.0, 0.0]))
    expected = [CoreByCore(deployment).outputs(x, (), defects) for x in inputs]
    np.testing.assert_allclose(none.mean, expected - network(inputs), atol=1e-12)
    copied = ns.deploy(network, replace(chip, kernels="replicated_in_space"), defects, around=False)
    campaign = replace(campaign, deployment=copied, trials=50)
    with pytest.raises(InputError, match="expected them in kernels shared in time, got some in la"):
        ns.predict(campaign)
    with ns.run(campaign, tmp_path / "copied.h5", progress=False) as trace:
        assert trace.statistics.errors.count == 50


def test_max_pools_pass_on_what_one_core_sends():
    rng = np.random.default_rng(0)
    layers = [convolution(rng, 1, 3, 1), MaxPool2D(size=2), Affine(scale=-np.ones(3),
              shift=np.ones(3)), Flatten(), dense(rng, 3, 1)]  # fmt: skip
    network = ns.Network(layers=layers, input_shape=(1, 2, 2))
    deployment = ns.deploy(network, ns.Chip(name="c", rows=9, columns=2))
    links = site_groups(deployment, "link", [2])
    assert links.names == ("link from core 0 to core 2", "link from core 1 to core 2")
    assert deployment.sites.synapses(links.synapses)[2].tolist() == [0, 1, 2]
    check(deployment, rng.normal(size=(2, 1, 2, 2)), [(links, 0)], [links.names[0]])


def test_sites_are_counted_without_being_made():
    network, _ = convnet()
    for kernels in KERNELS:
        chip = ns.Chip(name="c", rows=6, columns=3, kernels=kernels, device=ANALOG)
        deployment = ns.deploy(network, chip)
        stuck = ns.StuckDevice(stuck_lrs=0.1, stuck_hrs=0.1, layers=[1, 3])
        assert count_sites(deployment, stuck) == len(weight_sites(deployment, stuck))
        digital = ns.deploy(network, replace(chip, device=DIGITAL))
        flips = ns.BitFlip(probability=0.1, bits=[1, 3])
        assert count_sites(digital, flips) == len(weight_sites(digital, flips))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("site", "along"), [("row", None), ("column", None), ("synapse", "row"), ("synapse", "column")]
)
def test_clusters_on_kernels_are_runs_of_the_crossbar(site, along, kernels):
    network, inputs = convnet()
    chip = ns.Chip(name="c", rows=16, columns=8, kernels=kernels)
    deployment = ns.deploy(network, chip)
    process = ns.Cluster(site, length=2, along=along, probability=0.1, layers=[2])
    found = groups_of(deployment, process)
    assert len(found) == count_sites(deployment, process)
    simulated, golden = CoreByCore(deployment), [CoreByCore(deployment).outputs(inputs[0])]
    held, matter = set(simulated.crossbars), 0
    runs_over_rows = site == "row" or along == "column"
    for s in range(0, len(found), max(1, len(found) // 12)):
        core, *numbers = (int(n) for n in re.findall(r"\d+", found.names[s]))
        line = numbers.pop(0) if along else None
        run = range(numbers[0], numbers[-1] + 1)
        defects = [
            ns.Defect(core, "synapse", row, column)
            for c, row, column in held
            if c == core
            and (row if runs_over_rows else column) in run
            and line in (None, column if runs_over_rows else row)
        ]
        expected = np.subtract([simulated.outputs(inputs[0], (), defects)], golden)
        errors = ns.evaluate(deployment, lowered(deployment, [(found, s)], 1), inputs[:1])
        np.testing.assert_allclose(errors, expected, atol=1e-12)
        matter += bool(np.any(expected))
    assert matter > 3
    campaign = ns.Campaign(deployment=deployment, faults=[process], inputs=inputs, trials=1, seed=0)
    d = alone(campaign, found)
    predicted = ns.predict(campaign, "single-fault")
    np.testing.assert_allclose(predicted.mean, 0.1 * d.sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(predicted.variance, 0.09 * (d**2).sum(axis=0), atol=1e-12)


@pytest.mark.parametrize("rows", [5, 16])
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("around", [False, True])
def test_devices_known_to_be_stuck_set_the_weights_of_the_crosspoints_they_hold(
    kernels, around, rows
):
    network, inputs = convnet()
    chip = ns.Chip(name="c", rows=rows, columns=8, cores=400, kernels=kernels, device=ANALOG)
    rng = np.random.default_rng(0)
    used = sorted(CoreByCore(ns.deploy(network, chip)).crossbars)
    known = ns.DefectMap([
        ns.Defect(core, str(rng.choice(["stuck_lrs", "stuck_hrs"])), row, column,
                  half=str(rng.choice(["plus", "minus"])), slice_number=int(rng.integers(2)))
        for core, row, column in (used[k] for k in rng.choice(len(used), 12, replace=False))
    ])  # fmt: skip
    deployment = ns.deploy(network, chip, known, around=around)
    simulated, changed = CoreByCore(deployment), 0
    by_hand = dict(simulated.crossbars)
    for number, layer in enumerate(deployment.trained.layers, start=1):
        scale = scale_of(layer.weight)
        core, row, column = simulated.places[number]
        matrix = layer.weight.reshape(layer.matrix_shape)
        for o, i in product(*map(range, core.shape)):
            at = (int(core[o, i]), int(row[o, i]), int(column[o, i]))
            for one in known:
                if (one.core, one.row, one.column) == at:
                    w = matrix[o % len(matrix), i]
                    stuck = ANALOG.stuck_weight(w, scale, half=one.half, state=one.kind,
                                                slice_number=one.slice_number)  # fmt: skip
                    by_hand[at] += stuck - ANALOG.programmed_weights(w, scale)
                    changed += 1
    assert changed > 5 or around
    golden = [simulated.outputs(x) for x in inputs]
    simulated.crossbars = by_hand
    expected = np.subtract([simulated.outputs(x) for x in inputs], golden)
    assert np.abs(expected).max() > 1e-3 or around
    campaign = ns.Campaign(deployment=deployment, faults=[ns.StuckAtZero("row", probability=0.0)],
                           inputs=inputs, trials=1, seed=0)  # fmt: skip
    errors = ns.evaluate(deployment, campaign.fault_set(0), inputs)
    np.testing.assert_allclose(errors, expected, atol=1e-10)
    if kernels == "shared_in_time":
        np.testing.assert_allclose(
            deployment.defective_network(inputs) - network(inputs), expected, atol=1e-10
        )
        np.testing.assert_allclose(ns.predict(campaign).mean, expected, atol=1e-10)
