import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import neurosim as ns
from neurosim import data

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[s.stem for s in SCRIPTS])
def test_every_script_explains_itself(script):
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True
    )
    assert "usage" in done.stdout


def test_the_demo_network_can_be_trained_again(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "scripts" / "train_demo_network.py",
            "--epochs",
            "1",
            "-o",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "all test images (1000)" in done.stdout
    assert ns.Network.load(tmp_path / "digits.npz").widths == (784, 64, 32, 10)
    for key in ("inputs", "targets"):
        with np.load(tmp_path / "digits-test.npz") as new, np.load(data.images_path()) as kept:
            np.testing.assert_array_equal(new[key], kept[key])


def test_the_example_of_the_theory_can_be_made_again(tmp_path):
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "theory_example.py", "--trials", "500", "--inputs", "4",
         "-o", tmp_path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    page = (tmp_path / "theory-example.md").read_text()
    kept = (ROOT / "docs" / "theory-example.md").read_text()
    # The same page but for the numbers.
    assert [line for line in page.splitlines() if line.startswith(("#", "!"))] == [
        line for line in kept.splitlines() if line.startswith(("#", "!"))
    ]
    for name in ("methods", "tails"):
        assert (tmp_path / "images" / f"theory-{name}.png").stat().st_size > 1000


def test_the_tutorial_can_be_written_again(tmp_path):
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "tutorial.py", "--trials", "12000", "--inputs", "4",
         "-o", tmp_path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    pages = [(folder / "tutorial.md").read_text() for folder in (tmp_path, ROOT / "docs")]
    # The same page but for what the code printed.
    again, kept = (re.sub(r"\n\n```\n.*?\n```", "", page, flags=re.DOTALL) for page in pages)
    assert again == kept
    assert "Certified" in pages[0]
    for name in ("replicas", "chip"):
        assert (tmp_path / "images" / f"tutorial-{name}.png").stat().st_size > 1000


def test_the_packaged_network_has_the_accuracy_its_page_states():
    network = ns.Network.load(data.network_path())
    with np.load(data.images_path()) as images:
        right = (network(images["inputs"]).argmax(axis=1) == images["targets"]).mean()
    page = (data.network_path().parent / "README.md").read_text()
    assert f"accuracy on the kept test images (200): {right:.4f}" in page


@pytest.mark.full
def test_the_spiking_example_can_be_written_again(tmp_path):
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "spiking_example.py", "--trials", "2", "-o", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "correlation" in (tmp_path / "spiking-example.md").read_text()
    assert len(list((tmp_path / "images").glob("spiking-*.png"))) == 4
