"""`hf-lotus pool`: from the command line to a pool that an audit opens, and models unlearned from it."""

import json

import numpy as np
import pytest

from hf_lotus.audit.pool import Pool
from hf_lotus.benchmark.recipe import FOLDER
from hf_lotus.cli.main import main
from hf_lotus.data.images import PixelPipeline
from tests.conftest import TINY_MODELS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pool")
    (path / "ada.json").write_text("[0, 5, 9]")
    (path / "bob.txt").write_text("3\n4\n")
    return path


@pytest.fixture
def pool(folder, data_folder, datasets_cache):
    def run(*more, output="out", models=2):
        command = ["pool", "--output_dir", folder / output, "--dataset_name", data_folder("cifar10"), "--use_cpu"]
        command += ["--disable_tqdm", "--max_train_rows", 120, "--max_training_rounds", 1, "--models", models, *more]
        return main(list(map(str, command)))

    return run


def test_a_pool_is_trained_opened_and_unlearned_from(pool, folder, data_folder, capsys):
    sets = ["--forget_sets", folder / "ada.json", folder / "bob.txt"]
    assert pool(*sets) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 done" in printed and "2 models of 2 (halves)" in printed
    made = Pool.open(folder / "out")
    assert {name: rows.tolist() for name, rows in made.forget_sets.items()} == {"ada": [0, 5, 9], "bob": [3, 4]}
    assert made.members[:, [0, 5, 9]].all(axis=1).sum() == 1 and made.plan["recipe"]["name"] == "cifar10-pool"
    assert (made.members.sum(axis=0) == 1).all()
    assert pool(*sets) == 0 and "1 of 2 done" not in capsys.readouterr().out
    command = ["pool", "--output_dir", folder / "out", "--unlearn", "random_labels", "--forget_set", "ada"]
    command += ["--label", "mine", "--use_cpu", "--disable_tqdm", True, "--num_train_epochs", 1]
    assert main(list(map(str, command))) == 0
    (unlearned,) = Pool.open(folder / "out").unlearned()
    assert (unlearned.label, unlearned.forget_set, len(unlearned.records)) == ("mine", "ada", 1)
    about = json.loads((unlearned.folder / "method.json").read_text())
    assert about["method"]["name"] == "random_labels" and about["arguments"]["num_train_epochs"] == 1
    moved = [*map(str, command), "--dataset_name", str(data_folder("cifar10")), "--forget_set", "bob"]
    assert main(moved) == 0
    assert main([*map(str, command), "--forget_set", "eve"]) == 2
    assert "no forget set 'eve'" in capsys.readouterr().err


def test_a_store_of_ready_images_serves_every_process_and_changes_nothing(pool, folder, monkeypatch):
    decoded = []
    prepare = PixelPipeline.prepare
    monkeypatch.setattr(
        PixelPipeline, "prepare", lambda self, images: decoded.append(len(images)) or prepare(self, images)
    )
    sets = ["--forget_sets", folder / "ada.json", folder / "bob.txt"]
    store = ["--ready_images_dir", folder / "ready"]
    assert pool(*sets, *store, "--dataloader_num_workers", 1, output="stored") == 0
    samples = Pool.open(folder / "stored").plan["samples"]
    assert sum(decoded) >= sum(samples.values())
    decoded.clear()
    assert pool(*sets, *store, output="again") == 0
    command = ["pool", "--output_dir", folder / "again", "--unlearn", "random_labels", "--forget_set", "ada"]
    command += ["--use_cpu", "--disable_tqdm", True, "--num_train_epochs", 1, *store]
    assert main(list(map(str, command))) == 0
    assert set(decoded) == {1}  # the pictures that processors are looked at with
    decoded.clear()
    assert pool(*sets, output="without") == 0 and sum(decoded) >= sum(samples.values())
    digests = {name: [each["weights_digest"] for each in Pool.open(folder / name).records] for name in
               ("stored", "again", "without")}  # fmt: skip
    assert digests["stored"] == digests["again"] == digests["without"]


def test_models_like_another_without_what_the_recipe_forgets(pool, folder, processor):
    like = folder / "like"
    model = TINY_MODELS["vit"]()
    model.save_pretrained(like)
    processor.save_pretrained(like)
    (folder / "pool.yaml").write_text((FOLDER / "cifar10-pool.yaml").read_text().replace("0.02", "0.2"))
    more = ["--recipe", folder / "pool.yaml", "--model_name_or_path", like]
    assert pool("--kind", "retrained", *more, output="retrained") == 0
    made = Pool.open(folder / "retrained")
    made.check(model)
    rows = made.forget_sets["recipe"]
    assert np.flatnonzero(~made.members[0]).tolist() == rows.tolist() and len(rows) > 0
    assert made.with_none(made.digests["train"][rows]).tolist() == [0, 1]
    assert not np.array_equal(made.logits("test")[0], made.logits("test")[1])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--recipe", "cifar10-pol"], "There is no recipe 'cifar10-pol'"),
        (["--recipe", "vit-imagenet"], "trains no model"),
        (["--models", "1"], "needs 2 models or more"),
    ],
)
def test_what_cannot_be_asked(pool, capsys, more, told):
    assert pool(*more, output="none") == 2
    assert told in capsys.readouterr().err


def test_forget_sets_are_named_after_their_files(pool, folder, capsys):
    (folder / "b").mkdir()
    (folder / "b" / "ada.json").write_text("[1]")
    (folder / "no name.json").write_text("[1]")
    assert pool("--forget_sets", folder / "ada.json", folder / "b" / "ada.json", output="none") == 2
    assert pool("--forget_sets", folder / "no name.json", output="none") == 2
    assert capsys.readouterr().err.count("is named after its file") == 2
