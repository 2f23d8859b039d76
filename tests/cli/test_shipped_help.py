"""The help that is shipped is that of the parsers, and it and the queue take no second of importing."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from hf_lotus.cli import shipped_help
from hf_lotus.cli.devices import DeviceArguments
from hf_lotus.cli.flags import flag_parser, parse_text_flags, text_flag_parser
from hf_lotus.cli.main import main
from hf_lotus.cli.queue_arguments import QueueArguments
from hf_lotus.cli.request import AddArguments
from hf_lotus.cli.shipped_help import SHIPPED, shipped_parser
from hf_lotus.cli.write_help import built_parser, commands, document
from tests.support.plugins import write_distribution

SLOW = {"torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "matplotlib", "pandas", "jsonschema"}


def test_the_shipped_help_is_what_the_parsers_have():
    now = document()
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == now, "python -m hf_lotus.cli.write_help writes it anew"
    assert [name for name, told in now["commands"].items() if told["trains"]] == ["unlearn", "compare", "request run"]


def test_every_command_that_runs_a_model_can_be_kept_off_a_gpu():
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    flags = {
        command: {name for option in told["options"] for name in shipped["options"][option]["names"]}
        for command, told in shipped["commands"].items()
    }
    for command in ("unlearn", "compare", "evaluate", "audit", "verify", "benchmark", "pool", "request run"):
        assert "--use_cpu" in flags[command], command


@pytest.mark.parametrize(("words", "chosen"), [({"use_cpu": True}, "cpu"), ({"device": "cuda:1"}, "cuda:1")])
def test_the_device_is_what_is_asked_for(words, chosen):
    assert DeviceArguments(**words).chosen == chosen


def test_a_gpu_and_none_are_not_asked_for_at_once():
    with pytest.raises(ValueError, match="--use_cpu and --device cuda exclude each other: leave one out"):
        DeviceArguments(use_cpu=True, device="cuda")


@pytest.mark.parametrize("columns", [60, 200])
def test_it_reads_as_that_of_the_parsers(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in commands():
        shown = shipped_parser([*command.split(), "--help"])
        assert shown.format_help() == built_parser(command).format_help(), command


def test_it_is_printed_and_ends_the_command(capsys):
    for asked in ("--help", "-h"):
        with pytest.raises(SystemExit) as stopped:
            main(["compare", asked])
        assert stopped.value.code == 0
        assert capsys.readouterr().out.startswith("usage: hf-lotus compare [-h] --model_name_or_path")


@pytest.mark.parametrize(
    "words",
    [[], ["compare"], ["--help"], ["request", "--help"], ["forget", "--help"], ["unlearn", "--method", "ssd", "-h"]],
)
def test_for_anything_else_the_parser_is_asked(words):
    assert shipped_parser(words) is None


@pytest.mark.parametrize("release", ["1.2.3", None])
def test_the_options_of_another_release_of_transformers_are_others(monkeypatch, release):
    monkeypatch.setattr(shipped_help, "installed", lambda: release)
    assert shipped_parser(["unlearn", "--help"]) is None
    assert shipped_parser(["verify", "--help"]) is not None


def test_a_plugin_is_in_the_help(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    source = """
from dataclasses import dataclass
from hf_lotus.methods import Finetune
@dataclass(frozen=True)
class Toy(Finetune):
    name = "helped"
"""
    write_distribution(tmp_path, "toy-help", "hf_lotus.methods", {"helped": "toy_help:Toy"}, {"toy_help": source})
    with pytest.raises(ValueError, match="with a plugin"):
        document()
    with pytest.raises(SystemExit):
        main(["unlearn", "--help"])
    assert "helped" in capsys.readouterr().out


@pytest.mark.parametrize(
    "code",
    [
        "import hf_lotus",
        "main('unlearn --help'.split())",
        "main('compare --help'.split())",
        "assert not main('request add --forget_class cat --id first'.split())",
        "assert not main('request list'.split())",
    ],
)
def test_what_is_done_in_a_moment_waits_for_no_import(tmp_path, monkeypatch, code):
    """Only what is imported is looked at: a time would be of the machine."""
    monkeypatch.chdir(tmp_path)
    assert main("request add --forget_class dog --id earlier".split()) == 0
    program = f"""
import sys
from hf_lotus.cli.main import main
try:
    {code}
except SystemExit as stopped:
    assert stopped.code == 0
print(sorted({SLOW} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")


@pytest.mark.parametrize("kind", [AddArguments, QueueArguments])
def test_flags_of_text_are_those_of_transformers(kind):
    ours, theirs = text_flag_parser(kind, "request"), flag_parser(kind, "request")
    assert ours.format_help() == theirs.format_help()
    words = ["--queue", "a", "--queue-repo", "b/c"]
    words += ["--forget-values", "x", "y"] if kind is AddArguments else []
    assert parse_text_flags(words, kind, "request") == theirs.parse_args_into_dataclasses(words)[0]


def test_what_is_no_flag(capsys):
    assert main(["request", "list", "--quue", "a"]) == 2
    assert "no option for --quue a; hf-lotus request list --help lists" in capsys.readouterr().err

    @dataclass
    class Counted:
        much: int = 3

    with pytest.raises(TypeError, match="much of Counted must be text or a list of text, got <class 'int'>"):
        text_flag_parser(Counted, "count")
