"""Recorded errors: what is packed is what is read, by this package and by plain h5py."""

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_runner import campaign_of

import neurosim as ns
from neurosim.executors import SerialExecutor
from neurosim.statistics import Changes
from neurosim.trace import LazyArray, changed_rows, layout


def changes_of(rng, n_trials, n_inputs, n_outputs, dtype, noise):
    """Some fault sets shared by several trials, some trials without any, some sets without rows."""
    n_sets = int(rng.integers(0, n_trials + 1))
    changed = rng.random((n_sets, n_inputs)) < rng.choice([0, 0.3, 1.0])
    values = rng.normal(size=(int(changed.sum()), n_outputs)).astype(dtype)
    sets = rng.integers(-1, n_sets, n_trials) if n_sets else np.full(n_trials, -1)
    return Changes(
        n_inputs=n_inputs,
        sets=sets,
        offsets=np.cumsum([0, *changed.sum(axis=1)]),
        inputs=np.nonzero(changed)[1].astype(np.int32),
        values=values if noise else np.round(values),
    )


def nothing():
    """What a long copy calls between blocks."""


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["f4", "f8"]),
    st.sampled_from([2**6, 2**13, 2**18]),
    st.booleans(),
)
def test_packed_errors_are_read_as_they_were(seed, dtype, chunk_bytes, noise):
    rng = np.random.default_rng(seed)
    n_inputs, n_outputs = (int(n) for n in rng.integers(1, 300, 2))
    units = [
        changes_of(rng, int(n), n_inputs, n_outputs, dtype, noise) for n in rng.integers(1, 9, 4)
    ]
    expected = np.concatenate([unit.dense() for unit in units])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changed_rows, "_CHUNK_BYTES", chunk_bytes)
        rows = [changed_rows.pack(unit) for unit in units]
    n_first = len(units[0]) + len(units[1])
    with h5py.File("a", "w", driver="core", backing_store=False) as file:
        # The first two joined in memory, the others one by one; then a copy of the first two.
        trials = file.create_group("trials")
        layout.append_rows(trials, layout.joined_rows(rows[:2]), n_first, nothing)
        for unit, part in zip(units[2:], rows[2:], strict=True):
            layout.append_rows(trials, part, len(unit), nothing)
        copy = file.create_group("copy")
        layout.append_rows(copy, trials, n_first, nothing)
        for group, whole in ((trials, expected), (copy, expected[:n_first])):
            errors = LazyArray(changed_rows.ChangedErrors(group["errors"], n_inputs), Path("a"))
            assert (errors.shape, errors.dtype) == (whole.shape, whole.dtype)
            np.testing.assert_array_equal(np.asarray(errors), whole)
            for key in (0, -1, slice(1, 3), slice(None, None, 2), (1, 0), (..., 0), (slice(2), 0)):
                np.testing.assert_array_equal(errors[key], whole[key])
            # As the page about the format says.
            plain = {name: data[()] for name, data in group["errors"].items()}
            for t, (a, b) in enumerate(zip(plain["start"], plain["stop"], strict=True)):
                error = np.zeros(whole.shape[1:])
                error[plain["inputs"][a:b]] = plain["values"][a:b]
                np.testing.assert_array_equal(error, whole[t])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("noise", [True, False])
def test_a_chunk_is_a_zlib_stream_of_shuffled_bytes(dtype, noise):
    values = np.random.default_rng(0).normal(size=(20_000, 7)).astype(dtype)
    values = values if noise else np.round(values)
    data = changed_rows._compressed(values, len(values))
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


def test_traces_of_version_1_are_read_and_continued(tmp_path):
    old, new = tmp_path / "old.h5", tmp_path / "new.h5"
    for path, trials in ((old, 1000), (new, 1500)):
        ns.run(campaign_of(trials), path, SerialExecutor(), progress=False).close()
    errors = as_version_1(old)
    with ns.Trace(old) as trace:
        np.testing.assert_array_equal(trace.errors[10:20], errors[10:20])
    with ns.run(campaign_of(1500), old, progress=False) as trace, ns.Trace(new) as unbroken:
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
