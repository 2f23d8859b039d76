"""Small real things that many tests share: scanned digits, models built in the process, the shared checkpoints."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from pathlib import Path

# Before PyTorch is imported, here and in all processes that are started from here: on tiny models two threads wait for
# each other longer than they compute, above all beside another process.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage
from sklearn.datasets import load_digits
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    DeiTConfig,
    DeiTForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from hf_lotus import LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.benchmark.recipe import Recipe, load_recipe
from hf_lotus.data.images import ReadyImages
from tests.support import small_data_sets

torch.set_num_threads(1)

SIZE = 16
SHARED = Path(os.environ.get("HF_LOTUS_SHARED", Path(__file__).parents[2] / "shared"))

_TRANSFORMER = {"image_size": SIZE, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_labels": 10}
_TRANSFORMER |= {"num_attention_heads": 2, "intermediate_size": 64}
TINY_MODELS = {
    "vit": lambda: ViTForImageClassification(ViTConfig(**_TRANSFORMER)),
    "vit with dropout": lambda: ViTForImageClassification(ViTConfig(**_TRANSFORMER, hidden_dropout_prob=0.2)),
    "deit": lambda: DeiTForImageClassification(DeiTConfig(**_TRANSFORMER)),
    "swin": lambda: SwinForImageClassification(
        SwinConfig(image_size=SIZE, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=2,
                   num_labels=10)
    ),
    "resnet": lambda: ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=10)
    ),
    "convnext": lambda: ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], patch_size=2, num_stages=2, num_labels=10)
    ),
}  # fmt: skip

# The files that take longest, the longest first: of two workers, each of which takes whole files in this order,
# neither is left with a long one at the end. A file that is not named here comes after them.
LONGEST = [
    "trainer/test_trainer_resume.py",
    "trainer/test_killed_runs.py",
    "test_docs.py",
    "requests/test_killed_service.py",
    "cli/test_request.py",
    "cli/test_launch.py",
    "trainer/test_same_run.py",
    "trainer/test_captured_step.py",
    "cli/test_verify.py",
    "benchmark/test_runner.py",
    "benchmark/test_best.py",
    "methods/test_methods.py",
    "trainer/test_stopping.py",
    "cli/test_compare.py",
    "methods/test_margin_matching.py",
    "trainer/test_trainer_ranks.py",
    "trainer/test_fingerprint.py",
    "publishing/test_metrics_publish.py",
    "trainer/test_sharding.py",
    "trainer/test_replicas.py",
    "trainer/test_trainer_best.py",
    "methods/test_amun.py",
    "benchmark/test_auto.py",
    "cli/test_unlearn_auto.py",
    "trainer/test_large_data.py",
    "cli/test_hub.py",
    "test_notebooks.py",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="also what others of its kind stand for by default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--exhaustive"):
        left_out = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="module", autouse=True)
def nothing_old_is_looked_at_for_garbage() -> None:
    """`Trainer` and accelerate collect garbage several times a run: a quarter of all tests' time, if what was imported
    and the thousands of tests themselves are looked at again each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real checkpoints and data; tests that need it skip where it is not."""
    if not (SHARED / "checkpoints" / "cifar10-resnet").is_dir():
        pytest.skip("the shared checkpoints and data are not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def processor() -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})


def scans() -> Dataset:
    """400 scans, 40 of each digit, with a user for each row."""
    data = load_digits()
    rows = np.sort(np.concatenate([np.flatnonzero(data.target == digit)[:40] for digit in range(10)]))
    scans = [PILImage.fromarray(np.uint8(scan * 255 / 16)).convert("RGB") for scan in data.images[rows]]
    features = Features({"image": Image(), "label": ClassLabel(names=[f"digit {n}" for n in range(10)])})
    dataset = Dataset.from_dict({"image": scans, "label": data.target[rows]}, features=features)
    return dataset.add_column("user_id", [f"u{row % 20}" for row in range(len(rows))])


def divided(digits: Dataset) -> dict[str, Dataset]:
    """The digits in four parts that share no row."""
    order = np.random.default_rng(0).permutation(len(digits))
    bounds = {"forget": (0, 60), "retain": (60, 240), "unseen": (240, 320), "test": (320, 400)}
    return {name: digits.select(np.sort(order[a:b])) for name, (a, b) in bounds.items()}


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return scans()


@pytest.fixture
def tiny_model():
    """A function: the name of a family → a tiny model of it, always with the same weights."""

    def build(family: str = "vit") -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return TINY_MODELS[family]()

    return build


@pytest.fixture(scope="session")
def parts(digits: Dataset) -> dict[str, Dataset]:
    """The digits in four parts that share no row, as the trainer takes them: 60, 180, 80 and 80 scans."""
    return divided(digits)


@pytest.fixture(scope="session")
def ready_parts() -> dict[str, ReadyImages]:
    """The same, decoded once for all tests of a process, which is a third of the time of a short run."""
    from tests.support import every_method  # which takes the models from here

    return every_method.ready_parts()


@pytest.fixture(scope="session")
def model_and_data(digits, processor):
    """A function: puts a tiny ResNet, `model`, and 400 shuffled scans of 20 users, `data`, into a folder."""

    def write(root: Path) -> Dataset:
        (root / "data").mkdir()
        shuffled = digits.shuffle(seed=0)
        for name, rows in {"train": range(250), "validation": range(250, 320), "test": range(320, 400)}.items():
            shuffled.select(rows).to_parquet(root / "data" / f"{name}-00000.parquet")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            TINY_MODELS["resnet"]().save_pretrained(root / "model")
        processor.save_pretrained(root / "model")
        return shuffled

    return write


@pytest.fixture
def make(tiny_model, parts, ready_parts, processor, tmp_path):
    """A function that makes a trainer: two rounds on CPU, anything overridden by keyword."""

    def build(model="vit", method=None, arguments=None, **options):
        settings = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "learning_rate": 1e-3, "seed": 1}
        settings |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "output_dir": str(tmp_path / "out")}
        settings |= arguments or {}
        as_given = any(name.endswith("_dataset") or name == "processing_class" for name in options)
        given = parts if as_given else ready_parts
        data = {f"{name}_dataset": part for name, part in given.items() if name != "test"}
        options = {**data, "eval_dataset": given["test"], "processing_class": processor, **options}
        model = tiny_model(model) if isinstance(model, str) else model
        # Untrained models are often below the bound: never stop, unless a test is about stopping.
        method = method or LoTUS(stop_margin=2.0)
        return UnlearningTrainer(model, UnlearningArguments(**settings), method, **options)

    return build


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """A function: name of a recipe → a folder with a small data set of the layout that the recipe names."""
    root = tmp_path_factory.mktemp("small")

    def folder(recipe: str) -> Path:
        layout = next(name for name in small_data_sets.LAYOUTS if name in recipe)
        if not (root / layout).exists():
            small_data_sets.LAYOUTS[layout](root / layout)
        return root / layout

    return folder


@pytest.fixture
def datasets_cache(tmp_path_factory, monkeypatch) -> None:
    """What `datasets` makes of files goes where the tests' files go."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture
def small_recipe(data_folder, datasets_cache):
    """A function: name of a recipe → it at a reduced size, on a small data set."""

    def build(name: str, **limits) -> Recipe:
        recipe = load_recipe(name)
        recipe = replace(recipe, dataset={**recipe.dataset, "dataset_name": str(data_folder(name))})
        return replace(recipe.tiny(), **{"max_train_rows": 240, "max_rounds": 1, "max_training_rounds": 1, **limits})

    return build


@pytest.fixture
def trained(monkeypatch):
    """The methods that took steps, or edited weights, in order."""
    names, train = [], UnlearningTrainer.train
    monkeypatch.setattr(
        UnlearningTrainer, "train", lambda self, *a, **k: names.append(self.method_name) or train(self, *a, **k)
    )
    return names
