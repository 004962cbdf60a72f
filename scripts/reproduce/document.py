"""Put the results of the scripts of this folder into docs/reproduction.md.

The table stands between `<!-- table -->` and `<!-- end -->`; the words around it stay.
"""

import argparse
import csv
import re

from results import DATA, ROOT

PAGE = ROOT / "docs" / "reproduction.md"
# In the order of the paper; what has no CSV is listed as not yet run.
SCRIPTS = {
    "continuous": "Fig. 1, P4",
    "toys": "toy networks, quadratic counter-example",
    "dropout": "Table 2, Supp. Fig. 9",
    "regularisation": "Supp. Fig. 10",
    "convnet": "Section 7: small convnet on MNIST, its input pixels failing",
    "convnet_table": "Supp. Table 2, failing pixels of a pretrained convnet",
    "width": "Fig. 2",
    "derivatives": "Supp. Figs. 2 to 4",
    "first_layer": "Supp. Fig. 2, first-layer weights as images",
    "bounds": "Supp. Figs. 5, 6",
    "algorithm": "Algorithm 1, Supp. Figs. 7, 8",
    "superposition": "Supp. Fig. 11",
    "error_on_training": "Supp. Fig. 12",
    "initialisation": "AP6, NTK-like start",
}
SIZES = ("quick", "full")


def results_of(name, size):
    """The rows that a script wrote at one size; none if it was not run."""
    path = ROOT / "docs" / DATA / f"{name}-{size}.csv"
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
        yield [*key, next(iter(both.values()))["paper"], *here, verdict]


def table():
    lines = [["experiment", "quantity", "paper", "quick", "full", "verdict"], ["---"] * 6]
    settings = []
    for name, what in SCRIPTS.items():
        rows = list(merged(name))
        lines += rows or [[what, "", "", "", "", f"not yet run: scripts/reproduce/{name}.py"]]
        for size in SIZES:
            for r in results_of(name, size)[:1]:
                settings.append(f"- `{name}.py` ({size}, {r['seconds']} s): {r['setting']}")
    cells = [[c.replace("|", r"\|") for c in line] for line in lines]
    text = "\n".join("| " + " | ".join(line) + " |" for line in cells)
    return text + "\n\nWhat was run:\n\n" + "\n".join(settings)


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    page = PAGE.read_text(encoding="utf-8")
    filled = re.sub(
        r"(<!-- table -->\n).*?(<!-- end -->)",
        lambda m: m[1] + table() + "\n" + m[2],
        page,
        flags=re.DOTALL,
    )
    PAGE.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
