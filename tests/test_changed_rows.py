"""Recorded errors: what is packed is what is read, by this package and by plain h5py."""

import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_runner import assert_same, campaign_of, small_chunks

import neurosim as ns
from neurosim.executors import SerialExecutor
from neurosim.statistics import Changes
from neurosim.trace import LazyArray, changed_rows, layout, packed_rows

__all__ = ["small_chunks"]  # a fixture

N_NEURONS = 5


def singles(rng, n_inputs, n_outputs, dtype):
    """What each of the neurons alone changes; one changes nothing."""
    changed = rng.random((N_NEURONS, n_inputs)) < 0.5
    changed[0] = False
    return changed, rng.normal(size=(N_NEURONS, n_inputs, n_outputs)).astype(dtype)


def changes_of(rng, n_trials, known, noise):
    """Some fault sets shared by several trials, some trials without any, some sets without rows.

    Some of the sets, at any place among the others, are single dead neurons.
    """
    known_changed, known_values = known
    n_inputs, n_outputs = known_values.shape[1:]
    sets = rng.integers(-1, n_trials, n_trials)
    sets = np.unique([-1, *sets], return_inverse=True)[1][1:] - 1  # each has a trial
    n_sets = int(sets.max()) + 1
    changed = rng.random((n_sets, n_inputs)) < rng.choice([0, 0.3, 1.0])
    values = rng.normal(size=(n_sets, n_inputs, n_outputs)).astype(known_values.dtype)
    alone = np.full(N_NEURONS, -1)
    neurons = rng.permutation(N_NEURONS)[: rng.integers(0, min(n_sets, N_NEURONS) + 1)]
    alone[neurons] = rng.permutation(n_sets)[: len(neurons)]
    changed[alone[neurons]], values[alone[neurons]] = known_changed[neurons], known_values[neurons]
    values = values[changed]
    return Changes(
        n_inputs=n_inputs,
        sets=sets,
        offsets=np.cumsum([0, *changed.sum(axis=1)]),
        inputs=np.nonzero(changed)[1].astype(np.int32),
        values=values if noise else np.round(values),
        alone=alone,
    )


def nothing():
    """What a long copy calls between blocks."""


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["f4", "f8"]),
    st.sampled_from([2**6, 2**13, 2**18]),
    st.booleans(),
    st.sampled_from([1, 3, 2**16]),
)
def test_packed_errors_are_read_as_they_were(seed, dtype, chunk_bytes, noise, block):
    rng = np.random.default_rng(seed)
    n_inputs, n_outputs = (int(n) for n in rng.integers(1, 300, 2))
    known = singles(rng, n_inputs, n_outputs, dtype)
    units = [changes_of(rng, int(n), known, noise) for n in rng.integers(1, 9, 4)]
    expected = np.concatenate([unit.dense() for unit in units])
    firsts = 100 + np.cumsum([0, *map(len, units)])  # the trace begins with trial 100
    places = changed_rows.Places()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changed_rows, "_CHUNK_BYTES", chunk_bytes)
        packed = [changed_rows.pack(u, first) for u, first in zip(units, firsts, strict=False)]
        rows = [layout.placed_rows({"errors": unit}, places) for unit in packed]
    n_first = len(units[0]) + len(units[1])
    with pytest.MonkeyPatch.context() as patch, h5py.File("a", "w", **IN_MEMORY) as file:
        patch.setattr(changed_rows, "_BLOCK", block)
        # The first two joined in memory, the others one by one.
        trials = file.create_group("trials")
        layout.append_rows(trials, layout.joined_rows(rows[:2]), 100, n_first, nothing)
        for unit, first, part in zip(units[2:], firsts[2:], rows[2:], strict=False):
            layout.append_rows(trials, part, first, len(unit), nothing)
        # A copy of the first two; then all of it behind them, as traces are joined.
        copy = file.create_group("copy")
        layout.append_rows(copy, trials, 100, n_first, nothing)
        for group, whole in ((trials, expected), (copy, expected[:n_first])):
            assert_errors(group["errors"], 100, whole)
        of_first = changed_rows.Places()
        of_first.add(copy["errors"], 100, n_first)
        again = file.create_group("again")
        layout.append_rows(again, trials, 100, n_first, nothing)
        for unit, first, rest in zip(packed[2:], firsts[2:], units[2:], strict=False):
            part = layout.placed_rows({"errors": unit}, of_first)
            layout.append_rows(again, part, first, len(rest), nothing)
        for name, dataset in trials["errors"].items():
            np.testing.assert_array_equal(dataset, again["errors"][name], err_msg=name)


IN_MEMORY = {"driver": "core", "backing_store": False}


def assert_errors(group, first, whole):
    """What a group `errors` holds, read by us and as the page about the format says."""
    lazy = changed_rows.ChangedErrors(group, first, len(whole), whole.shape[1])
    errors = LazyArray(lazy, Path("a"))
    assert (errors.shape, errors.dtype) == (whole.shape, whole.dtype)
    np.testing.assert_array_equal(np.asarray(errors), whole)
    for key in (0, -1, slice(1, 3), slice(None, None, 2), (1, 0), (..., 0), (slice(2), 0)):
        if key != (1, 0) or len(whole) > 1:
            np.testing.assert_array_equal(errors[key], whole[key])
    plain = {name: data[()] for name, data in group.items()}
    found = np.zeros(whole.shape, whole.dtype)
    for trial, a, b in zip(plain["trial"], plain["start"], plain["stop"], strict=True):
        found[trial - first, plain["inputs"][a:b]] = plain["values"][a:b]
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("noise", [True, False])
def test_a_chunk_is_a_zlib_stream_of_shuffled_bytes(dtype, noise):
    values = np.random.default_rng(0).normal(size=(20_000, 7)).astype(dtype)
    values = values if noise else np.round(values)
    data = packed_rows._compressed(values, len(values))
    shuffled = np.ascontiguousarray(values.view(np.uint8).reshape(-1, values.itemsize).T)
    assert zlib.decompress(data) == shuffled.tobytes()
    assert len(data) < (0.93 if noise else 0.3) * values.nbytes


def as_version_1(path):
    """Rewrite a trace as the first version had it: all errors in one dataset."""
    with ns.Trace(path) as trace:
        errors = np.asarray(trace.errors)
    with h5py.File(path, "r+") as file:
        del file["trials/errors"]
        file["trials/errors"] = errors
        file.attrs["version"] = 1
    return errors


def as_version_2(path):
    """The same as the second version had it: numbers of rows for every trial."""
    with ns.Trace(path) as trace:
        errors = np.asarray(trace.errors)
    with h5py.File(path, "r+") as file:
        group, first = file["trials/errors"], file.attrs["first_trial"]
        at = group["trial"][()] - first
        for name in ("start", "stop"):
            numbers = np.zeros(len(errors), np.int64)
            numbers[at] = group[name]
            del group[name]
            group[name] = numbers
        for name in ("trial", "single_neuron", "single_start", "single_stop"):
            del group[name]
        file.attrs["version"] = 2
    return errors


RARE = {"faults": [ns.StuckAtZero("neuron", probability=0.02)], "record": ("error",)}


@pytest.mark.parametrize("rewritten", [as_version_1, as_version_2])
def test_traces_of_earlier_versions_are_read_and_continued(tmp_path, rewritten):
    old, new = tmp_path / "old.h5", tmp_path / "new.h5"
    for path, trials in ((old, 1000), (new, 1500)):
        ns.run(campaign_of(trials, **RARE), path, SerialExecutor(), progress=False).close()
    errors = rewritten(old)
    with ns.Trace(old) as trace:
        np.testing.assert_array_equal(trace.errors[10:20], errors[10:20])
        np.testing.assert_array_equal(np.asarray(trace.errors), errors)
    asked = campaign_of(1500, **RARE)
    with ns.run(asked, old, progress=False) as trace, ns.Trace(new) as unbroken:
        np.testing.assert_array_equal(np.asarray(trace.errors), np.asarray(unbroken.errors))


def test_recording_errors_changes_no_statistics(tmp_path):
    faults = [ns.StuckAtZero("neuron", probability=0.001)]
    assert (
        campaign_of(faults=faults, record="error").chunk
        == campaign_of(faults=faults, record=()).chunk
    )
    for name, record in (("a", ("error",)), ("b", ())):
        asked = campaign_of(5000, faults=faults, record=record)
        ns.run(asked, tmp_path / f"{name}.h5", progress=False).close()
    with ns.Trace(tmp_path / "a.h5") as a, ns.Trace(tmp_path / "b.h5") as b:
        np.testing.assert_array_equal(a.variance, b.variance)
        np.testing.assert_allclose(a.mean, np.asarray(a.errors, float).mean(axis=0), atol=1e-12)


def test_rows_of_single_dead_neurons_are_stored_once(tmp_path, small_chunks):
    """And the same rows, wherever a run was broken off and in which part trials were computed."""
    asked = campaign_of(2000, **RARE)
    whole, broken = tmp_path / "whole.h5", tmp_path / "broken.h5"
    ns.run(asked, whole, progress=False).close()
    for stop in (300, 700, 1024, 2000):  # 300 and 700 cut a unit of work short
        part = campaign_of(stop, **RARE)
        ns.run(part, broken, SerialExecutor(), progress=False, checkpoint_seconds=0).close()
    assert_same(broken, whole)
    with h5py.File(whole) as file:
        found = file["trials/errors"]
        neurons = found["single_neuron"][()]
        assert len(neurons) == len(set(neurons)) > 5
        trials, start = found["trial"][()], found["start"][()]
        own = dict(zip(neurons, found["single_start"][()], strict=True))
        shared = 0
        for trial, first in zip(trials, start, strict=True):
            dead = asked.fault_set(int(trial)).neurons
            if len(dead) == 1:
                number = int(np.cumsum([0, *asked.network.widths])[dead["layer"][0]])
                assert own[number + int(dead["unit"][0])] == first
                shared += 1
        assert shared > 3 * len(neurons)


def test_joined_traces_with_single_dead_neurons_are_continued(tmp_path, small_chunks):
    asked = campaign_of(2000, **RARE)
    ns.run(asked, tmp_path / "whole.h5", progress=False).close()
    for name, part in (("a", range(512)), ("b", range(512, 1280))):
        ns.run(asked, tmp_path / f"{name}.h5", trials=part, progress=False).close()
    ns.join([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "joined.h5")
    with (
        ns.run(asked, tmp_path / "joined.h5", progress=False) as joined,
        ns.Trace(tmp_path / "whole.h5") as whole,
    ):
        np.testing.assert_array_equal(np.asarray(joined.errors), np.asarray(whole.errors))
        for k in (0, 511, 512, 1279, 1999):
            np.testing.assert_array_equal(joined.errors[k], whole.errors[k])


class Stopping(SerialExecutor):
    """Is interrupted before the third unit of work."""

    def map(self, function, items):
        for k, result in enumerate(super().map(function, items)):
            if k == 2:
                raise KeyboardInterrupt
            yield result


def test_checkpoints_beyond_another_trace_are_refused(tmp_path, small_chunks):
    """Their rows of single dead neurons lie in the trace that they continue, at other places."""
    path = tmp_path / "a.h5"
    ns.run(campaign_of(768, **RARE), path, progress=False).close()
    asked = campaign_of(2000, **RARE)
    for name, part in (("p", range(512)), ("q", range(512, 768))):
        ns.run(asked, tmp_path / f"{name}.h5", trials=part, progress=False).close()
    ns.join([tmp_path / "p.h5", tmp_path / "q.h5"], tmp_path / "joined.h5")
    with pytest.raises(KeyboardInterrupt):
        ns.run(asked, path, Stopping(), progress=False, checkpoint_seconds=0)
    former = path.read_bytes()
    path.write_bytes((tmp_path / "joined.h5").read_bytes())
    with pytest.raises(ns.TraceError, match="expected rows that continue what is in"):
        ns.run(asked, path, progress=False)
    path.write_bytes(former)
    ns.run(asked, path, progress=False).close()
    ns.run(asked, tmp_path / "whole.h5", progress=False).close()
    assert_same(path, tmp_path / "whole.h5")


def test_rows_of_many_neurons_are_left_to_the_workers(monkeypatch):
    rng = np.random.default_rng(0)
    changes = changes_of(rng, 8, singles(rng, 4, 3, "f4"), noise=True)
    n = np.count_nonzero(changes.alone >= 0)
    assert n
    few = np.concatenate([changes.alone, np.full(16 * n, -1)])
    assert len(changed_rows.pack(changes, 0).neurons)
    assert not len(changed_rows.pack(replace(changes, alone=few), 0).neurons)
