"""A recipe: all settings of one benchmark, from a YAML file that may include others."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hf_lotus.data.loading import DatasetArguments
from hf_lotus.utils.documents import read_yaml
from hf_lotus.utils.text import nearest, one_line
from hf_lotus.utils.values import convert

FOLDER = Path(__file__).parent / "recipes"
PARTS = FOLDER / "parts"
# Ways to say what is forgotten, and what may stand beside each.
FORGET: dict[str, tuple[str, ...]] = {"fraction": (), "class": (), "first": (), "per_class": ("retain_per_class",)}
# What a recipe's model is made of: a configuration to train from random weights, or weights to start from.
MODEL = ("config", "name_or_path", "image_size", "image_mean", "image_std")
# Small models of the two families, to try a recipe with.
_TINY = {
    "vit": {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"intermediate_size": 64, "patch_size": 8, "image_size": 16},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
}


@dataclass(frozen=True)
class Recipe:
    """All settings of one benchmark.

    Attributes:
        name: the file's name without its ending.
        title: what the report is headed by.
        dataset: field of `DatasetArguments` → value.
        forget: what is forgotten: {"fraction": 0.1} of each class, {"class": names}, {"first": rows} of train, or
            {"per_class": rows, "retain_per_class": rows}.
        model: "config" (of `transformers`, for random weights) or "name_or_path" (weights to start from); and the
            "image_size", "image_mean" and "image_std" of its image processor, where it brings none.
        training: training arguments of the original and the retrained model; None where the original is the model
            named, as it is, and there is no retrained one.
        methods: row → options, as `hf-lotus compare` reads them.
        seeds: one run each; of the models, the splits and the methods.
        max_train_rows: so many rows of train take part, by class in proportion; None for all.
        max_test_rows: the same of every other split.
        max_rounds: no method takes more rounds.
        max_training_rounds: nor does the training of the original and the retrained model.
    """

    name: str
    title: str
    dataset: Mapping[str, Any]
    forget: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Mapping[str, Any] | None
    methods: Mapping[str, Mapping[str, Any] | None]
    seeds: Sequence[int]
    max_train_rows: int | None = None
    max_test_rows: int | None = None
    max_rounds: int | None = None
    max_training_rounds: int | None = None

    def __post_init__(self) -> None:
        self._check_kinds()
        known = {f.name for f in fields(DatasetArguments)}
        _require(self, "dataset", known)
        if "dataset_name" not in self.dataset:
            raise ValueError(f"{self._where}: `dataset` needs a dataset_name.")
        _require(self, "model", MODEL)
        _require(self, "forget", {*FORGET, *(name for beside in FORGET.values() for name in beside)})
        ways = [name for name in FORGET if name in self.forget]
        if len(ways) != 1 or set(self.forget) - {ways[0], *FORGET[ways[0]]}:
            raise ValueError(
                f"{self._where}: `forget` takes exactly one of {', '.join(FORGET)}, got {dict(self.forget)}."
            )
        if ("config" in self.model) == ("name_or_path" in self.model):
            raise ValueError(f"{self._where}: `model` needs either `config` or `name_or_path`.")
        if "config" in self.model and "image_size" not in self.model:
            raise ValueError(f"{self._where}: a `model` from a configuration needs an `image_size`.")
        if not self.methods or not self.seeds:
            raise ValueError(f"{self._where}: name at least one method and one seed.")
        for name in ("max_train_rows", "max_test_rows", "max_rounds", "max_training_rounds"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}.")

    def _check_kinds(self) -> None:
        """Refuse values of another kind than a setting's: a file may hold anything."""
        for name in ("dataset", "forget", "model", "methods", *(["training"] if self.training is not None else [])):
            if not isinstance(getattr(self, name), Mapping):
                raise self._wrong(name, "a mapping of names to values")
        if any(not isinstance(options, Mapping | None) for options in self.methods.values()):
            raise self._wrong("methods", "a mapping of each row to its options, or to nothing")
        if not isinstance(self.model.get("config", {}), Mapping):
            raise ValueError(f"{self._where}: `config` of `model` must be a mapping, got {self.model['config']!r}.")
        seeds = self.seeds
        if not isinstance(seeds, Sequence) or not all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds):
            raise self._wrong("seeds", "a list of whole numbers, 0 or more")
        for name in ("max_train_rows", "max_test_rows", "max_rounds", "max_training_rounds"):
            if type(getattr(self, name)) not in (int, type(None)):
                raise self._wrong(name, "a whole number")
        hints = typing.get_type_hints(DatasetArguments)
        for name, value in self.dataset.items():
            try:
                convert(value, hints.get(name, object))
            except ValueError as error:
                raise ValueError(f"{self._where}: {name} of `dataset`: {error}.") from error
        for name in ("fraction", "first", "per_class", "retain_per_class"):
            value = self.forget.get(name, 1)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(
                    f"{self._where}: {name} of `forget` must be a number, got {one_line(repr(value), 60)}."
                )

    def _wrong(self, name: str, what: str) -> ValueError:
        return ValueError(f"{self._where}: `{name}` must be {what}, got {one_line(repr(getattr(self, name)), 60)}.")

    @property
    def _where(self) -> str:
        return f"The recipe {self.name!r}"

    @property
    def is_class_wise(self) -> bool:
        """Whether whole classes are forgotten."""
        return "class" in self.forget

    def settings(self) -> dict[str, Any]:
        """What determines the data and the models of every run, as JSON values; not which methods, nor which seeds."""
        kept = asdict(self)
        kept["dataset"] = {name: value for name, value in kept["dataset"].items() if name != "ready_images_dir"}
        return {name: value for name, value in kept.items() if name not in ("title", "methods", "seeds")}

    def tiny(self) -> Recipe:
        """The same with a small model of the family, of random weights, on small images: to try the recipe out."""
        config = dict(self.model.get("config", {"model_type": "vit"}))
        kind = "vit" if config["model_type"] == "vit" else "resnet"
        model = {**self.model, "config": {**config, **_TINY[kind]}, "image_size": 16}
        model.pop("name_or_path", None)
        return replace(self, model=model)


def _require(recipe: Recipe, section: str, allowed: Collection[str]) -> None:
    for name in getattr(recipe, section):
        if name not in allowed:
            raise ValueError(
                f"The recipe {recipe.name!r} has {name!r} under `{section}`, which does not exist. "
                f"{nearest(name, list(allowed))}"
            )


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe that comes with the package, by its name, or any other, by its file.

    Raises:
        ValueError: if there is none, or it holds what no recipe does.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = FOLDER / f"{name_or_path}.yaml"
    if not path.is_file() or path.parent == PARTS:
        raise ValueError(f"There is no recipe {name_or_path!r}. {nearest(name_or_path, recipe_names())}")
    settings = _with_includes(path)
    settings.setdefault("title", path.stem)
    settings.setdefault("training", None)
    known = [f.name for f in fields(Recipe) if f.name != "name"]
    for name in settings:
        if name not in known:
            raise ValueError(f"{path} has {name!r}, which does not exist in a recipe. {nearest(name, known)}")
    if missing := [n for n in ("dataset", "forget", "model", "methods", "seeds") if n not in settings]:
        raise ValueError(f"{path} lacks `{missing[0]}`.")
    return Recipe(path.stem, **settings)


def _with_includes(path: Path, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's settings over those that it includes, the later ones over the earlier; `within` are those around it."""
    own = read_yaml(path)
    if not isinstance(own, dict):
        raise ValueError(f"{path} must hold settings as `name: value` lines, got {type(own).__name__}.")
    merged: dict[str, Any] = {}
    names = own.pop("include", None) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: include must be a list of names, got {one_line(repr(names), 60)}.")
    for name in names:
        # Beside the file, or one of the package's.
        included = next((p for p in (path.parent / f"{name}.yaml", PARTS / f"{name}.yaml") if p.is_file()), None)
        if included is None:
            raise ValueError(f"{path} includes {name!r}, which is not there. {nearest(name, _part_names())}")
        if included.resolve() in (around := (*within, path.resolve())):
            chain = " → ".join(each.name for each in (*around, included))
            raise ValueError(f"{path} includes itself ({chain}). Leave one of the includes out.")
        merged = _merged(merged, _with_includes(included, around))
    return _merged(merged, own)


def _part_names() -> list[str]:
    return sorted(path.stem for path in PARTS.glob("*.yaml"))


def _merged(first: Any, second: Any) -> Any:
    """Mappings are merged, key by key; anything else is replaced."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return second
    merged = dict(first)
    for name, value in second.items():
        merged[name] = _merged(first[name], value) if name in first else value
    return merged
