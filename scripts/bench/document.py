"""Put the results of `make bench` into docs: data, figures, and the tables of docs/performance.md.

A table stands between `<!-- table: name -->` and `<!-- end -->`; the words around it stay.
"""

import argparse
import re
import shutil

import figures
from machine import RESULTS

PAGE = figures.ROOT / "docs" / "performance.md"
FILES = (
    "machine.csv", "networks.csv", "peers.csv", "activations.csv", "scaling.csv", "streaming.csv",
    "prediction.csv", "spiking.csv",
)  # fmt: skip
RIVALS = ("torch batched", "numpy batched", "PyTorchFI")


def markdown(header, rows):
    """A table, the first column to the left."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(text):
    """Three digits, without an exponent where a reader does not need one."""
    value = float(text)
    if value == 0 or value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _p(row):
    return f"{float(row['probability']):g}"


def _sections(rows):
    """Rows by (network, site, inputs), then by probability, then by contender."""
    result = {}
    for r in rows:
        section = result.setdefault((r["network"], r["site"], r["inputs"]), {})
        section.setdefault(_p(r), {})[r["contender"]] = r
    # Cases that were measured again by themselves stand last in the file.
    return {
        key: dict(sorted(s.items(), key=lambda item: float(item[0]))) for key, s in result.items()
    }


def _few(probabilities):
    return {p: v for p, v in probabilities.items() if float(p) <= 0.05}


def machine():
    return markdown(
        ("this machine", ""), [(r["name"], r["value"]) for r in figures.rows_of("machine.csv")]
    )


def networks():
    return markdown(
        ("network", "test accuracy", "pixels not 0", "outputs of the first hidden layer not 0"),
        [tuple(r.values()) for r in figures.rows_of("networks.csv")],
    )


def peers():
    """A table each network, kind of site and number of inputs; a cell is µs a trial."""
    parts = []
    for (network, site, inputs), by_p in _sections(figures.rows_of("peers.csv")).items():
        by_p = _few(by_p)
        if not by_p:
            continue
        names = list(dict.fromkeys(n for found in by_p.values() for n in found))
        rows = []
        for p, found in by_p.items():
            cells = [
                number(found[n]["us_per_trial"]) + ("" if found[n]["trusted"] == "yes" else " ~")
                if n in found
                else "-"
                for n in names
            ]
            rows.append([p, *cells])
        parts.append(f"**{network}, {site}s, {inputs} inputs**\n\n{markdown(['p', *names], rows)}")
    return "\n\n".join(parts)


def ratios():
    """How many times as long each rival takes."""
    rows = []
    for (network, site, inputs), by_p in _sections(figures.rows_of("peers.csv")).items():
        for p, found in _few(by_p).items():
            ours = float(found["neurosim"]["us_per_trial"])
            batched = [
                float(r["us_per_trial"])
                for n, r in found.items()
                if n in ("torch batched", "torch, faulty trials only", "numpy batched")
            ]
            cells = [
                number(float(found[n]["us_per_trial"]) / ours) if n in found else "-"
                for n in RIVALS
            ]
            rows.append([network, site, inputs, p, *cells, number(min(batched) / ours)])
    header = ["network", "site", "inputs", "p", *(f"over {n}" for n in RIVALS)]
    return markdown([*header, "over the fastest batched"], rows)


def limit():
    """Speed of neurosim beside the limits."""
    rows = []
    for (network, site, inputs), by_p in _sections(figures.rows_of("peers.csv")).items():
        for p, found in by_p.items():
            r = found["neurosim"]
            us = float(r["us_per_trial"])
            bound, table = r["limit_us"], r["limit_tabulated_us"]
            rows.append([
                network, site, inputs, p, number(us),
                number(bound) if bound else "-",
                f"{float(bound) / us:.0%}" if bound else "-",
                number(table) if table else "-",
                number(r["plain_limit_us"]),
                r["preparation_ms"],
            ])  # fmt: skip
    return markdown(
        ("network", "site", "inputs", "p", "neurosim", "limit", "share of the limit",
         "limit, singles tabulated", "limit of plain passes", "preparation, ms"),
        rows,
    )  # fmt: skip


def dense():
    """Where nearly everything fails."""
    rows = []
    for (network, site, inputs), by_p in _sections(figures.rows_of("peers.csv")).items():
        for p, found in by_p.items():
            if float(p) > 0.05:
                us = {n: float(r["us_per_trial"]) for n, r in found.items()}
                plain = min(v for n, v in us.items() if n != "neurosim")
                cells = [number(us[n]) for n in ("neurosim", "torch batched", "numpy batched")]
                rows.append([network, site, inputs, p, *cells, number(plain / us["neurosim"])])
    header = ("network", "site", "inputs", "p", "neurosim", "torch batched", "numpy batched")
    return markdown([*header, "over the faster one"], rows)


def _of_activations(beside):
    """Rows beside something, by activation, then by (site, p, contender)."""
    result = {}
    for r in figures.rows_of("activations.csv"):
        if r["beside"] == beside:
            key = r["site"], _p(r), r["contender"]
            result.setdefault(r["activation"], {})[key] = r
    return result


def activations():
    """How many times as long as the sigmoid each activation takes."""
    found = _of_activations("sigmoid(4)")
    base = found.pop("sigmoid(4)")
    rows = [["sigmoid(4), µs", *(number(r["us_per_trial"]) for r in base.values()), ""]]
    for name, by_case in found.items():
        cells = []
        for case, first in base.items():
            r = by_case.get(case)
            ratio = float(r["us_per_trial"]) / float(first["us_per_trial"]) if r else None
            trusted = r and r["trusted"] == first["trusted"] == "yes"
            cells.append("-" if ratio is None else f"{ratio:.2f}" + ("" if trusted else " ~"))
        worst = max(float(r["largest_difference"]) for r in by_case.values())
        rows.append([name, *cells, f"{worst:.1e}"])
    header = [f"{site}s, {p}" for site, p, _ in base]
    return markdown(["activation", *header, "largest difference"], rows)


def costly_activations():
    """Those that cost most, beside torch."""
    rows = []
    for name, by_case in _of_activations("torch batched").items():
        for site, p in dict.fromkeys(case[:2] for case in by_case):
            ours, torch = (by_case.get((site, p, n)) for n in ("neurosim", "torch batched"))
            if ours and torch:
                us = [float(r["us_per_trial"]) for r in (ours, torch)]
                rows.append([name, site, p, *map(number, us), number(us[1] / us[0])])
    header = ("activation", "site", "p", "neurosim", "torch batched", "over torch")
    return markdown(header, rows)


def accuracy():
    """Largest difference of each contender from float64 over all rows."""
    rows = figures.rows_of("peers.csv")
    worst = {}
    for r in rows:
        worst[r["contender"]] = max(worst.get(r["contender"], 0.0), float(r["largest_difference"]))
    return markdown(
        ("contender", "largest absolute difference from float64"),
        [(name, f"{value:.1e}") for name, value in worst.items()],
    )


def streaming():
    return markdown(
        ("p", "trials", "kept", "ns.run, s", "one unit of work, s", "difference, s", "ratio",
         "peak RSS, MB", "trace, MB", "quiet"),
        [tuple(r.values()) for r in figures.rows_of("streaming.csv")],
    )  # fmt: skip


def prediction():
    return markdown(
        ("network", "inputs", "sites", "method", "predict, ms", "forward pass, ms", "ratio",
         "quiet"),
        [tuple(r.values()) for r in figures.rows_of("prediction.csv")],
    )  # fmt: skip


def spiking():
    """Each simulator beside the fastest of the kernel."""
    rows = figures.rows_of("spiking.csv")
    ours = min(float(r["ms_per_replica"]) for r in rows if r["contender"].startswith("kernel"))
    return markdown(
        ("simulator", "ms a replica", "over the kernel", "same spike counts"),
        [
            (r["contender"], number(r["ms_per_replica"]),
             number(float(r["ms_per_replica"]) / ours), r["same_counts"])
            for r in rows
        ],
    )  # fmt: skip


TABLES = (
    machine, networks, peers, ratios, activations, costly_activations, limit, dense, accuracy,
    streaming, prediction, spiking,
)  # fmt: skip


def fill(text, tables=TABLES, page=PAGE):
    """The page with its tables written anew."""
    for table in tables:
        pattern = rf"(<!-- table: {table.__name__} -->\n).*?(<!-- end -->)"
        new, count = re.subn(
            pattern, lambda m, t=table: f"{m[1]}\n{t()}\n\n{m[2]}", text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"{page.name}: expected one place for table {table.__name__}")
        text = new
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    missing = [name for name in FILES if not (RESULTS / name).exists()]
    if missing:
        parser.error(f"no results {', '.join(missing)} in {RESULTS}; run make bench first")
    figures.DATA.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(RESULTS / name, figures.DATA / name)
    figures.draw()
    PAGE.write_text(fill(PAGE.read_text("utf-8")), "utf-8")
    print(f"written: {PAGE.relative_to(figures.ROOT)}")


if __name__ == "__main__":
    main()
