"""A method of another distribution, found by its entry point, is a method like ours; a broken one is named."""

import json
import os
import subprocess
import sys

import pytest

from hf_lotus.benchmark.contenders import choose, read_entry
from hf_lotus.cli.main import main
from hf_lotus.cli.parsing import parse
from hf_lotus.methods import METHODS, describe, name_of
from hf_lotus.methods.options import build_method, inner_names
from hf_lotus.methods.registry import GROUP
from hf_lotus.publishing.citations import citations
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.utils.plugins import PluginError
from tests.support.plugins import write_distribution

TOY = '''
    """Ascend on what is forgotten."""
    from __future__ import annotations

    from dataclasses import dataclass
    from typing import ClassVar

    import torch
    import torch.nn.functional as F

    from hf_lotus.methods import GradientMethod, Paper


    @dataclass(frozen=True)
    class Toy(GradientMethod):
        """Ascend.

        Attributes:
            strength: how hard, in 100 % of
                the loss.
            lr_rounds: some rounds.
        """

        name: ClassVar[str] = "toy"
        paper: ClassVar[Paper] = Paper("doe2030toy", "Toys", "Doe, Jane", "Toy Conference", 2030, "3001.00001")

        strength: float = 0.5
        lr_rounds: tuple[int, ...] = ()

        def loss(self, inputs):
            """The loss of each sample."""
            loss = F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")
            return torch.where(inputs.is_forget, -self.strength * loss, loss)
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function: puts a distribution with one method on the path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def write(entry="toy", distribution="toy-unlearning", module="toy_unlearning", source=TOY, attribute="Toy"):
        write_distribution(folder, distribution, GROUP, {entry: f"{module}:{attribute}"}, {module: source})
        monkeypatch.delitem(sys.modules, module, raising=False)
        return folder

    return write


def test_it_is_chosen_built_described_and_cited_as_ours_are(install):
    install()
    assert list(METHODS)[-1] == "toy" and "toy" in inner_names()
    (method,) = parse(["--method", "toy", "--strength", "2", "--lr_rounds", "1", "2"], [], "unlearn", method="lotus")
    assert method == build_method("toy", {"strength": "2", "lr_rounds": [1, "2"]})
    assert name_of(method) == "toy"
    assert describe(method) == {"name": "toy", "strength": 2.0, "lr_rounds": (1, 2)}
    entry = {"method": "toy", "strength": 3, "learning_rate": "1e-3"}
    assert read_entry("mine", entry) == (build_method("toy", {"strength": 3}), {"learning_rate": 1e-3})
    assert "toy" in choose(["all"], {}, has_retrain=False)
    assert build_method("salun", {"strength": 2}, inner="toy").inner == METHODS["toy"](strength=2.0)
    assert "@inproceedings{doe2030toy," in citations(describe(method))


@pytest.mark.exhaustive  # what is imported for it takes ten times as long as all other tests here
def test_its_help_in_a_process_of_its_own(install):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(install()), *sys.path]), "COLUMNS": "200"}
    command = [sys.executable, "-m", "hf_lotus.cli.main", "unlearn", "--method", "toy", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = " ".join(done.stdout.split())
    assert "--strength STRENGTH [Toy] how hard, in 100 % of the loss. (default: 0.5)" in shown
    assert ",retrain,toy}" in shown


def test_it_stands_in_a_comparison(install, tmp_path, model_and_data, datasets_cache):
    install()
    model_and_data(tmp_path)
    command = ["compare", "--model_name_or_path", tmp_path / "model", "--dataset_name", tmp_path / "data", "--use_cpu"]
    command += ["--methods", "toy", "finetune", "--forget_fraction", "0.1", "--num_train_epochs", "1"]
    command += ["--output_dir", tmp_path / "out", "--disable_tqdm", "True"]
    assert main(list(map(str, command))) == 0
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["name"] for row in document["models"]] == ["original", "toy", "finetune"]
    assert document["provenance"]["methods"]["toy"]["strength"] == 0.5


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("(frozen=True)", "", "cannot be loaded: TypeError"),
        ("    @dataclass(frozen=True)\n", "", "must be a dataclass with frozen=True"),
        ('name: ClassVar[str] = "toy"', "", "Toy.name must be the entry point's, 'toy', got None"),
        ("def loss(", "def los(", "does not define loss"),
        ("strength: float = 0.5", "strength: float", "needs defaults of strength"),
        (
            'Paper("doe2030toy", "Toys", "Doe, Jane", "Toy Conference", 2030, "3001.00001")',
            '"a paper"',
            "Paper or None",
        ),
        ("import torch\n", "import no_such_module\n", "cannot be loaded: ModuleNotFoundError"),
        ("class Toy(GradientMethod)", "class Toy", "a GradientMethod or a WeightEdit"),
    ],
)
def test_a_broken_one_is_named_with_its_distribution_and_breaks_no_other(install, capsys, old, new, told):
    source = TOY.replace(old, new)
    assert source != TOY
    if old == "(frozen=True)":  # a frozen parent's field cannot be inherited by one that is not
        source = TOY.replace(
            "    @dataclass(frozen=True)\n    class Toy(GradientMethod)",
            "    from hf_lotus.methods import LoTUS\n\n    @dataclass\n    class Toy(LoTUS)",
        )
    install(source=source)
    with pytest.raises(PluginError, match=f"The method 'toy' of toy-unlearning 1.0 .*{told}"):
        METHODS["toy"]
    assert main(["unlearn", "--method", "toy"]) == 2
    assert "toy-unlearning 1.0" in capsys.readouterr().err
    assert "toy" not in inner_names() and METHODS["lotus"].name == "lotus"
    with pytest.raises(SystemExit) as end:
        main(["unlearn", "--help"])
    assert end.value.code == 0 and "[LoTUS]" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert citations({"name": "toy"}) == citations({"name": "lotus"})


def test_a_name_of_ours_is_not_taken_silently(install, capsys):
    install(entry="lotus", source=TOY.replace('"toy"', '"lotus"'))
    assert main(["unlearn", "--method", "lotus", "--help"]) == 2
    assert "'lotus' is offered by hf_lotus and by toy-unlearning 1.0" in capsys.readouterr().err
    assert name_of(METHODS.own["lotus"]()) == "lotus" and METHODS["scrub"].name == "scrub"


def test_a_field_named_as_an_option_is_refused(install, tmp_path):
    install(source=TOY.replace("strength", "learning_rate"))
    with pytest.raises(ValueError, match="field of the method 'toy' has the name of another option: .*learning_rate"):
        parse(["--method", "toy"], [UnlearningArguments], "unlearn", method="lotus")
    with pytest.raises(ValueError, match="mine: the method has learning_rate, which a training argument is called"):
        read_entry("mine", {"method": "toy"})


def test_papers_of_one_key_are_one():
    papers = [kind.paper for kind in METHODS.own.values() if kind.paper is not None]
    assert len({paper.key for paper in papers}) == len(set(papers))
