"""What reads files that anybody may have written, and what it may do about bad ones: nothing but raise our own errors.

Each target is given bytes, or a document of JSON's or YAML's kinds, that began as a good one. It may raise
`ValueError` or `OSError` with a message; whatever else comes through is a find.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hf_lotus.benchmark.recipe import load_recipe
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import DataArguments
from hf_lotus.data.splits import read_rows
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.models.loading import load_model, load_processor
from hf_lotus.publishing.merkle import InclusionProof
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.publishing.sources import inherited_license
from hf_lotus.publishing.verification import check_folder
from hf_lotus.requests.history import history_table
from hf_lotus.requests.queue import DeletionRequest, RequestQueue
from hf_lotus.requests.retained import Retained

# What a reader may raise about a file that is not as it should be.
ALLOWED = (ValueError, OSError)

REQUEST = {
    "format": "hf-lotus deletion request",
    "format_version": 1,
    "id": "one",
    "date": "2026-01-01",
    "selector": {"by": "column", "column": "user_id", "values": ["u1"]},
    "received": "2026-01-01T00:00:00+00:00",
}
FIGURES = {"accuracy": 0.5, "member_rate": 0.5}
MEASURED = {
    "requests": {"one": {"samples": 3, "original": FIGURES, "model": FIGURES, "reference": FIGURES}},
    "models": {"original": {"retain": 0.9, "test": 0.8}, "model": {"retain": 0.8, "test": 0.7}},
}
PUSHED = {"repo_id": "a/b", "commit": "c"}
PLAN = {"requests": {"one": {"date": "2026-01-01", "samples": ["0" * 64]}}, "original": "0" * 64}
RECIPE = {
    "title": "A recipe",
    "dataset": {"dataset_name": "here", "train_split": "train"},
    "forget": {"fraction": 0.1},
    "model": {"config": {"model_type": "vit"}, "image_size": 16},
    "training": {"learning_rate": 1e-3, "num_train_epochs": 2},
    "methods": {"lotus": {"alpha": 2.0}, "finetune": None},
    "seeds": [0, 1],
    "max_rounds": 3,
}
OPTIONS = {
    "alpha": 2.0,
    "dataset_name": "here",
    "forget_values": ["a", "b"],
    "split_seed": 3,
    "duplicates": "move",
}
PROOF = {
    "format": "hf-lotus inclusion proof",
    "format_version": 1,
    "digest": "0" * 64,
    "index": 0,
    "size": 1,
    "path": [],
}

RETAINED = Retained.of(["0" * 64], [True], [False]).to_bytes()


class Target:
    """Something that reads a file.

    Args:
        name: of it.
        good: the document that it reads well, or bytes.
        path: where it is looked for.
        read: reads it, in a folder.
        dump: document → text.
    """

    def __init__(
        self,
        name: str,
        good: Any,
        path: str,
        read: Callable[[Path], object],
        dump: Callable[[Any], str] = json.dumps,
    ):
        self.name, self.good, self.path, self.read, self.dump = name, good, path, read, dump

    def content(self, document: Any) -> bytes:
        """As the file holds it."""
        return document if isinstance(document, bytes) else self.dump(document).encode("utf-8", "surrogatepass")

    def run(self, folder: Path, content: bytes) -> str | None:
        """Have it read; what it refused the file with, None where it took it.

        Raises:
            AssertionError: for a message that is not one for people.
            Exception: whatever else it raises.
        """
        path = folder / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        try:
            self.read(folder)
        except ALLOWED as error:
            assert str(error).strip(), f"{self.name}: {type(error).__name__} without a word"
            return str(error)
        return None


def _record(folder: Path) -> object:
    record = ForgetSetRecord.from_json(folder / "model" / "forget_set.json")
    return record.digest, record.result and record.result.to_markdown()


def _verify(folder: Path) -> object:
    return [str(check) for check in check_folder(folder / "model")[1]]


def _queue(folder: Path) -> object:
    queue = RequestQueue(folder / "queue")
    (run,) = queue.runs()
    assert queue.requests() is not None and run.pushed is not None
    return queue.open(), queue.latest(), history_table([run])


def _options(folder: Path) -> object:
    return parse(["--config", str(folder / "run.yaml")], [DataArguments], "unlearn", method="lotus")


def _dump_yaml(document: Any) -> str:
    return yaml.safe_dump(document, allow_unicode=True)


@contextmanager
def targets(folder: Path, model: Path) -> Iterator[list[Target]]:
    """All of them, with the files that they need beside the one that is fuzzed.

    Args:
        folder: an empty one.
        model: a folder with a small published model: weights, configuration, processor, record, results and card.
    """
    shutil.copytree(model, folder / "model")
    run = folder / "queue" / "runs" / "0001"
    (run / "model").mkdir(parents=True)
    for name, document in {
        "plan": PLAN,
        "measured": MEASURED,
        "done": {},
        "pushed": {"repo_id": "a/b", "commit": "c"},
    }.items():
        (run / f"{name}.json").write_text(json.dumps(document))
    (folder / "queue" / "requests").mkdir()
    (folder / "queue" / "requests" / "one.json").write_text(json.dumps(REQUEST))
    (folder / "rows.json").write_text("[1]")

    def of_model(name: str) -> Any:
        content = (model / name).read_bytes()
        return json.loads(content) if name.endswith(".json") else content

    yield [
        Target("record", of_model("forget_set.json"), "model/forget_set.json", _record),
        Target("record, verified", of_model("forget_set.json"), "model/forget_set.json", _verify),
        Target("results, verified", of_model("results.json"), "model/results.json", _verify),
        Target("card, verified", of_model("README.md"), "model/README.md", _verify),
        Target("results", of_model("results.json"), "model/results.json",
               lambda f: UnlearningResult.from_json(f / "model" / "results.json").to_markdown()),
        Target("card's licence", of_model("README.md"), "model/README.md",
               lambda f: inherited_license(str(f / "model"))),
        Target("config", of_model("config.json"), "model/config.json", lambda f: load_model(str(f / "model"))),
        Target("processor", of_model("preprocessor_config.json"), "model/preprocessor_config.json",
               lambda f: load_processor(f / "model")),
        Target("weights", of_model("model.safetensors"), "model/model.safetensors",
               lambda f: load_model(str(f / "model"))),
        Target("request", REQUEST, "request.json",
               lambda f: str(DeletionRequest.from_text((f / "request.json").read_bytes(), "request.json"))),
        Target("request in a queue", REQUEST, "queue/requests/one.json", _queue),
        Target("plan", PLAN, "queue/runs/0001/plan.json", _queue),
        Target("measured", MEASURED, "queue/runs/0001/measured.json", _queue),
        Target("pushed", PUSHED, "queue/runs/0001/pushed.json", _queue),
        Target("retained", RETAINED, "queue/runs/0001/retained.npz", _queue),
        Target("proof", PROOF, "proof.json",
               lambda f: InclusionProof.from_json(f / "proof.json").leads_to("0" * 64)),
        Target("recipe", RECIPE, "recipe.yaml", lambda f: load_recipe(str(f / "recipe.yaml")).settings(), _dump_yaml),
        Target("options", OPTIONS, "run.yaml", _options, _dump_yaml),
        Target("rows, JSON", [1, 2, 3], "rows2.json", lambda f: read_rows(f / "rows2.json")),
        Target("rows, CSV", b"user,row\na,1\nb,2\n", "rows.csv", lambda f: read_rows(f / "rows.csv")),
        Target("rows, text", b"1\n2\n3\n", "rows.txt", lambda f: read_rows(f / "rows.txt")),
    ]  # fmt: skip


def restore(target: Target, folder: Path) -> None:
    """Put the good file back."""
    (folder / target.path).write_bytes(target.content(copy.deepcopy(target.good)))
