"""Unlearning one forget set from every model of a pool that had it: the unlearned side of U-LiRA and KLOM."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock
from transformers import PreTrainedModel

from hf_lotus.audit.pool import Pool, Unlearned, sortable
from hf_lotus.audit.pool_training import PoolData, accuracies, share_work
from hf_lotus.methods import UnlearningMethod, describe, name_of
from hf_lotus.publishing.digests import weights_digest
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.documents import read_document, write_document
from hf_lotus.utils.text import nearest

# What says how a run is carried out, and changes nothing in what comes of it.
_NOT_DECISIVE = {"output_dir", "seed", "data_seed", "use_cpu", "disable_tqdm", "logging_dir", "run_name"}
_NOT_DECISIVE |= {"dataloader_num_workers"}


def unlearn_pool(
    pool: Pool,
    data: PoolData,
    method: UnlearningMethod,
    forget_set: str,
    arguments: UnlearningArguments,
    *,
    label: str | None = None,
    limit: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Unlearned:
    """Unlearn a forget set from each model that had all of it, and keep the models and what they say of all samples.

    Each model's seed is its own. Several processes share the work, and a broken one is gone on with, as in
    `train_pool`.

    Args:
        pool: the pool.
        data: its samples.
        method: the unlearning method.
        forget_set: name of one of the pool's forget sets.
        arguments: training arguments; what is left open is settled by the method.
        label: what the method is called in the pool; its name if None.
        limit: so many models, the first; all if None.
        say: told of each model, with the time that is left.

    Raises:
        ValueError: if there is no such forget set, no model had it, the data are not the pool's, or another method is
            kept under the label.
    """
    if forget_set not in pool.forget_sets:
        raise ValueError(f"The pool has no forget set {forget_set!r}. {nearest(forget_set, list(pool.forget_sets))}")
    if not np.array_equal(data.digests("train"), pool.digests["train"]):
        raise ValueError("The train data are not the pool's, row by row. Give the data that it was made from.")
    contents = pool.digests["train"][pool.forget_sets[forget_set]]
    originals = pool.with_all(contents)[:limit]
    if not len(originals):
        raise ValueError(f"No model of the pool had all of {forget_set!r}: there is nothing to unlearn it from.")
    folder = pool.path / "unlearned" / (label or name_of(method)) / forget_set
    _claim(folder, method, arguments)
    # With its twins: who keeps a forgotten sample's twin keeps the sample.
    forgotten = np.isin(sortable(pool.digests["train"]), sortable(contents))
    of_number = {pool.records[place]["number"]: place for place in originals.tolist()}

    def unlearn(number: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        place = of_number[number]
        had = pool.members[place]
        with tempfile.TemporaryDirectory() as scratch:
            run = {"output_dir": scratch, "seed": pool.records[place]["seed"], "save_strategy": "no"}
            trainer = UnlearningTrainer(
                pool.model(place),
                arguments.changed(**run, logging_strategy="no"),
                method,
                forget_dataset=data.ready("train").select(np.flatnonzero(had & forgotten)),
                retain_dataset=data.ready("train").select(np.flatnonzero(had & ~forgotten)),
                unseen_dataset=data.ready("unseen"),
                processing_class=data.processor,
            )
            trainer.train()
        model = cast(PreTrainedModel, trainer.run.student.cpu())
        model.save_pretrained(folder / f"{number:03d}")
        data.processor.save_pretrained(folder / f"{number:03d}")
        logits = data.logits(model, arguments)
        right = logits["train"].argmax(axis=1) == pool.labels["train"]
        record = {
            "number": number,
            "seed": pool.records[place]["seed"],
            "weights_digest": weights_digest(model),
            "seconds": trainer.unlearning_seconds,
            "accuracy": {
                "forget": float(right[forgotten & had].mean()),
                **accuracies(logits, pool.labels, had & ~forgotten),
            },
        }
        trainer.accelerator.free_memory()
        return logits, record

    share_work(folder, list(of_number), unlearn, say)
    (made,) = [each for each in pool.unlearned() if each.folder == folder]
    return made


def _claim(folder: Path, method: UnlearningMethod, arguments: UnlearningArguments) -> None:
    """Write which method a folder is of, or check that it is the one that is there."""
    values = {name: value for name, value in arguments.to_dict().items() if name not in _NOT_DECISIVE}
    values = {name: None if name in arguments.open_arguments else value for name, value in values.items()}
    about = json.loads(json.dumps({"method": describe(method), "arguments": values}, default=str))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "method.json"
    with FileLock(folder / "method.lock"):
        if not path.is_file():
            write_document(path, about)
            return
    there = read_document(path)
    given = {name: value for name, value in there["arguments"].items() if name not in _NOT_DECISIVE}
    if there["method"] != about["method"] or given != about["arguments"]:
        raise ValueError(
            f"{folder} is of another method or of other settings (method.json there says which). Give another label."
        )
