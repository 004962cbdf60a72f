"""Put the results of the scripts of this folder into docs/reproduction.md.

The table stands between `<!-- table -->` and `<!-- end -->`, the figures between `<!-- figures -->`
and the next `<!-- end -->`; the words around them stay.
"""

import argparse
import csv
import re

from results import DATA, IMAGES, ROOT

PAGE = ROOT / "docs" / "reproduction.md"
# In the order of the paper: what it shows there, and what the figure here shows.
SCRIPTS = {
    "continuous": ("Fig. 1, P4", "A function in pieces; networks cut from a continuous one"),
    "toys": ("toy networks, quadratic counter-example", "Toy networks: variance over n"),
    "dropout": ("Table 2, Supp. Fig. 9", "T1's variance and the crashing error over the dropout"),
    "regularisation": ("Supp. Fig. 10", "Accuracy of networks trained with R1 and with dropout"),
    "convnet": ("Section 7, convnet on MNIST", "Failing pixels: simulation, T1 and single faults"),
    "convnet_table": ("Supp. Table 2", "Pretrained convnets: variance; failing pixels"),
    "width": ("Fig. 2, Supp. Fig. 2", "Variance and derivatives of smooth networks over width"),
    "derivatives_mnist": ("Supp. Fig. 2", "MNIST: derivatives over width"),
    "derivatives_fashion": ("Supp. Fig. 3", "Fashion-MNIST: derivatives over width"),
    "derivatives_boston": ("Supp. Fig. 4", "Boston Housing: derivatives over width"),
    "first_layer": ("Supp. Fig. 2", "First-layer weights as images, without and with smoothing"),
    "bounds": ("Supp. Figs. 5, 6", "Bounds over simulated mean errors"),
    "algorithm": ("Algorithm 1, Supp. Figs. 7, 8", "Algorithm 1: delta of one chip"),
    "superposition": ("Supp. Fig. 11", "Superposition of errors"),
    "error_on_training": ("Supp. Fig. 12", "Error of the loss along training"),
    "initialisation": ("AP6, NTK-like start", "Random weights: no gain from width"),
}
SIZES = ("quick", "full")


def results_of(name, size):
    """The rows that a script wrote at one size; none if it was not run."""
    path = ROOT / "docs" / DATA / f"{name}-{size}.csv"
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def estimate_of(name):
    """How long the full size would take, from what; None if nobody has measured it."""
    path = ROOT / "docs" / DATA / f"{name}-estimate.csv"
    if not path.exists():
        return None
    with open(path, encoding="utf-8") as file:
        (found,) = csv.DictReader(file)
    seconds = float(found["seconds"])
    spelled = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
    return spelled, found["measured"]


def merged(name):
    """Rows of the table: both sizes of one quantity side by side, the verdict of each."""
    found = {size: results_of(name, size) for size in SIZES}
    by = {size: {(r["experiment"], r["quantity"]): r for r in rows} for size, rows in found.items()}
    for key in dict.fromkeys([*by["quick"], *by["full"]]):
        both = {size: by[size][key] for size in SIZES if key in by[size]}
        verdicts = {size: r["verdict"] for size, r in both.items()}
        if len(set(verdicts.values())) == 1:
            verdict = next(iter(verdicts.values()))
        else:
            verdict = "; ".join(f"{size}: {v}" for size, v in verdicts.items())
        here = [both[size]["here"] if size in both else "" for size in SIZES]
        if not by["full"]:
            here[1] = "not run"
        yield [*key, next(iter(both.values()))["paper"], *here, verdict]


def table():
    lines = [["experiment", "quantity", "paper", "quick", "full", "verdict"], ["---"] * 6]
    settings = []
    for name, (what, _) in SCRIPTS.items():
        rows = list(merged(name))
        lines += rows or [[what, "", "", "", "", f"not yet run: scripts/reproduce/{name}.py"]]
        full = estimate_of(name)
        if full and not results_of(name, "full"):
            settings.append(
                f"- `{name}.py` (full): not run; it would take about {full[0]} of one core, from "
                f"{full[1]}"
            )
        for size in SIZES:
            for r in results_of(name, size)[:1]:
                settings.append(f"- `{name}.py` ({size}, {r['seconds']} s): {r['setting']}")
    cells = [[c.replace("|", r"\|") for c in line] for line in lines]
    text = "\n".join("| " + " | ".join(line) + " |" for line in cells)
    return text + "\n\nWhat was run:\n\n" + "\n".join(settings)


def figures():
    """The figure of each script, of its full size where that was run."""
    lines = []
    for name, (what, shows) in SCRIPTS.items():
        for size, suffix in (("full", "-full"), ("quick", "")):
            image = IMAGES / f"reproduction-{name}{suffix}.png"
            if (ROOT / "docs" / image).exists():
                lines.append(f"**{what}**: {shows} ({size})\n\n![{shows}]({image})")
                break
    return "\n\n".join(lines)


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    page = PAGE.read_text(encoding="utf-8")
    for mark, text in (("table", table()), ("figures", figures())):
        page = re.sub(
            rf"(<!-- {mark} -->\n).*?(<!-- end -->)",
            lambda m, text=text: m[1] + text + "\n" + m[2],
            page,
            flags=re.DOTALL,
        )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
