"""The scripts that reproduce the paper: their rows are whole, and their helpers right."""

import csv
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

REPRODUCE = Path(__file__).parent.parent / "scripts" / "reproduce"


@pytest.fixture
def load(monkeypatch):
    """Import a script of scripts/reproduce under its name there, for one test."""
    monkeypatch.syspath_prepend(REPRODUCE)
    before = set(sys.modules)
    yield import_module
    for name in set(sys.modules) - before:
        if (REPRODUCE / f"{name}.py").exists():
            del sys.modules[name]


def rows_of(script, folder):
    subprocess.run(
        [sys.executable, REPRODUCE / f"{script}.py", "--quick", "-o", folder],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with open(folder / "data" / "reproduction" / f"{script}-quick.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("script", ["continuous", "toys"])
def test_the_experiments_without_training_reproduce(script, tmp_path):
    rows = rows_of(script, tmp_path)
    assert {row["verdict"] for row in rows} == {"reproduced"}
    assert all(row["here"] and row["size"] == "quick" for row in rows)
    picture = tmp_path / "images" / f"reproduction-{script}.png"
    assert picture.stat().st_size > 1000


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "script",
    ["algorithm", "bounds", "convnet", "derivatives_boston", "derivatives_fashion",
     "derivatives_mnist", "dropout", "error_on_training", "first_layer", "initialisation",
     "regularisation", "superposition", "width"],
)  # fmt: skip
def test_the_other_experiments_run(script, tmp_path):
    pytest.importorskip("torch")
    assert all(row["here"] for row in rows_of(script, tmp_path))


def test_rank_loss_counts_ties_as_wrong_and_folds(load):
    results = load("results")
    assert results.rank_loss([1, 2, 3], [1, 2, 3]) == 0
    assert results.rank_loss([1, 2, 3], [3, 2, 1]) == 0  # all wrong, folded
    assert results.rank_loss([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert results.rank_loss([1, 2, 3], [1, 1, 2]) == pytest.approx(1 / 3)


def test_a_row_is_reproduced_only_within_its_range(load):
    results = load("results")
    assert results.row("x", "y", 2.0, 2.1, (1.9, 2.2), "why").verdict == "reproduced"
    assert results.row("x", "y", 2.0, 2.3, (1.9, 2.2), "why").verdict == "differs: why"


def test_a_small_problem_trains_as_the_authors_did(load):
    pytest.importorskip("torch")
    results, datasets = load("results"), load("datasets")
    rng = np.random.default_rng(0)
    x = rng.random((40, 3))
    data = datasets.Data("small", x, x[:, :1], x, x[:, :1])
    network = results.trained(data, (3, 8, 1), 0, epochs=2, batch=10, optimiser="adadelta")
    assert network.widths == (3, 8, 1)
    assert datasets.Data("small", x, x, x, x).epochs_of(30, full=80) == 60


def test_idx_files_are_read(load, tmp_path):
    datasets = load("datasets")
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    for part in ("train", "t10k"):
        head = b"\0\0\x08\x03" + np.array(images.shape, ">i4").tobytes()
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        labels = b"\0\0\x08\x01" + np.array([3], ">i4").tobytes() + bytes([1, 2, 3])
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    data = datasets.mnist(tmp_path)
    np.testing.assert_array_equal(data.inputs * 255, images.reshape(3, 4))
    assert data.targets.tolist() == [1, 2, 3]


def test_the_page_holds_what_the_scripts_wrote(load):
    """Every script was run, and nobody has edited the table or the figures by hand."""
    document = load("document")
    page, table, figures = document.PAGE.read_text("utf-8"), document.table(), document.figures()
    assert table in page
    assert figures in page
    assert "not yet run" not in table
    assert set(document.SCRIPTS) | {"document", "datasets", "derivatives", "results"} == {
        path.stem for path in REPRODUCE.glob("*.py")
    }
    for name in document.SCRIPTS:  # a figure each; run at full size, or said how long that takes
        assert f"reproduction-{name}" in figures
        assert document.results_of(name, "full") or document.estimate_of(name), name


def test_quick_and_full_stand_side_by_side(load, tmp_path, monkeypatch):
    document = load("document")
    folder = tmp_path / "docs" / document.DATA
    folder.mkdir(parents=True)
    head = "experiment,quantity,paper,here,ratio,verdict,size,setting,seconds\n"
    (folder / "toys-quick.csv").write_text(
        head + "T,a,1,2,2,differs: short,quick,few,1\nT,b,3,3,1,reproduced,quick,few,1\n"
    )
    (folder / "toys-full.csv").write_text(
        head + "T,a,1,1.1,1.1,reproduced,full,many,9\nT,b,3,3.1,1,reproduced,full,many,9\n"
    )
    monkeypatch.setattr(document, "ROOT", tmp_path)
    assert list(document.merged("toys")) == [
        ["T", "a", "1", "2", "1.1", "quick: differs: short; full: reproduced"],
        ["T", "b", "3", "3", "3.1", "reproduced"],
    ]


def test_what_was_not_run_is_said_with_the_time_it_would_take(load, tmp_path, monkeypatch):
    document, results = load("document"), load("results")
    options = results.parser("Text.", long=True).parse_args(
        ["--quick", "-o", str(tmp_path / "docs")]
    )
    calls = []
    results.estimate("toys", [(3, lambda: calls.append("a")), (2, lambda: calls.append("b"))],
                     "one of 5 runs", options)  # fmt: skip
    assert calls == ["a", "a", "b"]  # the first once more, for what is compiled or loaded
    results.save("toys", [results.row("T", "a", 1.0, 1.1, (0.9, 1.2))], options, "few", 0.0)
    folder = tmp_path / "docs" / document.DATA
    (folder / "toys-estimate.csv").write_text("seconds,measured\n9000,one of 5 runs\n")
    monkeypatch.setattr(document, "ROOT", tmp_path)
    monkeypatch.setattr(document, "SCRIPTS", {"toys": ("toys", "Toys")})
    assert list(document.merged("toys")) == [["T", "a", "1", "1.1", "not run", "reproduced"]]
    assert (
        "`toys.py` (full): not run; it would take about 2.5 h of one core, from one of 5 runs"
        in (document.table())
    )


def test_an_estimate_adds_the_time_of_its_parts(load, tmp_path, monkeypatch):
    results = load("results")
    options = results.parser("Text.", long=True).parse_args(["--estimate", "-o", str(tmp_path)])
    clock = iter([0.0, 2.0, 10.0, 11.0])
    monkeypatch.setattr(results.time, "process_time", lambda: next(clock))
    results.estimate("toys", [(100, lambda: None), (7, lambda: None)], "parts", options)
    text = (tmp_path / results.DATA / "toys-estimate.csv").read_text()
    assert text == "seconds,measured\n207,parts\n"


def test_slopes_of_derivatives_are_those_of_powers(load):
    """Values that fall as powers of the width, and what the paper says of each."""
    derivatives = load("derivatives")
    widths = np.array([100.0, 200.0, 400.0])
    powers = np.array([-1.0, -2.0, 0.05, -1.0, -2.0, 0.0])
    values = np.stack([3 * widths[:, None] ** powers, 5 * widths[:, None] ** powers])
    np.testing.assert_allclose(derivatives.slopes(widths, values), powers, atol=1e-12)
    ranges = derivatives.RANGES[True]
    paper = derivatives.PAPER[True]
    smooth = derivatives.rows("F", "x", widths, values, True, paper, ranges)
    assert {r.verdict for r in smooth} == {"reproduced"}
    # The same numbers are not what the paper says of networks without smoothing.
    rough = derivatives.rows("F", "x", widths, values, False, derivatives.PAPER[False],
                             derivatives.RANGES[False], limit=False)  # fmt: skip
    assert [r.verdict.split(":")[0] for r in rough] == ["reproduced"] + 4 * ["differs"]


def test_derivatives_are_those_of_the_loss(load):
    """D and H of a network with one hidden layer and a linear output, by hand."""
    pytest.importorskip("torch")
    derivatives = load("derivatives")
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(4, 2)), rng.normal(size=(1, 4))
    import neurosim as ns

    network = ns.Network.dense(
        weights=[w, v], biases=[np.zeros(4), [0.3]], activations=["tanh", "identity"]
    )
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 1))
    residual = np.tanh(x @ w.T) @ v.T + 0.3 - y
    d, h, norms, first, second, size = derivatives.decays(network, x, y)
    assert d == pytest.approx(np.abs(2 * residual * v).mean())
    assert h == pytest.approx(np.abs(2 * v.T @ v).mean() / 10)
    assert norms == pytest.approx(np.abs(w).sum(axis=1).max() * np.abs(v).sum())
    assert first == pytest.approx(np.abs(v).mean())
    assert second == pytest.approx(0, abs=1e-12)
    assert size == pytest.approx(np.abs(residual).mean())
