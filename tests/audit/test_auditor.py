"""An audit of real small models: what it finds, that it leaves them as they are, and what it refuses."""

import copy
import inspect

import numpy as np
import pytest
import torch

from hf_lotus.audit import audit
from hf_lotus.evaluation.findings import FOUND, NOTHING, TIERS
from tests.conftest import TINY_MODELS
from tests.support.fitted_models import fitted, with_wrong_labels
from tests.support.method_helpers import class_wise_parts, equal, weights


@pytest.fixture(scope="module")
def sets(digits):
    """A third of the labels wrong; 100 scans to forget, 150 to keep, 150 unseen."""
    order = np.random.default_rng(0).permutation(len(digits))
    bounds = {"forget": (0, 100), "retain": (100, 250), "unseen": (250, 400)}
    return with_wrong_labels({name: digits.select(np.sort(order[a:b])) for name, (a, b) in bounds.items()})


@pytest.fixture(scope="module")
def models(sets, processor):
    """The original, and two that never saw the forget set."""
    return {
        "original": fitted(sets, processor, "forget", "retain"),
        "retrain": fitted(sets, processor, "retain", seed=1),
        "again": fitted(sets, processor, "retain", seed=2),
    }


@pytest.fixture(scope="module")
def given(sets, processor):
    return {**{f"{name}_dataset": part for name, part in sets.items()}, "processing_class": processor, "seed": 1,
            "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def untouched(models, given):
    """The audit of a copy of the original that was hardly changed."""
    model = copy.deepcopy(models["original"])
    with torch.no_grad():
        model.classifier[-1].bias.add_(1e-4)
    before = {name: weights(each) for name, each in {**models, "audited": model}.items()}
    modes = [each.training for each in (model, *models.values())]
    state = torch.get_rng_state()
    report = audit(
        model, models["original"], retrain_models=[models["retrain"], models["again"]], name="untouched", **given
    )
    after = {**models, "audited": model}
    assert all(equal(weights(after[name]), before[name]) for name in before), "the models were changed"
    assert [each.training for each in (model, *models.values())] == modes
    assert torch.equal(torch.get_rng_state(), state)
    return report


def test_a_model_that_nothing_was_unlearned_from_is_found(untouched):
    found = {finding.tier for finding in untouched.findings if finding.verdict == FOUND}
    assert found >= {"relearning_excess", "relative_test", "relative_test_unseen", "rmia"}, untouched.findings
    for tier in found:
        rows = {reading.model: reading for reading in untouched[tier].readings}
        assert list(rows) == ["untouched", "original", "retrain", "retrain again"]
        assert rows["original"].accused and not rows["retrain"].accused
    assert untouched["relative_test"].audited.p_value < 0.01
    assert untouched.asked["samples"] == {"forget": 100, "retain": 150, "unseen": 150}
    assert all(untouched[tier].verdict is None and untouched[tier].reason for tier in ("u_lira", "klom", "epsilon"))


def test_an_honest_model_is_not(models, given):
    report = audit(models["again"], models["original"], retrain_models=[models["retrain"]], **given)
    assert not [finding.tier for finding in report.findings if finding.verdict == FOUND], report.findings
    assert report["relative_test"].audited.p_value > 0.5


def test_the_original_itself_is_told(models, given):
    report = audit(models["original"], models["original"], **given)
    assert "nothing was unlearned" in report.notes[0]
    assert report["relative_test"].reason == "It compares with a retrained model: give --retrain_model."
    assert report["relative_test_unseen"].verdict == FOUND


def test_the_retrained_model_itself_is_told_and_not_accused(models, given):
    report = audit(models["retrain"], models["original"], retrain_models=[models["retrain"]], **given)
    assert "The audited model is 'retrain', bit for bit." in report.notes
    assert report["relative_test"].audited.p_value > 0.5 and report["relative_test"].verdict == NOTHING
    assert "this model itself" in report["rmia"].reason


def test_several_models_unlearned_alike_are_judged_without_a_pool(models, sets, processor, given, monkeypatch):
    monkeypatch.setattr("hf_lotus.audit.exchange.DEALS", 19)
    honest = [fitted(sets, processor, "retain", seed=seed, steps=25) for seed in range(10, 18)]
    report = audit(
        honest[0],
        models["original"],
        unlearned_models=honest[1:4],
        retrain_models=honest[4:],
        **{**given, "unseen_dataset": None},
    )
    assert report["klom"].n == 4 and report["u_lira"].audited.p_value is not None
    assert report["klom"].verdict != FOUND and report["epsilon"].verdict != FOUND


def test_whole_classes_have_no_counterpart(models, digits, processor):
    sets = class_wise_parts(digits)
    sets = {name: part for name, part in sets.items() if name in inspect.signature(audit).parameters}
    report = audit(models["retrain"], models["original"], processing_class=processor, **sets)
    assert all("Whole classes" in report[t].reason for t in ("relearning_excess", "linear_probe", "rmia"))


def test_a_model_without_a_linear_head_has_no_probe(models, given):
    class Opaque(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, pixel_values):
            return self.inner(pixel_values=pixel_values)

    wrapped = [Opaque(models[name]) for name in ("again", "original")]
    report = audit(*wrapped, **given)
    assert report["linear_probe"].verdict is None and "linear layer" in report["linear_probe"].reason
    assert report["rmia"].verdict is None and report["relative_test_unseen"].verdict is not None


class TestRefused:
    """With a message that says what was given and what to do."""

    def refused(self, models, given, message, error=ValueError, **changes):
        with pytest.raises(error, match=message):
            audit(models["again"], models["original"], **{**given, **changes})

    def test_rows_that_two_sets_share(self, models, given, sets):
        self.refused(models, given, "share", unseen_dataset=sets["forget"].select(range(40)))

    def test_an_empty_set(self, models, given, sets):
        self.refused(models, given, "forget set is empty", forget_dataset=sets["forget"].select([]))

    def test_weights_that_are_not_finite(self, models, given):
        broken = copy.deepcopy(models["again"])
        torch.nn.init.constant_(broken.classifier[-1].weight, float("nan"))
        with pytest.raises(FloatingPointError, match="not finite"):
            audit(broken, models["original"], **given)

    def test_a_retrained_model_that_is_the_original(self, models, given):
        self.refused(models, given, "those of the original", retrain_models=[copy.deepcopy(models["original"])])

    def test_a_reference_that_is_the_audited_model(self, models, given):
        self.refused(models, given, "those of the audited model", reference_models=[copy.deepcopy(models["again"])])

    def test_the_same_model_twice(self, models, given):
        self.refused(models, given, "are the same model", retrain_models=[models["retrain"]] * 2)

    def test_too_many_references(self, models, given):
        self.refused(models, given, "1 to 4 reference models", reference_models=[models["retrain"]] * 5)

    def test_models_of_other_classes(self, models, given):
        other = TINY_MODELS["resnet"]()
        other.config.num_labels = 7
        self.refused(models, given, "7 classes", retrain_models=[other])

    def test_the_name_of_another_row(self, models, given):
        self.refused(models, given, "name of another row", name="retrain")

    def test_a_pool_that_is_not_there(self, models, given, tmp_path):
        self.refused(models, given, "pool", OSError, pool=tmp_path / "nothing")


def test_every_tier_has_words_and_every_report_every_tier(untouched):
    assert [finding.tier for finding in untouched.findings] == list(TIERS)
