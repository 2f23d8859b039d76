"""Which reference model is trained on which rows.

Three kinds of pools:

- *halves*: every row is in half of the models, at random, as RMIA (arXiv:2312.03262) and LiRA (arXiv:2112.03570) want
  it. The rows of a forget set enter or leave together: for every set, half of the models never saw it (retrained
  models) and half had all of it (originals, to be unlearned). One pool serves many sets, and every tier of the audit.
- *retrained*: every model has all rows but the forget set, as KLOM (arXiv:2410.23232) wants it.
- *originals*: every model has all rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

KINDS = ("halves", "retrained", "originals")


def design(
    kind: str, models: int, contents: np.ndarray, forget_sets: Mapping[str, np.ndarray], seed: int = 0
) -> np.ndarray:
    """Which rows each model is trained on: bool, shape (models, rows).

    Args:
        kind: "halves", "retrained" or "originals".
        models: how many models there are to be.
        contents: a digest of each row's content, shape (rows,). Rows of equal content enter and leave together: who
            has a sample's twin has the sample.
        forget_sets: name → row numbers.
        seed: of the draws.

    Raises:
        ValueError: for another kind, too few models, a forget set that is empty, out of range or shared with another,
            or none where there must be one.
    """
    if kind not in KINDS:
        raise ValueError(f"A pool is one of {', '.join(KINDS)}, got {kind!r}.")
    least = 2 if kind == "halves" else 1
    if models < least:
        raise ValueError(f"A pool of {kind} needs {least} models or more, got {models}.")
    groups = _groups(contents, forget_sets)
    if kind == "originals":
        return np.ones((models, len(contents)), dtype=bool)
    if kind == "retrained":
        if len(forget_sets) != 1:
            raise ValueError(f"A pool of retrained models is without one forget set, got {len(forget_sets)} sets.")
        (rows,) = forget_sets.values()
        return np.tile(~np.isin(groups, groups[rows]), (models, 1))
    # The models of the lower half of random ranks: exactly half of them, whichever the row, and each row by itself.
    ranks = np.random.default_rng(seed).random((models, groups.max() + 1)).argsort(axis=0).argsort(axis=0)
    return (ranks < models // 2)[:, groups]


def _groups(contents: np.ndarray, forget_sets: Mapping[str, np.ndarray]) -> np.ndarray:
    """The number of each row's group, shape (rows,): twins are one, and so is a forget set with its twins."""
    _, groups = np.unique(contents, return_inverse=True)
    groups = groups.reshape(-1)
    owner: dict[int, str] = {}
    for name, rows in forget_sets.items():
        rows = np.asarray(rows)
        if rows.size == 0 or rows.min() < 0 or rows.max() >= len(contents):
            raise ValueError(f"The forget set {name!r} must have row numbers from 0 to {len(contents) - 1}.")
        own = np.unique(groups[rows]).tolist()
        shared = [group for group in own if group in owner]
        if shared:
            raise ValueError(
                f"The forget sets {owner[shared[0]]!r} and {name!r} share {len(shared)} samples, so that neither can "
                "enter a model without the other. Give sets that share none."
            )
        owner |= dict.fromkeys(own, name)
    first = {name: min(group for group, of in owner.items() if of == name) for name in forget_sets}
    joined = np.arange(groups.max() + 1)
    for group, name in owner.items():
        joined[group] = first[name]
    return joined[groups]
