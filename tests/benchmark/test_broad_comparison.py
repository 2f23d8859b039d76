"""The comparison over many settings: its data, its choices, figures by hand, and that what is published is of it."""

import argparse
import json
import math
import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from broad_comparison import UNSEEN_A_CLASS, Cell, configurations, forget_rows
from broad_relearning import ROUNDS, calibration, rounds_to_halfway
from broad_report import (
    FROM_RETRAIN,
    METHODS,
    cell_table,
    choice_table,
    choose,
    group_table,
    main,
    metric_table,
    overall_table,
    plain_table,
)
from torch import nn

from hf_lotus import Contender, LoTUS, UnlearningResult
from hf_lotus.evaluation.results import Controls, ModelResult

ROOT = Path(__file__).parents[2]
CONTROLS = Controls(0.8, 0.6, 0.002, 0.0003, 0.07)


class TestData:
    def test_every_class_gives_its_share(self):
        labels = np.repeat(np.arange(10), 100)
        assert np.bincount(labels[forget_rows(labels, "10 %", 0)]).tolist() == [10] * 10
        assert np.bincount(labels[forget_rows(labels, "50 %", 0)]).tolist() == [50] * 10

    def test_most_of_a_skewed_set_is_of_two_classes(self):
        labels = np.repeat(np.arange(10), 100)
        rows = forget_rows(labels, "10 %, skewed", 0)
        counts = np.sort(np.bincount(labels[rows], minlength=10))
        assert len(np.unique(rows)) == len(rows) == 100
        assert counts[-2:].sum() == 80
        assert not np.array_equal(rows, forget_rows(labels, "10 %, skewed", 1))

    @pytest.fixture
    def options(self, tmp_path, monkeypatch):
        monkeypatch.setattr("broad_comparison.train", lambda *_, **__: None)  # what it is of does not matter here
        return argparse.Namespace(output_dir=str(tmp_path), cifar10="")

    def test_few_unseen_samples_change_nothing_else(self, options):
        few, all_unseen = (
            Cell("digits", "resnet", how, 0, options).settings() for how in ("10 %, few unseen", "10 %")
        )
        labels = np.array(few["unseen_dataset"]["label"])
        assert np.bincount(labels).tolist() == [UNSEEN_A_CLASS] * 10
        assert len(all_unseen["unseen_dataset"]) > len(labels)
        for name in ("forget_dataset", "retain_dataset", "eval_dataset"):
            assert few[name]["label"] == all_unseen[name]["label"]

    def test_a_cell_leaves_its_result_once(self, options, monkeypatch):
        monkeypatch.setattr(
            "broad_comparison.configurations", lambda: {"lotus-0": Contender(LoTUS(), {"num_train_epochs": 1})}
        )
        cell = Cell("digits", "vit", "10 %, skewed", 2, options)
        cell.run()
        path = Path(options.output_dir) / "digits-vit-10-skewed-seed2" / "results.json"
        result = UnlearningResult.from_json(path)
        assert result.provenance["cell"] == ["digits", "vit", "10 %, skewed", 2]
        assert [model.name for model in result.models] == ["original", "lotus-0", "retrain"]
        assert result["lotus-0"].avg_gap is not None
        written = path.stat().st_mtime_ns
        cell.run()
        assert path.stat().st_mtime_ns == written

    def test_every_method_may_choose_among_as_many(self):
        counts = defaultdict(int)
        for name in configurations():
            counts[name.partition("-")[0]] += 1
        assert set(counts.values()) == {4}
        assert {row for rows in METHODS.values() for row in rows} == {*configurations(), "original", "retrain"}


def result(seed=0):
    """Of every configuration; number 2 of each has the least retrain-free gap, and number 1 the least Avg Gap."""
    models = []
    for place, name in enumerate(["original", *configurations(), "retrain"]):
        number = int(name[-1]) if name[-1].isdigit() else 9
        gaps = {
            "retrain_free_gap": 0.1 + abs(number - 2),
            "avg_gap": 0.2 + abs(number - 1) + 0.001 * place + 0.01 * seed,
        }
        rates = {
            "mia_member_rate": 0.6,
            "seconds": 1.0,
            "jsd": 0.1 + 0.01 * place,
            "rf_jsd": 0.01 * place,
            "rf_jsd_z": place,
        }
        models.append(ModelResult(name, 0.9, 0.9, 0.8, 0.8, **rates, **gaps))
    return UnlearningResult(tuple(models), CONTROLS, (), {"cell": ["digits", "vit", "10 %", seed]})


class TestReport:
    def test_the_choice_is_by_the_retrain_free_gap(self):
        chosen = choose(result())
        assert chosen["scrub_r"].name == "scrub_r-2"
        assert chosen["lotus, α = 2"].name == "lotus-1"  # it has no number 2
        assert chosen["lotus"].name == "lotus-2"

    def test_what_the_choice_costs(self):
        cell = ("digits", "vit", "10 %")
        table = choice_table({cell: [choose(result(0)), choose(result(1))]}, {cell: [result(0), result(1)]})
        # Names stand at places 1 … 24: lotus-2 is third, lotus-1 second; the mean of two seeds adds 0.005.
        assert re.search(r"\| lotus +\| +1\.2080 \| +0\.2070 \|", table)

    def test_files(self, tmp_path, monkeypatch):
        for seed in (0, 1):
            (tmp_path / f"cell{seed}").mkdir()
            result(seed).to_json(tmp_path / f"cell{seed}" / "results.json")
        monkeypatch.setattr("sys.argv", ["broad_report.py", str(tmp_path), "--output", str(tmp_path / "out")])
        main()
        entries = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
        assert [entry["seed"] for entry in entries] == [0, 1]
        assert entries[0]["models"]["salun"]["configuration"] == "salun-2"
        assert len(entries[0]["retrain_free_gap_and_avg_gap"]) == 26
        assert "2 seeds each" in (tmp_path / "out.md").read_text(encoding="utf-8")
        assert (tmp_path / "out.png").stat().st_size > 10_000

    def test_an_empty_folder(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("sys.argv", ["broad_report.py", str(tmp_path)])
        with pytest.raises(SystemExit):
            main()
        assert "run broad_comparison.py first" in capsys.readouterr().err


class Fixed(nn.Module):
    """Its logits are what it is given."""

    def forward(self, pixel_values):
        return SimpleNamespace(logits=pixel_values)


class TestRelearning:
    def test_calibration_by_hand(self):
        # 0.9 sure and right, 0.6 sure and wrong: (0.1 + 0.6) / 2, and the mean of −ln 0.9 and −ln 0.4.
        logits = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log()
        found = calibration(Fixed(), logits, torch.tensor([0, 1]))
        assert found["ece"] == pytest.approx(0.35, abs=1e-6)
        assert found["nll"] == pytest.approx(-(math.log(0.9) + math.log(0.4)) / 2, abs=1e-6)

    def test_half_of_what_retraining_takes_away(self):
        curves = {
            "original": [1.0] * (ROUNDS + 1),
            "retrain": [0.5] * (ROUNDS + 1),
            "back": [0.5, 0.7, 0.75] + [0.8] * (ROUNDS - 2),
            "gone": [0.5] * ROUNDS + [0.74],
        }
        seeds = [{name: {"forget_accuracy": curve} for name, curve in curves.items()}]
        assert rounds_to_halfway(seeds, "back") == "2"
        assert rounds_to_halfway(seeds, "gone") == f"over {ROUNDS}"


class TestPublished:
    """What stands in the pages is what was measured; tests/test_docs.py holds the README and the results to them."""

    def test_the_tables_are_of_the_figures(self):
        chosen, results = defaultdict(list), defaultdict(list)
        for entry in json.loads((ROOT / "docs/broad_comparison.json").read_text(encoding="utf-8")):
            models = {name: dict(values) for name, values in entry["models"].items()}
            chosen[tuple(entry["cell"])].append(
                {name: ModelResult(values.pop("configuration"), **values) for name, values in models.items()}
            )
            results[tuple(entry["cell"])].append(SimpleNamespace(controls=Controls(**entry["controls"])))
        text = (ROOT / "docs/broad_comparison.md").read_text(encoding="utf-8")
        assert group_table(chosen) in text
        assert overall_table(chosen, results) in text
        assert metric_table(chosen, results, [*FROM_RETRAIN, "seconds"]) in text
        assert metric_table(chosen, results, ["rf_jsd", "rf_jsd_z", "retrain_free_gap"]) in text
        for metric, decimals in {"avg_gap": 4, "jsd": 4}.items():
            assert cell_table(chosen, metric, decimals) in text
        for metric, decimals in {"rf_jsd_z": 1, "forget_accuracy": 3, "mia_member_rate": 3}.items():
            assert plain_table(chosen, metric, decimals) in text
