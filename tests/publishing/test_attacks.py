"""Attacks on what is published: every one in the list is found, and named, by `hf-lotus verify`."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from hf_lotus.cli.main import main
from tests.publishing.attacks import ATTACKS

THREATS = Path(__file__).parents[2] / "docs" / "threats.md"
TRAINING = ["--num_train_epochs", "1", "--stop_margin", "2", "--use_cpu", "True", "--disable_tqdm", "True"]
TRAINING += ["--learning_rate", "1e-3", "--save_strategy", "no"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_and_data):
    """A model that was made to forget two users, what it was made of, and a queue that has served two runs."""
    root = tmp_path_factory.mktemp("place")
    shuffled = model_and_data(root)
    config = json.loads((root / "model" / "config.json").read_text())
    names = shuffled.features["label"].names
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: n for n, name in enumerate(names)}}
    (root / "model" / "config.json").write_text(json.dumps(config))
    row = shuffled["user_id"][:250].index("u3")
    shuffled[row]["image"].save(root / "in.png")
    (root / "in.label").write_text(str(shuffled[row]["label"]))
    before = os.getcwd()
    os.chdir(root)
    given = ["--model_name_or_path", "model", "--dataset_name", "data", *TRAINING]
    chosen = ["--forget_column", "user_id", "--forget_values"]
    try:
        assert main(["unlearn", *given, *chosen, "u3", "u7", "--output_dir", "unlearned"]) == 0
        for user in ("u3", "u9"):
            assert main(["request", "add", *chosen, user]) == 0
            assert main(["request", "run", *given]) == 0
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def copy(place, tmp_path):
    shutil.copytree(place, tmp_path / "place")
    return tmp_path / "place"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.who}: {attack.name}")
def test_attack(attack, copy, capsys):
    problem = attack.run(copy, lambda: capsys.readouterr().out)
    assert problem is None, problem


@pytest.mark.parametrize("means", sorted({attack.means for attack in ATTACKS}))
def test_without_an_attack_everything_holds(means, place, capsys):
    """Or a check that always fails would find them all."""
    words = means.replace("ROOT", str(place)).split()
    named = words and not words[0].startswith("--")
    assert main(["verify", *([] if named else [str(place / "unlearned")]), *words]) == 0, capsys.readouterr().out


def test_the_threat_table_counts_them_and_names_tests_that_there_are():
    text = THREATS.read_text(encoding="utf-8")
    assert f"{len(ATTACKS)} attacks" in text
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?(?:::(\w+))?`", text)
    assert len(named) > 10
    for file, *names in named:
        source = (THREATS.parents[1] / file).read_text(encoding="utf-8")
        for name in filter(None, names):
            assert re.search(rf"^ *(?:class|def) {name}\b", source, re.MULTILINE), f"{file} has no {name}"
