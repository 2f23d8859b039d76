"""Evidence of models that are not there: Gaussian outputs and features that know the forget set, or do not."""

from __future__ import annotations

import numpy as np

from hf_lotus.audit.evidence import FORGET, UNSEEN, Ensemble, Evidence, Outputs, References
from hf_lotus.trainer.relearning import Outcome

CLASSES = 5


class World:
    """Samples of some difficulty, and models that are surer of what they were trained on.

    Args:
        seed: of everything.
        forget: forget samples.
        unseen: unseen samples.
        knows: by how much log(p / (1 - p)) is higher of a sample that a model was trained on.
    """

    def __init__(self, seed: int, forget: int = 300, unseen: int = 300, knows: float = 2.0):
        self.rng, self.knows = np.random.default_rng(seed), knows
        self.labels = {
            FORGET: np.arange(forget) % CLASSES,
            UNSEEN: np.arange(unseen) % CLASSES,
        }
        self.difficulty = {split: self.rng.normal(1.5, 1.5, len(labels)) for split, labels in self.labels.items()}

    def confidence(self, split: str, knows: float = 0.0) -> np.ndarray:
        """One model's, which was trained on the forget set by as much as it knows of it."""
        level = self.difficulty[split]
        return level + (knows if split == FORGET else 0.0) + self.rng.normal(0, 0.7, len(level))

    def model(self, knows: float = 0.0) -> dict[str, Outputs]:
        return {split: Outputs(self.confidence(split, knows)) for split in self.labels}

    def features(self, knows: float = 0.0) -> dict[str, np.ndarray]:
        """Of eight dimensions, five of which tell the class: the better, the more a model knows of the sample."""
        found = {split: self.rng.normal(0, 1, (len(labels), 8)) for split, labels in self.labels.items()}
        for split, labels in self.labels.items():
            found[split][np.arange(len(labels)), labels] += 1.5 + (knows if split == FORGET else 0.0)
        return found

    def relearned(self, before: float, after: float, unseen: float = 0.7) -> Outcome:
        """Right with these probabilities before and after, of the forget set; of unseen data always with one."""
        sizes = {split: len(labels) for split, labels in self.labels.items()}
        forget = tuple(self.rng.random(sizes[FORGET]) < share for share in (before, after))
        others = tuple(self.rng.random(sizes[UNSEEN]) < unseen for _ in range(2))
        return Outcome((forget[0], forget[1]), (others[0], others[1]), self.labels[FORGET], self.labels[UNSEEN])

    def ensemble(self, models: int, knows: float = 0.0) -> Ensemble:
        return Ensemble("made", np.stack([self.confidence(FORGET, knows) for _ in range(models)]))

    def references(self, models: int = 2) -> References:
        made = [self.model() for _ in range(models)]
        chances = [np.stack([each[split].probability for each in made]) for split in (FORGET, UNSEEN)]
        return References(chances[0], chances[1], [f"reference {n}" for n in range(models)])

    def evidence(self, knows: float, name: str = "audited", **more: object) -> Evidence:
        """Of an audited model that still knows so much; beside the original and two retrained models."""
        rows = {name: knows, "original": self.knows, "retrain": 0.0, "retrain again": 0.0}
        share = {row: 0.7 + 0.12 * known for row, known in rows.items()}
        given: dict[str, object] = {
            "outputs": {row: self.model(known) for row, known in rows.items()},
            "features": {row: self.features(known) for row, known in rows.items()},
            # What an audited model knows comes back; the original shows all the time what it knows.
            "relearned": {
                row: self.relearned(min(0.7 if row == name else share[row], 1), min(share[row], 1)) for row in rows
            },
            "references": self.references(),
            "digests": {row: row for row in rows},
        }
        return Evidence(name, self.labels, **{**given, **more})  # type: ignore[arg-type]
