"""The report: its figures worked out by hand, one self-contained page, names that stay text, and how it looks."""

import html
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as PILImage

from hf_lotus.evaluation.provenance import provenance
from hf_lotus.evaluation.results import Controls, ModelResult, UnlearningResult
from hf_lotus.reporting.paper import paper_results, paper_table
from hf_lotus.reporting.report import PAPER_NOTE, REDUCED_NOTE, write_report
from hf_lotus.reporting.report_figures import correlations, report_figures
from hf_lotus.reporting.tables import statistic
from tests.support.browser import find_browser, open_page

HOSTILE = "<img src=x onerror=alert(1)> & {{ 7 * 7 }}"
METHODS = ("lotus", "margin_matching", "finetune", "neggrad_plus", "scrub", "salun_lotus", HOSTILE)


def result(seed, retrain=True):
    """A result as `Comparison` gives it, of made-up figures."""
    draw = np.random.default_rng(seed).uniform
    models = [ModelResult("original", 0.94, 0.94, 0.8, 0.8, 0.7, 0.62, 0.07, 0.016, 40.0, 0.3, 0.53, 0.06, 0.05)]
    for number, name in enumerate(METHODS, start=1):
        jsd = 0.01 * number + draw(0, 0.002)
        accuracies = (0.8 + draw(0, 0.1), 0.9, 0.79, 0.79 - draw(0, 0.02))
        gaps = {"avg_gap": 0.01 * number, "retrain_free_gap": 0.02 * number}
        rates = {"mia_member_rate": 0.5 + 0.03 * number, "seconds": 10.0 * number**2}
        jsds = {"jsd": jsd if retrain else None, "rf_jsd": 0.3 * jsd, "rf_jsd_z": 3.0}
        models.append(ModelResult(name, *accuracies, **rates, **jsds, **gaps))
    if retrain:
        models.append(
            ModelResult("retrain", 0.8, 0.94, 0.79, 0.79, 0.62, jsd=0.0, rf_jsd=0.002, avg_gap=0.0, seconds=900.0)
        )
    split = {"mean": 0.5, "shares": [0.7, 0.2, 0.1]}
    entropy = {"top": math.log(10), "retain": split, "forget": split, "test": split}
    details = {m.name: {"entropy": entropy, "reference": {"jsd": 1e-4, "rf_jsd": 2e-3}, "rounds": []} for m in models}
    details["lotus"]["rounds"] = [
        {"rounds": n, "temperature": 1.4 - 0.1 * n + 0.01 * seed, "forget_accuracy": 0.9 - 0.02 * n} for n in range(4)
    ]
    about = provenance(seed=seed, split_digest=str(seed), dataset=HOSTILE, details=details, protocol="own")
    controls = Controls(0.8, 0.62, 0.0019, 0.0003, 0.067)
    return UnlearningResult(tuple(models), controls, ("A note with `marks` & <b>tags</b>.",), about)


@pytest.fixture
def results():
    return [result(0), result(1)]


class Reader(HTMLParser):
    """Collects the tags, and the text outside styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.links, self._styles = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        self._styles += tag == "style"

    def handle_endtag(self, tag):
        self._styles -= tag == "style"

    def handle_data(self, data):
        if not self._styles:
            self.words.append(data)


def test_statistics_are_of_the_runs():
    value = statistic([0.90, 0.86])
    assert value.mean == pytest.approx(0.88) and value.deviation == pytest.approx(0.04 / math.sqrt(2))
    assert value.text(2) == "0.88 ± 0.03" and statistic([0.5]).text(2) == "0.50" and statistic([0.5]).error == 0
    assert statistic([0.5, None]) is None and statistic([]) is None


def test_the_correlation_is_over_the_methods_and_retrain_without_the_original(results):
    models = [m for m in results[0].models if m.name != "original"]
    expected = np.corrcoef([m.jsd for m in models], [m.rf_jsd for m in models])[0, 1]
    assert correlations(results, "jsd", "rf_jsd")[0] == pytest.approx(expected)
    assert correlations([result(0, retrain=False)], "jsd", "rf_jsd") == []


def test_the_papers_own_correlations_come_out_of_its_figures():
    """So it is over these rows that the paper takes them."""
    for name in ("resnet18-cifar10", "vit-mufac", "vit-cifar100-50"):
        setting = paper_results()["settings"][name]
        models = [
            ModelResult(row, 0.5, 0.5, jsd=values["jsd_x1e4"][0], rf_jsd=values["rf_jsd_x1e4"][0])
            for row, values in setting["models"].items()
            if "jsd_x1e4" in values and "CIFAKE" not in row
        ]
        (r,) = correlations([UnlearningResult(tuple(models), Controls())], "jsd", "rf_jsd")
        assert r == pytest.approx(setting["pearson"]["jsd~rf_jsd"], abs=0.0051)


def test_every_figure_has_its_numbers_and_needs_what_it_shows(results):
    figures = report_figures(results)
    assert [figure.title for figure in figures] == [
        "Accuracy against membership inference",
        "Divergence on the forget set",
        "Does RF-JSD tell what JSD tells?",
        "Avg Gap against time",
        "Temperature and accuracies by round",
        "Entropy of the predictions",
    ]
    for figure in figures:
        assert figure.panels and figure.rows and all(len(row) == len(figure.header) for row in figure.rows)
    rounds = {tuple(row[:3]): row[3] for row in figures[4].rows}
    assert rounds["lotus", "temperature", "2"] == "1.2050 ± 0.0071"
    assert len(figures[5].panels) == len(results[0].models) and len(figures[5].rows[0][3].split()) == 3
    titles = [figure.title for figure in report_figures([result(0, retrain=False)])]
    assert "Does RF-JSD tell what JSD tells?" not in titles and "Divergence on the forget set" in titles


def test_the_page_is_one_file_without_scripts_or_addresses(results, tmp_path):
    table = write_report(tmp_path, results, title=HOSTILE)
    page = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("svg") == sum(len(figure.panels) for figure in report_figures(results))
    assert not {"script", "img", "iframe", "object"} & set(page.tags) and page.links == ["data:,"]
    words = "".join(page.words)
    assert words.count(HOSTILE) >= 4 and "49" not in re.findall(r"\b49\b", words)
    assert "A note with `marks` & <b>tags</b>." in words and "✓" not in words
    assert page.tags.count("details") == len(report_figures(results))
    assert "**" in table and PAPER_NOTE not in words and "smaller than its recipe" not in words


def test_best_and_second_best_stand_out_and_every_run_is_in_the_json(results, tmp_path):
    write_report(tmp_path, results, title="t", reduced=["max_rounds 1"])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<strong>0.0100 <small>± 0.0000</small></strong>" in text and "<em>0.0200 <small>± 0.0000" in text
    assert REDUCED_NOTE.format("max_rounds 1") in html.unescape(text)
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [run["provenance"]["seed"] for run in document["runs"]] == [0, 1]
    (tmp_path / "one.json").write_text(json.dumps(document["runs"][1]))
    assert UnlearningResult.from_json(tmp_path / "one.json").models == results[1].models


def test_the_markdown_has_the_same_numbers(results, tmp_path):
    table = write_report(tmp_path, results, title=HOSTILE)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert table in text and "<img" not in text and "## Avg Gap against time" in text
    assert "| lotus " in text.split("## Temperature and accuracies by round")[1] and "1.2050 ± 0.0071" in text
    assert "- Versions: " in text and "torch" in text


def test_the_papers_figures_stand_beside_ours_in_its_conventions(results, tmp_path):
    header, rows = paper_table("resnet18-cifar10", results)
    cells = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}
    assert cells["lotus (paper)"]["Avg Gap"] == "0.0375" and cells["lotus (paper)"]["Minutes"] == "0.29 ± 0.00"
    ours, gold = cells["lotus (ours)"], cells["retrain (ours)"]
    assert ours["JSD × 1e4"] == "1.00 ± 0.00" and ours["RF-JSD × 1e4"] == "20.00 ± 0.00"
    gaps = [
        abs(float(ours[n].split()[0]) - float(gold[n].split()[0]))
        for n in ("MIA", "Forget acc.", "Retain acc.", "Test acc.")
    ]
    assert ours["Avg Gap"] == f"{sum(gaps) / 4:.4f}" and gold["Avg Gap"] == "0.0000"
    assert "margin_matching (paper)" not in cells and "unsir (ours)" not in cells and "unsir (paper)" in cells
    write_report(tmp_path, results, title="t", paper="resnet18-cifar10")
    for name in ("report.html", "report.md"):
        assert "lotus (paper)" in (tmp_path / name).read_text(encoding="utf-8").replace("\\", "")
    with pytest.raises(ValueError, match="no figures for 'mine'"):
        paper_table("mine", results)


def test_the_papers_average_gaps_come_out_of_its_rounded_means():
    """So Avg Gap is computed here as it is there."""
    models = paper_results()["settings"]["resnet18-cifar100"]["models"]
    gold = models["retrain"]
    keys = ("mia", "forget_accuracy", "retain_accuracy", "test_accuracy")
    for name in ("finetune", "bad_teacher", "ssd", "lotus"):
        gap = sum(abs(models[name][key][0] - gold[key][0]) for key in keys) / 4
        assert gap == pytest.approx(models[name]["avg_gap"])


# How wide the page is against its window, whether text stands out, and whether every chart has a size.
EXPRESSION = """(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => (v / 255) ** 2.2);
                       return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const body = getComputedStyle(document.body);
  const [a, b] = [light(body.color), light(body.backgroundColor)].sort((x, y) => y - x);
  const text = document.querySelector('svg text').getBoundingClientRect();
  return { page: document.documentElement.scrollWidth, window: innerWidth, contrast: (a + 0.05) / (b + 0.05),
           dark: light(body.backgroundColor) < 0.2, letter: text.height,
           charts: [...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().height > 100) };
})()"""


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False), (1280, True)])
def test_a_browser_shows_it_on_a_phone_and_in_the_dark_without_a_complaint(results, tmp_path, width, dark):
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium or Chrome is installed")
    write_report(tmp_path, results, title=HOSTILE, paper="resnet18-cifar10", reduced=[HOSTILE])
    path = tmp_path / "report.html"
    page = open_page(browser, path, tmp_path / "profile", width=width, dark=dark, expression=EXPRESSION)
    assert page.complaints == [] and set(page.requests) <= {path.resolve().as_uri(), "data:,"}
    assert page.answer["page"] <= page.answer["window"] == width, "the page scrolls sideways"
    assert page.answer["contrast"] > 7 and page.answer["dark"] is dark
    assert page.answer["charts"] and page.answer["letter"] >= 10
    (tmp_path / "page.png").write_bytes(page.picture)
    with PILImage.open(tmp_path / "page.png") as picture:
        assert picture.size[0] == width and len(picture.convert("RGB").getcolors(1 << 24)) > 50
