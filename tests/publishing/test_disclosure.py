"""What a record tells of whose data it is about: found out before, and not after, from the same public data."""

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from hf_lotus import ForgetRetainSplit, ForgetSetRecord
from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.evaluation.results import Controls, ModelResult, UnlearningResult
from hf_lotus.functional.divergences import jensen_shannon
from hf_lotus.publishing.disclosure import (
    agrees,
    figure_decimals,
    group_bits,
    histogram_bits,
    justified_decimals,
    publishable,
    publishes_histogram,
    rounded_result,
    standard_error,
    without_seeds,
)
from hf_lotus.publishing.record import RECORD

USERS, EACH = 50, 35


class TestPrecision:
    @pytest.mark.parametrize(
        ("accuracy", "samples", "decimals"),
        [(0.5, 100, 1), (0.9, 1000, 2), (0.9, 900, 1), (0.98, 10_000, 2), (0.98, 100_000, 3), (0.5, 1, 0)],
    )
    def test_of_accuracies_worked_out_by_hand(self, accuracy, samples, decimals):
        """√(0.9 · 0.1 / 1000) = 0.0095, so hundredths are justified; of 900 it is 0.01001, so tenths are."""
        assert justified_decimals(standard_error(accuracy, samples)) == decimals

    @settings(deadline=None)
    @given(st.integers(1, 10**6), st.floats(0, 1))
    def test_a_step_is_never_finer_than_the_error_and_no_coarser_than_need_be(self, samples, accuracy):
        error = standard_error(accuracy, samples)
        step = 10.0 ** -justified_decimals(error)
        assert step >= error * (1 - 1e-9) and step < 10 * error * (1 + 1e-9) or step == 1

    def test_the_bound_holds_for_means_of_bounded_values(self):
        values = np.random.default_rng(0).beta(0.3, 2.0, (4000, 50)) * math.log(2)
        means = values.mean(axis=1)
        assert means.std() <= standard_error(float(means.mean()), 50, 0.0, math.log(2))

    def test_perfect_accuracy_has_an_error_too(self):
        assert 0.05 < standard_error(1.0, 10) < 0.2
        assert standard_error(1.0, 10) == pytest.approx(standard_error(0.0, 10))

    @pytest.mark.parametrize(("mean", "samples"), [(1.1, 5), (-0.1, 5), (float("nan"), 5), (0.5, 0)])
    def test_what_is_no_mean(self, mean, samples):
        with pytest.raises(ValueError, match="A mean of values|at least one sample"):
            standard_error(mean, samples)
        for error in (0.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="above zero"):
                justified_decimals(error)

    def test_a_results_figures_are_rounded_each_by_its_own_set(self):
        sizes = {"forget": 100, "retain": 40_000, "unseen": 100, "test": 10_000}
        full = UnlearningResult(
            (
                ModelResult("original", 0.98765, 0.9876543, 0.61234, 0.9123456, rf_jsd=0.012345, seconds=1.23456),
                ModelResult("lotus", 0.54321, 0.9765432, rf_jsd=0.0023456, rf_jsd_z=12.345, jsd=0.123456, zrf=0.87654),
            ),
            Controls(unseen_accuracy=0.61234, rf_jsd_null_mean=0.0012345, rf_jsd_null_std=0.00071234),
        )
        original, lotus = rounded_result(full, sizes).models
        assert original == ModelResult("original", 1.0, 0.988, 0.6, 0.91, rf_jsd=0.012, seconds=1.23456)
        assert lotus == ModelResult("lotus", 0.5, 0.977, rf_jsd=0.002, rf_jsd_z=12.0, jsd=0.1, zrf=0.9)
        assert rounded_result(full, sizes).controls.rf_jsd_null_mean == 0.001

    def test_every_figure_is_dealt_with(self):
        """A figure that is added one day must be rounded too, or be said not to be about samples."""
        sizes = {"forget": 100, "retain": 100, "unseen": 100, "test": 100}
        for name in [*METRICS.own, *asdict(Controls())]:
            if name != "seconds":
                assert figure_decimals(name, 0.5, sizes) is not None, name

    def test_a_set_of_unknown_size(self):
        with pytest.raises(ValueError, match="test_accuracy is over the test set, whose size is not among forget"):
            figure_decimals("test_accuracy", 0.5, {"forget": 3})

    @settings(deadline=None)
    @given(st.floats(0, 1), st.integers(1, 10**5), st.floats(-1e-3, 1e-3))
    def test_a_figure_measured_again_agrees_with_its_rounded_form(self, value, samples, difference):
        sizes = {"forget": samples}
        recorded = round(value, figure_decimals("forget_accuracy", value, sizes))
        assert agrees("forget_accuracy", recorded, value, sizes, 0.0)
        again = min(1.0, max(0.0, value + difference))
        if figure_decimals("forget_accuracy", again, sizes) == figure_decimals("forget_accuracy", value, sizes):
            assert agrees("forget_accuracy", recorded, again, sizes, 1e-3)
        step = 10.0 ** -figure_decimals("forget_accuracy", value, sizes)
        assert not agrees("forget_accuracy", value + 0.5 * step + 0.01, value, sizes, 1e-3)


class TestHistograms:
    def test_bits_by_hand(self):
        assert group_bits(50, 2) == pytest.approx(math.log2(1225))
        assert histogram_bits(1, 10) == pytest.approx(math.log2(10))  # one sample: its class
        assert histogram_bits(0, 10) == 0.0
        with pytest.raises(ValueError, match="Of 3 people 1 to 3"):
            group_bits(3, 4)

    @pytest.mark.parametrize(("rows", "classes"), [(70, 10), (900, 10), (500, 3)])
    def test_bits_are_those_of_drawn_histograms(self, rows, classes):
        """The entropy of a multinomial, estimated from its own probabilities."""
        drawn = np.random.default_rng(0).multinomial(rows, np.full(classes, 1 / classes), 4000)
        log_factorials = np.array([math.lgamma(k + 1) for k in range(rows + 1)])
        log_probabilities = log_factorials[rows] - log_factorials[drawn].sum(axis=1) - rows * math.log(classes)
        assert histogram_bits(rows, classes) == pytest.approx(-log_probabilities.mean() / math.log(2), abs=0.6)

    def test_small_sets_keep_theirs_back(self):
        assert not publishes_histogram(999, 10) and publishes_histogram(1000, 10)
        assert publishes_histogram(20, 10, smallest=20)

    def test_people_decide_where_they_are_counted(self):
        assert not publishes_histogram(70, 10, people=50, chosen=2)
        assert not publishes_histogram(3500, 10, people=50, chosen=10)  # many samples, and still few groups
        assert publishes_histogram(3500, 10, people=100_000, chosen=100)


class TestSeeds:
    def dataset(self):
        features = Features({"x": Value("int64"), "label": ClassLabel(num_classes=5)})
        return Dataset.from_dict({"x": range(500), "label": [n % 5 for n in range(500)]}, features=features)

    def test_a_recorded_seed_rebuilds_the_set_and_one_kept_back_does_not(self, tmp_path):
        """The attack: public data, a published record, no salt."""
        dataset = self.dataset()
        split = ForgetRetainSplit.from_fraction(dataset, 0.1, seed=31_415)
        record = ForgetSetRecord.of_split(
            split, None, loading={"split_seed": 31_415, "unseen_fraction": None}, name="me/data"
        )
        record = replace(record, seeds={"seed": 31_415, "data_seed": 7})
        told = record.selector
        rebuilt = ForgetRetainSplit.from_fraction(dataset, told["fraction"], told["seed"])
        assert rebuilt.forget_rows.tolist() == split.forget_rows.tolist()

        published = without_seeds(record)
        published.to_json(tmp_path / RECORD)
        assert "31415" not in (tmp_path / RECORD).read_text()
        assert published.selector == {"by": "fraction", "fraction": 0.1}
        assert published.seeds == {"data_seed": 7} and published.loading["split_seed"] is None

    def test_seeds_that_chose_nobody_stay(self):
        record = ForgetSetRecord(3, {"by": "column"}, None, seeds={"seed": 1}, loading={"split_seed": 1})
        assert without_seeds(record) == record


@pytest.fixture(scope="module")
def world():
    """Public data with users, and two models of it: before and after two users were forgotten."""
    digits = load_digits()
    images, labels = digits.data[: USERS * EACH] / 16, digits.target[: USERS * EACH]
    users = np.random.default_rng(0).permutation(np.repeat(np.arange(USERS), EACH))
    chosen = (7, 31)
    kept = ~np.isin(users, chosen)
    original = LogisticRegression(C=0.02, max_iter=300).fit(images, labels)
    unlearned = LogisticRegression(C=0.02, max_iter=300).fit(images[kept], labels[kept])
    probabilities = [model.predict_proba(images) for model in (original, unlearned)]
    return {"labels": labels, "users": users, "chosen": chosen, "probabilities": probabilities}


class TestReidentification:
    """Two of fifty users of public data were forgotten, and the model is published: which pair of 1,225 was it?

    The attacker holds the data set with its users, the unlearned and the original model, and the record. Of every pair
    it computes what a record would tell, and keeps those that fit.
    """

    def record(self, world, pair):
        """What a record tells of the model, if this pair had been forgotten."""
        labels, forgotten = world["labels"], np.isin(world["users"], pair)
        original, unlearned = world["probabilities"]
        correct = [probabilities.argmax(axis=1) == labels for probabilities in (original, unlearned)]
        divergence = jensen_shannon(original, unlearned)
        models = tuple(
            ModelResult(name, float(right[forgotten].mean()), float(right[~forgotten].mean()), jsd=jsd)
            for name, right, jsd in zip(
                ("original", "lotus"), correct, (None, float(divergence[forgotten].mean())), strict=True
            )
        )
        sizes = {"forget": int(forgotten.sum()), "retain": int((~forgotten).sum())}
        classes, counts = np.unique(labels[forgotten], return_counts=True)
        histogram = [{"label": int(c), "name": None, "rows": int(n)} for c, n in zip(classes, counts, strict=True)]
        record = ForgetSetRecord(sizes["forget"], {"by": "column", "column": "user_id"}, None, histogram)
        result = UnlearningResult(models, Controls(), provenance={"samples": sizes})
        return record.measured(result, "lotus")

    def told(self, record):
        """All that depends on who was chosen, as something to compare."""
        figures = [value for model in record.results["models"] for value in model.values()]
        histogram = (
            None if record.class_histogram is None else tuple(tuple(c.values()) for c in record.class_histogram)
        )
        return record.rows, histogram, tuple(figures)

    def fitting(self, world, form):
        """Pair → how many pairs' records, in some form, say what its own says."""
        pairs = list(itertools.combinations(range(USERS), 2))
        told = {pair: self.told(form(self.record(world, pair))) for pair in pairs}
        same = {}
        for value in told.values():
            same[value] = same.get(value, 0) + 1
        return {pair: same[told[pair]] for pair in pairs}

    def test_the_pair_is_singled_out_before_and_not_after(self, world):
        before, after = self.fitting(world, lambda record: record), self.fitting(world, publishable)
        assert len(before) == 1225
        assert before[world["chosen"]] == 1 and set(before.values()) == {1}
        assert after[world["chosen"]] >= 100
        # Whoever is chosen: nobody stands alone, few hide among less than ten pairs, and half hide among hundreds.
        counts = np.array(list(after.values()))
        assert counts.min() >= 2
        assert (counts < 10).mean() < 0.01
        assert np.median(counts) >= 200

    @pytest.mark.exhaustive
    def test_either_leak_alone_suffices(self, world):
        histogram_only = self.fitting(world, lambda record: replace(record, results={**record.results, "models": []}))
        figures_only = self.fitting(world, lambda record: replace(record, class_histogram=None))
        assert np.mean([count == 1 for count in histogram_only.values()]) > 0.99
        assert np.mean([count == 1 for count in figures_only.values()]) > 0.99

    def test_the_published_record_is_one(self, world, tmp_path):
        published = publishable(self.record(world, world["chosen"]))
        published.to_json(tmp_path / RECORD)
        assert ForgetSetRecord.from_json(tmp_path / RECORD).digest == published.digest
        assert published.class_histogram is None and published.rows == 2 * EACH

    def test_chosen_classes_are_no_secret(self, world):
        record = replace(self.record(world, world["chosen"]), selector={"by": "class", "classes": ["3"]})
        assert publishable(record).class_histogram == record.class_histogram
