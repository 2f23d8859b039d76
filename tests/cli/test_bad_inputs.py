"""What people give that cannot be used: refused in one line that names it, with status 2, and nothing left behind."""

import errno
import io
import sys

import pytest

from hf_lotus.cli.errors import BUG, INTERRUPTED, report
from hf_lotus.cli.main import main
from hf_lotus.cli.terminal import Escaping
from tests.support.bad_inputs import BAD_INPUTS, BadInput, give
from tests.support.bad_materials import Materials


@pytest.fixture(scope="module")
def materials(tmp_path_factory, processor):
    return Materials(tmp_path_factory.mktemp("materials"), processor)


def test_there_are_enough_and_no_two_alike():
    assert len(BAD_INPUTS) >= 120
    assert len({(bad.command, bad.words, str(bad.files)) for bad in BAD_INPUTS}) == len(BAD_INPUTS)


# "executed" is what the code of a hostile repository or file would leave behind.
@pytest.mark.parametrize("bad", BAD_INPUTS, ids=str)
def test_bad_input(bad: BadInput, materials, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    bad.argv(materials)  # makes what it needs
    outcome = give(bad, materials, tmp_path)
    assert not outcome.trace, outcome.trace
    assert outcome.status == 2, outcome.error
    assert outcome.kind(bad.says) == "refused in one line", outcome.error
    assert outcome.error.startswith("hf-lotus ") and outcome.left == ()


def unlearning(materials, *more):
    words = [
        "--model_name_or_path",
        materials.model,
        "--dataset_name",
        materials.data,
        "--forget_rows",
        materials.rows,
    ]
    words += ["--output_dir", "out", "--num_train_epochs", "2", "--use_cpu", "True", "--disable_tqdm", "True"]
    words += ["--stop_margin", "2", "--duplicates", "ignore", "--save_strategy", "no", *more]
    return main(["unlearn", *map(str, words)])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def raising(monkeypatch, what, error, after=0):
    """Have a method of the trainer raise from its call `after` on."""
    from hf_lotus import UnlearningTrainer

    kept, calls = getattr(UnlearningTrainer, what), []

    def broken(self, *args, **kwargs):
        calls.append(what)
        if len(calls) > after:
            raise error
        return kept(self, *args, **kwargs)

    monkeypatch.setattr(UnlearningTrainer, what, broken)


def only_line(capsys):
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("hf-lotus")]
    return line


def test_a_full_disk_leaves_nothing_half_written(materials, here, monkeypatch, capsys):
    full = OSError(errno.ENOSPC, "No space left on device", "out/model.safetensors")

    def write(path, *_, **__):
        (here / path).write_bytes(b"half")
        raise full

    monkeypatch.setattr("hf_lotus.publishing.evidence.comparison_figure", lambda *a: write("out/entropy.png"))
    assert unlearning(materials) == 2
    assert only_line(capsys).startswith(
        "hf-lotus unlearn: out/model.safetensors: No space left on device. The disk is"
    )
    assert not list(here.iterdir())


def test_ctrl_c_before_there_is_a_checkpoint_leaves_nothing(materials, here, monkeypatch, capsys):
    raising(monkeypatch, "training_step", KeyboardInterrupt(), after=1)
    assert unlearning(materials) == INTERRUPTED
    assert only_line(capsys) == "hf-lotus unlearn: interrupted." and not list(here.iterdir())


def test_ctrl_c_after_one_leaves_what_the_run_goes_on_from(materials, here, monkeypatch, capsys):
    saving = ["--save_strategy", "steps", "--save_steps", "1", "--per_device_train_batch_size", "8"]
    with monkeypatch.context() as patch:
        raising(patch, "training_step", KeyboardInterrupt(), after=3)
        assert unlearning(materials, *saving) == INTERRUPTED
    assert [path.name for path in (here / "out").glob("checkpoint-*")] and (here / "out.forget_set.salt").is_file()
    assert not (here / "out" / "model.safetensors").exists() and not (here / "out" / ".lock").exists()
    assert only_line(capsys) == "hf-lotus unlearn: interrupted."
    assert unlearning(materials, *saving) == 2
    assert "--resume_from_checkpoint True goes on with the run in it" in only_line(capsys)
    assert unlearning(materials, *saving, "--resume_from_checkpoint", "True") == 0
    assert not list((here / "out").glob("checkpoint-*")), "they know what was forgotten"


def test_a_bug_says_that_it_is_one(materials, here, monkeypatch, capsys):
    raising(monkeypatch, "training_step", AttributeError("no such thing\nat all"))
    assert unlearning(materials) == BUG
    told = "AttributeError: no such thing at all (This is a bug of hf-lotus: HF_LOTUS_DEBUG=1 shows where.)"
    assert only_line(capsys) == f"hf-lotus unlearn: {told}"
    monkeypatch.setenv("HF_LOTUS_DEBUG", "1")
    with pytest.raises(AttributeError):
        unlearning(materials)
    assert not list(here.iterdir())


def test_of_two_runs_into_one_folder_the_second_is_refused(materials, here, capsys):
    from hf_lotus.trainer.output_folder import claimed

    with claimed("out", sources={}):
        assert unlearning(materials, "--overwrite_output_dir", "True") == 2
        assert "Another run is writing into out" in only_line(capsys)
    assert not (here / "out.forget_set.salt").exists()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "The memory is full"),
        (ModuleNotFoundError("No module named 'evaluate'"), "not installed here"),
        (OSError(errno.EACCES, "Permission denied", "x\x1b[2J"), r"x\x1b[2J: Permission denied. You may not"),
        (EOFError(), "EOFError"),
    ],
)
def test_what_libraries_raise(error, says):
    line, status = report(error, "unlearn")
    assert says in line and status == 2 and line.isprintable()


def test_a_reader_that_has_gone_is_no_error():
    assert report(BrokenPipeError(errno.EPIPE, "Broken pipe"), "list") == ("", 141)


def test_control_characters_are_shown_and_bars_may_move():
    stream = io.StringIO()
    escaping = Escaping(stream)
    escaping.write("class \x1b[2Jcat\u202e\ud800\n")
    escaping.write("\r50%\x1b[31m")
    escaping.write("\x1b[A")
    assert stream.getvalue() == "class \\x1b[2Jcat\\u202e\\ud800\n\r50%\\x1b[31m\x1b[A"


def test_names_reach_a_terminal_escaped(here, capsys):
    assert main(["card", "\x1b[31mred"]) == 2
    assert "\\x1b[31mred" in capsys.readouterr().err
    assert type(sys.stdout) is not Escaping
