"""A folder for one run: refused where it is another's, and left as it was where the run is refused."""

import pytest

from hf_lotus.trainer.output_folder import claimed, holds_model, remove_work


def test_what_was_there_stays_and_what_was_made_goes(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(RuntimeError), claimed(tmp_path / "out", sources={}, overwrite=True, salt=tmp_path / "salt"):
        (tmp_path / "out" / "teacher_logits").mkdir()
        (tmp_path / "out" / "half").write_text("written")
        (tmp_path / "salt").write_text("new")
        raise RuntimeError
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["out", "out/notes.txt"]


def test_a_salt_that_was_there_and_checkpoints_stay(tmp_path):
    (tmp_path / "salt").write_text("old")
    with pytest.raises(RuntimeError), claimed(tmp_path / "a" / "b", sources={}, salt=tmp_path / "salt") as folder:
        (folder / "checkpoint-1").mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise RuntimeError
    assert (folder / "checkpoint-1").is_dir() and not (folder / "model.safetensors").exists()
    assert (tmp_path / "salt").read_text() == "old"
    remove_work(folder)
    assert not list(folder.iterdir())


def test_folders_made_on_the_way_go_too(tmp_path):
    with pytest.raises(RuntimeError), claimed(tmp_path / "a" / "b", sources={}):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("x"), "is a file"),
        (lambda path: (path.mkdir(), (path / "x").touch()), "is not empty"),
    ],
)
def test_refused(tmp_path, make, message):
    make(tmp_path / "out")
    with pytest.raises(ValueError, match=message), claimed(tmp_path / "out", sources={}):
        raise AssertionError


def test_no_source_is_ever_written_over(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "model")
    (tmp_path / "model").mkdir()
    for name in ("model", "link"):
        with (
            pytest.raises(ValueError, match="the model's own folder"),
            claimed(tmp_path / name, sources={"model": str(tmp_path / "model")}, overwrite=True),
        ):
            raise AssertionError


def test_a_model_is_told_by_its_weights_or_its_record(tmp_path):
    assert not holds_model(tmp_path)
    (tmp_path / "forget_set.json").touch()
    assert holds_model(tmp_path)
