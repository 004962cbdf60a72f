"""The command line: the verbs of the library over a campaign file or flags.

Exit codes: 0 fine, 1 the question was answered "no", 2 bad input (one line, no traceback;
--debug shows it), 130 interrupted, 143 terminated.
"""

from __future__ import annotations  # annotations must not load what they name

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import neurosim as ns
from neurosim.campaign_file import make_campaign, read_arrays

if TYPE_CHECKING:
    from types import FrameType

    from neurosim.executors import Executor

__all__ = ["main"]

F = TypeVar("F", bound=Callable[..., Any])

# As in neurosim.theory, which is loaded only when it is used.
_METHODS = ("first-order", "single-fault", "second-order", "mean-field", "enumeration")


class _Commands(click.Group):
    """Turns errors that neurosim raises on purpose into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ns.NeurosimError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"neurosim: {_one_line(error)}", err=True)
            ctx.exit(2)
        except OSError as error:  # a disk that is full, a folder that went away
            if ctx.params.get("debug"):
                raise
            click.echo(f"neurosim: {_one_line(error)}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt as stop:
            notes = getattr(stop, "__notes__", [])
            terminated = isinstance(stop, _TerminatedError)
            what = "terminated" if terminated else "interrupted"
            click.echo("; ".join([f"neurosim: {what}", *notes]), err=True)
            ctx.exit(143 if terminated else 130)


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def _heeding_sigterm() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C: batch systems send it some seconds before they kill."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TerminatedError

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _one_line(error: BaseException) -> str:
    """What an error says, and its notes of one line: how much of a campaign is kept."""
    notes = [note for note in getattr(error, "__notes__", []) if "\n" not in note]
    return "; ".join(" ".join(said.split()) for said in (str(error), *notes))


@click.group(cls=_Commands)
@click.version_option(package_name="neurosim-faults")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Put a trained network on a virtual neuromorphic chip and let its parts fail."""


def _campaign_options(command: F) -> F:
    """CAMPAIGN, the path of a campaign file, and flags that replace its entries."""
    for decorate in reversed(
        [
            click.argument("campaign", required=False, type=click.Path(path_type=Path)),
            click.option("--network", help="Network file (.npz, .onnx, .keras, .h5, ...)."),
            click.option("--chip", help="Name of a chip profile, or the path of one."),
            click.option("--device-seed", type=int, help="Program the devices of this chip."),
            click.option("--inputs", help="Inputs: .npy, or .npz with inputs (and targets)."),
            click.option("--defects", help="Defect map of the chip: .csv or .h5."),
            click.option("--targets", help="Class numbers or wanted outputs: .npy."),
            click.option(
                "--fault",
                "faults",
                multiple=True,
                metavar="SITE[:PROBABILITY][:PERSISTENCE][:KEY=VALUE]...",
                help="SITE is neuron, synapse, row, column, core, link, device or bit. For "
                "instance neuron:1e-3, synapse:1e-4:transient, column:0.01:intermittent=5 (mean "
                "duration in presentations; 0.5s in seconds), neuron:1e-4:value=maximum, "
                "row:1e-4:length=3. KEY is a key of a [[faults]] table; lists are written 1,2. "
                "Repeatable. Default: the faults of the chip.",
            ),
            click.option("--trials", type=int, help="Number of fault sets to draw."),
            click.option("--seed", type=int, help="Seed of the random numbers."),
            click.option(
                "--plan",
                metavar="KIND[=EPSILON]",
                help="How trials are drawn: plain, stratified (by the number of faults), or "
                "tilted=0.5 (importance sampling of errors of 0.5 or more).",
            ),
            click.option("--loss", help="squared_error, absolute_error or cross_entropy."),
            click.option("--backend", help="compiled, reference, spiking-compiled or spiking."),
            click.option("--dtype", help="float32 or float64."),
            click.option(
                "--record", multiple=True, help="faults, error, hidden or spikes; may be repeated."
            ),
            click.option(
                "--epsilon",
                "epsilons",
                multiple=True,
                type=float,
                help="Count trials with |error| >= this; may be repeated.",
            ),
            click.option(
                "--replicas",
                multiple=True,
                type=int,
                help="Compare the median of so many chips with each epsilon; repeatable.",
            ),
        ]
    ):
        command = decorate(command)
    return command


def _campaign(values: dict[str, Any]) -> ns.Campaign:
    given = {
        key: list(v) if isinstance(v, tuple) else v
        for key, v in values.items()
        if key != "campaign" and v not in (None, ())
    }
    if "faults" in given:
        given["faults"] = [_fault(text) for text in given["faults"]]
    if "plan" in given:
        given["plan"] = _plan(str(given["plan"]))
    return make_campaign(given, values["campaign"])


# Keys of a [[faults]] table by the kind of their value.
_FAULT_LISTS: dict[str, type] = {"layers": int, "bits": int, "onset": int, "onset_s": float}
_FAULT_KEYS: dict[str, type] = {
    "length": int,
    "along": str,
    "stuck_lrs": float,
    "stuck_hrs": float,
    "mean_duration": float,
    "mean_duration_s": float,
}


def _plan(text: str) -> dict[str, Any]:
    kind, sign, epsilon = text.partition("=")
    try:
        return {"kind": kind} | ({"epsilon": float(epsilon)} if sign else {})
    except ValueError as error:
        raise ns.InputError(
            f"--plan: expected plain, stratified or tilted=EPSILON, got {text!r}"
        ) from error


def _fault(text: str) -> dict[str, Any]:
    """The [[faults]] table that a --fault stands for."""
    site, *parts = text.split(":")
    entry: dict[str, Any] = {"site": site}
    try:
        if parts and not parts[0][:1].isalpha():
            entry["probability"] = float(parts.pop(0))
        for part in parts:
            key, _, given = part.partition("=")
            if key == "intermittent" and given.endswith("s"):
                entry |= {"persistence": key, "mean_duration_s": float(given[:-1])}
            elif key == "intermittent" and given:
                entry |= {"persistence": key, "mean_duration": float(given)}
            elif key and "=" not in part and "persistence" not in entry:
                entry["persistence"] = key
            elif key in entry:
                raise ValueError(key)
            elif key == "value":
                entry[key] = given if given.isalpha() else float(given)
            elif key in _FAULT_LISTS:
                entry[key] = [_FAULT_LISTS[key](number) for number in given.split(",")]
            else:
                entry[key] = _FAULT_KEYS[key](given)
    except (ValueError, KeyError) as error:
        raise ns.InputError(
            "--fault: expected SITE[:PROBABILITY][:PERSISTENCE][:KEY=VALUE]..., as neuron:1e-3 or "
            f"neuron:1e-4:transient:value=0.5, got {text!r}; keys are value, "
            f"{', '.join([*_FAULT_KEYS, *_FAULT_LISTS])}"
        ) from error
    return entry


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--check", is_flag=True, help="Check profiles (names or paths; default: all).")
def chips(names: tuple[str, ...], check: bool) -> None:
    """List the chip profiles, or show some: every number with its source."""
    if check:
        _check_profiles(names or tuple(ns.chip_profiles()))
    elif names:
        for name in names:
            click.echo(str(ns.Chip.load(name)))
    else:
        for known, path in ns.chip_profiles().items():
            click.echo(f"{known:16}{ns.Chip.load(path).description}")


def _check_profiles(names: tuple[str, ...]) -> None:
    """One line a profile: the numbers by their status, or what is wrong; exit code 2 for that."""
    wrong = 0
    for name in names:
        try:
            chip = ns.Chip.load(name)
        except ns.NeurosimError as error:
            wrong += 1
            click.echo(f"wrong  {' '.join(str(error).split())}", err=True)
            continue
        found = Counter(quantity.status for quantity in chip.quantities.values())
        counted = ", ".join(f"{number} {status}" for status, number in sorted(found.items()))
        click.echo(f"ok     {name}: {counted or 'no numbers'}")
    if wrong:
        raise ns.InputError(f"chips: {wrong} of {len(names)} profiles are wrong")


@main.command()
@click.argument("network")
@click.argument("chip")
@click.option("--defects", help="Defect map of the chip: .csv or .h5.")
@click.option("--inputs", help="Inputs, for the spikes that a cost depends on: .npy or .npz.")
@click.option("--replicas", type=int, default=1, show_default=True, help="Copies, for the cost.")
@click.option("--device-seed", type=int, help="Program the devices of this chip of its kind.")
def deploy(
    network: str,
    chip: str,
    defects: str | None,
    inputs: str | None,
    replicas: int,
    device_seed: int | None,
) -> None:
    """Place NETWORK (a file) on CHIP (a profile): cores, utilisation, cost, one line a layer."""
    known = None if defects is None else ns.DefectMap.read(defects)
    deployment = ns.deploy(
        ns.Network.load(network), ns.Chip.load(chip), known, device_seed=device_seed
    )
    click.echo(str(deployment))
    given = None if inputs is None else read_arrays(inputs)[0]
    click.echo(str(ns.cost(deployment, given, replicas=replicas)))


@main.command()
@_campaign_options
@click.option(
    "-o",
    "--output",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="The trace (HDF5). Run again after an interruption: it continues.",
)
@click.option("--threads", type=int, help="Compute in so many threads. Default: all cores.")
@click.option("--processes", type=int, help="Compute in so many processes of this machine.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Compute on a Dask cluster, as tcp://10.0.0.1:8786."
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def run(
    path: Path,
    threads: int | None,
    processes: int | None,
    scheduler: str | None,
    quiet: bool,
    **values: Any,
) -> None:
    """Draw the trials of a campaign and write their statistics to a trace."""
    executor = _executor(threads=threads, processes=processes, scheduler=scheduler)
    campaign = ns.resolve(_campaign(values))
    _notes(campaign.deployment)
    with _heeding_sigterm():
        trace = ns.run(campaign, path, executor=executor, progress=not quiet)
    with trace:
        click.echo(str(trace))


def _executor(**flags: Any) -> Executor | None:
    """The executor that at most one flag asks for."""
    kinds: dict[str, Callable[[Any], Executor]] = {
        "threads": ns.ThreadExecutor,
        "processes": ns.ProcessExecutor,
        "scheduler": ns.DaskExecutor,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    if len(given) > 1:
        raise ns.InputError(
            f"expected one of --threads, --processes and --scheduler, got "
            f"{' and '.join(f'--{name}' for name in given)}"
        )
    for name, value in given.items():
        return kinds[name](value)
    return None


@main.command()
@_campaign_options
@click.option("--method", type=click.Choice(_METHODS), default="first-order", show_default=True)
@click.option("--layer", type=int, help="Predict the error of this layer, not of the outputs.")
def predict(method: str, layer: int | None, **values: Any) -> None:
    """Predict mean and variance of the error without simulation; with a loss, of that too."""
    if values["trials"] is None:
        values["trials"] = 1  # a prediction draws nothing
    campaign = _campaign(values)
    click.echo(str(ns.predict(campaign, method=method, layer=layer)))
    if campaign.loss is not None:
        click.echo("\n" + str(ns.predict(campaign, method=method, loss=campaign.loss)))
    click.echo("\n" + str(ns.check_assumptions(campaign)))


def _compared(trace_path: Path, method: str, values: dict[str, Any]) -> ns.Comparison:
    campaign = _campaign(values)
    with ns.Trace(trace_path) as trace:
        return ns.compare(trace, ns.predict(campaign, method=method))


@main.command()
@_campaign_options
@click.option("--trace", "trace_path", required=True, type=click.Path(path_type=Path))
@click.option("--method", type=click.Choice(_METHODS), default="first-order", show_default=True)
def compare(trace_path: Path, method: str, **values: Any) -> None:
    """Put the trace of a campaign beside its prediction; exit code 1 where they disagree."""
    comparison = _compared(trace_path, method, values)
    click.echo(str(comparison))
    if not comparison.agrees:
        raise click.exceptions.Exit(1)


@main.command()
@_campaign_options
@click.option("--trace", "trace_path", required=True, type=click.Path(path_type=Path))
@click.option("--method", type=click.Choice(_METHODS), default="first-order", show_default=True)
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path))
def report(trace_path: Path, method: str, folder: Path, **values: Any) -> None:
    """Write a page with figures about the trace of a campaign."""
    click.echo(str(ns.write_report(_compared(trace_path, method, values), folder)))


@main.command()
@_campaign_options
@click.option(
    "--probability",
    "probabilities",
    multiple=True,
    type=float,
    required=True,
    help="A fault probability for every process; may be repeated.",
)
@click.option("--method", type=click.Choice(_METHODS), default="first-order", show_default=True)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of a report with the curves.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def sweep(
    probabilities: tuple[float, ...], method: str, folder: Path | None, quiet: bool, **values: Any
) -> None:
    """Run a campaign at several fault probabilities with common random numbers."""
    result = ns.sweep(
        _campaign(values), probability=probabilities, method=method, progress=not quiet
    )
    click.echo(str(result))
    if folder is not None:
        click.echo(str(ns.write_report(result, folder)))


@main.command()
@_campaign_options
@click.option("--delta", type=float, required=True, help="Tolerated probability of a failure.")
@click.option(
    "--over",
    type=click.Choice(["worst", "mean"]),
    default="worst",
    show_default=True,
    help="At the worst of the inputs, or averaged over them.",
)
@click.option("--confidence", type=float, default=0.95, show_default=True)
@click.option(
    "--max-evaluations",
    type=int,
    default=20_000,
    show_default=True,
    help="Fault sets computed at one input to estimate rare failures, at most.",
)
@click.option("--no-check", is_flag=True, help="Leave out the self-check.")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Report folder.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def certify(
    delta: float,
    over: Any,
    confidence: float,
    max_evaluations: int,
    no_check: bool,
    folder: Path | None,
    quiet: bool,
    **values: Any,
) -> None:
    """Say how many replicas make an error of --epsilon rarer than --delta; exit code 1: none."""
    campaign = _campaign(values)
    certificate = ns.certify(
        campaign,
        _one_epsilon(campaign),
        delta,
        over=over,
        confidence=confidence,
        max_evaluations=max_evaluations,
        check=not no_check,
        progress=not quiet,
    )
    click.echo(str(certificate))
    if folder is not None:
        click.echo(str(ns.write_report(certificate, folder)))
    if not certificate.feasible:
        raise click.exceptions.Exit(1)


def _one_epsilon(campaign: ns.Campaign) -> float:
    if len(campaign.epsilons) != 1:
        raise ns.InputError(
            f"epsilons: expected one, got {len(campaign.epsilons)}; say which by --epsilon"
        )
    return campaign.epsilons[0]


@main.command()
@_campaign_options
@click.option("--budget", type=int, required=True, help="Neurons or cores to add or protect.")
@click.option(
    "--unit", type=click.Choice(["neurons", "cores"]), default="neurons", show_default=True
)
@click.option(
    "--action", type=click.Choice(["duplicate", "protect"]), default="duplicate", show_default=True
)
@click.option(
    "--by",
    type=click.Choice(["variance", "failures"]),
    default="variance",
    show_default=True,
    help="Protect what adds to the variance, or to failures of single faults beyond --epsilon.",
)
@click.option("--method", type=click.Choice(_METHODS[:2]), default="first-order", show_default=True)
@click.option("--no-simulation", is_flag=True, help="Predict only.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of a report; with copies, of the network too (hardened.npz).",
)
def harden(
    budget: int,
    unit: Any,
    action: Any,
    by: Any,
    method: Any,
    no_simulation: bool,
    folder: Path | None,
    **values: Any,
) -> None:
    """Choose which neurons or cores to duplicate or protect, and say what that gains."""
    campaign = _campaign(values)
    hardening = ns.harden(
        campaign,
        budget=budget,
        unit=unit,
        action=action,
        by=by,
        epsilon=_one_epsilon(campaign) if campaign.epsilons else None,
        method=method,
        simulate=not no_simulation,
    )
    click.echo(str(hardening))
    if folder is not None:
        click.echo(str(ns.write_report(hardening, folder)))
        if action == "duplicate":
            hardening.network.save(folder / "hardened.npz")
            click.echo(str(folder / "hardened.npz"))


@main.command()
@click.option("--inputs", required=True, help="Inputs: .npy, or .npz with inputs and targets.")
@click.option("--targets", help="Class numbers or wanted outputs: .npy.")
@click.option(
    "--hidden", type=int, multiple=True, required=True, help="Width of a hidden layer; repeatable."
)
@click.option("--activation", default="sigmoid(4)", show_default=True)
@click.option("--probability", type=float, required=True, help="Of a dead neuron of --layer.")
@click.option(
    "--layer",
    "layers",
    type=int,
    multiple=True,
    default=(1,),
    show_default=True,
    help="A hidden layer that fails; repeatable.",
)
@click.option("--epsilon", type=float, required=True, help="An error this large is a failure.")
@click.option("--delta", type=float, required=True, help="Failure probability to keep below.")
@click.option(
    "--error", type=click.Choice(("outputs", "loss")), default="outputs", show_default=True
)
@click.option("--epochs", type=int, required=True)
@click.option("--batch-size", type=int, default=100, show_default=True)
@click.option("--widen-by", type=int, default=100, show_default=True)
@click.option("--iterations", type=int, default=20, show_default=True, help="At most so many.")
@click.option("--trials", type=int, default=10_000, show_default=True, help="To confirm with.")
@click.option("--method", type=click.Choice(("valid", "paper")), default="valid", show_default=True)
@click.option("--seed", type=int, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Network.")
@click.option("--log", type=click.Path(path_type=Path), help="HDF5 file, one row an iteration.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def achieve(**values: Any) -> None:
    """Train and widen until replicas give a guarantee (Algorithm 1); exit code 1 if they cannot."""
    try:
        from neurosim import training
    except ImportError as error:
        raise ns.InputError(str(error)) from error
    inputs, targets = read_arrays(values["inputs"])
    if values["targets"]:
        targets = read_arrays(values["targets"])[0]
    if targets is None:
        raise ns.InputError("--targets: expected them, or an .npz file with inputs and targets")
    found = training.achieve(
        inputs,
        targets,
        training.Goal(epsilon=values["epsilon"], delta=values["delta"], error=values["error"]),
        hidden=values["hidden"],
        activation=values["activation"],
        faults=ns.StuckAtZero("neuron", probability=values["probability"], layers=values["layers"]),
        fit=training.Fit(epochs=values["epochs"], batch_size=values["batch_size"]),
        seed=values["seed"],
        search=training.Search(
            widen_by=values["widen_by"],
            most_iterations=values["iterations"],
            trials=values["trials"],
        ),
        method=values["method"],
        log=values["log"],
        progress=not values["quiet"],
    )
    found.network.save(values["output"])
    click.echo(str(found))
    if found.verdict != "achieved":
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("trace", type=click.Path(path_type=Path))
def info(trace: Path) -> None:
    """Show what a trace holds."""
    with ns.Trace(trace) as opened:
        click.echo(str(opened))


@main.command()
@click.option(
    "-o", "--output", "folder", default="demo", show_default=True, type=click.Path(path_type=Path)
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def demo(folder: Path, quiet: bool) -> None:
    """Run the whole chain on a small trained network: trace, comparison, report."""
    from neurosim import data

    began = time.perf_counter()
    network = ns.Network.load(data.network_path())
    inputs, labels = read_arrays(str(data.images_path()))
    chip = ns.Chip.load("crossbar-256")
    deployment = ns.deploy(network, chip)
    campaign = ns.Campaign(
        deployment=deployment,
        inputs=inputs,
        targets=labels,
        trials=100_000,
        seed=42,
        epsilons=(0.05, 0.1, 0.2, 0.5, 1.0),
        replicas=(3, 5, 7),
        loss="squared_error",
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ns.InputError(f"--output: expected a folder to write to, got {error}") from error
    click.echo(f"{network}\n\n{deployment}\n\n{campaign}\n")
    with ns.run(campaign, folder / "demo.h5", progress=not quiet) as trace:
        comparison = ns.compare(trace, ns.predict(campaign, method="single-fault"))
    page = ns.write_report(comparison, folder / "report")
    click.echo(str(comparison))
    click.echo(
        f"\ntrace   {folder / 'demo.h5'}\nreport  {page}\n"
        f"\nDone in {time.perf_counter() - began:.0f} s. Your own network (.onnx or .npz, see "
        "docs/formats.md) and inputs (.npy):\n"
        "  neurosim run --network mine.onnx --chip crossbar-256 --inputs inputs.npy "
        "--trials 10000 --seed 1 -o mine.h5"
    )


def _notes(deployment: ns.Deployment) -> None:
    for note in deployment.notes:
        click.echo(f"note: {note}", err=True)


if __name__ == "__main__":
    sys.exit(main())
