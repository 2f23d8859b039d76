"""The weighted ROC curve against scikit-learn, and against the samples that its weights stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hf_lotus.functional.membership import auc, tpr_at_fpr
from hf_lotus.functional.roc import Roc

# Few distinct values, so that ties are common.
SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=20).map(np.array)


@settings(deadline=None, max_examples=60)
@given(SCORES, SCORES, st.floats(0.001, 0.9))
def test_unweighted_it_is_the_ordinary_curve(positives, negatives, fpr):
    roc = Roc(positives, negatives)
    assert roc.auc(roc.weights()) == pytest.approx(auc(positives, negatives), abs=1e-12)
    assert roc.tpr(roc.weights(), fpr) == pytest.approx(tpr_at_fpr(positives, negatives, fpr), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(SCORES, SCORES, st.data())
def test_a_weight_is_so_many_copies(positives, negatives, data):
    counts = [
        np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(x), max_size=len(x)).filter(any)))
        for x in (positives, negatives)
    ]
    roc = Roc(positives, negatives)
    weights = roc.weights(*counts)
    copies = [np.repeat(x, count) for x, count in zip((positives, negatives), counts, strict=True)]
    assert roc.auc(weights) == pytest.approx(auc(*copies), abs=1e-12)
    assert roc.tpr(weights, 0.3) == pytest.approx(tpr_at_fpr(*copies, 0.3), abs=1e-12)


def test_scikit_learn_agrees_under_weights():
    rng = np.random.default_rng(0)
    positives, negatives, w, v = (rng.normal(size=40) + 1, rng.normal(size=30), rng.random(40), rng.random(30))
    roc = Roc(positives, negatives)
    expected = roc_auc_score(
        np.repeat([1, 0], [40, 30]), np.concatenate([positives, negatives]), sample_weight=np.concatenate([w, v])
    )
    assert roc.auc(roc.weights(w, v)) == pytest.approx(expected, abs=1e-12)


def test_a_resample_has_as_many_of_each_side():
    roc = Roc(np.arange(7.0), np.arange(5.0))
    assert roc.resampled(np.random.default_rng(0)).sum(axis=1).tolist() == [7, 5]
