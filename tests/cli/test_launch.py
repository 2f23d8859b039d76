"""`hf-lotus unlearn` with the flags of `accelerate launch`: parted, checked, and run on two real ranks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from transformers import HfArgumentParser

from hf_lotus import UnlearningArguments, UnlearningResult
from hf_lotus.cli import launch
from hf_lotus.cli.launch import config_files, split_launch
from hf_lotus.cli.main import main
from tests.conftest import TINY_MODELS

SHIPPED = Path(__file__).parents[2] / "examples" / "accelerate_configs"


@pytest.fixture(autouse=True)
def no_configuration_of_the_machine(monkeypatch, tmp_path):
    for module in ("hf_lotus.cli.launch", "accelerate.commands.launch"):
        monkeypatch.setattr(f"{module}.default_config_file", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("given", "launching", "rest"),
    [
        ("--alpha 2", "", "--alpha 2"),
        ("--num_processes 2 --alpha 2", "--num_processes 2", "--alpha 2"),
        ("--alpha=2 --num-processes=2 --multi_gpu --seed 3", "--num-processes 2 --multi_gpu", "--alpha=2 --seed 3"),
        ("--debug x --gradient_accumulation_steps 4", "", "--debug x --gradient_accumulation_steps 4"),
        ("--forget_values -m -q u1", "", "--forget_values -m -q u1"),
        ("--config_file a.yaml --config b.yaml", "--config_file a.yaml", "--config b.yaml"),
        ("--accelerate_config fsdp2", f"--config_file {SHIPPED / 'fsdp2.yaml'}", ""),
        (f"--accelerate_config={SHIPPED / 'ddp.yaml'}", f"--config_file {SHIPPED / 'ddp.yaml'}", ""),
    ],
)
def test_the_flags_of_the_launcher_are_parted_from_the_commands_own(given, launching, rest):
    assert split_launch(given.split()) == (launching.split(), rest.split())


def test_no_training_argument_is_taken_for_the_launchers():
    flags = HfArgumentParser(UnlearningArguments)._option_string_actions
    long = [flag for flag in flags if flag.startswith("--")]
    assert split_launch(long) == ([], long) and len(long) > 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--accelerate_config fsdp", "no accelerate configuration 'fsdp'.*fsdp2"),
        ("--num_processes", "--num_processes needs a value"),
        ("--cpu --num_processes 2", "--cpu has accelerate start one process, and 2 were asked for. Give --use_cpu"),
        ("--use_fsdp --multi_gpu", "only use one of"),
    ],
)
def test_errors(given, message, capsys):
    assert main(["unlearn", *given.split()]) == 2
    assert re.search(message, capsys.readouterr().err)


class TestWhatIsLaunched:
    @pytest.fixture
    def launched(self, monkeypatch):
        """A function: flags → what accelerate is asked to launch."""
        found = []
        monkeypatch.setattr(launch, "launch_command", found.append)

        def run(flags):
            assert main(["unlearn", *flags.split()]) == 0
            return found[-1]

        return run

    def test_the_same_command_without_the_launchers_flags(self, launched):
        args = launched("--num_processes 2 --output_dir out --num_train_epochs 3")
        assert (args.module, args.training_script) == (True, "hf_lotus.cli.main")
        assert args.training_script_args == "unlearn --output_dir out --num_train_epochs 3".split()

    @pytest.mark.parametrize(
        ("flags", "several"),
        [("--num_processes 2", True), ("--num_processes 1", False), ("--mixed_precision no", False)],
    )
    def test_several_processes_where_several_were_asked_for(self, launched, flags, several):
        """Of itself accelerate starts one where it finds no GPU, whatever the number."""
        assert launched(flags).multi_gpu is several

    def test_a_configuration_of_one_process_and_another_number(self, launched, tmp_path):
        config = yaml.safe_load((SHIPPED / "ddp.yaml").read_text())
        path = tmp_path / "one.yaml"
        path.write_text(yaml.safe_dump({**config, "distributed_type": "NO", "num_processes": 1}))
        assert launched(f"--config_file {path}").multi_gpu is False
        assert launched(f"--config_file {path} --num_processes 3").multi_gpu is True

    @pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero2"])
    def test_a_configuration_decides_how(self, launched, name):
        assert launched(f"--accelerate_config {name} --num_processes 2").multi_gpu is False


KINDS = {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP, "deepspeed_zero2": DistributedType.DEEPSPEED}


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_understands_the_configurations_that_are_shipped(name):
    assert config_files().keys() == KINDS.keys()
    config = load_config_from_file(str(config_files()[name]))
    assert config.distributed_type == KINDS[name]
    parser = launch_command_parser()
    args, defaults, _ = _validate_launch_command(
        parser.parse_args(["--config_file", str(SHIPPED / f"{name}.yaml"), "x"])
    )
    assert [args.multi_gpu, args.use_fsdp, args.use_deepspeed] == [kind == KINDS[name] for kind in KINDS.values()]
    assert args.num_processes == 2 and args.mixed_precision == "no"
    if name == "fsdp2":
        assert (args.fsdp_version, args.fsdp_cpu_ram_efficient_loading) == (2, False)
        assert args.fsdp_state_dict_type == "FULL_STATE_DICT"
    if name == "deepspeed_zero2":
        assert defaults.deepspeed_config["zero_stage"] == args.zero_stage == 2


def test_the_help_names_them(capsys):
    with pytest.raises(SystemExit):
        main(["unlearn", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--num_processes 4, and --accelerate_config takes a file" in told and "ddp, deepspeed_zero2, fsdp2" in told


def test_two_ranks_by_flag(tmp_path, digits, processor):
    """The command as in the README, on a machine without a GPU."""
    (tmp_path / "data").mkdir()
    for name, rows in {"train": range(300), "validation": range(300, 360), "test": range(360, 400)}.items():
        digits.shuffle(seed=0).select(rows).to_parquet(tmp_path / "data" / f"{name}-00000.parquet")
    TINY_MODELS["vit"]().save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    command = "unlearn --accelerate_config ddp --num_processes 2 --main_process_port 0 --use_cpu --method finetune"
    command += (
        " --model_name_or_path model --dataset_name data --forget_fraction 0.1 --output_dir out --disable_tqdm 1"
    )
    command += " --num_train_epochs 1 --per_device_train_batch_size 32 --seed 3 --keep_checkpoints 1"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-m", "hf_lotus.cli.main", *command.split()]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("| finetune") == 1
    result = UnlearningResult.from_json(tmp_path / "out" / "results.json")
    assert result.provenance["processes"] == 2
    assert result.provenance["arguments"]["batch_size"] == 64
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert json.loads((checkpoint / "unlearning_run.json").read_text())["run"]["arguments"]["number of processes"] == 2
