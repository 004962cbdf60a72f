from html.parser import HTMLParser

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import InputError
from neurosim.report.figures import histograms

NASTY = "<script>alert('$x^{$')</script> & Größe 芯片"


class Page(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.images = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    rng = np.random.default_rng(1)
    network = ns.Network.dense(
        weights=[rng.normal(size=(12, 8)), rng.normal(size=(3, 12))],
        biases=[rng.normal(size=12), rng.normal(size=3)],
        activations=["sigmoid(4)", "identity"],
    )
    chip = ns.Chip(name=NASTY, rows=4, columns=4, cores=4000)
    campaign = ns.Campaign(
        deployment=ns.deploy(network, chip),
        faults=[
            ns.StuckAtZero("neuron", probability=0.02),
            ns.StuckAtZero("synapse", probability=0.01),
        ],
        inputs=rng.normal(size=(5, 8)),
        targets=[0, 1, 2, 0, 1],
        trials=3000,
        seed=1,
        epsilons=(0.5, 2),
        replicas=(3, 5),
    )
    path = tmp_path_factory.mktemp("report") / "t.h5"
    with ns.run(campaign, path, progress=False) as trace:
        return ns.compare(trace, ns.predict(campaign, method="single-fault"))


def test_the_page_is_one_self_contained_file(comparison, tmp_path):
    index = ns.write_report(comparison, tmp_path / "r")
    text = index.read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.images) == 6
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)
    assert all(image["alt"] for image in page.images)
    assert "http" not in text.replace("http-equiv", "")
    assert comparison.verdict in text
    assert comparison.campaign.fingerprint in text


def test_names_of_the_users_are_escaped(comparison, tmp_path):
    text = ns.write_report(comparison, tmp_path / "r").read_text(encoding="utf-8")
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;alert" in text
    assert "Größe 芯片" in text


def test_figures_lie_beside_the_page_and_show_something(comparison, tmp_path):
    import matplotlib.image

    ns.write_report(comparison, tmp_path / "r")
    names = {p.stem for p in (tmp_path / "r").glob("*.png")}
    assert names == {"histograms", "exceedance", "replicas", "contributions", "scatter", "chip"}
    for path in (tmp_path / "r").glob("*.png"):
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[0] > 150
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20, path.name


def test_the_same_comparison_gives_the_same_page(comparison, tmp_path):
    a, b = (ns.write_report(comparison, tmp_path / name).read_bytes() for name in "ab")
    assert a == b


def test_what_has_nothing_to_show_is_left_out_with_a_reason(comparison, tmp_path):
    campaign = comparison.campaign
    plain = ns.Campaign(
        deployment=campaign.deployment,
        faults=[ns.StuckAtZero("neuron", probability=0)],
        inputs=campaign.inputs,
        trials=50,
        seed=1,
    )
    with ns.run(plain, tmp_path / "t.h5", progress=False) as trace:
        quiet = ns.compare(trace, ns.predict(plain, method="single-fault"))
    assert quiet.agrees
    text = ns.write_report(quiet, tmp_path / "r").read_text(encoding="utf-8")
    assert "The campaign has no replicas" in text
    assert "No trial had an error" in text
    assert not (tmp_path / "r" / "replicas.png").exists()


def test_a_sweep_has_a_page_too(comparison, tmp_path):
    campaign = comparison.campaign
    result = ns.sweep(campaign, probability=[0.005, 0.02], progress=False)
    text = ns.write_report(result, tmp_path / "r").read_text(encoding="utf-8")
    assert len(Page(text).images) == 1
    assert "&lt;script&gt;" in text


def test_places_that_cannot_be_written_to_are_refused(comparison, tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "r"):
        with pytest.raises(InputError, match="folder: expected one to write a report to"):
            ns.write_report(comparison, folder)
    with pytest.raises(InputError, match=r"expected what compare, sweep, .* got dict"):
        ns.write_report({}, tmp_path / "r")


def test_certificates_and_hardenings_have_pages(comparison, tmp_path):
    campaign = comparison.campaign
    certificate = ns.certify(campaign, 2.0, 1e-3, max_evaluations=2000, progress=False)
    text = ns.write_report(certificate, tmp_path / "c").read_text(encoding="utf-8")
    assert len(Page(text).images) == 2
    assert certificate.verdict.replace(">", "&gt;").replace("<", "&lt;") in text
    assert "script" not in Page(text).tags
    hidden = ns.Campaign(
        deployment=campaign.deployment,
        faults=[ns.StuckAtZero("neuron", probability=0.02), campaign.faults[1]],
        inputs=campaign.inputs,
        trials=500,
        seed=1,
    )
    for options in ({}, {"action": "protect", "unit": "cores"}, {"simulate": False}):
        hardening = ns.harden(hidden, budget=4, **options)
        text = ns.write_report(hardening, tmp_path / "h").read_text(encoding="utf-8")
        assert len(Page(text).images) == 3
        assert "script" not in Page(text).tags


def test_chips_of_many_cores_are_coloured_as_a_whole(tmp_path):
    rng = np.random.default_rng(0)
    network = ns.Network.dense(
        weights=[rng.normal(size=(40, 30)), rng.normal(size=(2, 40))],
        biases=[np.zeros(40), np.zeros(2)],
        activations=["tanh", "identity"],
    )
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip(name="small", rows=4, columns=4)),
        faults=[ns.StuckAtZero("synapse", probability=0.01)],
        inputs=rng.normal(size=(2, 30)),
        trials=1,
        seed=0,
    )
    assert campaign.deployment.n_cores > 64
    hardening = ns.harden(campaign, budget=1, simulate=False)
    assert ns.write_report(hardening, tmp_path / "h").is_file()


@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_the_legend_of_the_histograms_lies_within_the_figure(tmp_path, n_outputs):
    campaign = one_layer(n_outputs, trials=300)
    with ns.run(campaign, tmp_path / "out.h5", progress=False) as trace:
        figure = histograms(ns.compare(trace, ns.predict(campaign)))
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1


def test_a_single_trial_has_no_typical_error(tmp_path):
    campaign = one_layer(1, trials=1)
    with ns.run(campaign, tmp_path / "out.h5", progress=False) as trace:
        page = ns.write_report(ns.compare(trace, ns.predict(campaign)), tmp_path / "report")
    said = page.read_text(encoding="utf-8")
    assert "The largest error of the only trial was" in said
    assert "typically" not in said


def one_layer(n_outputs, trials):
    network = ns.Network.dense(
        weights=[np.ones((n_outputs, 4))], biases=[np.zeros(n_outputs)], activations=["identity"]
    )
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=ns.StuckAtZero("neuron", probability=0.3),
        inputs=np.ones((1, 4)),
        trials=trials,
        seed=1,
    )
