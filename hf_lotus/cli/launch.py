"""Launching a command on many devices: accelerate's flags, taken beside the command's own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from subprocess import CalledProcessError

from accelerate.commands.config import default_config_file, load_config_from_file
from accelerate.commands.launch import launch_command, launch_command_parser
from accelerate.utils import DistributedType
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from hf_lotus.utils.text import nearest

CONFIG_FLAG = "--accelerate_config"
# Flags that training arguments have too are theirs; these say what is to be run, which is known here.
_NOT_TAKEN = {"--help", "--debug", "--gradient_accumulation_steps", "--module", "--no_python"}
# How accelerate is told to start processes; without one of these it starts a single one, whatever their number.
_WAYS = ("multi_gpu", "tpu", "use_deepspeed", "use_fsdp", "use_megatron_lm")
# In a wheel, and in a clone.
_FOLDERS = [
    Path(__file__).parents[1] / "accelerate_configs",
    Path(__file__).parents[2] / "examples" / "accelerate_configs",
]


def config_files() -> dict[str, Path]:
    """Name → file of the configurations for `accelerate launch` that come with the package."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def launch_help() -> str:
    """What the help of a command says of these flags."""
    return (
        "On many devices: every flag of `accelerate launch` may stand beside these, such as --num_processes 4, and "
        f"{CONFIG_FLAG} takes a file that `accelerate config` wrote, or the name of one that comes with hf-lotus: "
        f"{', '.join(config_files())}."
    )


def split_launch(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line into the flags of `accelerate launch` and the rest.

    Args:
        argv: the arguments after the command's name.

    Returns:
        accelerate's flags, `--accelerate_config` replaced by the file it names, and the command's own arguments.

    Raises:
        ValueError: for a configuration that does not exist, or a flag without its value.
    """
    flags = {
        flag: 1 if action.nargs is None else action.nargs
        for action in launch_command_parser()._actions
        for flag in action.option_strings
        if flag.startswith("--") and f"--{flag[2:].replace('-', '_')}" not in _NOT_TAKEN
    }
    flags[CONFIG_FLAG] = 1
    launching, rest, tokens = [], [], list(argv)
    while tokens:
        flag, joined, value = tokens.pop(0).partition("=")
        if flag not in flags:
            rest.append(flag + joined + value)
            continue
        values = [value] if joined else tokens[: flags[flag]]
        if len(values) != max(flags[flag], bool(joined)):
            raise ValueError(f"{flag} needs a value.")
        tokens = tokens if joined else tokens[flags[flag] :]
        if flag == CONFIG_FLAG:
            flag, values = "--config_file", [_config_file(*values)]
        launching += [flag, *values]
    return launching, rest


def _config_file(given: str) -> str:
    shipped = config_files()
    if os.path.isfile(given):
        return given
    if given not in shipped:
        raise ValueError(
            f"There is no accelerate configuration {given!r}: neither a file nor one that comes with hf-lotus. "
            f"{nearest(given, list(shipped))}"
        )
    return str(shipped[given])


def launch(command: str, launching: Sequence[str], argv: Sequence[str]) -> int:
    """Run `hf-lotus COMMAND` in as many processes as accelerate's flags ask for; return the exit status.

    Args:
        command: the command's name.
        launching: accelerate's flags, as `split_launch` gives them.
        argv: the command's own arguments.

    Raises:
        ValueError: for flags that accelerate does not take together.
    """
    parsed = launch_command_parser().parse_args([*launching, "--module", "hf_lotus.cli.main", command, *argv])
    _settle(parsed)
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        # Each process has said what was wrong.
        return max(error.get_first_failure()[1].exitcode, 1)
    except CalledProcessError as error:
        return max(error.returncode, 1)
    return 0


def _settle(parsed: argparse.Namespace) -> None:
    """See to it that there will be as many processes as were asked for."""
    config = None
    if parsed.config_file is not None or os.path.isfile(default_config_file):
        config = load_config_from_file(parsed.config_file)
    else:
        # What accelerate takes anyway, and else warns of.
        for name, value in {"num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no"}.items():
            if getattr(parsed, name) is None:
                setattr(parsed, name, value)
    number = parsed.num_processes or getattr(config, "num_processes", 1) or 1
    if number < 2:
        return
    if parsed.cpu:
        raise ValueError(
            f"--cpu has accelerate start one process, and {number} were asked for. Give --use_cpu instead, which is "
            "the training arguments' own."
        )
    single = config is None or config.distributed_type in (DistributedType.NO, DistributedType.MULTI_CPU)
    if single and not any(getattr(parsed, way) for way in _WAYS):
        # With --use_cpu also right: it is the launcher that starts several processes.
        parsed.multi_gpu = True
