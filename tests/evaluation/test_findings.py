"""The document of an audit: what scripts rely on, to JSON and back, and in words."""

import json

import pytest

from hf_lotus.evaluation.findings import (
    CANNOT_TELL,
    FOUND,
    NOTHING,
    TIERS,
    AuditReport,
    Finding,
    Reading,
    not_measured,
)


def report(**changes):
    found = {
        "relative_test": Finding("relative_test", FOUND, "", "a rule", 500, {"forget": 500},
                                 (Reading("lotus", 0.2, (0.1, 0.3), 0.01, True), Reading("original", 0.3))),
        "rmia": Finding("rmia", NOTHING, "", "a rule", 500, {}, (Reading("lotus", 0.5, (0.4, 0.6), None, False),)),
        "klom": Finding("klom", CANNOT_TELL, "Too few models.", "a rule", 3, {"unlearned_models": 3}),
        **changes,
    }  # fmt: skip
    findings = [found.get(tier) or not_measured(tier, "It lacks something.") for tier in TIERS]
    return AuditReport("lotus", tuple(findings), {"seed": 1}, "ab" * 32)


def test_every_tier_is_a_key_with_its_n_and_interval_or_the_reason_why_not(tmp_path):
    report().to_json(tmp_path / "audit.json")
    document = json.loads((tmp_path / "audit.json").read_text())
    assert [key for key in document if key in TIERS] == list(TIERS)
    relative = document["relative_test"]
    assert (relative["p_value"], relative["n"], relative["interval"], relative["value"]) == (
        0.01,
        500,
        [0.1, 0.3],
        0.2,
    )
    assert document["klom"]["verdict"] == "cannot tell at this n" and document["klom"]["value"] is None
    for tier in set(TIERS) - {"relative_test", "rmia", "klom"}:
        assert document[tier]["verdict"] is None and document[tier]["reason"] and document[tier]["p_value"] is None


def test_json_and_back(tmp_path):
    report().to_json(tmp_path / "audit.json")
    again = AuditReport.from_json(tmp_path / "audit.json")
    assert again.to_dict() == report().to_dict() and again["relative_test"] == report()["relative_test"]


def test_two_sentences_that_name_the_tests():
    assert report().in_words() == (
        "Of 3 tests, 1 found that the samples are not forgotten (Relative test (retrained)). 1 found nothing (RMIA); "
        "1 could not tell (KLOM); 5 could not be made with what was given; that nothing is found is no proof that "
        "nothing is left."
    )
    nothing = AuditReport("lotus", tuple(not_measured(tier, "no") for tier in TIERS), {})
    assert nothing.in_words().startswith("None of the audit's tests could be made.")


def test_results_and_records_repeat_the_audited_models_figures():
    figures = report().figures()
    expected = {"verdict": FOUND, "n": 500, "value": 0.2, "interval": [0.1, 0.3], "p_value": 0.01}
    assert figures["relative_test"] == expected
    assert figures["epsilon"]["verdict"] is None and list(figures) == list(TIERS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="other"), "is not an audit"),
        (lambda d: d.update(format_version=2), "format version 2"),
        (lambda d: d["rmia"].update(verdict="forgotten"), "rmia/verdict"),
        (lambda d: d.pop("klom"), "klom"),
        (lambda d: d["rmia"].update(p_value=1.5), "rmia/p_value"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, change, message):
    document = report().to_dict()
    change(document)
    (tmp_path / "audit.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        AuditReport.from_json(tmp_path / "audit.json")


def test_a_figure_that_is_not_finite_is_not_written(tmp_path):
    bad = Finding("rmia", NOTHING, "", "a rule", 5, {}, (Reading("lotus", float("nan")),))
    with pytest.raises(ValueError, match="a figure is not finite"):
        report(rmia=bad).to_json(tmp_path / "audit.json")
    assert not list(tmp_path.iterdir())


def test_a_tier_that_there_is_not():
    with pytest.raises(KeyError, match="no tier 'lira'"):
        report()["lira"]
