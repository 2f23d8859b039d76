"""Tier 2, linear probe: do the features still tell forgotten from unseen samples, whatever the head says?"""

from __future__ import annotations

import numpy as np

from hf_lotus.audit.evidence import FORGET, UNSEEN, Evidence
from hf_lotus.audit.matching import equally_many
from hf_lotus.audit.verdicts import concluded
from hf_lotus.evaluation.findings import CANNOT_TELL, Finding, Reading, not_measured
from hf_lotus.functional.intervals import auc_estimate
from hf_lotus.functional.linear_probe import FOLDS, label_hits, membership_scores

TIER = "linear_probe"
FEWEST, MOST = 40, 5000
RULE = (
    "Accuse where the 95 % interval of the label probe's accuracy on the forget set minus that on unseen data lies "
    "above 0: a cross-validated logistic regression on the penultimate features, with as many unseen as forget "
    "samples of every class, the interval of the bootstrap over samples. The membership probe's AUC stands beside it "
    "and does not accuse: at many samples it tells the splits of a data set apart, also of a model that saw neither."
)


def linear_probe_tier(evidence: Evidence) -> Finding:
    """The probes of every model on the same samples."""
    if reason := evidence.missing.get(TIER) or evidence.no_counterpart:
        return not_measured(TIER, reason, RULE)
    if not evidence.features:
        return not_measured(TIER, "It looks at the features within the model, so it needs the model itself.", RULE)
    rows = dict(zip((FORGET, UNSEEN), equally_many(*_labels(evidence), evidence.seed, MOST), strict=True))
    n = {"forget": len(rows[FORGET]), "unseen": len(rows[UNSEEN])}
    if n["forget"] < FEWEST:
        reason = f"It takes {FEWEST} forget and as many unseen samples of their classes; there are {n['forget']}."
        return Finding(TIER, CANNOT_TELL, reason, RULE, n["forget"], n)
    if np.count_nonzero(np.bincount(evidence.labels[FORGET][rows[FORGET]]) >= FOLDS) < 2:
        reason = f"It takes forget samples of two classes, {FOLDS} of each: whose is which is what it asks."
        return Finding(TIER, CANNOT_TELL, reason, RULE, n["forget"], n)
    readings = []
    for row, features in evidence.features.items():
        sides = {split: features[split][rows[split]] for split in (FORGET, UNSEEN)}
        labels = {split: evidence.labels[split][rows[split]] for split in (FORGET, UNSEEN)}
        readings.append(_reading(row, sides, labels, evidence.seed))
    return concluded(TIER, RULE, readings, n["forget"], n)


def _labels(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    return evidence.labels[FORGET], evidence.labels[UNSEEN]


def _reading(row: str, features: dict[str, np.ndarray], labels: dict[str, np.ndarray], seed: int) -> Reading:
    classes = labels[FORGET], labels[UNSEEN]
    auc = auc_estimate(*membership_scores(features[FORGET], features[UNSEEN], seed, classes), seed=seed)
    hits = {split: label_hits(features[split], labels[split], seed) for split in features}
    interval = difference_interval(hits[FORGET], hits[UNSEEN], seed)
    shares = {split: float(right.mean()) for split, right in hits.items()}
    more = {
        "label_probe_forget": shares[FORGET],
        "label_probe_unseen": shares[UNSEEN],
        "membership_auc": auc.value,
        "membership_auc_interval": [auc.low, auc.high],
    }
    return Reading(row, shares[FORGET] - shares[UNSEEN], interval, accused=interval[0] > 0, more=more)


def difference_interval(first: np.ndarray, second: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the difference of two shares, each drawn anew by itself (bootstrap).

    Args:
        first: booleans, shape (samples,).
        second: booleans, shape (others,).
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    drawn = [rng.binomial(len(hits), hits.mean(), size=2000) / len(hits) for hits in (first, second)]
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    return float(low), float(high)
