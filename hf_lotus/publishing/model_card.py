"""The model card of an unlearned model: what was forgotten, how, what was measured, and how to verify it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_lotus.evaluation.findings import AUDIT_PAGE
from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.evaluation.results import ModelResult, UnlearningResult
from hf_lotus.models.adapters import ADAPTER_CONFIG
from hf_lotus.publishing.citations import citations
from hf_lotus.publishing.record import IN_PROGRESS, RECORD, ForgetSetRecord, public_selector
from hf_lotus.publishing.sources import source
from hf_lotus.utils.files import write_whole
from hf_lotus.utils.mappings import flat
from hf_lotus.utils.text import plain

CARD, FIGURE = "README.md", "entropy.png"
# A histogram of more classes than this is left to the record.
_MOST_CLASSES = 20


@dataclass(frozen=True)
class _Facts:
    """What a card says, from a record or, where there is none, from the provenance of a result."""

    base: Mapping[str, Any]
    dataset: Mapping[str, Any]
    selector: Mapping[str, Any]
    samples: Mapping[str, int]
    settings: Mapping[str, Any]
    method: Mapping[str, Any]
    task: str | None = "image-classification"
    license: Mapping[str, str] = field(default_factory=dict)


def write_model_card(
    folder: str | Path,
    result: UnlearningResult | None,
    name: str,
    record: ForgetSetRecord | None = None,
    **metadata: Any,
) -> None:
    """Write `README.md` into a model's folder; the file appears whole or not at all.

    What the card says of model, data set and selection is read from the record, or, where there is none, from
    `result.provenance` (`model`, `dataset`, `selector`, `samples`, `method`, `arguments`, `seed`, `versions`), as far
    as it is there. The entropy figure is shown if it is in the folder.

    Args:
        folder: the folder with the unlearned model.
        result: the comparison; None where nothing was measured.
        name: the unlearned model's name in it.
        record: what was forgotten.
        **metadata: `language`, `license`, `tags` and `model_name` of the card's header, over what it has by itself and
            what the record's `card` says.
    """
    folder = Path(folder)
    told = {"model_name": folder.resolve().name, **(record.card if record is not None else {})}
    told |= {key: value for key, value in metadata.items() if value is not None}
    there = {file for file in (FIGURE, ADAPTER_CONFIG) if (folder / file).is_file()}
    write_whole(folder / CARD, _card(result, name, record, there, told))


def recorded_card(record: ForgetSetRecord) -> str:
    """The one card that a record has, from nothing but the record."""
    name = str((record.results or record.method).get("name", "unlearned"))
    return _card(record.result, name, record, record.files.keys(), record.card)


def write_recorded_card(folder: str | Path) -> None:
    """Write the card of the record in a model's folder; the file appears whole or not at all."""
    folder = Path(folder)
    write_whole(folder / CARD, recorded_card(ForgetSetRecord.from_json(folder / RECORD)))


def _card(
    result: UnlearningResult | None,
    name: str,
    record: ForgetSetRecord | None,
    files: Collection[str],
    metadata: Mapping[str, Any],
) -> str:
    if record is not None:
        facts = _from_record(record)
    else:
        assert result is not None
        facts = _from_result(result)
    unfinished = record is not None and record.status == IN_PROGRESS
    unchanged = record is not None and record.unchanged and not unfinished
    card = ModelCard.from_template(
        _header(
            facts, result[name] if result is not None else None, name, unfinished, ADAPTER_CONFIG in files, metadata
        ),
        template_str=resources.files("hf_lotus.publishing")
        .joinpath("templates/model_card.md")
        .read_text(encoding="utf-8"),
        title=plain(f"{Path(str(facts.base['name'] or 'model')).name}, unlearned with {name}"),
        method=plain(name),
        kind=plain((facts.task or "model").replace("-classification", " classifier")),
        unfinished=unfinished,
        unchanged=unchanged,
        base_model=_link(facts.base, ""),
        dataset=_link(facts.dataset, "datasets/"),
        selector=plain(_selection(facts.selector) or "not recorded"),
        forget_count=plain(facts.samples.get("forget", "?")),
        plural="" if facts.samples.get("forget") == 1 else "s",
        retain_count=plain(facts.samples.get("retain", "?")),
        record=record,
        record_file=RECORD,
        classes=plain(_classes(record)),
        requests=plain(", ".join(record.requests)) if record is not None else "",
        dataset_flag=facts.dataset["id"] or "DATA_SET",
        table=result.to_markdown() if result is not None else "Nothing has been measured.",
        audit=_audit(result, record),
        audit_page=AUDIT_PAGE,
        figure=FIGURE if FIGURE in files and not unfinished else None,
        settings={plain(key): plain(value) for key, value in facts.settings.items() if value is not None},
        citations=citations(facts.method),
    )
    return str(card)


def _from_record(record: ForgetSetRecord) -> _Facts:
    settings = {
        **flat(record.method, " ", "method"),
        **flat(record.arguments, " "),
        **flat(record.seeds, " "),
        **({"seconds": f"{record.seconds:.1f}"} if record.seconds is not None else {}),
        **flat(record.hardware, " "),
        **flat(record.versions, " "),
    }
    samples = {**((record.results or {}).get("samples", {})), "forget": record.rows}
    base = record.base_model
    return _Facts(
        base, record.dataset, record.selector, samples, settings, record.method, record.task, base["license"]
    )


def _from_result(result: UnlearningResult) -> _Facts:
    about = result.provenance
    settings = {
        **flat(about.get("method", {}), " ", "method"),
        **flat(about.get("arguments", {}), " "),
        **({"seed": about["seed"]} if "seed" in about else {}),
        **flat(about.get("versions", {}), " "),
    }
    return _Facts(
        {**source(about.get("model"))},
        {**source(about.get("dataset"))},
        public_selector(about.get("selector", {})),
        about.get("samples", {}),
        settings,
        about.get("method", {}),
        about.get("task", "image-classification"),
    )


def _header(
    facts: _Facts,
    measured: ModelResult | None,
    name: str,
    unfinished: bool,
    adapted: bool,
    metadata: Mapping[str, Any],
) -> ModelCardData:
    base, dataset = facts.base["id"], facts.dataset["id"]
    tags = ["machine-unlearning", name, "hf-lotus", *(["unfinished"] if unfinished else [])]
    more: dict[str, Any] = {"base_model_relation": "adapter" if adapted else "finetune"} if base else {}
    more |= {"license": metadata["license"]} if metadata.get("license") else facts.license
    return ModelCardData(
        base_model=base,
        datasets=[dataset] if dataset else None,
        language=metadata.get("language"),
        library_name="peft" if adapted else "transformers",
        pipeline_tag=facts.task,
        tags=[*tags, *(tag for tag in _several(metadata.get("tags")) if tag not in tags)],
        model_name=metadata.get("model_name"),
        eval_results=_eval_results(measured, facts) if measured is not None else None,
        **more,
    )


def _eval_results(measured: ModelResult, facts: _Facts) -> list[EvalResult]:
    shown = Path(str(facts.dataset["name"] or "unknown")).name
    return [
        EvalResult(
            task_type=facts.task or "other",
            dataset_type=facts.dataset["id"] or shown,
            dataset_name=shown,
            metric_type=METRICS[name].hub_type,
            metric_name=METRICS[name].words,
            metric_value=value,
            dataset_split=METRICS[name].split,
        )
        for name, value in header_figures(measured).items()
    ]


def header_figures(measured: ModelResult) -> dict[str, float]:
    """The figures of a card's header, as they stand there: metric → value."""
    return {name: round(value, 6) for name, value in measured.metrics().items() if METRICS[name].on_card}


def _link(origin: Mapping[str, Any], prefix: str) -> str:
    """A repository's name as a link to it on the Hub, at its commit; any other name as text."""
    text, revision = plain(origin["name"] or "not recorded"), origin.get("revision")
    if not origin.get("id"):
        return text
    at = f"/tree/{revision}" if revision and str(revision).isalnum() else ""
    return f"[{text}](https://huggingface.co/{prefix}{origin['id']}{at})"


def _audit(result: UnlearningResult | None, record: ForgetSetRecord | None) -> str:
    """What an audit found, in its own two sentences; "" where there was none."""
    block = record.audit if record is not None else result.audit if result is not None else None
    return plain(block["in_words"]) if block is not None else ""


def _classes(record: ForgetSetRecord | None) -> str:
    """`cat: 40, dog: 3`."""
    if record is None or not record.class_histogram or len(record.class_histogram) > _MOST_CLASSES:
        return ""
    return ", ".join(f"{c['label'] if c['name'] is None else c['name']}: {c['rows']}" for c in record.class_histogram)


def _selection(selector: Mapping[str, Any]) -> str:
    """`{"by": "class", "classes": ["cat", "dog"]}` → "class; classes: cat, dog"."""
    details = {key: ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else v for key, v in selector.items()}
    return "; ".join(str(value) if key == "by" else f"{key}: {value}" for key, value in details.items())


def _several(tags: str | Sequence[str] | None) -> list[str]:
    return [tags] if isinstance(tags, str) else list(tags or [])
