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
    ["algorithm", "bounds", "convnet", "derivatives", "dropout", "error_on_training",
     "first_layer", "initialisation", "regularisation", "superposition", "width"],
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
    """Every script was run, and nobody has edited the table by hand."""
    document = load("document")
    table = document.table()
    assert table in document.PAGE.read_text(encoding="utf-8")
    assert "not yet run" not in table
    assert set(document.SCRIPTS) | {"document", "datasets", "results"} == {
        path.stem for path in REPRODUCE.glob("*.py")
    }


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
