"""Probes against cases whose answer is known."""

import numpy as np
import pytest
from scipy.stats import norm

from hf_lotus.functional.linear_probe import label_probe, membership_probe


def gaussians(means, count, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(mean, 1.0, (count, 3)) for mean in means])


class TestLabelProbe:
    def test_two_gaussians_are_told_apart_as_well_as_the_best_linear_rule_can(self):
        """Means two deviations apart in each of three dimensions: accuracy Φ(√3)."""
        features, labels = gaussians([-1.0, 1.0], 1500), np.repeat([3, 7], 1500)
        assert label_probe(features, labels) == pytest.approx(norm.cdf(np.sqrt(3)), abs=0.01)

    def test_features_that_say_nothing_are_at_chance(self):
        assert label_probe(gaussians([0.0, 0.0], 1000), np.repeat([0, 1], 1000)) == pytest.approx(0.5, abs=0.04)

    def test_classes_of_a_few_samples_are_left_out(self):
        features, labels = gaussians([-9.0, 9.0], 50), np.repeat([0, 1], 50)
        more = np.concatenate([features, np.zeros((4, 3))]), np.concatenate([labels, np.full(4, 2)])
        assert label_probe(*more) == label_probe(features, labels) == 1.0
        with pytest.raises(ValueError, match="needs two classes of 5 samples or more, got classes of 50, 4 samples"):
            label_probe(*(part[50:] for part in more))

    def test_the_seed_says_the_folds(self):
        given = gaussians([-0.3, 0.3], 60), np.repeat([0, 1], 60)
        assert label_probe(*given, seed=1) == label_probe(*given, seed=1)
        assert len({label_probe(*given, seed=seed) for seed in range(5)}) > 1


class TestMembershipProbe:
    def test_the_area_is_that_of_two_gaussians(self):
        """A shift of d along one direction: AUC Φ(d / √2)."""
        forget, unseen = gaussians([0.5], 2000), gaussians([0.0], 2000, seed=1)
        assert membership_probe(forget, unseen) == pytest.approx(norm.cdf(0.5 * np.sqrt(3) / np.sqrt(2)), abs=0.02)

    def test_the_same_distribution_cannot_be_told_apart(self):
        assert membership_probe(gaussians([0.0], 1500), gaussians([0.0], 1500, 1)) == pytest.approx(0.5, abs=0.04)

    @pytest.mark.parametrize("bad", [np.full((9, 2), np.nan), np.zeros(9)], ids=["nan", "one dimension"])
    def test_what_is_no_feature_is_refused(self, bad):
        with pytest.raises(ValueError, match="finite numbers of shape"):
            membership_probe(bad, np.zeros((9, 2)))
        with pytest.raises(ValueError, match="finite numbers of shape"):
            label_probe(bad, np.arange(9) % 2)

    def test_few_samples_are_refused(self):
        with pytest.raises(ValueError, match="5 samples of each side, got 4, 9"):
            membership_probe(np.zeros((4, 2)), np.zeros((9, 2)))
