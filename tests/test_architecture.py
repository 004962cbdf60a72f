"""The house plan: contracts, lazy names, links."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import neurosim as ns

ROOT = Path(__file__).parent.parent
HEAVY = ("h5py", "brian2", "matplotlib", "onnx", "torch", "dask", "distributed", "numba", "scipy")


def test_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("statement", ["import neurosim", "import neurosim; dir(neurosim)"])
def test_import_loads_nothing_heavy(statement):
    program = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_loads_no_heavy_optional_library():
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom neurosim.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        f"print([m for m in {HEAVY[:7]!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_executors_of_this_machine_load_no_dask():
    program = (
        "import sys\nimport neurosim as ns\nimport neurosim.runner\n"
        "ns.DaskExecutor\nassert list(ns.ProcessExecutor(1).map(abs, [-1])) == [1]\n"
        "print([m for m in ('dask', 'distributed') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ns.__all__)
def test_every_public_name_is_the_same_twice(name):
    assert getattr(ns, name) is getattr(ns, name)
    assert name in dir(ns)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ns.nothing


def test_public_names_survive_the_import_of_every_module():
    before = {name: getattr(ns, name) for name in ns.__all__}
    modules = [
        m.name
        for m in pkgutil.walk_packages(ns.__path__, "neurosim.")
        if "hw_profiles" not in m.name
    ]
    for module in modules:
        importlib.import_module(module)
    for name, value in before.items():
        assert getattr(ns, name) is value, name
    public = {name for name in ns.__all__ if callable(getattr(ns, name))}
    assert not public & {m.rsplit(".", 1)[1] for m in modules}


def test_every_module_says_what_it_offers():
    for module in pkgutil.walk_packages(ns.__path__, "neurosim."):
        if "hw_profiles" in module.name:
            continue
        loaded = importlib.import_module(module.name)
        assert loaded.__doc__, module.name
        for name in getattr(loaded, "__all__", ()):
            assert hasattr(loaded, name), f"{module.name}.{name}"


def tracked(*patterns):
    done = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_relative_links_in_the_documents_lead_somewhere():
    pages = tracked("*.md")
    if not pages:
        pytest.skip("no git checkout")
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_machine_path_is_in_a_file():
    for path in tracked("*.py", "*.md", "*.cfg", "*.toml", "Makefile", "*.txt"):
        text = path.read_text(encoding="utf-8")
        for word in ("/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/"):
            assert word not in text, f"{path.name}: {word}"
