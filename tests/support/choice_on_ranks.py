"""Run on each rank: what was chosen is held against what the others chose."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset

from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.same_choice import require_same_choice


def main(folder: Path) -> None:
    arguments = UnlearningArguments(str(folder / "out"), use_cpu=True)
    rank, data = arguments.process_index, Dataset.from_dict({"label": [0, 1, 0, 1]})
    require_same_choice(ForgetRetainSplit.from_indices(data, [1, 2]), arguments)
    try:
        require_same_choice(ForgetRetainSplit.from_indices(data, [rank]), arguments)
    except ValueError as error:
        (folder / f"{rank}.txt").write_text(str(error))
