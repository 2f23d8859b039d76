"""What people give `hf-lotus` that it cannot use: one line each, with a part of what they must be told.

`python -m tests.support.bad_inputs` gives them all and counts what became of them, whatever the version.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.bad_materials import Materials

# What each command is given where an entry says nothing else; of two values of a flag the later one counts.
_RUN = "--use_cpu True --disable_tqdm True --num_train_epochs 1 --save_strategy no --stop_margin 2 --duplicates ignore"
_MODEL = "--model_name_or_path {model} --dataset_name {data}"
GIVEN = {
    "unlearn": f"unlearn {_MODEL} --forget_rows {{rows}} --output_dir out {_RUN}",
    "auto": f"unlearn --method auto --auto_budget 1000 {_MODEL} --forget_rows {{rows}} --output_dir out "
    "--use_cpu True",
    "compare": f"compare {_MODEL} --forget_rows {{rows}} --methods finetune --output_dir out --use_cpu True",
    "evaluate": "evaluate --model_name_or_path {model} --original_model {model} --dataset_name {data} "
    "--forget_rows {rows} --output_dir out --device cpu --duplicates ignore",
    "run": f"request run {_MODEL} --queue queue {_RUN}",
    "add": "request add --queue queue",
    "list": "request list --queue queue",
    "benchmark": "benchmark recipe.yaml --output_dir out --use_cpu True",
    "verify": "verify --device cpu",
    "": "",
}
_SALT = "ab" * 32


@dataclass(frozen=True)
class BadInput:
    """One of them.

    Attributes:
        command: a key of `GIVEN`.
        words: what follows it; names in braces are attributes of `Materials`.
        says: a part of the message.
        files: name → content of the files that are there when it runs.
    """

    command: str
    words: str
    says: str
    files: Mapping[str, str | bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        named = f"{self.command} {self.words}".strip().replace("{", "").replace("}", "")
        return f"{named} {' '.join(name for name in self.files if name not in named)}".strip()

    def argv(self, materials: Materials) -> list[str]:
        """The words of the command line."""
        line = f"{GIVEN[self.command]} {self.words}"
        named = {name: str(getattr(materials, name)) for name in re.findall(r"\{(\w+)\}", line)}
        return [word.format(**named) for word in shlex.split(line)]


def _config(text: str | bytes, says: str) -> BadInput:
    return BadInput("unlearn", "--config run.yaml", says, {"run.yaml": text})


def _recipe(text: str, says: str, words: str = "", **more: str) -> BadInput:
    return BadInput("benchmark", words, says, {"recipe.yaml": text, **{f"{k}.yaml": v for k, v in more.items()}})


_REQUEST: dict[str, Any] = {"format": "hf-lotus deletion request", "format_version": 1, "id": "one"}
_REQUEST |= {"date": "2026-01-01", "selector": {"by": "rows", "rows": [1]}, "received": "2026-01-01T00:00:00+00:00"}
_PLAN = {"requests": {"one": {"date": "2026-01-01", "samples": ["0" * 64]}}, "original": "0" * 64}
_RECIPE = "dataset: {dataset_name: nowhere/at-all}\nforget: {fraction: 0.1}\nmodel: {name_or_path: m}\n"
_RECIPE += "methods: {lotus: }\nseeds: [0]\n"


def _queue(command: str, says: str, **files: object) -> BadInput:
    """A queue with a request and with other files in it: "runs/0001/plan.json" is `plan`, and so on."""
    places = {"request": "requests/one.json", "salt": "salt"}
    found = {"queue/requests/one.json": json.dumps(_REQUEST), "queue/salt": _SALT}
    for name, content in files.items():
        path = f"queue/{places.get(name, f'runs/0001/{name}.json')}"
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        found[path] = text
        if content is None:
            del found[path]
    return BadInput(command, "", says, found)


def _flags(command: str, *pairs: tuple[str, str]) -> list[BadInput]:
    return [BadInput(command, words, says) for words, says in pairs]


BAD_INPUTS: list[BadInput] = [
    # ---- words ----
    *_flags(
        "",
        ("unlaern", "unknown command 'unlaern'. Did you mean 'unlearn'?"),
        ("request ad", "got 'ad'"),
        ("request", "add, list, run"),
        ("unlearn", "--model_name_or_path"),
        ("push", "folder"),
        ("publish-metric accuracy --repo_id me/accuracy", "'accuracy'"),
        ("publish-metric rf_jsd --repo_id rf_jsd", "'rf_jsd'"),
        ("lineage a/b/c", "a/b/c is not the id"),
        ("demo --seed -1", "seed must be 0 or more"),
        ("demo --seed x", "'x'"),
        ("demo --output_dir {a_file}", "a_file is a file"),
        ("benchmark", "Name a recipe"),
        ("benchmark cifar", "no recipe 'cifar'"),
        ("unlearn --config", "--config"),
        ("unlearn --num_processes 2 --cpu --model_name_or_path m --dataset_name d", "--cpu"),
        ("unlearn --config_file nowhere.yaml --model_name_or_path m --dataset_name d", "nowhere.yaml"),
    ),
    # ---- training arguments ----
    *_flags(
        "unlearn",
        ("--seed x", "'x'"),
        ("--seed -1", "seed must be 0 or more, got -1"),
        ("--data_seed -1", "data_seed must be 0 or more, got -1"),
        ("--evaluation_seed -1", "evaluation_seed must be 0 or more, got -1"),
        ("--seed 99999999999999999999", "seed must be"),
        ("--split_seed -1 --forget_fraction 0.1", "split_seed must be 0 or more"),
        ("--num_train_epochs many", "'many'"),
        ("--num_train_epochs 0", "num_train_epochs must be above 0"),
        ("--num_train_epochs -3", "got -3"),
        ("--num_train_epochs 1e300", "got 1e+300"),
        ("--num_train_epochs nan", "got nan"),
        ("--num_train_epochs inf", "got inf"),
        ("--max_steps 99999999999999999", "max_steps must be"),
        ("--per_device_train_batch_size -1", "per_device_train_batch_size must be 1 or more, got -1"),
        ("--per_device_train_batch_size 0", "per_device_train_batch_size must be 1 or more, got 0"),
        ("--per_device_eval_batch_size 0", "per_device_eval_batch_size must be 1 or more, got 0"),
        ("--per_device_eval_batch_size -1", "per_device_eval_batch_size must be 1 or more, got -1"),
        ("--gradient_accumulation_steps 0", "gradient_accumulation_steps must be 1 or more, got 0"),
        ("--gradient_accumulation_steps -1", "gradient_accumulation_steps must be 1 or more, got -1"),
        ("--learning_rate x", "'x'"),
        ("--learning_rate -1", "learning_rate must be"),
        ("--learning_rate nan", "learning_rate must be"),
        ("--learning_rate inf", "learning_rate must be"),
        ("--weight_decay nan", "weight_decay must be"),
        ("--max_grad_norm -1", "max_grad_norm must be 0 or more"),
        ("--warmup_steps -1", "warmup_steps"),
        ("--optim sdg", "sdg is not a valid"),
        ("--optim_args nonsense --optim sgd", "optim_args"),
        ("--lr_scheduler_type linaer", "linaer is not a valid"),
        ("--save_strategy sometimes", "sometimes is not a valid"),
        ("--dataloader_num_workers -1", "dataloader_num_workers must be 0 or more, got -1"),
        ("--logging_strategy steps --logging_steps 0", "logging_steps"),
        ("--save_total_limit 0", "save_total_limit must be 1 or more, got 0"),
        (
            "--load_best_model_at_end True --eval_strategy epoch --metric_for_best_model eval_acc",
            "'eval_acc'",
        ),
        ("--load_best_model_at_end True --eval_strategy epoch --metric_for_best_model eval_avg_gap", "eval_avg_gap"),
        ("--early_stopping_patience 0", "early_stopping_patience must be 1 or more rounds, got 0"),
        ("--crop_padding -1", "crop_padding must be 0 or more pixels, got -1"),
        ("--label_smoothing_factor 0.1", "label_smoothing_factor"),
        ("--teacher_logits_dtype float8", "'float8'"),
        ("--use_cpu perhaps", "perhaps"),
        ("--lerning_rate 1", "--lerning_rate, which does not exist. Did you mean '--learning_rate'"),
        ("--seed 1 stray", "stray"),
        ("--hub_strategy all_checkpoints --push_to_hub True", "all_checkpoints"),
        ("--resume_from_checkpoint nowhere", "nowhere"),
        ("--deepspeed nowhere.json", "deepspeed"),
        ("--method lotos", "no method 'lotos'. Did you mean 'lotus'?"),
        ("--method salun --inner lotos", "'lotos'"),
        ("--method finetune --inner lotus", "finetune has no method within it"),
        ("--alpha abc", "'abc'"),
        ("--alpha nan", "alpha must lie between"),
        ("--retain_fraction 2", "retain_fraction"),
        ("--retain_fraction -0.1", "retain_fraction"),
        ("--report_to everywhere", "everywhere"),
    ),
    # ---- data ----
    *_flags(
        "unlearn",
        ("--dataset_name ./dta", "There is no folder ./dta"),
        ("--dataset_name {root}/dtaa", "Did you mean"),
        ("--dataset_name nowhere/at-all", "nowhere/at-all"),
        ("--dataset_name {rows}", "rows.json is a file"),
        ("--dataset_name {nothing}", "nothing"),
        ("--dataset_name {broken_parquet}", "broken_parquet"),
        ("--dataset_name {broken_state}", "broken_state"),
        ("--dataset_name {cut_arrow}", "cut_arrow"),
        ("--dataset_name {a_script}", "a_script"),
        ("--dataset_name ''", "dataset_name"),
        ("--train_split trian", "no split 'trian'. Did you mean 'train'?"),
        ("--unseen_split vaild", "no split 'vaild'"),
        ("--test_split tets", "no split 'tets'"),
        ("--dataset_name {without_validation} --unseen_fraction 2", "unseen_fraction must lie between 0 and 1, got 2"),
        ("--image_column label", "'label'"),
        ("--image_column picture", "no column 'picture'"),
        ("--label_column user_id", "'user_id'"),
        ("--label_column class", "no column 'class'"),
        ("--duplicates hide", "'hide'"),
        ("--dataset_name {null_image}", "row 3"),
        ("--dataset_name {broken_image} --forget_rows {rows}", "row 3"),
        ("--dataset_name {cut_image}", "row 3"),
        ("--dataset_name {bomb}", "row 3"),
        ("--dataset_name {bomb} --duplicates report --model_name_or_path {model}", "row 3"),
        ("--dataset_name {other_classes}", "label 2"),
        ("--dataset_name {fractional_labels}", "one integer class a sample"),
        ("--dataset_name {null_label}", "label"),
        ("--dataset_name {one_row} --forget_class 1", "class"),
        ("--dataset_name {no_rows}", "no_rows"),
        ("--dataset_name {texts}", "no image column"),
    ),
    # ---- what to forget ----
    *_flags(
        "unlearn",
        ("--forget_class 1", "got forget_rows, forget_class"),
        ("--forget_rows nowhere.json", "nowhere.json"),
        ("--forget_rows {data}", "data is a folder"),
        ("--forget_rows {rows_binary}", "rows_binary.txt"),
        ("--forget_rows {rows_binary_json}", "rows_binary.json"),
        ("--forget_rows {rows_words}", "entry 3 is 'three', not a row number"),
        ("--forget_rows {rows_escape}", r"\x1b[2Jthree"),
        ("--forget_rows {rows_mapping}", "must hold a list of row numbers, got dict"),
        ("--forget_rows {rows_halves}", "entry 2 is 2.5, not a row number"),
        ("--forget_rows {rows_cut}", "rows_cut.json is not valid JSON"),
        ("--forget_rows {rows_deep}", "rows_deep.json"),
        ("--forget_rows {rows_far}", "out of range: 80, 81. Rows go from 0 to 79"),
        ("--forget_rows {rows_negative}", "out of range: -1"),
        ("--forget_rows {rows_huge}", "too large to be a row number"),
        ("--forget_rows {rows_endless}", "rows_endless.txt"),
        ("--forget_rows {rows_none}", "forget set is empty"),
        ("--forget_rows {rows_all}", "All 80 rows are to be forgotten"),
        ("--forget_rows {rows_columns}", "must have a column 'row'"),
    ),
    *[
        BadInput("unlearn chosen", words, says)
        for words, says in (
            ("", "exactly one of forget_rows, forget_class"),
            ("--forget_class 'digit 33'", "no class 'digit 33' to forget. Did you mean 'digit 3'"),
            ("--forget_class 12", "no class '12'"),
            ("--forget_column user_id", "forget_column and forget_values go together"),
            ("--forget_column user --forget_values u1", "no column 'user'. Did you mean 'user_id'"),
            ("--forget_column user_id --forget_values nobody", "no row with 'nobody'"),
            ("--forget_column image --forget_values x", "'image'"),
            ("--forget_fraction 0", "must lie between 0 and 1"),
            ("--forget_fraction 1", "got 1.0"),
            ("--forget_fraction nan", "got nan"),
            ("--forget_fraction 0.00001", "chooses no row"),
            ("--forget_confusion 1 2", "forget_confusion takes two classes and a fraction"),
            ("--forget_confusion 1 2 much", "forget_confusion takes two classes and a fraction"),
            ("--forget_hardest 2", "must lie between 0 and 1"),
            ("--forget_hardest 0.1 --forget_proxy age", "'age'"),
        )
    ],
    # ---- models ----
    *_flags(
        "unlearn",
        ("--model_name_or_path ./modle", "There is no folder ./modle"),
        ("--model_name_or_path {root}/modle", "Did you mean"),
        ("--model_name_or_path nowhere/at-all", "nowhere/at-all"),
        ("--model_name_or_path {a_file}", "a_file is a file"),
        ("--model_name_or_path {nothing}", "nothing"),
        ("--model_name_or_path {data}", "data"),
        ("--model_name_or_path 'a model'", "'a model'"),
        ("--model_name_or_path ''", "model_name_or_path"),
        ("--model_name_or_path {truncated}", "truncated"),
        ("--model_name_or_path {short}", "short"),
        ("--model_name_or_path {garbage}", "garbage"),
        ("--model_name_or_path {no_bytes}", "no_bytes"),
        ("--model_name_or_path {headless}", "classifier.1.weight"),
        ("--model_name_or_path {other_head}", "other_head"),
        ("--model_name_or_path {not_finite}", "not finite"),
        ("--model_name_or_path {pickled}", "safetensors"),
        ("--model_name_or_path {broken_config}", "broken_config"),
        ("--model_name_or_path {listed_config}", "listed_config"),
        ("--model_name_or_path {typeless}", "typeless"),
        ("--model_name_or_path {unknown_type}", "resnot"),
        ("--model_name_or_path {odd_sizes}", "odd_sizes"),
        ("--model_name_or_path {remote_code}", "code of its own"),
        ("--model_name_or_path {remote_processor}", "code of its own"),
        ("--model_name_or_path {regression}", "'regression'"),
        ("--model_name_or_path {several_labels}", "'multi_label_classification'"),
        ("--model_name_or_path {other_order}", "another order"),
        ("--model_name_or_path {without_processor}", "without_processor"),
        ("--model_name_or_path {broken_processor}", "broken_processor"),
        ("--model_name_or_path {odd_processor}", "odd_processor"),
        ("--model_name_or_path {text_model}", "only an image processor turns into model inputs"),
        ("--retrain_model {other_head}", "other_head"),
        ("--retrain_model ./nowhere", "./nowhere"),
        ("--retrain_model {headless}", "classifier.1.weight"),
    ),
    # ---- where it goes ----
    *_flags(
        "unlearn",
        ("--output_dir {a_file}", "a_file is a file"),
        ("--output_dir {a_file}/below", "a_file"),
        ("--output_dir {model}", "is the model's own folder"),
        ("--output_dir {data}", "is the data set's own folder"),
        ("--output_dir ''", "output_dir"),
        ("--salt_file {a_file}", "a_file is not a salt"),
        ("--salt_file {nothing}", "nothing is a folder"),
    ),
    BadInput("unlearn", "", "out is not empty", {"out/notes.txt": "mine", "out/model.safetensors": b"weights"}),
    BadInput("evaluate", "", "out is not empty", {"out/model.safetensors": b"weights"}),
    BadInput("compare", "", "out is not empty", {"out/model.safetensors": b"weights"}),
    BadInput("auto", "", "out is not empty", {"out/model.safetensors": b"weights"}),
    # ---- files of options ----
    BadInput("unlearn", "--config nowhere.yaml", "nowhere.yaml"),
    _config("alpha: [1", "run.yaml is not valid YAML"),
    _config("- alpha\n- 2\n", "run.yaml must hold options"),
    _config("", "run.yaml must hold options"),
    _config(b"\x80\x81\x82", "run.yaml"),
    _config("forget_fractoin: 0.1\n", "'forget_fractoin', which does not exist. Did you mean 'forget_fraction'"),
    _config("alpha: much\n", "alpha"),
    _config("seed: [1, 2]\n", "seed"),
    _config("seed: {a: 1}\n", "seed"),
    _config("seed: 1.5\n", "seed"),
    _config("horizontal_flip: sometimes\n", "horizontal_flip"),
    _config("duplicates: hide\n", "'hide'"),
    _config("learning_rate: .nan\n", "learning_rate must be"),
    _config("1: 2\n", "1"),
    _config("? [a, b]\n: 1\n", "run.yaml"),
    _config("seed: !!python/object/apply:os.system ['touch executed']\n", "run.yaml is not valid YAML"),
    _config("a: &a [x]\nseed: *b\n", "run.yaml is not valid YAML"),
    _config("seed: " + "[" * 5000, "run.yaml"),
    _config("forget_values: {a: b}\n", "forget_values"),
    # ---- evaluate ----
    *_flags(
        "evaluate",
        ("--batch_size 0", "batch_size must be 1 or more, got 0"),
        ("--batch_size -1", "batch_size must be 1 or more, got -1"),
        ("--device teapot", "'teapot'"),
        ("--device cuda:7", "cuda:7"),
        ("--name retrain", "call the unlearned model something else"),
        ("--seed -1", "seed must be 0 or more"),
        ("--original_model ./nowhere", "./nowhere"),
        ("--model_name_or_path {truncated}", "truncated"),
        ("--output_dir {model}", "is the original's own folder"),
        ("--original_model {text_model}", "10 classes, and the model to unlearn 2"),
    ),
    # ---- what is published ----
    *_flags(
        "",
        ("card nowhere", "nowhere"),
        ("card {a_file}", "a_file"),
        ("card {model}", "has neither forget_set.json nor results.json"),
        ("bom nowhere", "nowhere"),
        ("bom {model}", "forget_set.json"),
        ("push nowhere me/model", "nowhere"),
        ("push {model} me/model", "forget_set.json"),
        ("push {model} 'no id at all'", "model"),
        ("sign nowhere --key k.pem", "k.pem"),
        ("sign {model} --key nowhere.pem", "nowhere.pem"),
        ("verify nowhere/at-all", "nowhere/at-all"),
        ("verify ./nowhere", "./nowhere"),
        ("verify {a_file}", "a_file"),
        ("verify {model} --image x.png", "--image, --text and --audio need --salt_file"),
        ("verify {model} --expect in", "--expect needs one of them"),
        ("verify {model} --tolerance x", "'x'"),
        ("prove {model}", "one of --image, --text and --audio, with --label and --salt_file"),
        ("prove {model} --check p.json --label 1", "--check needs neither"),
        ("prove {model} --check p.json", "forget_set.json"),
    ),
    BadInput("", "card one", "one/forget_set.json is not valid JSON", {"one/forget_set.json": "{"}),
    BadInput("", "card one", "not a forget-set record", {"one/forget_set.json": "[1]"}),
    BadInput("", "card one", "results.json", {"one/results.json": '{"models": 3}'}),
    BadInput("", "card one", "results.json", {"one/results.json": "[]"}),
    BadInput("", "prove one --check p", "one/forget_set.json", {"one/forget_set.json": "[" * 100_000, "p": "{}"}),
    # ---- the queue ----
    *_flags(
        "add",
        ("", "got none"),
        ("--forget_class 1 --forget_rows {rows}", "by exactly one of"),
        ("--forget_column user_id", "go together"),
        ("--forget_class 1 --id ../up", "'../up'"),
        ("--forget_class 1 --date yesterday", "'yesterday'"),
        ("--forget_rows {rows_binary}", "rows_binary.txt"),
        ("--forget_rows nowhere.txt", "nowhere.txt"),
        ("--forget_rows {rows_none}", "empty"),
        ("--forget_rows {rows_negative}", "-1"),
        ("--forget_class 1 --queue {a_file}", "a_file is a file"),
        ("--forget_class 1 --queue_repo 'no id at all'", "no id at all"),
    ),
    BadInput("list", "", "There is no queue in queue"),
    BadInput("run", "", "There is no queue in queue"),
    BadInput("run", "--output_dir here", "--output_dir is not for `request run`"),
    BadInput("run", "--push_to_hub True", "--push_to_hub needs --hub_model_id"),
    _queue("list", "one.json", request="{"),
    _queue("list", "one.json", request="[]"),
    _queue("list", "one.json", request=b"\xff\xfe"),
    _queue("list", "one.json", request="[" * 100_000),
    _queue("list", "format version 9", request={**_REQUEST, "format_version": 9}),
    _queue("list", "one.json", request={**_REQUEST, "id": 5}),
    _queue("list", "one.json", request={**_REQUEST, "date": 5}),
    _queue("list", "one.json", request={**_REQUEST, "id": "two"}),
    _queue("list", "one", request={**_REQUEST, "selector": {"by": "rows", "rows": ["x"]}}),
    _queue("list", "plan.json", plan="{"),
    _queue("list", "plan.json", plan=[]),
    _queue("list", "plan.json", plan={}),
    _queue("list", "plan.json", plan={"requests": 3, "original": "0"}),
    _queue("list", "pushed.json", plan=_PLAN, pushed="[]"),
    _queue("run", "measured.json", plan=_PLAN, measured={"requests": 1}, done={"finished": "x"}, request={**_REQUEST}),
    _queue("run", "measured.json", plan=_PLAN, measured="{", done={"finished": "x"}),
    _queue("run", "salt", plan=_PLAN, salt=None),
    _queue("run", "salt", plan={**_PLAN, "salt_commitment": "0" * 64}),
    _queue("run", "salt", salt="no salt"),
    # ---- many methods ----
    *_flags(
        "compare",
        ("--methods lotos", "no method 'lotos'. Did you mean 'lotus'?"),
        ("--seeds -1", "seed"),
        ("--retrain_again -1", "retrain_again must be 0 or more"),
        ("--per_device_train_batch_size 0", "per_device_train_batch_size must be 1 or more, got 0"),
    ),
    BadInput("compare", "--config run.yaml --methods all", "alpha", {"run.yaml": "methods: {lotus: {alpha: much}}\n"}),
    BadInput("compare", "--config run.yaml --methods all", "'alpa'", {"run.yaml": "methods: {lotus: {alpa: 2}}\n"}),
    BadInput("compare", "--config run.yaml --methods all", "lotus", {"run.yaml": "methods: {lotus: 3}\n"}),
    *_flags(
        "auto",
        ("--auto_budget 0", "budget"),
        ("--auto_budget -5", "budget"),
        ("--auto_methods lotos", "'lotos'"),
        ("--resume_from_checkpoint True", "resume_from_checkpoint"),
    ),
    # ---- recipes ----
    BadInput("benchmark", "", "no recipe 'recipe.yaml'"),
    _recipe("model: [1", "recipe.yaml is not valid YAML"),
    _recipe("include: [recipe]\n", "includes itself"),
    _recipe("include: [other]\n", "includes itself", other="include: [recipe]\n"),
    _recipe("include: [nowhere]\n", "includes 'nowhere'"),
    _recipe("include: 3\n", "include"),
    _recipe("include: [{a: b}]\n", "include"),
    _recipe("[]", "recipe.yaml must hold settings"),
    _recipe(_RECIPE + "colour: red\n", "'colour', which does not exist"),
    _recipe("dataset: {dataset_name: x}\n", "recipe.yaml lacks `forget`"),
    _recipe(_RECIPE.replace("{fraction: 0.1}", "{fraction: 0.1, first: 3}"), "exactly one of"),
    _recipe(_RECIPE.replace("{fraction: 0.1}", "3"), "`forget`"),
    _recipe(_RECIPE.replace("{fraction: 0.1}", "{fraction: much}"), "fraction"),
    _recipe(_RECIPE.replace("{dataset_name: nowhere/at-all}", "[]"), "`dataset`"),
    _recipe(_RECIPE.replace("{dataset_name: nowhere/at-all}", "{train_split: a}"), "dataset_name"),
    _recipe(_RECIPE.replace("{dataset_name: nowhere/at-all}", "{dataset_nmae: a}"), "'dataset_nmae'"),
    _recipe(_RECIPE.replace("{name_or_path: m}", "hello"), "`model`"),
    _recipe(_RECIPE.replace("{name_or_path: m}", "{config: {model_type: vit}}"), "image_size"),
    _recipe(_RECIPE.replace("{name_or_path: m}", "{config: 3, image_size: 16}"), "config"),
    _recipe(_RECIPE.replace("{lotus: }", "3"), "`methods`"),
    _recipe(_RECIPE.replace("{lotus: }", "{lotos: }"), "'lotos'"),
    _recipe(_RECIPE.replace("[0]", "nought"), "`seeds`"),
    _recipe(_RECIPE.replace("[0]", "[-1]"), "seeds"),
    _recipe(_RECIPE + "max_rounds: 0\n", "max_rounds must be 1 or more, got 0"),
    _recipe(_RECIPE + "max_rounds: few\n", "max_rounds"),
    _recipe(_RECIPE + "training: 3\n", "`training`"),
    _recipe(_RECIPE + "training: {learning_rate: fast}\n", "learning_rate"),
    _recipe(_RECIPE, "nowhere/at-all"),
    _recipe(_RECIPE, "'lotos'", "--methods lotos"),
    _recipe(_RECIPE, "retrain_again must be 0 or more", "--retrain_again -1"),
]
GIVEN["unlearn chosen"] = GIVEN["unlearn"].replace("--forget_rows {rows} ", "")


@dataclass(frozen=True)
class Outcome:
    """What became of one.

    Attributes:
        status: the exit status; None where it ended by an exception or did not end.
        error: what stood on the error stream.
        left: what it left behind: names of files.
        trace: the exception, where one came through.
        seconds: that it took.
    """

    status: int | None
    error: str
    left: tuple[str, ...]
    trace: str = ""
    seconds: float = 0.0

    def kind(self, says: str) -> str:
        """In a word."""
        if self.trace:
            return "hangs" if "Alarm" in self.trace else "traceback"
        if self.status != 2:
            return f"ends with {self.status}"
        if self.left:
            return "leaves files behind"
        lines = [line for line in self.error.splitlines() if line.strip()]
        if says not in self.error:
            return "does not say what was wrong"
        return "refused in one line" if len(lines) == 1 else f"refused in {'2' if len(lines) == 2 else 'many'} lines"


class Alarm(Exception):
    """It takes too long."""


def give(bad: BadInput, materials: Materials, folder: Path, limit: int = 30) -> Outcome:
    """Run the command in an empty folder, in this process.

    Args:
        bad: the input.
        materials: what it is made of.
        folder: an empty folder.
        limit: seconds after which it is broken off.
    """
    from hf_lotus.cli.main import main

    argv = bad.argv(materials)
    for name, content in bad.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {*_files(folder), *_files(materials.root)}

    def ring(*_: object) -> None:
        raise Alarm

    status, trace, started = None, "", time.perf_counter()
    out, error = io.StringIO(), io.StringIO()
    earlier = signal.signal(signal.SIGALRM, ring)
    signal.alarm(limit)
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            status = main(argv)
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        trace = traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
    left = sorted({*_files(folder), *_files(materials.root)} - before)
    return Outcome(status, error.getvalue(), tuple(left), trace, time.perf_counter() - started)


def _files(folder: Path) -> list[str]:
    # What `datasets` notes of a folder that it has looked at.
    return [str(p) for p in folder.rglob("*") if not p.name.startswith("cache-")]


def count(verbose: bool = False) -> Counter[str]:
    """Give every one, print what is not as it should be, and count."""
    from transformers import ViTImageProcessorPil

    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "materials").mkdir()
        materials = Materials(root / "materials", ViTImageProcessorPil(size={"height": 16, "width": 16}))
        for number, bad in enumerate(BAD_INPUTS):
            bad.argv(materials)  # makes what it needs
            (folder := root / f"{number}").mkdir()
            outcome = give(bad, materials, folder)
            kind = outcome.kind(bad.says)
            counted[kind] += 1
            if kind != "refused in one line" or verbose:
                last = (outcome.trace or outcome.error).strip().splitlines()[-1:]
                told = f"{kind}: {bad} [{outcome.seconds:.1f} s] {' '.join(last)[:300]} {outcome.left[:3]}"
                sys.stdout.write(told + "\n")
                sys.stdout.flush()
            shutil.rmtree(folder)
    return counted


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    found = count("-v" in sys.argv)
    sys.stdout.write(f"{sum(found.values())} inputs: " + ", ".join(f"{n} {kind}" for kind, n in found.most_common()))
    sys.stdout.write("\n")
