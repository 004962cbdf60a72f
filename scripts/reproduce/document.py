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
    "width": "Fig. 2",
    "derivatives": "Supp. Figs. 2 to 4",
    "bounds": "Supp. Figs. 5, 6",
    "algorithm": "Algorithm 1, Supp. Figs. 7, 8",
    "superposition": "Supp. Fig. 11",
    "error_on_training": "Supp. Fig. 12",
    "initialisation": "AP6, NTK-like start",
}
# What no script does yet.
MISSING = {
    "Supp. Fig. 10: training with R1": "best crashing accuracy .9563",
    "Section 7: small convnet on MNIST": "T1 beside simulation",
    "Supp. Table 2: VGG16, VGG19, MobileNet": "-18.7, -18.4, -9.1 (printed), "
    "ln of the norm of Var -4.68, -4.60, -2.27",
    "Failing input pixels of convnets": "-",
    "First-layer weights as images": "picture",
}


def table():
    lines = [["experiment", "quantity", "paper", "here", "verdict", "size"], ["---"] * 6]
    settings = []
    for name, what in SCRIPTS.items():
        path = ROOT / "docs" / DATA / f"{name}.csv"
        if not path.exists():
            lines.append([what, "", "", "", f"not yet run: scripts/reproduce/{name}.py", ""])
            continue
        with open(path, encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for r in rows:
            lines.append(
                [r[k] for k in ("experiment", "quantity", "paper", "here", "verdict", "size")]
            )
        settings.append(
            f"- `{name}.py` ({rows[0]['size']}, {rows[0]['seconds']} s): {rows[0]['setting']}"
        )
    for what, paper in MISSING.items():
        lines.append([what, "", paper, "", "not yet run", ""])
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
