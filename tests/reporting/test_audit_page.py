"""The page of an audit: one self-contained file, in words, with a figure a test, and names that stay text."""

import re

import pytest
from PIL import Image as PILImage

from hf_lotus.audit.judgement import judge
from hf_lotus.evaluation.findings import CANNOT_TELL, TIERS, AuditReport, Finding, not_measured
from hf_lotus.reporting.audit_page import write_audit_page
from hf_lotus.reporting.audit_texts import not_shown, words_of
from hf_lotus.reporting.svg import dots
from tests.reporting.test_report import HOSTILE, Reader
from tests.support.browser import find_browser, open_page
from tests.support.made_evidence import World


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of an audit with findings of every kind, of a hostile name."""
    path = tmp_path_factory.mktemp("page") / "audit.html"
    report = judge(
        World(1, 90, 120).evidence(2.0, HOSTILE), {"dataset": HOSTILE, "samples": {"forget": 90}}, "ab" * 32
    )
    short = Finding("klom", CANNOT_TELL, "It takes 4 models a side.", "the rule", 3, {"models": 3})
    findings = tuple(short if finding.tier == "klom" else finding for finding in report.findings)
    write_audit_page(path, AuditReport(HOSTILE, findings, report.asked, report.weights, notes=[f"A note: {HOSTILE}"]))
    return path


@pytest.mark.parametrize(
    ("kind", "called"), [("image", "picture"), ("text", "text"), ("audio", "clip"), (None, "sample")]
)
def test_every_test_has_words_that_call_the_samples_what_they_are(kind, called):
    said = " ".join(str(value) for tier in TIERS for value in vars(words_of(tier, kind)).values())
    said += " ".join(not_shown(kind))
    assert f"the forgotten {called}s" in said and f"{called.capitalize()} by {called}" in said
    assert ("picture" in said) == (kind == "image") and "{" not in said


def test_one_file_that_asks_for_nothing_and_names_that_stay_text(page):
    text = page.read_text(encoding="utf-8")
    read = Reader(text)
    assert "script" not in read.tags and "img" not in read.tags
    assert [link for link in read.links if link != "data:,"] == ["audit.json"]
    assert "".join(read.words).count(HOSTILE) >= 4 and "<img" not in text


def test_every_test_is_told_with_what_it_found_and_one_figure(page):
    text = page.read_text(encoding="utf-8")
    articles = re.findall(r"<article>(.*?)</article>", text, re.S)
    told = [tier for tier in TIERS if tier not in ("u_lira", "epsilon")]
    assert len(articles) == len(told)
    for tier, article in zip(told, articles, strict=True):
        assert TIERS[tier] in article and article.count("<svg") == (tier != "klom")
    assert "It takes 4 models a side." in text and "What could not be tried" in text
    assert "arXiv:2408.00929" in text and "no proof that nothing is left" in text
    assert "After the training it gets" in articles[0] and "It is by this that the test accuses" not in articles[0]
    assert "label probe" in articles[1]


def test_an_audit_of_nothing_is_still_a_page(tmp_path):
    findings = tuple(not_measured(tier, "It lacks something.") for tier in TIERS)
    write_audit_page(tmp_path / "audit.html", AuditReport("model", findings, {}))
    assert "could be made" in (tmp_path / "audit.html").read_text()


def test_a_dot_stands_at_its_value_and_its_bar_at_the_bounds():
    svg = dots([("a", 0.0, (-1.0, 1.0), "method"), ("b", 1.0, None, "original")], "t", "x", 0.0)
    circle = float(re.search(r'<circle cx="([\d.]+)"', svg)[1])
    low, high = map(float, re.search(r'class="error method" x1="([\d.]+)".*? x2="([\d.]+)"', svg).groups())
    assert low < circle < high and circle == pytest.approx((low + high) / 2, abs=0.2)
    line = float(re.search(r'class="target reference" x1="([\d.]+)"', svg)[1])
    square = float(re.search(r'<rect x="([\d.]+)"', svg)[1]) + 5
    assert line == pytest.approx(circle) and square == pytest.approx(high, abs=0.2)
    assert "a" * 19 + "…" in dots([("a" * 50, 0.0, None, "method")], "t", "x")


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_it_fits_a_phone_and_a_screen_in_both_themes(page, tmp_path, width, dark):
    browser = find_browser()
    if browser is None:
        pytest.skip("no browser is installed")
    size = "[document.documentElement.scrollWidth, window.innerWidth]"
    seen = open_page(browser, page, tmp_path / "profile", width=width, dark=dark, expression=size)
    assert seen.answer == [width, width] and not seen.complaints and seen.requests == [page.resolve().as_uri()]
    (tmp_path / "page.png").write_bytes(seen.picture)
    with PILImage.open(tmp_path / "page.png") as picture:
        corner = picture.convert("RGB").getpixel((2, 2))
    assert (sum(corner) < 150) == dark
