"""The command line on clips: forget a speaker, verify, evaluate."""

import runpy
import sys
from pathlib import Path

from huggingface_hub import ModelCard
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from hf_lotus import ForgetSetRecord, UnlearningResult
from hf_lotus.cli.main import main
from tests.support import tiny_audio


def test_a_speaker_is_forgotten_and_the_model_verified(tmp_path, monkeypatch, datasets_cache, capsys):
    tiny_audio.write(tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["hf-lotus", *map(str, words)])
        return main()

    speaker = ["--forget_column", "speaker", "--forget_values", "s3"]
    options = ["--model_name_or_path", "model", "--dataset_name", "data", "--output_dir", "out", "--stop_margin", 2]
    training = ["--num_train_epochs", 1, "--use_cpu", "True", "--disable_tqdm", "True", "--learning_rate", "1e-3"]
    assert run("unlearn", *options, *speaker, *training) == 0
    assert "Identical clips: none across the parts." in capsys.readouterr().out
    AutoModelForAudioClassification.from_pretrained("out")
    assert AutoFeatureExtractor.from_pretrained("out").sampling_rate == tiny_audio.RATE
    record, card = ForgetSetRecord.from_json("out/forget_set.json"), ModelCard.load("out/README.md")
    # A speech model's class is called ...ForSequenceClassification, as one for texts.
    assert (record.rows, record.task, record.digests["content"]) == (7, "audio-classification", "samples")
    assert card.data.pipeline_tag == "audio-classification" and "This audio classifier has" in card.text
    verify = ["--salt_file", "out.forget_set.salt", "--dataset_name", "data", "--original_model", "model"]
    assert run("verify", "out", *verify, "--device", "cpu") == 0
    assert "ok      lotus: rf jsd" in capsys.readouterr().out
    given = ["--model_name_or_path", "out", "--original_model", "model", "--dataset_name", "data", *speaker]
    assert run("evaluate", *given, "--output_dir", "again", "--device", "cpu") == 0


def test_the_example_script(tmp_path, monkeypatch, datasets_cache, capsys):
    tiny_audio.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    script = Path(__file__).parents[2] / "examples" / "unlearn_audio_classification.py"
    options = ["--model_name_or_path", "model", "--dataset_name", "data", "--output_dir", "out", "--use_cpu", "True"]
    options += ["--forget_column", "speaker", "--forget_values", "s3", "--disable_tqdm", "True", "--max_steps", "3"]
    monkeypatch.setattr(sys, "argv", [str(script), *options])
    runpy.run_path(str(script), run_name="__main__")
    assert UnlearningResult.from_json("out/results.json").models[1].name == "margin_matching"
    assert "| margin_matching " in capsys.readouterr().out
