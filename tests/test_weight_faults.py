"""Stuck devices with states that exclude each other, and flipped bits of digital weights."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from exact import PlainNetwork

import neurosim as ns
from neurosim.certification.scope import require_formulas
from neurosim.crossbar import CrossbarDevice, scale_of
from neurosim.errors import InputError
from neurosim.kernels.draws import draw_cells
from neurosim.weight_faults import weight_sites

ANALOG = CrossbarDevice(levels=4, slices=2, g_on_s=2e-5, g_off_s=2e-6, g_stuck_hrs_s=0.0)
DEVICES = {
    "differential": ANALOG,
    "two-sided": CrossbarDevice(two_sided=True, g_on_s=2e-5, g_off_s=2e-6),
    "offset": replace(ANALOG, mapping="offset"),
    "digital": CrossbarDevice(mapping="digital", bits=4),
}
STUCK = ns.StuckDevice(stuck_lrs=0.06, stuck_hrs=0.03)
FLIPPED = ns.BitFlip(probability=0.05)


def small(last="identity", hidden="sigmoid(2)"):
    rng = np.random.default_rng(5)
    network = ns.Network.dense(
        weights=[rng.normal(size=(3, 2)), rng.normal(size=(2, 3))],
        biases=[rng.normal(size=3), rng.normal(size=2)],
        activations=[hidden, last],
    )
    return network, rng.normal(size=(3, 2))


def campaign_of(*faults, device="differential", device_seed=None, trials=4000, **options):
    network, inputs = small(**options.pop("network", {}))
    chip = ns.Chip(name="c", rows=4, columns=2, device=DEVICES[device])
    return ns.Campaign(
        deployment=ns.deploy(network, chip, device_seed=device_seed),
        faults=faults, inputs=inputs, trials=trials, seed=4, **options,
    )  # fmt: skip


def held_weights(campaign, process, k):
    """(layer, out, in, start) -> weight by hand: the cells of trial k, state by state."""
    found = {}
    sites, windows = weight_sites(campaign.deployment, process), campaign.n_inputs
    transient = isinstance(process.persistence, ns.Transient)
    n = len(sites) * (windows if transient else 1)
    _, cells = draw_cells(np.uint64(campaign.seed), 0, k, 1, n, process.probability, 1.0)
    for cell in cells.tolist():
        site, start = divmod(cell, windows) if transient else (cell, 0)
        layer, out, in_ = (int(v[0]) for v in campaign.deployment.sites.synapses(
            sites.synapse[[site]]))  # fmt: skip
        found.setdefault((layer, out, in_, start), []).append(site)
    return found


@pytest.mark.parametrize("persistence", [ns.Permanent(), ns.Transient()])
def test_flipped_bits_of_one_weight_flip_at_once(persistence):
    process = ns.BitFlip(probability=0.4, persistence=persistence)
    campaign = campaign_of(process, device="digital", device_seed=1)
    found = held_weights(campaign, process, 7)
    events = campaign.fault_set(7).synapse_weights
    assert len(events) == len(found)
    assert max(map(len, found.values())) > 1
    for event in events.tolist():
        layer, out, in_, start, _, weight = event
        trained = campaign.deployment.trained.layers[layer - 1].weight
        code = round(trained[out, in_] / scale_of(trained) * 7) & 15
        for site in found[layer, out, in_, start]:
            code ^= 1 << (site % 4)
        signed = code - 16 if code & 8 else code
        assert weight == pytest.approx(signed / 7 * scale_of(trained), abs=1e-12)


@pytest.mark.parametrize("device", ["differential", "two-sided", "offset"])
def test_a_stuck_device_is_what_the_device_model_says(device):
    campaign = campaign_of(STUCK, device=device, device_seed=3)
    sites, model = weight_sites(campaign.deployment, STUCK), DEVICES[device]
    halves = ("plus",) if device == "offset" else ("plus", "minus")
    kinds = [(half, k) for half in halves for k in range(model.slices)]
    assert len(sites) == 12 * len(kinds)
    for number, layer in enumerate(campaign.deployment.trained.layers, start=1):
        part = sites.of_layer(number)
        for row, state in zip(part.weight + part.shift, ("stuck_lrs", "stuck_hrs"), strict=True):
            for n, (half, k) in enumerate(kinds):
                wanted = model.stuck_weight(
                    layer.weight, scale_of(layer.weight), half=half, state=state, slice_number=k
                )
                np.testing.assert_allclose(row[n :: len(kinds)], wanted.ravel(), atol=1e-12)


@pytest.mark.parametrize(("process", "device"), [(STUCK, "differential"), (FLIPPED, "digital")])
def test_backends_agree_and_traces_keep_the_weights(process, device, tmp_path):
    found = []
    for backend in ("reference", "compiled"):
        campaign = campaign_of(
            process, device=device, trials=40, backend=backend, dtype="float64",
            record=["faults", "error"],
        )  # fmt: skip
        with ns.run(campaign, tmp_path / f"{backend}.h5", progress=False) as trace:
            found.append(np.asarray(trace.errors))
            assert trace.fault_set(7) == campaign.fault_set(7)
        plain = PlainNetwork.of(campaign.network)
        for k in range(3):
            rows = [(n, i, j, w) for n, i, j, _, _, w in campaign.fault_set(k).synapse_weights]
            x = campaign.inputs[1]
            wanted = plain.with_effect(x, (), rows) - plain.with_effect(x)
            np.testing.assert_allclose(found[-1][k, 1], wanted, atol=1e-11)
    np.testing.assert_allclose(*found, atol=1e-12)
    whole = campaign.fault_batch(0, 20)
    assert all(whole[k] == campaign.fault_set(k) for k in range(20))


def exact_moments(campaign, process):
    """Mean and variance at input 0 over all states of all parts of all weights of layer 2."""
    sites = weight_sites(campaign.deployment, process)
    plain, x = PlainNetwork.of(campaign.network), campaign.inputs[0]
    golden, weights = plain.with_effect(x), [process.probability * s for s in sites.shares]
    # Synapses of a linear output are independent and add up: each is enumerated alone.
    mean, variance = np.zeros(2), np.zeros(2)
    locate = campaign.deployment.sites.synapses
    for synapse in np.unique(sites.synapse):
        of_it = np.flatnonzero(sites.synapse == synapse)
        place = tuple(int(v[0]) for v in locate(np.array([synapse])))
        first, second = np.zeros(2), np.zeros(2)
        for state in product(range(len(weights) + 1), repeat=len(of_it)):
            p, w = 1.0, sites.weight[of_it[0]]
            for s, n in zip(state, of_it, strict=True):
                p *= weights[s - 1] if s else 1 - sum(weights)
                w += sites.shift[s - 1, n] if s else 0.0
            change = plain.with_effect(x, (), [(*place, w)]) - golden
            first, second = first + p * change, second + p * change**2
        mean, variance = mean + first, variance + second - first**2
    return mean, variance


@pytest.mark.parametrize("method", ["single-fault", "first-order"])
@pytest.mark.parametrize(
    ("process", "device"),
    [(replace(STUCK, layers=[2]), "differential"), (replace(STUCK, layers=[2]), "offset"),
     (replace(FLIPPED, layers=[2]), "digital")],
)  # fmt: skip
def test_theory_is_the_sum_over_all_states(process, device, method):
    campaign = campaign_of(process, device=device)
    found = ns.predict(campaign, method)
    mean, variance = exact_moments(campaign, process)
    assert found.exact
    np.testing.assert_allclose(found.mean[0], mean, rtol=1e-10)
    np.testing.assert_allclose(found.variance[0], variance, rtol=1e-10)
    shares = found.site_contributions(process.site, 2)
    assert shares.shape == (2, len(weight_sites(campaign.deployment, process)))
    np.testing.assert_allclose(shares.sum(axis=1), found.variance.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(
        np.diagonal(found.covariance, axis1=1, axis2=2), found.variance, rtol=1e-10
    )


def test_simulation_agrees_and_independent_states_are_seen(tmp_path):
    process = ns.StuckDevice(stuck_lrs=0.3, stuck_hrs=0.4, layers=[2])
    campaign = campaign_of(process, trials=20000)
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        right = ns.predict(campaign, "single-fault")
        agreed = ns.compare(trace, right, false_alarm_rate=1e-4)
        assert agreed.agrees, str(agreed)
        # As if a device could be in both states: no covariance -p_1 p_2 between them.
        sites = weight_sites(campaign.deployment, process)
        y = campaign.network.activations(campaign.inputs)[1]
        variance = np.zeros_like(right.variance)
        for synapse, shift in zip(sites.synapse, sites.shift.T, strict=True):
            _, out, in_ = (int(v[0]) for v in campaign.deployment.sites.synapses(
                np.array([synapse])))  # fmt: skip
            variance[:, out] += (0.21 * shift[0] ** 2 + 0.24 * shift[1] ** 2) * y[:, in_] ** 2
        wrong = replace(right, variance=variance)
        assert not ns.compare(trace, wrong, false_alarm_rate=1e-4).agrees
        other = ns.predict(campaign_of(replace(process, stuck_lrs=0.33)), "single-fault")
        wrong = replace(other, campaign=campaign)
        assert not ns.compare(trace, wrong, false_alarm_rate=1e-4).agrees


def test_probabilities_keep_the_shares_and_the_random_numbers():
    campaign = campaign_of(ns.StuckDevice(stuck_lrs=0.02, stuck_hrs=0.04))
    (process,) = campaign.with_probabilities([0.3]).faults
    assert process.probability == 0.3
    assert process.stuck_hrs == pytest.approx(0.2)
    with pytest.raises(InputError, match="never stuck"):
        campaign_of(ns.StuckDevice(stuck_lrs=0, stuck_hrs=0)).with_probabilities([0.1])
    rare = campaign.with_probabilities([0.1])
    thinned = replace(rare, plan=ns.PlainMonteCarlo(draw_at=(0.3,)))
    counts = [c.fault_batch(0, 50).counts for c in (thinned, replace(rare, faults=(process,)))]
    assert (counts[0] <= counts[1]).all()
    assert 0 < counts[0].sum() < counts[1].sum()


def test_the_device_is_part_of_what_determines_the_numbers():
    kinds = [
        campaign_of(STUCK, device=device, device_seed=seed).fingerprint
        for device, seed in (("differential", None), ("two-sided", None), ("differential", 1))
    ]
    assert len(set(kinds)) == 3
    dead = ns.StuckAtZero("synapse", probability=0.1)
    plain = [campaign_of(dead, device=device) for device in ("differential", "two-sided")]
    assert plain[0].fingerprint == plain[1].fingerprint
    assert "device" not in plain[0].components


def test_what_is_refused():
    with pytest.raises(InputError, match=r"at most 1 together, got 1\.1"):
        ns.StuckDevice(stuck_lrs=0.6, stuck_hrs=0.5)
    with pytest.raises(InputError, match="stuck_lrs: expected a probability"):
        ns.StuckDevice(stuck_lrs=-0.1, stuck_hrs=0.5)
    with pytest.raises(InputError, match="expected Permanent"):
        replace(STUCK, persistence=ns.Transient())
    with pytest.raises(InputError, match=r"expected Permanent\(\) or Transient"):
        replace(FLIPPED, persistence=ns.Intermittent(mean_duration=2))
    for bits in ([], [1, 1], [-1], "x", [True]):
        with pytest.raises(InputError, match="bits: expected distinct numbers"):
            ns.BitFlip(probability=0.1, bits=bits)
    with pytest.raises(InputError, match="expected bits from 0 to 3"):
        campaign_of(ns.BitFlip(probability=0.1, bits=[4]), device="digital")
    with pytest.raises(InputError, match="expected a chip with analog devices"):
        campaign_of(STUCK, device="digital")
    with pytest.raises(InputError, match="expected a chip with digital weights"):
        campaign_of(FLIPPED)
    with pytest.raises(InputError, match="expected one StuckAt for synapses of layer 1"):
        campaign_of(STUCK, ns.StuckAt("synapse", value=1.0, probability=0.1))
    with pytest.raises(InputError, match="spikes carry no values"):
        campaign_of(STUCK, backend="spiking-compiled")
    for method in ("mean-field", "second-order"):
        with pytest.raises(InputError, match='method: expected "single-fault"'):
            ns.predict(campaign_of(STUCK), method)
    with pytest.raises(InputError, match=r"got 48 \(a site counts once a process, a stuck"):
        ns.predict(campaign_of(STUCK), "enumeration")
    with pytest.raises(InputError, match="less than 1 together"):
        ns.predict(campaign_of(ns.StuckDevice(stuck_lrs=0.5, stuck_hrs=0.5)), "first-order")
    with pytest.raises(InputError, match="expected stuck-at-0 neurons and synapses"):
        require_formulas(campaign_of(STUCK), "it")


def test_files_have_stuck_devices_and_bits(tmp_path):
    network, inputs = small()
    network.save(tmp_path / "net.npz")
    np.save(tmp_path / "x.npy", inputs)
    head = 'network = "net.npz"\ninputs = "x.npy"\ntrials = 5\nseed = 1\n'
    path = tmp_path / "c.toml"
    table = '[[faults]]\nsite = "device"\nstuck_lrs = 0.06\nstuck_hrs = 0.03\n'
    path.write_text(head + 'chip = "rram"\n' + table)
    assert ns.load_campaign(path).faults == (STUCK,)
    rram = ns.Chip.load("rram").faults[0]
    assert (rram.stuck_lrs, rram.stuck_hrs) == (0.0904, 0.0175)
    path.write_text(head + 'chip = "rram"\n' + table + "probability = 0.1\n")
    with pytest.raises(InputError, match="got probability too"):
        ns.load_campaign(path)
    path.write_text(head + 'chip = "rram"\n[[faults]]\nsite = "device"\nstuck_lrs = 0.1\n')
    with pytest.raises(InputError, match="stuck_hrs: expected one"):
        ns.load_campaign(path)
    (tmp_path / "digital.toml").write_text(
        '[chip]\nname = "digital"\ndescription = "d"\n[device]\nmapping = "digital"\n'
        'bits = { value = 4, unit = "1", status = "assumption", source = "test" }\n'
    )
    path.write_text(
        head + 'chip = "digital.toml"\n[[faults]]\nsite = "bit"\nprobability = 0.1\nbits = [3]\n'
    )
    assert ns.load_campaign(path).faults == (ns.BitFlip(probability=0.1, bits=[3]),)
