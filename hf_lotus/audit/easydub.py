"""The published margins of EasyDUB, a benchmark of data unlearning on CIFAR-10, as outputs to audit.

Rinberg, Puigdemont, Pawelczyk and Cevher (arXiv:2602.16400); the data set easydub/EasyDUB-dataset on the Hub has the
margins of 200 models trained on all data and of 200 retrained ones ("oracles") for each of ten forget sets, after KLOM
(arXiv:2410.23232). One array a model, one number a sample: z_c - logsumexp of the other logits. Its folders, as its
own reader (easydub/EasyDUB-code, `easydub/data.py`) has them:

    margins/cifar10/pretrain/forget_K/resnet9/id_M_epoch_23.npy     and …/pretrain/val/resnet9/…
    margins/cifar10/oracle/forget_K/{forget,retain,val}/resnet9/id_M_epoch_23.npy

What a method made is given in a folder of the oracles' layout: {forget,val}/…/id_M….npy.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hf_lotus.audit.evidence import FORGET, UNSEEN
from hf_lotus.audit.outputs import GivenOutputs

_PHASES = {FORGET: "forget", UNSEEN: "val"}
_NUMBER = re.compile(r"id_(\d+)")


def is_easydub(folder: str | Path) -> bool:
    """Whether a folder has the layout."""
    return any(Path(folder).glob("margins/*/oracle/forget_*"))


def read_easydub(
    folder: str | Path, forget_set: int, unlearned: str | Path | None = None, most_models: int | None = None
) -> GivenOutputs:
    """Read one forget set's margins.

    Args:
        folder: the benchmark's, with `margins/`.
        forget_set: its number, from 1.
        unlearned: folder of the audited method's margins; by default the models trained on all data are audited, that
            nothing was unlearned from.
        most_models: of each kind; all of them if None.

    Raises:
        OSError: if a folder is missing.
        ValueError: if there is no such forget set, or arrays differ in length or are not finite.
    """
    roots = sorted(Path(folder).glob("margins/*"))
    if not roots:
        raise FileNotFoundError(f"{folder} has no margins/ of EasyDUB.")
    if len(roots) > 1:
        raise ValueError(f"{folder} has margins of several data sets: {', '.join(r.name for r in roots)}. Leave one.")
    root = roots[0]
    oracle = root / "oracle" / f"forget_{forget_set}"
    if not oracle.is_dir():
        there = sorted(path.name.removeprefix("forget_") for path in (root / "oracle").glob("forget_*"))
        raise ValueError(f"{folder} has no forget set {forget_set}; there are {', '.join(there)}.")
    originals = {FORGET: root / "pretrain" / f"forget_{forget_set}", UNSEEN: root / "pretrain" / "val"}
    confidence = {
        "original": {split: _margins(place, most_models) for split, place in originals.items()},
        "retrain": {split: _margins(oracle / phase, most_models) for split, phase in _PHASES.items()},
    }
    if unlearned is None:
        confidence["unlearned"] = confidence["original"]
    else:
        confidence["unlearned"] = {
            split: _margins(Path(unlearned) / phase, most_models) for split, phase in _PHASES.items()
        }
    labels = {split: np.zeros(values.shape[1], dtype=np.int64) for split, values in confidence["retrain"].items()}
    notes = [
        "The benchmark publishes no labels with its margins: classes are not weighted. Its validation set is the "
        "unseen data."
    ]
    if unlearned is None:
        notes.insert(0, "No unlearned models were given: the audited ones are those trained on all data.")
    about = {"outputs": ["EasyDUB"], "dataset": root.name, "forget_set": forget_set}
    return GivenOutputs(confidence, labels, about, notes)


def _margins(folder: Path, most: int | None) -> np.ndarray:
    """The margins of all models in a folder, in the order of their numbers: shape (models, samples)."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found = {}
    for path in folder.rglob("id_*.npy"):
        number = _NUMBER.match(path.name)
        if number is not None:
            if int(number[1]) in found:
                raise ValueError(f"{folder} has two files of model {number[1]}. Leave one architecture and one epoch.")
            found[int(number[1])] = path
    if not found:
        raise FileNotFoundError(f"{folder} has no id_*.npy.")
    arrays = [np.load(found[number], allow_pickle=False) for number in sorted(found)[:most]]
    lengths = sorted({array.shape for array in arrays})
    if len(lengths) > 1 or arrays[0].ndim != 1:
        raise ValueError(f"The margins in {folder} are of shapes {lengths}; they must be one number a sample, alike.")
    return np.stack(arrays).astype(np.float64)
