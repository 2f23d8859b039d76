"""`hf-lotus audit`: is it gone, or only quiet? Of any checkpoint, unlearned by anything, or of outputs alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hf_lotus.audit import audit, audit_outputs, read_easydub, read_outputs
from hf_lotus.audit.easydub import is_easydub
from hf_lotus.audit.outputs import KINDS
from hf_lotus.audit.pool import Pool
from hf_lotus.cli.devices import DeviceArguments
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.evaluation.findings import AUDIT, AUDIT_PAGE, TIERS, AuditReport
from hf_lotus.evaluation.original import logits_on
from hf_lotus.models.loading import all_retrained, load_model, load_processor, on_device
from hf_lotus.models.tasks import TASKS
from hf_lotus.publishing.audit_entry import enter_audit, require_own_folder
from hf_lotus.publishing.record import public_selector
from hf_lotus.reporting.audit_page import write_audit_page
from hf_lotus.utils.text import markdown_table


@dataclass
class AuditArguments:
    """Which models to audit, and by what."""

    original_model: str | None = field(default=None, metadata={"help": "The model before unlearning."})
    task: str | None = field(
        default=None,
        metadata={"choices": list(TASKS), "help": "What it classifies. Default: what its configuration says."},
    )
    retrain_model: str | None = field(
        default=None, metadata={"help": "A model trained without the forget set: the relative test needs it."}
    )
    retrain_models: list[str] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "Several such models, of different seeds: what two of them lie apart is allowed.",
        },
    )
    reference_models: list[str] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "1 to 4 models that never saw the forget set, for RMIA. Default: the retrained.",
        },
    )
    unlearned_models: list[str] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "Further models that the same method unlearned, of other originals: with several retrained ones, "
            "for U-LiRA, KLOM and epsilon without a pool.",
        },
    )
    pool: str | None = field(default=None, metadata={"help": "Folder of a pool of reference models (hf-lotus pool)."})
    pool_method: str | None = field(
        default=None,
        metadata={"help": "What the pool calls the method that made the audited model. Default: --name."},
    )
    relearn_rows: int | None = field(
        default=None,
        metadata={
            "help": "Rows of the retain set that relearning trains on: fewer are quicker and tell less. Default: all."
        },
    )
    outputs: list[str] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "Audit outputs in place of a model: .npz or Parquet files, or the folder of EasyDUB's margins.",
        },
    )
    outputs_kind: str | None = field(
        default=None, metadata={"choices": list(KINDS), "help": "What the outputs are, where their files do not say."}
    )
    forget_set: int | None = field(default=None, metadata={"help": "Number of EasyDUB's forget set."})
    unlearned_outputs: str | None = field(
        default=None,
        metadata={"help": "Folder of the audited method's margins, laid out as EasyDUB's oracles: forget/, val/."},
    )
    output_dir: str = field(
        default="audit",
        metadata={"help": "Folder for audit.json and audit.html. The model's own, to publish the audit with it."},
    )
    name: str = field(default="unlearned", metadata={"help": "What to call the audited model."})
    batch_size: int = field(default=256, metadata={"help": "Samples per forward pass."})
    seed: int = field(default=42, metadata={"help": "Seed of every draw, and of relearning's order."})


def run(argv: list[str]) -> int:
    """Parse, audit, write; return the exit status, 0 whatever was found."""
    arguments, at, data_arguments, model = parse(
        argv,
        [AuditArguments, DeviceArguments, DataArguments],
        "audit",
        positional=("model", "The audited model: a Hub id or a local folder. Not with --outputs."),
        optional=["dataset_name"],
    )
    if (model is None) == (arguments.outputs is None):
        raise ValueError(
            "Name the model to audit (hf-lotus audit MODEL …), or the files of its --outputs: one of both."
        )
    require_own_folder(arguments.output_dir, model)
    report = _of_outputs(arguments) if model is None else _of_model(model, arguments, data_arguments, at)
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_audit_page(folder / AUDIT_PAGE, report)
    report.to_json(folder / AUDIT)
    told = enter_audit(folder, report)
    print(f"\n{_table(report)}\n\n{report.in_words()}")
    for note in report.notes:
        print(f"- {note}")
    print(f"\n{AUDIT} and {AUDIT_PAGE} are in {folder}.{told and ' '}{told}")
    return 0


def _of_model(model: str, given: AuditArguments, data_arguments: DataArguments, at: DeviceArguments) -> AuditReport:
    device, inputs = at.chosen, data_arguments.inputs_by(at.dataloader_num_workers)
    missing = [f"--{flag}" for flag, value in
               {"original_model": given.original_model, "dataset_name": data_arguments.dataset_name}.items()
               if value is None]  # fmt: skip
    if missing:
        raise ValueError(f"An audit of a model needs {' and '.join(missing)}.")
    if given.forget_set is not None or given.unlearned_outputs is not None or given.outputs_kind is not None:
        raise ValueError("--forget_set, --unlearned_outputs and --outputs_kind go with --outputs.")
    assert given.original_model is not None
    pool = Pool.open(given.pool) if given.pool is not None else None
    original, audited = (
        on_device(load_model(name, task=given.task), device) for name in (given.original_model, model)
    )
    retrained, references, unlearned = (
        [on_device(load_model(name, task=given.task), device) for name in names]
        for names in (
            all_retrained(given.retrain_model, given.retrain_models),
            given.reference_models or [],
            given.unlearned_models or [],
        )
    )
    processor = load_processor(given.original_model, task=given.task)
    known = logits_on(original, processor, device, **inputs)
    data = load_splits(data_arguments, original.config.num_labels, logits_of=known)
    report = audit(
        audited,
        original,
        forget_dataset=data.split.forget,
        retain_dataset=data.split.retain,
        unseen_dataset=data.unseen,
        retrain_models=retrained,
        reference_models=references,
        unlearned_models=unlearned,
        pool=pool,
        pool_method=given.pool_method,
        relearn_rows=given.relearn_rows,
        processing_class=processor,
        name=given.name,
        seed=given.seed,
        batch_size=given.batch_size,
        device=device,
        asked={
            "model": Path(model).name,
            "original": Path(given.original_model).name,
            "dataset": Path(str(data_arguments.dataset_name)).name,
            "selector": public_selector(data.split.selector),
        },
        **inputs,
    )
    # With a fraction and its seed anybody who has the data set draws the same samples.
    told = {
        key: value for key, value in report.provenance.items() if key != "command" or not _is_drawn(data_arguments)
    }
    return replace(report, provenance=told)


def _is_drawn(given: DataArguments) -> bool:
    return given.forget_fraction is not None


def _of_outputs(given: AuditArguments) -> AuditReport:
    needed: dict[str, Any] = {
        "original_model": given.original_model,
        "retrain_model": given.retrain_model,
        "retrain_models": given.retrain_models,
        "reference_models": given.reference_models,
        "unlearned_models": given.unlearned_models,
        "pool": given.pool,
    }
    if odd := [f"--{flag}" for flag, value in needed.items() if value is not None]:
        raise ValueError(
            f"{', '.join(odd)} cannot stand beside --outputs, whose files hold the outputs of all models."
        )
    assert given.outputs is not None
    if is_easydub(given.outputs[0]):
        if given.forget_set is None or len(given.outputs) > 1:
            raise ValueError("Of EasyDUB name one folder, and the number of the forget set by --forget_set.")
        found = read_easydub(given.outputs[0], given.forget_set, given.unlearned_outputs)
    else:
        if given.forget_set is not None or given.unlearned_outputs is not None:
            raise ValueError(
                "--forget_set and --unlearned_outputs go with EasyDUB's folder, which --outputs does not name."
            )
        found = read_outputs(given.outputs, given.outputs_kind)
    return audit_outputs(found, name=given.name, seed=given.seed)


def _table(report: AuditReport) -> str:
    """A row a tier: what it found, on how many, and the figures."""
    rows = []
    for finding in report.findings:
        own = finding.audited
        figure = "–" if own is None or own.value is None else f"{own.value:.4f}"
        if own is not None and own.interval is not None:
            figure += f" ({own.interval[0]:.4f} … {own.interval[1]:.4f})"
        p_value = "–" if own is None or own.p_value is None else f"{own.p_value:.3f}"
        n = "–" if finding.n is None else str(finding.n)
        rows.append([TIERS[finding.tier], finding.verdict or "not measured", figure, p_value, n])
    table = markdown_table(["Test", "Found", "Figure (95 % interval)", "p", "n"], rows)
    reasons = [f"- {TIERS[f.tier]}: {f.reason}" for f in report.findings if f.reason]
    return "\n".join([table, *([""] if reasons else []), *reasons])
