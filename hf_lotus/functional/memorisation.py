"""How much of what a model knows of a sample is memory: proxies from one forward pass (NumPy, SciPy).

Feldman's memorisation of a sample (arXiv:1906.05271) is how much likelier models get it right that were trained on it
than models that were not: many trainings. Proxies order samples much alike without one (arXiv:2410.16516, of the
authors of RUM, arXiv:2406.01257). Here they are those that need the logits of the trained model alone; the papers
average some of them over the epochs of the training, which a published checkpoint no longer has.

A model is less sure of what it could only memorise. So in every proxy here *high is memorised*, which is hard to
unlearn, and low is what the model would get right without the sample, which is easy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hf_lotus.functional.arrays import check_labels, check_rows
from hf_lotus.functional.margins import margins
from hf_lotus.functional.membership import prediction_entropy


def doubt(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One minus the confidence: the probability that a prediction leaves to the wrong classes.

    Summed over the wrong classes, so that samples which round to a confidence of 1 still have an order.

    Args:
        logits: shape (samples, classes).
        labels: true classes, shape (samples,).

    Returns:
        float64, shape (samples,), 0 … 1.
    """
    from scipy.special import log_softmax, logsumexp  # here, as it is slow to import

    others = np.array(log_softmax(np.asarray(logits, dtype=np.float64), axis=1))
    others[np.arange(len(labels)), labels] = -np.inf
    return np.exp(logsumexp(others, axis=1))


def margin_ranks(
    values: np.ndarray,
    labels: np.ndarray,
    trained_values: np.ndarray | None = None,
    trained_labels: np.ndarray | None = None,
) -> np.ndarray:
    """Where a sample's margin stands among those of its class's trained samples.

    The share of them with a smaller margin, equal ones counted half: 0 is the hardest of its class, 1 the easiest.

    Args:
        values: margins, shape (samples,).
        labels: their classes, shape (samples,).
        trained_values: margins of trained samples, shape (trained,); by default the given ones.
        trained_labels: their classes, shape (trained,).

    Returns:
        float64, shape (samples,), 0 … 1.

    Raises:
        ValueError: if a class has no trained sample.
    """
    if trained_values is None or trained_labels is None:
        trained_values, trained_labels = values, labels
    ranks = np.empty(len(values))
    for label in np.unique(labels):
        mine, others = labels == label, np.sort(trained_values[trained_labels == label])
        if len(others) == 0:
            raise ValueError(f"Class {label} has no trained sample to rank margins among.")
        below, up_to = (np.searchsorted(others, values[mine], side=side) for side in ("left", "right"))
        ranks[mine] = (below + up_to) / (2 * len(others))
    return ranks


def _entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from scipy.special import log_softmax

    return prediction_entropy(np.exp(log_softmax(logits.astype(np.float64), axis=1)))


def _by_rank(
    logits: np.ndarray, labels: np.ndarray, trained: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    others = (None, None) if trained is None else (margins(*trained), trained[1])
    return 1 - margin_ranks(margins(logits, labels), labels, *others)


# Name → score of each sample, high where it is memorised; those that rank take the trained samples too.
_ALONE: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "confidence": doubt,
    "margin": lambda logits, labels: -margins(logits, labels),
    "entropy": _entropy,
}
PROXIES = (*_ALONE, "margin_rank")


def memorisation(
    logits: np.ndarray,
    labels: np.ndarray,
    proxy: str = "confidence",
    trained: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """How much each sample was memorised, by a proxy: high is memorised and hard to unlearn.

        memorisation(logits_of_the_original, labels)      # 1 − confidence of the true class

    | proxy | score | source |
    |---|---|---|
    | `confidence` | 1 − p(true class), `doubt` | arXiv:2410.16516 |
    | `margin` | −(true logit − highest other), `hf_lotus.functional.margins` | the same order, without saturation |
    | `entropy` | entropy of the prediction, in nats | arXiv:2410.16516 |
    | `margin_rank` | 1 − the margin's rank among its class's trained samples, `margin_ranks` | this project |

    Only the last compares a sample with its class: by the others a hard class is memorised, whole.

    Args:
        logits: of the original model on samples that it was trained on, shape (samples, classes).
        labels: true classes, shape (samples,).
        proxy: one of `PROXIES`.
        trained: logits and labels of all trained samples, for `margin_rank`; by default the given ones.

    Returns:
        float64, shape (samples,).

    Raises:
        ValueError: for another proxy, logits that are not finite, or labels outside their columns.
    """
    if proxy not in PROXIES:
        raise ValueError(f"There is no proxy of memorisation {proxy!r}; there are {', '.join(PROXIES)}.")
    rows = check_rows("logits", logits, from_logits=True)
    classes = check_labels(labels, *rows.shape)
    return _by_rank(rows, classes, trained) if proxy == "margin_rank" else _ALONE[proxy](rows, classes)


def split_by_score(scores: np.ndarray, parts: int = 3) -> np.ndarray:
    """Deal samples out to parts of equal size by their scores: the number of each sample's part, low scores first.

    Equal scores keep the samples' order. Sizes differ by one at most; the last parts are the larger ones.

    Args:
        scores: shape (samples,).
        parts: number of parts.

    Returns:
        int64, shape (samples,), 0 … parts − 1.
    """
    numbers = np.empty(len(scores), dtype=np.int64)
    bounds = [len(scores) * part // parts for part in range(parts + 1)]
    order = np.argsort(scores, kind="stable")
    for part in range(parts):
        numbers[order[bounds[part] : bounds[part + 1]]] = part
    return numbers


def highest_of_each_class(scores: np.ndarray, labels: np.ndarray, fraction: float) -> np.ndarray:
    """The rows with the highest scores, the same `fraction` of each class, rounded to the nearest count; sorted.

    Of equal scores the first rows are taken.

    Args:
        scores: shape (samples,).
        labels: their classes, shape (samples,).
        fraction: 0 … 1.
    """
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order = np.argsort(-scores[rows], kind="stable")
        chosen.append(rows[order[: round(fraction * len(rows))]])
    return np.sort(np.concatenate(chosen))
