"""The private methods of `transformers.Trainer` that ours override: all of them, and why no public hook does.

Private methods may change in any release of transformers. A test holds this table against the two classes, and the
suite runs with the oldest and the newest release that `pyproject.toml` allows.
"""

from __future__ import annotations

from collections.abc import Mapping

OVERRIDDEN: Mapping[str, str] = {
    "_init_training_state": (
        "RoundTrainer. Trainer finds the epoch of a resumed step by dividing by the length of the first; rounds may "
        "differ in length, and the checkpoint's step is read only in here."
    ),
    "_run_epoch": (
        "RoundTrainer. Trainer takes every epoch for as long as the first; the length of a round can be given to it "
        "nowhere else."
    ),
    "_save_rng_state": (
        "UnlearningTrainer. The last file of every rank before trainer_state.json, by which a checkpoint is known to "
        "be whole: no rank may write that while another is behind, and no callback runs on all ranks in between."
    ),
    "_load_from_checkpoint": (
        "UnlearningTrainer. Trainer matches saved names against the module's own without renaming and only warns of "
        "the rest: of a ViT 30 of 40 tensors keep other weights on a resume."
    ),
    "_load_best_model": "UnlearningTrainer. The same, where a run ends with its best round.",
}
