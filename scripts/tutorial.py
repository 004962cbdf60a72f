"""Write docs/tutorial.md: from a trained network to a chip that meets a target, step by step.

Every block of code on that page is run here, and what stands below it is what it printed.
"""

import argparse
import contextlib
import io
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from neurosim.report import certification

PAGE = r"""# Tutorial: how many chips make it safe?

Written by `scripts/tutorial.py`, which ran every line of code below; what stands under a block is
what it printed. Follow it in a Python shell or a notebook of your own; it takes a few minutes.

The question: a network that recognises handwritten digits runs on a chip whose neurons die, one
in a thousand. Nobody minds an output that is off by 0.1, but one that is off by 0.5 is a failure.
**Is a failure rarer than one in 100 000 presentations? If not, how many chips make it so, what
rate of dead neurons could one chip bear, and which neurons are worth protecting?**

## 1. A network on a chip

```python
import numpy as np
import neurosim as ns
from neurosim import data

network = ns.Network.load(data.network_path())
deployment = ns.deploy(network, ns.Chip.load("crossbar-256"))
print(deployment)
```

The chip has cores of 256 x 256; layer 1 alone takes four of them. Your own network comes from a
file ([formats](formats.md)), your own chip from a profile ([hardware
profiles](hardware-profiles.md)).

## 2. What may fail, and what is asked

A *campaign* is everything that determines the numbers: the deployed network, the fault processes
(here those of the chip), the inputs, the number of trials and a seed. A *trial* is one chip with
its own dead neurons; it sees all inputs.

```python
images = np.load(data.images_path())
campaign = ns.Campaign(
    deployment=deployment,
    inputs=images["inputs"],
    targets=images["targets"],
    trials=100_000,
    seed=42,
    epsilons=[0.5],
)
print(campaign)
print(campaign.fault_set(6).neurons)  # dead in trial 6: (layer, unit, first input, last + 1)
```

## 3. What happens

`run` draws the trials and writes a trace, a file that can be continued and opened anywhere.

```python
with ns.run(campaign, "digits.h5", progress=False) as trace:
    failures = trace.exceedances_any[0] / trace.completed  # one frequency an input
    print(f"accuracy under faults {trace.accuracy:.4f}")
    print(f"failures: mean over inputs {failures.mean():.2e}, worst input {failures.max():.2e}")
    comparison = ns.compare(trace, ns.predict(campaign, method="single-fault"))
print(comparison.verdict)
```

Two things to note. The theory, which draws no random number, agrees with what was drawn: both can
be trusted here. And inputs differ: each has a failure probability of its own, so a statement
about "the" failure probability must say whether it means the worst input or an average.

## 4. How rare is a failure?

Counting stops being of use when failures get rare. To show by counting that a probability is
below 1e-5, or to measure one of 1e-8 to 10 %, takes so many trials:

```python
print(ns.trials_to_bound(1e-5), "trials without a single failure, for one input")
print(ns.trials_to_estimate(1e-8, relative_error=0.1), "trials")
```

`exceedance` needs none of these: it computes all sets of few faults and draws the others where
failures are, with weights that keep the estimate unbiased for any fixed number of draws.

```python
rare = ns.exceedance(campaign, epsilon=1.0, relative_error=0.25, max_evaluations=20_000)
print(rare)
```

Inputs that did not reach the wanted precision are named, and left out of the mean; a larger
`max_evaluations` reaches them.

## 5. How many chips make it safe?

Let R chips, with dead neurons of their own, see the same image, and take the median of each
output: it is off only if at least half of the chips are. `certify` finds the smallest such R.

```python
certificate = ns.certify(campaign, epsilon=0.5, delta=1e-5, progress=False)
print(certificate)
```

How to read it, from the left: what each method says about one chip at the worst input; the number
of chips whose median meets the target, and how often that median then fails; the number of chips
whose *mean* would. The last column says whether the line is a guarantee, and on what it rests, or
an approximation. The answer uses guarantees only. Bounds from the weights alone ("rigorous") are
safe and often say nothing; moments give approximations; counting, with an upper confidence limit
for every input and output at once, gives the sharpest guarantee here.

The last table is the certificate's own test: other chips are drawn, and no claim about them may
be exceeded by more than chance explains.

![Failure of the median against the number of chips](images/tutorial-replicas.png)

## 6. What rate could one chip bear?

The same question turned round, for the median of five chips and for a single one:

```python
for chips in (5, 1):
    print(ns.largest_probability(campaign, 0.5, 1e-3, replicas=chips))
```

## 7. Which neurons matter?

A few neurons carry most of the error's variance, and failures come from still fewer. Here the ten
that cause most failures are protected (made so that they do not die):

```python
protected = ns.harden(campaign, budget=10, action="protect", by="failures", epsilon=0.5)
print(protected)
```

Without better circuits one can still copy neurons: k copies of a neuron, each with a k-th of its
outgoing weights, compute the same, but one dead copy does a k-th of the harm. The crossbars of
this chip are mostly empty, so that many copies need no further core. The budget here is one:

```python
hardened = ns.harden(campaign, budget=1, unit="cores", epsilon=0.5)
print(hardened)
```

![The chip, its columns coloured by what they add to the variance](images/tutorial-chip.png)

"evenly" spends the same budget without looking; the best choice makes copies in proportion to
what a neuron does to the outputs.

## 8. The hardened network

```python
from dataclasses import replace

better = replace(campaign, deployment=ns.deploy(hardened.network, campaign.deployment.chip))
again = ns.certify(better, epsilon=0.5, delta=1e-5, progress=False, check=False)
print(
    f"{certificate.replicas} chips, {certificate.cores} cores before; "
    f"{again.replicas} chips, {again.cores} cores after"
)
print(again.verdict)
hardened.network.save("hardened.npz")
```

## Where to go on

`ns.write_report(certificate, "report")` makes a page of all this. On the command line the same
verbs are `neurosim run`, `compare`, `certify`, `harden` and `report` ([command line](cli.md)).
What the certificates mean in detail is in [certification](certification.md), the formulas are in
[theory](theory.md), and the words in [concepts](concepts.md).
"""


def run(code, namespace):
    """What a block of code prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "tutorial", "exec"), namespace)
    return printed.getvalue().rstrip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("docs"), help="folder of the page"
    )
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--inputs", type=int, default=200)
    options = parser.parse_args()
    folder = options.output.resolve()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    namespace, here = {}, Path.cwd()

    def with_output(match):
        code = match[1].replace("trials=100_000", f"trials={options.trials}")
        for name in ("inputs", "targets"):
            code = code.replace(f'images["{name}"]', f'images["{name}"][:{options.inputs}]')
        printed = run(code, namespace)
        return match[0] + (f"\n\n```\n{printed}\n```" if printed else "")

    with TemporaryDirectory() as temporary:
        os.chdir(temporary)  # for the files that the code writes
        try:
            text = re.sub(r"```python\n(.*?)\n```", with_output, PAGE, flags=re.DOTALL)
        finally:
            os.chdir(here)
    figures = {
        "replicas": certification.failure_by_replicas(namespace["certificate"]),
        "chip": certification.chip_contributions(namespace["hardened"]),
    }
    for name, figure in figures.items():
        figure.savefig(folder / "images" / f"tutorial-{name}.png", dpi=130)
    (folder / "tutorial.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
