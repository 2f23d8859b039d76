"""Adapters alone are unlearned: the base stays to the bit, is in memory once, and the adapter is what is saved."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, PeftModel, get_peft_model

from hf_lotus import ForgetSetRecord, LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.cli.main import main
from hf_lotus.evaluation.predictions import predict
from hf_lotus.methods import SSD, MarginMatching, Retrain
from hf_lotus.methods.base import RefusedModel
from hf_lotus.models.loading import load_model
from hf_lotus.models.tasks import task_of
from hf_lotus.trainer.relearning import measured_relearning_excess
from tests.support import tiny_text
from tests.support.hub_client import local_hub
from tests.support.method_helpers import equal, weights

# The Hub client's own, of its own HTTP library, and PEFT's, of transformers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
PARTS = tiny_text.divided(tiny_text.texts())


def adapted(seed=0):
    """The tiny BERT with an adapter that already does something, as one that was trained."""
    model = get_peft_model(tiny_text.tiny_bert(), LoraConfig(r=4, lora_dropout=0.1, target_modules=["query", "value"]))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def build(folder, method=None, model=None, **arguments):
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-2, "seed": 1}
    settings |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "output_dir": str(folder)} | arguments
    sets = {f"{name}_dataset": PARTS[name] for name in ("forget", "retain", "unseen")}
    return UnlearningTrainer(
        model or adapted(), UnlearningArguments(**settings), method or LoTUS(stop_margin=2.0), **sets,
        eval_dataset=PARTS["test"], processing_class=tiny_text.tokenizer(),
    )  # fmt: skip


def base_weights(model):
    return {name: value for name, value in weights(model).items() if "lora_" not in name}


@pytest.mark.parametrize("method", [LoTUS(stop_margin=2.0), MarginMatching(), SSD(alpha=1.0)], ids=lambda m: m.name)
def test_the_adapter_moves_and_the_base_does_not(tmp_path, method):
    trainer = build(tmp_path, method, max_steps=4)
    before, teacher = weights(trainer.model), weights(trainer.teacher)
    trainer.train()
    after = weights(trainer.model)
    assert equal(base_weights(trainer.model), {name: v for name, v in before.items() if "lora_" not in name})
    assert any(not torch.equal(after[name], before[name]) for name in before if "lora_" in name)
    assert equal(weights(trainer.teacher), teacher), "the teacher has the adapter as it was"


def test_the_teacher_is_no_second_copy_of_the_base(tmp_path):
    trainer = build(tmp_path)
    student, teacher = (dict(model.named_parameters()) for model in (trainer.model, trainer.teacher))
    for name, parameter in student.items():
        assert (parameter.data_ptr() == teacher[name].data_ptr()) == ("lora_" not in name), name
        assert not teacher[name].requires_grad
    assert trainer.model.training != trainer.teacher.training or not trainer.teacher.training


def test_a_run_broken_off_ends_with_the_same_bits(tmp_path):
    arguments = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    whole = build(tmp_path, **arguments)
    whole.train()
    first = whole.sampler.first_step(1)
    for step in (first, first + 1):
        again = build(tmp_path, **arguments)
        again.train(str(tmp_path / f"checkpoint-{step}"))
        assert equal(weights(again.model), weights(whole.model))


def test_merged_and_unmerged_give_the_same_figures(tmp_path):
    trainer = build(tmp_path)
    trainer.train()
    unmerged = predict(trainer.model, trainer.given.forget, progress=False)
    merged = predict(trainer.model.merge_and_unload(), trainer.given.forget, progress=False)
    torch.testing.assert_close(torch.from_numpy(merged.logits), torch.from_numpy(unmerged.logits), rtol=0, atol=1e-5)
    assert merged.accuracy == unmerged.accuracy


def test_what_else_is_asked_of_a_model_is_answered(tmp_path):
    trainer = build(tmp_path)
    assert task_of(trainer.model) == "text-classification"
    trainer.train()
    assert -1 <= measured_relearning_excess(trainer) <= 1
    with pytest.raises(RefusedModel, match="writes weights below the adapter.*Merge the adapter first"):
        build(tmp_path, Retrain())


def test_model_inputs_of_the_users_too(tmp_path, monkeypatch):
    """PEFT's wrapper does not say which inputs its model takes."""
    tokenizer = tiny_text.tokenizer()
    tokens = {
        name: part.map(lambda rows: tokenizer(rows["text"]), batched=True, remove_columns=["text"])  # author stays
        for name, part in PARTS.items()
    }
    monkeypatch.setitem(globals(), "PARTS", tokens)
    trainer = build(tmp_path)
    trainer.train()
    assert 0 <= trainer.evaluate()["eval_test_accuracy"] <= 1


def test_from_flags_to_a_published_adapter(tmp_path, monkeypatch, capsys):
    tiny_text.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["hf-lotus", *map(str, words)])
        return main()

    common = ["--dataset_name", "data", "--forget_column", "author", "--forget_values", "a3", "--stop_margin", 2]
    common += ["--max_steps", 2, "--use_cpu", "True", "--disable_tqdm", "True", "--learning_rate", "1e-2"]
    peft = ["--use_peft", "--lora_r", 4, "--lora_target_modules", "query", "value"]
    assert run("unlearn", "--model_name_or_path", "model", "--output_dir", "out", *common, *peft) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json"} <= names
    assert "model.safetensors" not in names
    record, card = ForgetSetRecord.from_json("out/forget_set.json"), ModelCard.load("out/README.md")
    assert list(record.weights) == ["adapter_model.safetensors"] and record.task == "text-classification"
    assert card.data.library_name == "peft" and card.data.pipeline_tag == "text-classification"
    options = ["--salt_file", "out.forget_set.salt", "--dataset_name", "data", "--original_model", "model"]
    assert run("verify", "out", *options, "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert "ok      lotus: rf jsd" in printed
    assert "ok      the original is the one that the record began from: below the adapter" in printed
    other = tiny_text.tiny_bert()
    other.classifier.bias.data += 1
    other.save_pretrained("other")
    options[-1] = "other"
    assert run("verify", "out", *options, "--device", "cpu") == 1
    assert "FAILED  the original is the one that the record began from" in capsys.readouterr().out
    with local_hub(tmp_path, monkeypatch) as hub:
        assert run("push", "out", "me/adapter") == 0
        published = set(hub.repos["models", "me/adapter"].files)
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json", "tokenizer.json"} <= published
    # What has an adapter goes on with it, and needs no flag.
    model = load_model("out")
    assert isinstance(model, PeftModel) and model.config.id2label[2] == "kitchen"
    assert all(parameter.requires_grad == ("lora_" in name) for name, parameter in model.named_parameters())
    assert run("unlearn", "--model_name_or_path", "out", "--output_dir", "again", *common) == 0
    assert (tmp_path / "again" / "adapter_model.safetensors").is_file()
    assert run("unlearn", "--model_name_or_path", "out", "--output_dir", "twice", *common, *peft) == 2
    assert "The model has an adapter already" in capsys.readouterr().err


def test_the_example_script(tmp_path, monkeypatch, datasets_cache, capsys):
    tiny_text.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    script = Path(__file__).parents[2] / "examples" / "unlearn_by_adapter.py"
    options = ["--model_name_or_path", "model", "--dataset_name", "data", "--output_dir", "out", "--max_steps", "2"]
    options += ["--forget_column", "author", "--forget_values", "a3", "--use_cpu", "True", "--disable_tqdm", "True"]
    monkeypatch.setattr(sys, "argv", [str(script), *options, "--rank", "2", "--merged_dir", "merged"])
    runpy.run_path(str(script), run_name="__main__")
    assert "| margin_matching " in capsys.readouterr().out
    adapted, merged = load_model("out"), load_model("merged")
    tokens = {"input_ids": torch.tensor([[2, 5, 7, 3]])}
    with torch.no_grad():
        difference = adapted.eval()(**tokens).logits - merged.eval()(**tokens).logits
    assert isinstance(adapted, PeftModel) and not isinstance(merged, PeftModel) and difference.abs().max() < 1e-5
