"""A run goes on from a checkpoint that is whole, whatever was written after it."""

from hf_lotus.trainer.checkpoints import last_whole_checkpoint


def test_the_last_whole_one_by_number(tmp_path):
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
    for name, state in {"2": "{}", "9": "{}", "10": "{}", "11": '{"epoch": ', "best": "{}"}.items():
        (tmp_path / f"checkpoint-{name}").mkdir()
        (tmp_path / f"checkpoint-{name}" / "trainer_state.json").write_text(state)
        (tmp_path / f"checkpoint-{name}" / "optimizer.pt").touch()
    (tmp_path / "checkpoint-12").mkdir()
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
