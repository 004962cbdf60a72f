"""run: the same datasets whatever the executor, after kills, interruptions and continuations."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import CampaignMismatchError, InputError, TraceError
from neurosim.executors import SerialExecutor, ThreadExecutor

RECORD = ("faults", "error", "hidden")


def campaign_of(trials=3000, **changes):
    rng = np.random.default_rng(4)
    widths = (12, 9, 7, 3)
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=["sigmoid(4)", "tanh", "identity"],
    )
    values = {
        "faults": [
            ns.StuckAtZero("neuron", probability=0.05),
            ns.StuckAtZero("synapse", probability=0.01, persistence=ns.Transient()),
            ns.StuckAtZero("neuron", probability=0.1, persistence=ns.Intermittent(mean_duration=2)),
        ],
        "inputs": rng.normal(size=(5, 12)),
        "targets": [0, 1, 2, 0, 1],
        "loss": "squared_error",
        "epsilons": (0.1, 1.0),
        "replicas": (3, 5),
        "record": RECORD,
        "seed": 11,
        **changes,
    }
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")), trials=trials, **values
    )


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Many units of work, also in the small campaigns of these tests."""
    monkeypatch.setattr("neurosim.campaign._CHUNK_TRIALS", 256)


def datasets(path):
    """Every dataset of a trace but those about the machine and the time."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and "provenance" not in name:
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def assert_same(a, b):
    a, b = datasets(a), datasets(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture
def unbroken(tmp_path):
    path = tmp_path / "unbroken.h5"
    ns.run(campaign_of(), path, executor=SerialExecutor(), progress=False).close()
    return path


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_bits(tmp_path, unbroken, threads):
    path = tmp_path / "threads.h5"
    ns.run(campaign_of(), path, executor=ThreadExecutor(threads), progress=False).close()
    assert_same(path, unbroken)


def test_rare_neuron_faults_give_the_same_bits_for_any_number_of_threads(tmp_path):
    # Most trials are fault-free or share their fault set; single dead neurons come from a table.
    changes = {
        "faults": [ns.StuckAtZero("neuron", probability=0.02)],
        "record": ("faults", "error"),
    }
    for threads in (1, 2, 3):
        path = tmp_path / f"{threads}.h5"
        executor = ThreadExecutor(threads)
        ns.run(campaign_of(5000, **changes), path, executor=executor, progress=False).close()
    assert_same(tmp_path / "1.h5", tmp_path / "2.h5")
    assert_same(tmp_path / "1.h5", tmp_path / "3.h5")
    campaign = campaign_of(5000, **changes)
    with ns.Trace(tmp_path / "1.h5") as trace:
        errors = np.asarray(trace.errors)
        np.testing.assert_allclose(trace.mean, errors.mean(axis=0, dtype=float), rtol=1e-9)
        assert (trace.exceedances[0] == (abs(errors) >= 0.1).sum(axis=0)).all()
        for k in (0, 17, 300, 4999):
            assert trace.fault_set(k) == campaign.fault_set(k)
            error = ns.evaluate(campaign.deployment, campaign.fault_set(k), campaign.inputs)
            np.testing.assert_allclose(errors[k], error, rtol=1e-4, atol=1e-5)


def test_what_is_recorded_is_what_the_campaign_says(unbroken):
    campaign = campaign_of()
    with ns.Trace(unbroken) as trace:
        assert trace.completed == 3000
        for k in (0, 1, 1500, 2999):
            assert trace.fault_set(k) == campaign.fault_set(k)
            error = ns.evaluate(campaign.deployment, campaign.fault_set(k), campaign.inputs)
            np.testing.assert_allclose(trace.errors[k], error, rtol=1e-4, atol=1e-5)
        errors = np.asarray(trace.errors)
        np.testing.assert_allclose(trace.mean, errors.mean(axis=0, dtype=float), rtol=1e-9)
        np.testing.assert_allclose(
            trace.variance, errors.var(axis=0, ddof=1, dtype=float), rtol=1e-9
        )
        assert (trace.minimum == errors.min(axis=0)).all()
        assert (trace.maximum == errors.max(axis=0)).all()
        medians = np.median(errors.reshape(1000, 3, 5, 3), axis=1)
        assert (trace.median_exceedances[0, 1] == (abs(medians) >= 1).sum(axis=0)).all()
        assert trace.hidden_errors(1).shape == (3000, 5, 9)
        assert trace.fault_counts.shape == (3000, 3)


def test_a_finished_campaign_is_continued_with_more_trials(tmp_path, unbroken):
    path = tmp_path / "grown.h5"
    for trials in (100, 900, 3000):
        with ns.run(campaign_of(trials), path, progress=False) as trace:
            assert trace.completed == trials
    assert_same(path, unbroken)
    with pytest.raises(TraceError, match="3000"):
        ns.run(campaign_of(100), path, progress=False)


def test_adjacent_ranges_are_joined(tmp_path, unbroken):
    campaign = campaign_of()
    edge = 5 * campaign.chunk
    for name, part in (("a", range(edge)), ("b", range(edge, 3000))):
        ns.run(campaign, tmp_path / f"{name}.h5", trials=part, progress=False).close()
    ns.join([tmp_path / "b.h5", tmp_path / "a.h5"], tmp_path / "joined.h5")
    with ns.Trace(tmp_path / "joined.h5") as joined, ns.Trace(unbroken) as whole:
        assert joined.completed == 3000
        np.testing.assert_array_equal(np.asarray(joined.errors), np.asarray(whole.errors))
        np.testing.assert_array_equal(joined.median_exceedances, whole.median_exceedances)
        np.testing.assert_array_equal(joined.histogram, whole.histogram)
        np.testing.assert_allclose(joined.variance, whole.variance, rtol=1e-12)
    with pytest.raises(TraceError):
        ns.join([tmp_path / "a.h5", tmp_path / "a.h5"], tmp_path / "twice.h5")
    with pytest.raises((TraceError, ns.InputError), match=str(campaign.chunk)):
        ns.run(campaign, tmp_path / "c.h5", trials=range(3, 3000), progress=False)


def test_a_trace_of_another_campaign_says_what_differs(tmp_path, unbroken):
    before = unbroken.read_bytes()
    with pytest.raises(CampaignMismatchError, match="seed"):
        ns.run(campaign_of(seed=12), unbroken, progress=False)
    with pytest.raises(CampaignMismatchError, match="epsilons"):
        ns.run(campaign_of(epsilons=(0.2,)), unbroken, progress=False)
    assert unbroken.read_bytes() == before


PROGRAM = """
import sys
sys.path[:0] = {path!r}
import neurosim.campaign
neurosim.campaign._CHUNK_TRIALS = 256
import neurosim.trace.writer
from test_runner import campaign_of
import neurosim as ns
import neurosim.runner
neurosim.runner.run(campaign_of({trials}), {target!r}, progress=False)
print("done")
"""


def start(target, trials):
    code = PROGRAM.format(path=sys.path, target=str(target), trials=trials)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_and_resume(tmp_path, kills, trials, seed, sign=signal.SIGKILL):
    """Break a run at random moments, then let it end; returns how often it was really broken."""
    target, luck, broken = tmp_path / "broken.h5", random.Random(seed), 0
    for _ in range(kills):
        process = start(target, trials)
        began = time.monotonic()
        while process.poll() is None and not (
            (tmp_path / "broken.h5.segments").exists() or target.exists()
        ):
            assert time.monotonic() - began < 120
            time.sleep(0.01)
        time.sleep(luck.uniform(0, 1.5))
        if process.poll() is None:
            process.send_signal(sign)
            broken += 1
        process.communicate()
        if target.exists():
            break
    process = start(target, trials)
    out, err = process.communicate(timeout=300)
    assert "done" in out, err
    return broken


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_continues_to_the_same_datasets(tmp_path, sign):
    trials = 60_000
    broken = kill_and_resume(tmp_path, 2, trials, seed=1, sign=sign)
    assert broken
    ns.run(campaign_of(trials), tmp_path / "unbroken.h5", progress=False).close()
    assert_same(tmp_path / "broken.h5", tmp_path / "unbroken.h5")
    assert sorted(p.name for p in tmp_path.iterdir() if "segments" in p.name) == []


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_ten_kills_at_random_moments_change_nothing(tmp_path):
    trials = 250_000
    assert kill_and_resume(tmp_path, 10, trials, seed=2) >= 5
    ns.run(campaign_of(trials), tmp_path / "unbroken.h5", progress=False).close()
    assert_same(tmp_path / "broken.h5", tmp_path / "unbroken.h5")


def test_memory_does_not_grow_with_trials(tmp_path):
    code = (
        "import sys; sys.path[:0] = {path!r}\nimport resource\n"
        "from test_runner import campaign_of\nimport neurosim as ns\n"
        "ns.run(campaign_of(2000, record=()), {a!r}, progress=False).close()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "ns.run(campaign_of(150_000, record=(), seed=3), {b!r}, progress=False).close()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    ).format(path=sys.path, a=str(tmp_path / "a.h5"), b=str(tmp_path / "b.h5"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert int(done.stdout) < 60_000  # KiB; per-trial errors of all trials would be 9 MB a pass


def test_a_second_writer_is_refused(tmp_path):
    process = start(tmp_path / "broken.h5", 2_000_000)
    try:
        while not (tmp_path / "broken.h5.segments").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        time.sleep(0.3)
        with pytest.raises(TraceError, match="another"):
            ns.run(campaign_of(2_000_000), tmp_path / "broken.h5", progress=False)
    finally:
        process.kill()
        process.communicate()


def test_a_csv_has_one_row_an_input_and_output(tmp_path, unbroken):
    with ns.Trace(unbroken) as trace:
        trace.to_csv(tmp_path / "t.csv")
        lines = (tmp_path / "t.csv").read_text().splitlines()
        rows = [line for line in lines if not line.startswith("#")]
        assert len(rows) == 1 + 15
        assert "mean" in rows[0]
        assert trace.plan is None


def test_the_page_about_traces_names_every_dataset(tmp_path, unbroken):
    page = (Path(__file__).parent.parent / "docs" / "trace-format.md").read_text(encoding="utf-8")
    named = [
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z]+(?:/[a-z_*]+)+)`", line.split("|")[1])
    ]
    faults = [ns.StuckAtZero("neuron", probability=0.05)]
    weighted = campaign_of(600, faults=faults, replicas=(), record=(), plan=ns.Stratified())
    ns.run(ns.resolve(weighted), tmp_path / "weighted.h5", progress=False).close()
    there = {*datasets(unbroken), *datasets(tmp_path / "weighted.h5")}
    for name in there:
        assert any(fnmatch(name, pattern) for pattern in named), name
    elsewhere = {"trials/rates", "trials/spikes/*"}  # in spiking campaigns
    elsewhere |= {"trials/neuron_values/*", "trials/synapse_weights/*"}  # where values are held
    for pattern in set(named) - elsewhere:
        assert any(fnmatch(name, pattern) for name in there), pattern


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"campaign": "campaign.toml"}, "campaign: expected Campaign"),
        ({"path": 5}, "path: expected the path of a file"),
        ({"executor": "tcp://10.0.0.1:8786"}, "executor: expected one, as ThreadExecutor"),
        ({"executor": ThreadExecutor}, "executor: expected one"),
        ({"checkpoint_seconds": None}, "checkpoint_seconds: expected seconds"),
        ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds: expected seconds"),
        ({"trials": 10}, "trials: expected range"),
    ],
)
def test_wrong_arguments_of_run_are_refused(tmp_path, arguments, said):
    with pytest.raises(InputError, match=re.escape(said)):
        ns.run(**{"campaign": campaign_of(), "path": tmp_path / "none.h5", **arguments})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, 5, b"out.h5"])
def test_paths_of_traces_are_paths(unbroken, tmp_path, path):
    with ns.Trace(unbroken) as trace:
        for use in (ns.Trace, trace.to_csv, lambda path: ns.join([path], tmp_path / "joined.h5")):
            with pytest.raises(InputError, match="expected the path of a file"):
                use(path)
    with pytest.raises(InputError, match="paths: expected a list of traces"):
        ns.join(str(unbroken), tmp_path / "joined.h5")


@pytest.mark.parametrize("folder", ["", ".", "/"])
def test_folders_are_no_traces(unbroken, folder):
    with pytest.raises(TraceError, match="got a folder"):
        ns.Trace(folder)
    with ns.Trace(unbroken) as trace, pytest.raises(TraceError, match="got a folder"):
        trace.to_csv(folder)


def test_a_wrong_index_does_not_make_a_trace_damaged(unbroken):
    with ns.Trace(unbroken) as trace:
        for array in (trace.errors, trace.fault_counts, trace.hidden_errors(1)):
            with pytest.raises(IndexError, match="indices"):
                array[0, 0, 0, 0]
            assert array[0, ..., 0].shape == np.asarray(array)[0, ..., 0].shape
        for k in (1.5, "1", True, 3000, -1):
            with pytest.raises(InputError, match="k: expected a trial from 0 to 2999"):
                trace.fault_set(k)
        for layer in (1.0, "1", 0, 3):
            with pytest.raises(InputError, match="layer: expected a hidden layer from 1 to 2"):
                trace.hidden_errors(layer)
        for q in ("most", 2, [0.5, None]):
            with pytest.raises(InputError, match="q: expected numbers"):
                trace.quantile(q)
        assert trace.quantile([]).shape == (0, 5, 3)
        for confidence in (95, None):
            with pytest.raises(InputError, match="confidence: expected a number"):
                trace.accuracy_interval(confidence)


def test_fault_sets_are_read_without_all_others(unbroken, monkeypatch):
    campaign, read = campaign_of(), []
    get = h5py.Dataset.__getitem__

    def counting(dataset, key):
        found = get(dataset, key)
        read.append(np.size(found))
        return found

    with ns.Trace(unbroken) as trace:
        _ = trace.golden
        monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
        for k in (0, 1234, 2999):
            assert trace.fault_set(k) == campaign.fault_set(k)
    assert max(read) < 100


def test_a_trace_says_how_medians_and_losses_do(tmp_path):
    with ns.run(campaign_of(4), tmp_path / "four.h5", progress=False) as trace:
        said = str(trace)
        share = trace.median_exceedances_any[0, 0].sum() / 5
    assert f"median of 3 chips (1 groups): |error| >= 0.1 at some output in {share:.3%}" in said
    assert "median of 5 chips: unknown, fewer than 5 trials" in said
    assert "squared_error, faulty minus golden: mean" in said
    with ns.run(campaign_of(1), tmp_path / "one.h5", progress=False) as trace:
        assert "standard deviation unknown" in str(trace)


def test_a_comparison_takes_the_trace_first(unbroken):
    campaign = campaign_of()
    with ns.Trace(unbroken) as trace, pytest.raises(InputError, match="prediction: expected"):
        ns.compare(ns.predict(campaign, method="single-fault"), trace)
