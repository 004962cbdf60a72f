"""The HTML page of a report: one file, figures inside, nothing fetched, no scripts."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from neurosim.analysis import Comparison, Sweep
from neurosim.campaign import Campaign
from neurosim.certification import Certificate, Hardening
from neurosim.certification.self_check import SelfCheck
from neurosim.theory import Assumptions

__all__ = ["certificate_page", "comparison_page", "hardening_page", "spiking_page", "sweep_page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #5f6368; --line: #d9d9de; --paper: #fff;
  --panel: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --soft: #a5a9b0; --line: #3a3c42;
  --paper: #17181b; --panel: #202227; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
p.answer { font-size: 1.15rem; } p.soft, figcaption { color: var(--soft); }
figure { margin: 1rem 0; } figure img { max-width: 100%; background: #fff; border-radius: 6px; }
pre { background: var(--panel); padding: .8rem 1rem; overflow-x: auto; border-radius: 6px;
  font-size: .82rem; line-height: 1.4; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
.words td:last-child, .words th:last-child { text-align: left; white-space: normal;
  min-width: 13rem; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""


def _page(title: str, parts: Iterable[str]) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "wide") -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return f'<div class="{kind}"><table>\n<tr>{cells}</tr>\n{body}</table></div>'


def _section(title: str, text: str, picture: bytes | None, instead: str) -> str:
    if picture is None:
        return f'<h2>{escape(title)}</h2>\n<p class="soft">{escape(instead)}</p>'
    image = b64encode(picture).decode("ascii")
    return (
        f'<h2>{escape(title)}</h2>\n<figure><img alt="{escape(title)}" '
        f'src="data:image/png;base64,{image}">\n<figcaption>{escape(text)}</figcaption></figure>'
    )


def _share(value: float) -> str:
    """A share as people read it."""
    return f"{value:.2%}" if value >= 1e-3 or value == 0 else f"{100 * value:.1e} %"


def _answer(comparison: Comparison) -> str:
    """How wrong, how likely, how far the theory can be trusted: in words."""
    statistics, campaign = comparison.statistics, comparison.campaign
    n = statistics.errors.count
    scale = float(np.abs(campaign.network(campaign.inputs)).mean())
    largest = np.abs([statistics.errors.minimum, statistics.errors.maximum]).max()
    if n > 1:
        spread = float(np.sqrt(statistics.errors.variance).mean())
        words = [
            f"Under these faults an output is typically off by {spread:.2g} (standard deviation, "
            f"mean over inputs and outputs; the outputs themselves are {scale:.2g} in size); the "
            f"largest error seen was {largest:.2g}."
        ]
    else:
        words = [
            f"The largest error of the only trial was {largest:.2g}; the outputs themselves are "
            f"{scale:.2g} in size."
        ]
    if campaign.epsilons:
        seen = np.flatnonzero(statistics.exceedances_any.any(axis=1))
        # The largest threshold that was reached at all tells most.
        at = int(seen[-1]) if len(seen) else 0
        rates = statistics.exceedances_any[at] / n
        words.append(
            f"Some output is off by {campaign.epsilons[at]:g} or more in {_share(rates.mean())} of "
            f"presentations ({_share(float(rates.max()))} for the worst input)."
            if len(seen)
            else f"No output was ever off by {campaign.epsilons[0]:g} or more."
        )
    if statistics.accuracy is not None:
        words.append(
            f"Accuracy on these inputs is {float(statistics.accuracy.mean):.2%} under faults; the "
            f"largest output changes in {_share(statistics.class_changes.mean() / n)} of "
            "presentations."
        )
    return " ".join(words)


def _outputs(comparison: Comparison, most: int = 20) -> str:
    mean, variance = comparison.mean, comparison.variance
    rows = []
    for k in range(min(most, mean.predicted.shape[1])):
        rows.append(
            [
                str(k),
                f"{mean.simulated[:, k].mean():.3g}",
                f"{mean.predicted[:, k].mean():.3g}",
                _counts(mean.verdict[:, k]),
                f"{variance.simulated[:, k].mean():.3g}",
                f"{variance.predicted[:, k].mean():.3g}",
                _counts(variance.verdict[:, k]),
            ]
        )
    return _table(
        [
            "output",
            "mean, simulated",
            "predicted",
            "verdicts",
            "variance, simulated",
            "predicted",
            "verdicts",
        ],
        rows,
    )


def _counts(verdicts: np.ndarray) -> str:
    words, counts = np.unique(verdicts, return_counts=True)
    return ", ".join(f"{count} {word}" for word, count in zip(words, counts, strict=True))


def _assumptions(assumptions: Assumptions) -> str:
    rows = [
        [
            entry.name,
            entry.verdict,
            "" if entry.figure is None else f"{entry.figure:.3g}",
            entry.statement,
        ]
        for entry in assumptions
    ]
    return (
        _table(["", "verdict", "figure", "what is asked"], rows, "wide words")
        + f'<p class="answer">{escape(assumptions.advice)}</p>'
    )


def comparison_page(comparison: Comparison, pictures: dict[str, bytes | None]) -> str:
    """The page about one campaign; pictures are PNG files by the name of their figure."""
    campaign = comparison.campaign
    chip = campaign.deployment.chip
    about = (
        f"{campaign.network}\n\n{campaign.deployment}\n\n{campaign}\n"
        f"trials done: {comparison.statistics.errors.count}\nfingerprint: {campaign.fingerprint}"
    )
    missing = "The campaign has no "
    return _page(
        f"Faults on {chip.name}",
        [
            f"<h1>Faults on {escape(chip.name)}</h1>",
            f'<p class="answer">{escape(_answer(comparison))}</p>',
            f'<p class="answer">{escape(comparison.verdict)}</p>',
            "<h2>What was simulated</h2>",
            f"<pre>{escape(about)}</pre>",
            "<h2>Simulation beside theory, by output</h2>",
            f'<p class="soft">Means over inputs; verdicts count inputs. Method: '
            f"{escape(comparison.prediction.method)}.</p>",
            _outputs(comparison),
            _section(
                "Distribution of the error",
                "Bins have fixed edges; trials without any error at the "
                "output are told above each panel. Line: exact law of the linear surrogate.",
                pictures["histograms"],
                "No trial had an error at the input selected for this figure."
                if comparison.weighted is None
                else "Weighted trials are not judged by their distribution.",
            ),
            _section(
                "How likely is a large error",
                "Simulated frequency with pointwise 95 % intervals, the "
                "law of the linear surrogate, and the bounds by Cantelli and Chebyshev with the "
                "predicted moments (both sides).",
                pictures["exceedance"],
                "No trial had an error at that input and output.",
            ),
            _section(
                "Replicas",
                "Component-wise median of R chips with independent faults and the same input.",
                pictures["replicas"],
                missing + "replicas to take medians over.",
            ),
            _section(
                "Where the variance comes from",
                "Predicted contribution of each kind of site and layer.",
                pictures["contributions"],
                "The method gives no contributions.",
            ),
            _section(
                "Predicted and simulated",
                "Every input and output; grey: equality.",
                pictures["scatter"],
                "",
            ),
            *(() if campaign.spiking is None else _spike_sections(pictures)),
            _section("The chip", "Share of each core's crossbar in use.", pictures["chip"], ""),
            "<h2>Whether the theory applies</h2>",
            _assumptions(comparison.assumptions),
            "<h2>The comparison in words</h2>",
            f"<pre>{escape(str(comparison))}</pre>",
        ],
    )


def _spike_sections(pictures: dict[str, bytes | None]) -> list[str]:
    nothing = "No fault changed an output in the first trials of this campaign."
    return [
        _section(
            "Spikes around a fault",
            "The presentation with the largest error among the first trials, of each layer the "
            "neurons whose counts change most. Shaded: times in which something is dead.",
            pictures["raster"],
            nothing,
        ),
        _section(
            "The error in time",
            "Change of the spike counts of the last spiking layer in units of its activity; it "
            "ends at the error of the presentation.",
            pictures["error-in-time"],
            nothing,
        ),
    ]


def spiking_page(campaign: Campaign, pictures: dict[str, bytes | None]) -> str:
    """The page about the spikes of a campaign; pictures by the name of their figure."""
    chip = campaign.deployment.chip
    about = _about(campaign)
    return _page(
        f"Spikes on {chip.name}",
        [
            f"<h1>Spikes on {escape(chip.name)}</h1>",
            *_spike_sections(pictures),
            "<h2>What was simulated</h2>",
            f"<pre>{escape(about)}</pre>",
        ],
    )


def sweep_page(sweep: Sweep, pictures: dict[str, bytes | None]) -> str:
    """The page about a sweep over fault probabilities."""
    chip = sweep.campaign.deployment.chip
    return _page(
        f"Sweep on {chip.name}",
        [
            f"<h1>Fault probabilities on {escape(chip.name)}</h1>",
            _section(
                "Variance and large errors against the fault probability",
                "Points: simulated, with common random numbers; lines: predicted.",
                pictures["sweep"],
                "",
            ),
            "<h2>The sweep in numbers</h2>",
            f"<pre>{escape(str(sweep))}</pre>",
            "<h2>Whether the theory applies, at the largest probability</h2>",
            _assumptions(sweep.comparisons[-1].assumptions),
            "<h2>What was simulated</h2>",
            f"<pre>{escape(str(sweep.campaign.network))}</pre>",
            f"<pre>{escape(str(sweep.campaign.deployment))}</pre>",
        ],
    )


def certificate_page(certificate: Certificate, pictures: dict[str, bytes | None]) -> str:
    """The page about a certificate."""
    campaign = certificate.campaign
    rows = [
        [
            row.tails.title,
            "guarantee" if row.guarantee else "approximation",
            f"{row.delta_single:.3g}",
            _or_none(row.replicas),
            "-" if row.failure is None else f"{row.failure:.2g}",
            _or_none(row.mean_replicas),
            row.tails.rests_on,
        ]
        for row in certificate.rows
    ]
    return _page(
        f"Certificate on {campaign.deployment.chip.name}",
        [
            f"<h1>Replicas on {escape(campaign.deployment.chip.name)}</h1>",
            f'<p class="answer">{escape(certificate.verdict)}</p>',
            "<h2>Method by method</h2>",
            f'<p class="soft">One chip: P(some output is off by {certificate.epsilon:g} or more) '
            f"at one presentation, {'worst input' if certificate.over == 'worst' else 'mean'}. "
            f"Replicas: so many that it is at most {certificate.delta:g} for their component-wise "
            "median, by the exact binomial at each input; for their mean.</p>",
            _table(
                ["", "is a", "one chip", "median of", "fails", "mean of", "rests on"],
                rows,
                "wide words",
            ),
            _section(
                "Failures against replicas",
                "Bounds of the failure of the median of R chips; dashed: approximations.",
                pictures["certificate-replicas"],
                "",
            ),
            _section(
                "Failures of one chip, input by input",
                "Replicas share the input: each input has a failure probability of its own.",
                pictures["certificate-inputs"],
                "",
            ),
            "<h2>The certificate put to the test</h2>",
            *_put_to_the_test(certificate.self_check),
            "<h2>The certificate in words</h2>",
            f"<pre>{escape(str(certificate))}</pre>",
            "<h2>What was certified</h2>",
            f"<pre>{escape(_about(campaign))}</pre>",
        ],
    )


def _put_to_the_test(check: SelfCheck | None) -> list[str]:
    if check is None:
        return ["<p>No self-check was asked for.</p>"]
    rows = [
        [
            found.method,
            str(found.replicas),
            str(found.groups),
            f"{found.failures.max() / found.groups:.3g}",
            f"{found.claimed.max():.3g}",
            f"{found.detectable:.3g}",
            found.verdict,
        ]
        for found in check.checks
    ]
    return [
        f'<p class="soft">{check.trials} further chips, seed {check.seed}; false-alarm rate of the '
        f"whole {check.false_alarm_rate:g}; worst input. A false claim would have been noticed "
        "from the true probability of the last but one column on.</p>",
        _table(
            ["", "median of", "groups", "failed", "claimed", "noticed from", "the claim"],
            rows,
            "wide",
        ),
        *(f"<p>{escape(sentence)}</p>" for sentence in check.words),
    ]


def _about(campaign: Campaign) -> str:
    return f"{campaign.network}\n\n{campaign.deployment}\n\n{campaign}"


def _or_none(count: int | None) -> str:
    return "-" if count is None else str(count)


def hardening_page(hardening: Hardening, pictures: dict[str, bytes | None]) -> str:
    """The page about what to protect or duplicate."""
    campaign = hardening.campaign
    gained = [
        f"{hardening.predicted_gain(variant.name):.3g} times less than "
        + ("now" if variant.name == "as it is" else f"with the same budget spent {variant.name}")
        for variant in hardening.variants[:-1]
    ]
    return _page(
        f"Hardening on {campaign.deployment.chip.name}",
        [
            f"<h1>What to {hardening.action} on {escape(campaign.deployment.chip.name)}</h1>",
            '<p class="answer">With the best choice the error is predicted to vary '
            f"{escape(', '.join(gained))}.</p>",
            _section(
                "The chip",
                "Columns coloured by their share of the variance.",
                pictures["hardening-chip"],
                "",
            ),
            _section(
                "How few neurons matter",
                "Share of the variance that the most important neurons carry.",
                pictures["hardening-neurons"],
                "",
            ),
            _section(
                "What the choice gains",
                "Predicted and simulated variance of the error.",
                pictures["hardening-gains"],
                "",
            ),
            "<h2>The choice in words</h2>",
            f"<pre>{escape(str(hardening))}</pre>",
            "<h2>What it is about</h2>",
            f"<pre>{escape(_about(campaign))}</pre>",
        ],
    )
