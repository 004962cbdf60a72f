"""The profiles and data are found from a checkout, an editable install and an installed wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = (
    "import neurosim as ns, neurosim.data as d; print(ns.__file__); "
    "print(ns.Chip.load('crossbar-256').rows); print(ns.Network.load(d.network_path()).depth)"
)


def run(*command, cwd, **environment):
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy: building writes folders beside setup.cfg.
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in ("neurosim", "hw_profiles", "tests"):
        run("cp", "-r", ROOT / name, source, cwd=folder)
    run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, source, cwd=folder
    )
    return next(folder.glob("*.whl"))


def test_a_checkout_finds_its_profiles(tmp_path):
    out = run(sys.executable, "-c", PROGRAM, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert out.split() == [str(ROOT / "neurosim" / "__init__.py"), "256", "3"]


def test_an_editable_install_finds_its_profiles(tmp_path):
    target = tmp_path / "site"
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "neurosim", "hw_profiles"):
        run("cp", "-r", ROOT / name, source, cwd=tmp_path)
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        target,
        "--editable",
        source,
        cwd=tmp_path,
    )
    # Import hooks are only installed from a site folder; the project's own install, which this
    # environment may have, must not answer first.
    code = (
        "import site, sys\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        f"sys.path = [p for p in sys.path if p not in ('', {str(ROOT)!r})]\n"
        "for name in [m for m in sys.modules if 'editable' in m]: del sys.modules[name]\n"
        f"sys.path.insert(0, {str(target)!r}); site.addsitedir({str(target)!r})\n{PROGRAM}"
    )
    out = run(sys.executable, "-c", code, cwd=tmp_path)
    assert out.split() == [str(source / "neurosim" / "__init__.py"), "256", "3"]


def test_an_installed_wheel_finds_its_profiles(tmp_path, wheel):
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        tmp_path / "site",
        wheel,
        cwd=tmp_path,
    )
    out = run(sys.executable, "-c", PROGRAM, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert out.split() == [str(tmp_path / "site" / "neurosim" / "__init__.py"), "256", "3"]


def test_the_wheel_holds_what_it_should(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "neurosim/hw_profiles/crossbar-256.toml",
        "neurosim/data/digits.npz",
        "neurosim/data/digits-test.npz",
        "neurosim/py.typed",
    ):
        assert wanted in names
    assert not [name for name in names if name.startswith(("tests", "scripts", "docs"))]
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "neurosim").rglob("*.py")}
    assert modules <= set(names), "setup.cfg lists the packages one by one: is one missing?"
