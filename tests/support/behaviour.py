"""One digest a line of what hf_lotus does: run before and after a refactoring; the same lines must come out.

    python -m tests.support.behaviour > before.txt
    … change the code without changing what it does …
    python -m tests.support.behaviour > after.txt
    diff before.txt after.txt

It knows the public names of `hf_lotus`, `hf_lotus.methods` and the `hf-lotus` command and no other module, so that
modules may be moved at will. Digests are of floats to the last bit: compare only runs on one machine, with the same
versions of all libraries. `--only` takes the first letters of lines' names; `--keep` leaves what was digested, to see
in what two runs differ.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib
import io
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage
from torch import nn
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import hf_lotus
from hf_lotus import (
    METHODS,
    SCRUB,
    SSD,
    UNSIR,
    BadTeacher,
    Comparison,
    Contender,
    Finetune,
    ForgetRetainSplit,
    ForgetSetRecord,
    LoTUS,
    MarginMatching,
    NegGradPlus,
    RandomLabels,
    Retrain,
    Salt,
    SalUn,
    UnlearningArguments,
    UnlearningResult,
    UnlearningTrainer,
    summarize,
)
from hf_lotus.cli.main import main as command_line
from hf_lotus.methods import describe

ROOT = Path(__file__).parents[2]
SIZE, CLASSES, SALT = 16, 4, bytes(range(32))
Lines = Iterator[tuple[str, object]]

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: ViTForImageClassification(
        ViTConfig(image_size=SIZE, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                  intermediate_size=64, num_labels=CLASSES)
    ),
    "resnet": lambda: ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=CLASSES)
    ),
}  # fmt: skip

# A margin of 2 keeps LoTUS from stopping, so that there are rounds to compare.
RUNNING = LoTUS(stop_margin=2.0)
METHOD_RUNS = {
    "lotus": RUNNING,
    "lotus with its bound": LoTUS(),
    "margin_matching": MarginMatching(),
    "finetune": Finetune(),
    "neggrad_plus": NegGradPlus(),
    "random_labels": RandomLabels(),
    "random_labels redrawn": RandomLabels(allow_true=True, redraw=True, retain_fraction=0.5),
    "bad_teacher": BadTeacher(),
    "scrub": SCRUB(),
    "scrub in batches": SCRUB(msteps=2, forget_batch_size=8, alpha=0.5, gamma=1.0),
    "ssd": SSD(),
    "unsir": UNSIR(noise_steps=2),
    "unsir of few": UNSIR(noise_batch_size=8, noise_batches=3, noise_steps=2, retain_per_class=10),
    "salun": SalUn(),
    "salun of lotus": SalUn(inner=RUNNING, saliency=0.2),
    "retrain": Retrain(),
}
# Settings of the trainer, each by a run of LoTUS: name → arguments.
SETTINGS_RUNS: dict[str, dict[str, object]] = {
    "augmented": {"horizontal_flip": True, "crop_padding": 2},
    "accumulated": {"gradient_accumulation_steps": 2},
    "teacher in each step": {"keep_teacher_logits": False},
    "teacher kept in bfloat16": {"keep_teacher_logits": True, "teacher_logits_dtype": "bfloat16"},
    "best round": {"early_stopping_patience": 1, "num_train_epochs": 4, "save_strategy": "epoch"},
    "best round by rf_jsd": {
        "early_stopping_patience": 2,
        "metric_for_best_model": "rf_jsd",
        "save_strategy": "epoch",
    },
    "few steps": {"max_steps": 3},
    "cosine": {"lr_scheduler_type": "cosine", "max_grad_norm": 1.0},
    "other data seed": {"data_seed": 7},
}
COMMANDS = ("unlearn", "compare", "benchmark", "evaluate", "card", "push", "verify", "request", "request add",
            "request list", "request run", "publish-metric", "demo")  # fmt: skip
ARGUMENTS = ("optim", "optim_args", "learning_rate", "lr_scheduler_type", "weight_decay", "num_train_epochs",
             "per_device_train_batch_size")  # fmt: skip
# Keys whose values are of the clock, the machine or its libraries, wherever they stand.
VOLATILE = {"seconds", "created", "received", "finished", "versions", "hardware", "command", "provenance",
            "transformers_version", "fingerprint", "previous"}  # fmt: skip
# Of the logs.
_CLOCK = re.compile(r"runtime|per_second|seconds|total_flos")
# Of a card's table of settings.
_MACHINE = ("seconds", "device", "cpus", "platform", "python", "hf-lotus", "torch", "transformers", "accelerate",
            "datasets", "numpy", "scikit-learn")  # fmt: skip
_MACHINE_ROW = re.compile(rf"^\| ({'|'.join(_MACHINE)}) \|.*$", re.MULTILINE)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.+-]+")


# ---- what runs are made of ----


@functools.cache
def images() -> Dataset:
    """200 images of four colours in much noise, with a user for each."""
    draw = np.random.default_rng(0)
    labels = np.arange(200) % CLASSES
    colours = draw.uniform(60, 190, (CLASSES, 1, 1, 3))
    pixels = np.clip(colours[labels] + draw.normal(0, 60, (200, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    # Where no label were wrong, every model would be right on every set, and no metric would tell two apart.
    wrong = draw.random(200) < 0.3
    labels[wrong] = draw.integers(0, CLASSES, wrong.sum())
    features = {"image": Image(), "label": ClassLabel(names=["ash", "birch", "cedar", "dogwood"])}
    columns = {"image": [PILImage.fromarray(image) for image in pixels], "label": labels.tolist()}
    columns["user"] = [f"u{number}" for number in draw.integers(0, 20, 200)]
    return Dataset.from_dict(columns, features=Features(features | {"user": Value("string")}))


@functools.cache
def parts(kind: str) -> dict[str, Dataset]:
    """The four sets of a trainer that forgets samples ("instance"), or one class ("class")."""
    train, unseen, test = (images().select(range(a, b)) for a, b in ((0, 112), (112, 156), (156, 200)))
    split = ForgetRetainSplit.from_fraction(train, 0.25, 3)
    if kind == "class":
        split = ForgetRetainSplit.from_class(train, "cedar")
    return {"forget": split.forget, "retain": split.retain, "unseen": unseen, "test": test}


def processor() -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})


def tensors(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return processor()(list(data["image"]), return_tensors="pt")["pixel_values"], torch.tensor(list(data["label"]))


@functools.cache
def _learned(family: str, kind: str, *names: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = FAMILIES[family]().train()
    pixels, labels = (torch.cat(both) for both in zip(*(tensors(parts(kind)[name]) for name in names), strict=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pixels).logits, labels).backward()
        optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}


def trained(family: str, kind: str, *names: str) -> nn.Module:
    """A fresh model that has learned the sets of these names; always the same weights."""
    model = FAMILIES[family]()
    model.load_state_dict(_learned(family, kind, *names))
    return model.eval()


def make(
    folder: Path, family: str, kind: str, method: object, options: Mapping = (), **arguments
) -> UnlearningTrainer:
    """A trainer of two rounds; what the method settles is left open to it, but for the size of a batch."""
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "save_strategy": "no"} | arguments
    model = trained(family, kind, "forget", "retain")
    given = {f"{name}_dataset": part for name, part in parts(kind).items() if name != "test"}
    given |= {"eval_dataset": parts(kind)["test"], "processing_class": processor()} | dict(options)
    return UnlearningTrainer(model, own(folder, **settings), method, **given)


def own(folder: Path, **arguments) -> UnlearningArguments:
    return UnlearningArguments(str(folder), use_cpu=True, disable_tqdm=True, seed=1, **arguments)


# ---- digests ----


def weights(model: nn.Module) -> bytes:
    """The bytes of the state dict, by name."""
    found = io.BytesIO()
    for name, value in sorted(model.state_dict().items()):
        value = value.detach().cpu().contiguous()
        found.write(f"{name} {value.dtype} {tuple(value.shape)}\n".encode() + value.reshape(-1).numpy().tobytes())
    return found.getvalue()


def stable(value: object) -> object:
    """JSON values without what the clock and the machine put into them, floats to 1e-9."""
    if isinstance(value, Mapping):
        return {str(key): stable(entry) for key, entry in value.items() if key not in VOLATILE}
    if isinstance(value, list | tuple):
        return [stable(entry) for entry in value]
    if isinstance(value, float):
        return round(value, 9) + 0.0
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def logged(entries: Iterable[Mapping[str, object]]) -> object:
    return stable([{key: value for key, value in entry.items() if not _CLOCK.search(key)} for entry in entries])


def read(path: Path) -> object:
    return stable(json.loads(path.read_text(encoding="utf-8")))


def text(path: Path) -> str:
    """A Markdown file without times, seconds, versions and digests of files that hold times."""
    found = _TIME.sub("TIME", path.read_text(encoding="utf-8"))
    found = _MACHINE_ROW.sub(r"| \1 | … |", re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", found))
    return without_seconds(re.sub(r"\d+(\.\d+)? (s|seconds)\b", "SECONDS", found))


def without_seconds(table: str) -> str:
    """Markdown whose tables have lost their columns of seconds."""
    lines, drop = [], []
    for line in table.splitlines():
        cells = line.split("|")
        if len(cells) < 3 or not line.startswith("|"):
            drop = []
        elif any("Seconds" in cell or "Time (s)" in cell for cell in cells):
            drop = [place for place, cell in enumerate(cells) if "Seconds" in cell or "Time (s)" in cell]
        kept = [cell for place, cell in enumerate(cells) if place not in drop]
        # A column's width is that of its widest cell, which may be one of the seconds.
        lines.append("|".join(re.sub(r" +", " ", cell) for cell in kept) if drop else line)
    return "\n".join(lines)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refused(work: Callable[[], object]) -> object:
    """What the work gives, or what it says in refusing."""
    try:
        return work()
    except (ValueError, TypeError, FloatingPointError) as error:
        return f"{type(error).__name__}: {error}"


def run(*words: object) -> tuple[int, str, str]:
    """A command of `hf-lotus`: exit status, output, errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = command_line([str(word) for word in words])
        except SystemExit as exit:
            status = exit.code or 0
    told = [line for line in err.getvalue().splitlines() if not re.search(r"(it|examples|ba)/s\]", line)]
    return status, out.getvalue(), "\n".join(told)


def table_of(output: str) -> str:
    """The lines of a command's tables, without seconds; what a trainer prints of its rounds has times in it."""
    return without_seconds("\n".join(line for line in output.splitlines() if line.startswith(("|", "- "))))


def named(name: str) -> Callable:
    """A function of the package, wherever it is, by its name: the report has no public one."""
    package = Path(hf_lotus.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if re.search(rf"^def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            words = path.relative_to(package.parent).with_suffix("").parts
            return getattr(importlib.import_module(".".join(words).removesuffix(".__init__")), name)
    raise LookupError(f"hf_lotus has no function {name}.")


# ---- the sections, each by the first word of its lines ----


def names(_: Path) -> Lines:
    yield "names public", sorted(hf_lotus.__all__)
    yield "names methods", sorted(METHODS)
    for name, method in METHOD_RUNS.items():
        yield f"names fields of {name}", stable(describe(method))


def arguments(folder: Path) -> Lines:
    """What methods settle of the training arguments where all is left open."""
    for family in FAMILIES:
        for kind in ("instance", "class"):
            for name, method in METHOD_RUNS.items():
                given = functools.partial(make, folder / "settled", family, kind, method, num_train_epochs=None)
                found = refused(lambda given=given: given(per_device_train_batch_size=None).args)
                found = found if isinstance(found, str) else {name: getattr(found, name) for name in ARGUMENTS}
                yield f"arguments {family} {kind} {name}", stable(found)


def _trained_lines(name: str, trainer: Callable[[], UnlearningTrainer], **train) -> Lines:
    try:
        made = trainer()
        made.train(**train)
    except (ValueError, TypeError, FloatingPointError) as error:
        yield f"weights {name}", f"{type(error).__name__}: {error}"
        return
    yield f"weights {name}", weights(made.model)
    yield f"weights log of {name}", logged(made.state.log_history)


def unlearned(folder: Path) -> Lines:
    """Two rounds of every method, then of LoTUS in settings of the trainer."""
    for family in FAMILIES:
        for kind in ("instance", "class"):
            yield f"weights {family} {kind} original", weights(trained(family, kind, "forget", "retain"))
            for name, method in METHOD_RUNS.items():
                line = f"{family} {kind} {name}"
                yield from _trained_lines(line, functools.partial(make, folder / "out", family, kind, method))
        for name, settings in SETTINGS_RUNS.items():
            given = functools.partial(make, folder / f"{family} {name}", family, "instance", RUNNING, **settings)
            yield from _trained_lines(f"{family} settings {name}", given)
    yield from _resumed(folder)
    samples = {
        f"{name}_dataset": [
            {"pixel_values": pixels, "labels": int(label)} for pixels, label in zip(*tensors(part), strict=True)
        ]
        for name, part in parts("instance").items()
    }
    samples = {"eval_dataset": samples.pop("test_dataset"), "processing_class": None, **samples}
    for name in ("lotus", "scrub", "random_labels"):
        given = functools.partial(make, folder / "out", "vit", "instance", METHOD_RUNS[name], samples)
        yield from _trained_lines(f"vit samples {name}", given)


def _resumed(folder: Path) -> Lines:
    """The second round of two, from a checkpoint; within a round, too."""
    for name in ("lotus", "margin_matching", "scrub", "unsir", "salun of lotus", "bad_teacher", "ssd", "retrain"):
        for how in ({"save_strategy": "epoch"}, {"save_strategy": "steps", "save_steps": 3}):
            at = folder / f"resumed {name} {how['save_strategy']}"
            given = functools.partial(make, at, "vit", "instance", METHOD_RUNS[name], save_total_limit=20, **how)
            line = f"vit resumed by {how['save_strategy']} {name}"
            first = given()
            first.train()
            found = sorted(at.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
            yield f"weights {line}, checkpoints", {path.name: files(path) for path in found}
            yield from _trained_lines(line, given, resume_from_checkpoint=str(found[0]))


def metrics(folder: Path) -> Lines:
    """Every metric of a trainer's model, beside a retrained one, before any round and after two."""
    for family in FAMILIES:
        for kind in ("instance", "class"):
            retrained = {"retrain_model": trained(family, kind, "retain")}
            trainer = make(folder / "out", family, kind, RUNNING, retrained)
            yield f"metrics {family} {kind} before", logged([trainer.evaluate()])
            trainer.train()
            yield f"metrics {family} {kind} after", logged([trainer.evaluate()])
            predicted = trainer.predict(parts(kind)["test"])
            yield f"metrics {family} {kind} predictions", predicted.predictions.tobytes()
            result = trainer.compare()
            result.to_json(folder / "result.json")
            yield f"metrics {family} {kind} comparison", read(folder / "result.json")
            yield f"metrics {family} {kind} table", without_seconds(result.to_markdown())
        without = make(folder / "out", family, "instance", Finetune(), {"unseen_dataset": None, "eval_dataset": None})
        yield f"metrics {family} with neither unseen nor test", logged([without.evaluate()])


def comparison(folder: Path) -> Lines:
    """Several methods in one comparison, and the summary of two seeds of it."""
    results = []
    for seed in (1, 2):
        given = {f"{name}_dataset": part for name, part in parts("instance").items() if name != "test"}
        compared = Comparison(
            trained("vit", "instance", "forget", "retain"),
            own(
                folder / f"seed {seed}", save_strategy="no", per_device_train_batch_size=16, num_train_epochs=1
            ).changed(seed=seed),
            **given,
            eval_dataset=parts("instance")["test"],
            retrain_model=trained("vit", "instance", "retain"),
            processing_class=processor(),
        )
        methods = {"lotus": RUNNING, "finetune": Finetune(), "ssd": SSD(), "salun": SalUn(inner=RUNNING)}
        results.append(compared.run({name: Contender(method) for name, method in methods.items()}))
        yield f"comparison of seed {seed}", stable(results[-1].to_dict())
        yield f"comparison of seed {seed}, details", stable(results[-1].provenance["details"])
    yield "comparison summary", without_seconds(summarize(results))


def help_texts(_: Path) -> Lines:
    for words in ("", *COMMANDS):
        yield f"help {words}".strip(), run(*words.split(), "--help")[:2]
    for name in METHODS:
        yield f"help unlearn by {name}", run("unlearn", "--method", name, "--help")[:2]
        yield f"help salun with {name}", run("unlearn", "--method", "salun", "--inner", name, "--help")
    yield "help for no command", run()
    yield "help for an unknown command", run("forget")
    yield "help version", run("--version")


def _owner(folder: Path) -> None:
    """A model, its data and a salt, as their owner has them; commands run there."""
    (folder / "data").mkdir(parents=True)
    for name, rows in {"train": range(112), "validation": range(112, 156), "test": range(156, 200)}.items():
        images().select(rows).to_parquet(folder / "data" / f"{name}-00000.parquet")
    for name, sets in {"model": ("forget", "retain"), "retrained": ("retain",)}.items():
        trained("resnet", "instance", *sets).save_pretrained(folder / name)
        processor().save_pretrained(folder / name)
    (folder / "salt").write_text(SALT.hex() + "\n", encoding="ascii")
    # A queue takes the salt that is there, and makes one up where none is.
    (folder / "requests").mkdir(mode=0o700)
    (folder / "requests" / "salt").write_text(SALT.hex() + "\n", encoding="ascii")
    os.chdir(folder)


def _model_folder(name: str, folder: Path) -> Lines:
    """All that is published of a model, each file by itself."""
    # The salt of a model lies beside it; `training_args.bin` is pickled and has paths in it.
    yield f"{name} files", files(folder)
    for path in sorted(folder.glob("*.json")):
        yield f"{name} {path.name}", read(path)
    if (folder / "model.safetensors").exists():
        yield f"{name} model.safetensors", (folder / "model.safetensors").read_bytes()
    if (folder / "README.md").exists():
        yield f"{name} README.md", text(folder / "README.md")


def commands(folder: Path) -> Lines:
    """`unlearn`, `evaluate`, `compare`, `card` and `verify` on one small model, and the records they write."""
    _owner(folder / "owner")
    data = ["--dataset_name", "data", "--forget_column", "user", "--forget_values", "u3", "u7"]
    training = ["--num_train_epochs", 2, "--use_cpu", True, "--disable_tqdm", True, "--save_strategy", "no"]
    training += ["--stop_margin", 2]
    model, where = ["--model_name_or_path", "model"], ["--retrain_model", "retrained"]
    status, out, _ = run(
        "unlearn", *model, *where, *data, *training, "--salt_file", "salt", "--output_dir", "by_users"
    )
    yield "commands unlearn", [status, table_of(out)]
    yield from _model_folder("commands unlearn", Path("by_users"))
    checked = ["--dataset_name", "data", "--salt_file", "salt", "--original_model", "model", "--device", "cpu"]
    status, out, _ = run("verify", "by_users", *checked)
    yield "commands verify", [status, re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", _TIME.sub("TIME", out))]
    Path("by_users/README.md").unlink()
    status, out, _ = run("card", "by_users")
    yield "commands card", [status, out, text(Path("by_users/README.md")) if status == 0 else None]

    by_class = ["--dataset_name", "data", "--forget_class", "cedar", "--salt_file", "salt", "--output_dir", "by_class"]
    status, out, _ = run("unlearn", *model, *by_class, *training[:-2], "--method", "scrub", "--record_rows", True)
    yield "commands unlearn a class", [status, table_of(out)]
    yield from _model_folder("commands unlearn a class", Path("by_class"))

    measured = ["--model_name_or_path", "by_users", "--original_model", "model", "--output_dir", "measured"]
    status, out, err = run("evaluate", *measured, *where, *data, "--device", "cpu")
    yield "commands evaluate", [status, table_of(out), err if status else ""]
    yield from _model_folder("commands evaluate", Path("measured"))

    several = ["--methods", "finetune", "neggrad_plus", "ssd", "--seeds", 1, 2, "--output_dir", "compared"]
    fraction = ["--dataset_name", "data", "--forget_fraction", 0.2]
    status, out, err = run("compare", *model, *fraction, *training[:-2], *several)
    yield "commands compare", [status, table_of(out), err if status else ""]
    yield "commands compare files", files(Path("compared"))

    for line, words in {
        "no way to choose": [*model, "--dataset_name", "data", *training, "--output_dir", "refused"],
        "two ways to choose": [*model, *data, "--forget_class", "cedar", *training, "--output_dir", "refused"],
        "no such user": [*model, *data, "nobody", *training, "--output_dir", "refused"],
        "no such method": [*model, *data, "--method", "lotos", "--output_dir", "refused"],
        "no such flag": [*model, *data, "--stop_marg", 1, "--output_dir", "refused"],
    }.items():
        status, _, err = run("unlearn", *words)
        yield f"commands refuse {line}", [status, "\n".join(err.splitlines()[-3:])]


def records(_: Path) -> Lines:
    """Forget-set records as they are made and written without any training."""
    for name, split in {
        "of users": ForgetRetainSplit.from_column(images(), "user", ["u3", "u7"]),
        "of a class": ForgetRetainSplit.from_class(images(), "cedar"),
        "of a fraction": ForgetRetainSplit.from_fraction(images(), 0.1, 5),
        "of rows": ForgetRetainSplit.from_indices(images(), [5, 1, 8]),
    }.items():
        record = ForgetSetRecord.of_split(split, Salt(SALT), name="someone/trees", revision="v1", open_rows=True)
        yield f"records {name}", stable(asdict(record))
        yield f"records {name}, digest", record.digest
        yield f"records {name}, split", [split.digest, split.forget_rows.tolist(), dict(split.selector)]


def requests(folder: Path) -> Lines:
    """A queue through two runs: its files, its history, and the models that it made."""
    _owner(folder / "owner")
    Path("rows.json").write_text("[4, 9, 11]", encoding="utf-8")
    served = ["--model_name_or_path", "model", "--dataset_name", "data", "--num_train_epochs", 1, "--stop_margin", 2]
    served += ["--use_cpu", True, "--disable_tqdm", True, "--save_strategy", "no"]
    for number, asked in enumerate(
        [
            {"later": ("2026-01-02", ["--forget_column", "user", "--forget_values", "u3"]),
             "earlier": ("2026-01-01", ["--forget_rows", "rows.json"]),
             "nobody": ("2026-01-03", ["--forget_column", "user", "--forget_values", "nobody"])},
            {"overlapping": ("2026-01-04", ["--forget_column", "user", "--forget_values", "u3", "u9"])},
        ],
        start=1,
    ):  # fmt: skip
        for name, (day, chosen) in asked.items():
            status, out, err = run("request", "add", *chosen, "--id", name, "--date", day)
            yield f"requests add {name}", [status, out, err]
            yield f"requests add {name}, file", read(Path("requests/requests") / f"{name}.json")
        yield f"requests list {number}", run("request", "list")[:2]
        status, out, err = run("request", "run", *served)
        told = [line for line in err.splitlines() if line.startswith("Request ")]
        yield f"requests run {number}", [status, table_of(out), told]
        at = Path(f"requests/runs/{number:04d}")
        for path in sorted(at.glob("*.json")):
            yield f"requests run {number}, {path.name}", read(path)
        yield from _model_folder(f"requests run {number}, model", at / "model")
    yield "requests list at the end", run("request", "list")[:2]
    yield "requests history.md", text(Path("requests/history.md"))
    yield "requests files", files(Path("requests"))
    yield "requests again", run("request", "add", "--forget_rows", "rows.json", "--id", "later")


def report(folder: Path) -> Lines:
    """The report of figures that were measured once and are kept in docs/."""
    document = json.loads((ROOT / "docs" / "cifar10_small" / "results.json").read_text(encoding="utf-8"))
    results = []
    for one in document["runs"]:
        (folder / "one.json").write_text(json.dumps(one), encoding="utf-8")
        results.append(UnlearningResult.from_json(folder / "one.json"))
    yield "report read", [stable(result.to_dict()) for result in results]
    yield "report summary", summarize(results)
    write = named("write_report")
    for name, options in {
        "own": {},
        "reduced": {"reduced": ["max_rounds 1", "tiny_model"]},
        "beside the paper": {"paper": "resnet18-cifar10"},
        "beside no such paper": {"paper": "resnet18-trees"},
    }.items():
        at = folder / name
        yield (
            f"report {name}, table",
            refused(lambda at=at, options=options: write(at, results, title=document["title"], **options)),
        )
        for path in sorted(at.glob("*")):
            yield f"report {name}, {path.name}", path.read_bytes()


def demo(folder: Path) -> Lines:
    """The table of the demonstration."""
    status, out, _ = run("demo", "--output_dir", folder / "demo")
    yield "demo table", [status, table_of(out)]
    yield "demo files", files(folder / "demo")


SECTIONS: dict[str, Callable[[Path], Lines]] = {
    "names": names,
    "help": help_texts,
    "arguments": arguments,
    "weights": unlearned,
    "metrics": metrics,
    "comparison": comparison,
    "records": records,
    "report": report,
    "commands": commands,
    "requests": requests,
    "demo": demo,
}


def lines(only: str, keep: Path | None) -> Lines:
    """Name → the bytes to digest, of every section that has a line beginning with `only`."""
    home = Path.cwd()
    for name, section in SECTIONS.items():
        if not (name.startswith(only) or only.startswith(name)):
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            # What `datasets` makes of files must not be that of an earlier run.
            datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
            torch.manual_seed(0)
            try:
                for line, value in section(Path(folder)):
                    content = value if isinstance(value, bytes) else _text(value, folder).encode()
                    if keep is not None:
                        (keep / re.sub(r"\W+", "_", line)).write_bytes(content)
                    yield line, content
            finally:
                os.chdir(home)
        print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr)  # noqa: T201


def _text(value: object, folder: str) -> str:
    """As JSON; the temporary folder is another in every run."""
    written = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return written.replace(folder, "FOLDER")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PREFIX", help=f"Sections: {', '.join(SECTIONS)}.")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Write what is digested into files.")
    options = parser.parse_args()
    os.environ |= {"COLUMNS": "120", "NO_COLOR": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Sums of several threads may differ in their last bits.
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    keep = options.keep and options.keep.resolve()
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    found = {}
    with contextlib.redirect_stdout(sys.stderr):
        for name, content in lines(options.only, keep):
            if name in found:
                raise ValueError(f"Two lines are called {name!r}.")
            found[name] = hashlib.sha256(content).hexdigest()[:16]
    for name in sorted(found):
        if name.startswith(options.only):
            sys.stdout.write(f"{found[name]}  {name}\n")


if __name__ == "__main__":
    main()
