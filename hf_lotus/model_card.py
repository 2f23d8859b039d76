"""The model card of an unlearned model: what was forgotten, how, and what was measured."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_lotus.results import ModelResult, UnlearningResult

# What a name on the Hub looks like; anything else, such as a local folder, must not become a link.
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def plain(text: object) -> str:
    """Text of a user's, made to stay text in Markdown and HTML, on one line."""
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(str(text).split())))


def hub_id(name: str | None) -> str | None:
    """The name if it can be a repository's on the Hub, None for a local folder."""
    return name if name and _REPO_ID.fullmatch(name) and not os.path.exists(name) else None


def write_model_card(folder: str | Path, result: UnlearningResult, name: str, figure: str) -> None:
    """Write `README.md` into a model's folder; the file appears whole or not at all.

    What the card says of model, data set and selection is read from `result.provenance` (`model`, `dataset`,
    `selector`, `samples`, `split_digest`, `method`, `arguments`), as far as it is there.

    Args:
        folder: the folder with the unlearned model.
        result: the comparison.
        name: the unlearned model's name in it.
        figure: file name of the entropy figure, relative to the folder.
    """
    about, measured = result.provenance, result[name]
    base, dataset = about.get("model"), about.get("dataset")
    samples = about.get("samples", {})
    data = ModelCardData(
        base_model=hub_id(base),
        datasets=[hub_id(dataset)] if hub_id(dataset) else None,
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=["machine-unlearning", name, "hf-lotus"],
        model_name=Path(folder).resolve().name,
        eval_results=_eval_results(measured, dataset),
    )
    settings = {
        **_flat(about.get("method", {}), "method"),
        **_flat(about.get("arguments", {})),
        **_flat(about["versions"]),
    }
    card = ModelCard.from_template(
        data,
        template_str=resources.files("hf_lotus").joinpath("templates/model_card.md").read_text(encoding="utf-8"),
        title=plain(f"{Path(str(base or 'model')).name}, unlearned with {name}"),
        method=plain(name),
        base_model=plain(base or "not recorded"),
        dataset=plain(dataset or "not recorded"),
        selector=plain(", ".join(f"{k}: {v}" for k, v in about.get("selector", {}).items()) or "not recorded"),
        forget_count=samples.get("forget", "?"),
        retain_count=samples.get("retain", "?"),
        digest=plain(about.get("split_digest", "not recorded")),
        table=result.to_markdown(),
        figure=figure,
        settings={plain(key): plain(value) for key, value in settings.items()},
    )
    path = Path(folder) / "README.md"
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(str(card), encoding="utf-8")
    os.replace(unfinished, path)


def _eval_results(measured: ModelResult, dataset: object) -> list[EvalResult]:
    shown = Path(str(dataset or "unknown")).name
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=hub_id(str(dataset)) or shown,
            dataset_name=shown,
            metric_type="accuracy" if metric.endswith("accuracy") else metric,
            metric_name=metric.replace("_", " "),
            metric_value=round(value, 6),
            dataset_split=metric.removesuffix("_accuracy") if metric.endswith("_accuracy") else "forget",
        )
        for metric, value in measured.metrics().items()
        if metric != "seconds"
    ]


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    return {f"{prefix} {key}".strip(): value for key, value in values.items()}
