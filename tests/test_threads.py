"""Work shared by threads: each part once, errors, warnings, the same bits for any number."""

import warnings
from threading import get_ident

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from neurosim.layers import Activation, AveragePool2D, Conv2D, Dense, MaxPool2D
from neurosim.layers import threads as layer_threads
from neurosim.layers.threads import for_each, slices


@pytest.fixture(autouse=True)
def every_blas_known():
    """A BLAS that some test loaded later (SciPy's, no layer multiplies with it) counts here too."""
    layer_threads._blas.cache_clear()


def blas_threads():
    return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_part_is_done_once_and_blas_has_one_thread_meanwhile(threads):
    done, seen = [], set()

    def task(part):
        done.append(part)
        seen.update(blas_threads())

    with threadpool_limits(threads, user_api="blas"):
        before = blas_threads()
        for_each(range(50), task)
        assert blas_threads() == before
    assert sorted(done) == list(range(50))
    assert seen == {1}


def test_one_blas_thread_stays_in_the_calling_thread():
    with threadpool_limits(1, user_api="blas"):
        seen = set()
        for_each(range(20), lambda part: seen.add(get_ident()))
    assert seen == {get_ident()}


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_is_raised_and_blas_gets_its_threads_back(threads):
    def task(part):
        if part == 7:
            raise ValueError("seven")

    with threadpool_limits(threads, user_api="blas"):
        before = blas_threads()
        with pytest.raises(ValueError, match="seven"):
            for_each(range(20), task)
        assert blas_threads() == before


def test_threads_warn_as_the_caller_asked():
    large = np.full(4, 3e38, np.float32)
    with threadpool_limits(2, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(over="ignore"):
            for_each(range(20), lambda part: large + large)
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            for_each(range(20), lambda part: large + large)


@pytest.mark.parametrize(("n", "step"), [(0, 3), (1, 3), (3, 3), (7, 3), (100, 7)])
def test_slices_are_the_whole_in_order(n, step):
    found = slices(n, step)
    assert [k for part in found for k in range(n)[part]] == list(range(n))
    sizes = [part.stop - part.start for part in found]
    assert max(sizes) <= step
    assert max(sizes) - min(sizes) <= 1


def layers():
    rng = np.random.default_rng(0)

    def kernel(c_out, c_in, size, groups=1, **options):
        return Conv2D(
            weight=rng.normal(size=(c_out, c_in // groups, size, size)), groups=groups,
            bias=rng.normal(size=c_out), activation=Activation("relu6"), **options,
        )  # fmt: skip

    yield "patches", kernel(48, 20, 5, stride=2, padding=2), (20, 120, 61)
    yield "tiles", kernel(80, 32, 3, padding=1), (32, 57, 60)
    yield "points", kernel(300, 128, 1), (128, 30, 30)
    yield "depthwise", kernel(200, 200, 3, groups=200, padding=1, stride=2), (200, 57, 57)
    yield "largest", MaxPool2D(size=3, stride=2, padding=1), (64, 112, 111)
    yield "mean", AveragePool2D(size=3, stride=2, padding=1), (64, 112, 111)
    yield "dense", Dense(weight=rng.normal(size=(700, 3000)), bias=rng.normal(size=700)), (3000,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name, *_ in layers()])
def test_layers_have_the_same_bits_for_any_number_of_threads(name, dtype, monkeypatch):
    layer, shape = next(rest for found, *rest in layers() if found == name)
    y = np.random.default_rng(1).normal(size=(2, *shape)).astype(dtype)
    counts = []

    def counted(parts, task):
        parts = list(parts)
        counts.append(len(parts))
        for_each(parts, task)

    for module in ("channels_last", "correlation", "pooling", "weighted"):
        monkeypatch.setattr(f"neurosim.layers.{module}.for_each", counted)
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            found.append(layer(y))
    assert min(counts) > 2  # there is something to share
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
