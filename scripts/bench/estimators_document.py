"""Put the results of estimators.py into docs: data, and the tables of docs/certification.md.

A table stands between `<!-- table: name -->` and `<!-- end -->`; the words around it stay.
Parts that were not run again keep their documented numbers.
"""

import argparse
import csv
import shutil

import figures
from document import fill, markdown
from machine import RESULTS

PAGE = figures.ROOT / "docs" / "certification.md"
DATA = figures.ROOT / "docs" / "data" / "certification"
NETWORK = "784-500-10-sigmoid"


def rows_of(part):
    """Rows of a documented CSV file."""
    with (DATA / f"estimators-{part}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tails():
    """The noise of rare probabilities."""
    rows, before = [], None
    for r in rows_of(f"tails-{NETWORK}"):
        rows.append((
            "" if r["p"] == before else f"{float(r['p']):.0e}".replace("e-0", "e-"),
            f"{float(r['probability']):.2g}",
            f"{float(r['relative_standard_error']):.1%}",
            f"{float(r['gain']):.2g}",
            r["effective_sample_size"],
            r["difference_of_seeds_over_error"],
        ))  # fmt: skip
        before = r["p"]
    header = ("p", "probability", "relative standard error", "gain", "effective sample size",
              "seeds")  # fmt: skip
    return markdown(header, rows)


def demo():
    """`exceedance` on the network of the demo."""
    return markdown(
        ("epsilon", "P at the inputs: 5 %, median, 95 %", "reached", "fault sets", "seconds",
         "processor seconds", "start", "difference / error", "most below"),
        [
            (
                r["epsilon"],
                ", ".join(r[f"probability_{which}"] for which in ("5_percent", "median",
                                                                  "95_percent")),
                r["reached"],
                f"{float(r['evaluations']):.2g}",
                r["seconds"],
                r["processor_seconds"],
                r["start_seconds"],
                r["difference_over_error"],
                r["most_below"],
            )
            for r in rows_of("demo")
        ],
    )  # fmt: skip


def moments():
    """Gains of the moments."""
    return markdown(
        ("p", "E error", "E error^2", "plain trials", "spread of seeds / error"),
        [
            (
                r["p"],
                f"{float(r['mean_gain']):.2g}",
                f"{float(r['second_moment_gain']):.2g}",
                f"{float(r['plain_trials_for_the_same_error']):.2g}",
                f"{r['mean_spread_over_error']}, {r['second_moment_spread_over_error']}",
            )
            for r in rows_of(f"moments-{NETWORK}")
        ],
    )


def times():
    """Time to one standard error of the mean, beside plain trials."""
    return markdown(
        ("p", "seconds", "torch, us a trial", "trials it would need", "torch, seconds",
         "times shorter"),
        [
            (
                r["p"] + ("" if r["quiet"] == "yes" else " (not quiet)"),
                r["seconds"],
                r["torch_us_per_trial"],
                f"{float(r['plain_trials_for_the_same_error']):.2g}",
                f"{float(r['torch_seconds']):.2g}",
                f"{float(r['times_shorter']):.2g}",
            )
            for r in rows_of(f"times-{NETWORK}")
        ],
    )  # fmt: skip


TABLES = (tails, demo, moments, times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    names = [f"estimators-{part}-{NETWORK}.csv" for part in ("moments", "tails", "times")]
    names.append("estimators-demo.csv")
    new = [name for name in names if (RESULTS / name).exists()]
    missing = [name for name in names if name not in new and not (DATA / name).exists()]
    if missing or not new:
        parser.error(f"no results {', '.join(missing or names)} in {RESULTS}; run estimators.py")
    DATA.mkdir(parents=True, exist_ok=True)
    for name in new:
        shutil.copy(RESULTS / name, DATA / name)
    PAGE.write_text(fill(PAGE.read_text("utf-8"), TABLES, PAGE), "utf-8")
    print(f"written: {PAGE.relative_to(figures.ROOT)}")


if __name__ == "__main__":
    main()
