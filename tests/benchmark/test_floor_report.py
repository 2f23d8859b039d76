"""The tables with floors, by hand: which configuration counts, gaps to a mean, what the floor is, and the ranking."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from floor_comparison import RETRAINED, FloorCell, configurations, counted_visits, other_configurations
from floor_comparison import main as compare
from floor_report import (
    LASTING,
    LOTUS,
    OWN,
    Run,
    aims,
    by_cell,
    in_floors,
    main,
    overall,
    ranking,
    read,
    score,
    settings_of,
    signed,
)

from hf_lotus.methods import METHODS
from tests.conftest import TINY_MODELS


def row(forget=0.5, member=0.5, gap=0.1, excess=0.0, **more):
    known = {"retain_accuracy": 0.9, "test_accuracy": 0.6, "jsd": 0.3, "visits": 100, "own_unseen_accuracy": 0.5}
    own = {"forget_accuracy": forget, "mia_member_rate": member, "own_unseen_member_rate": 0.5}
    return {**known, **own, "retrain_free_gap": gap, "relearning_excess": excess, **more}


def document(seed=0, **methods):
    gold = dict(zip(RETRAINED, (row(0.4), row(0.44), row(0.48)), strict=True))
    rows = {"original": row(1.0, 0.9, gap=0.3), **gold}
    given = {OWN: (row(0.5, gap=0.02), row(0.45, gap=0.05)), LASTING: (row(0.46), row()), **methods}
    for name in (LOTUS, "salun", "finetune, annealed"):
        given.setdefault(name, (row(0.9, gap=0.2), row(0.8, gap=0.1, excess=0.9)))
    for name, pair in given.items():
        rows |= {f"{name}/{number}": one for number, one in enumerate(pair)}
    return {"cell": ["digits", "vit", "10 %", seed], "controls": {}, "rows": rows}


class TestOneRun:
    run = Run.of(document())

    def test_the_configuration_that_the_retrain_free_rule_chooses_counts(self):
        assert self.run.rows[OWN]["forget_accuracy"] == 0.5  # 0.02, and not the one that is nearer to retraining
        assert self.run.rows[LOTUS]["forget_accuracy"] == 0.9  # (4 · 0.2 + 0) / 5 < (4 · 0.1 + 0.9) / 5
        assert score(row(gap=0.1, excess=-0.4)) == pytest.approx((0.4 + 0.4) / 5)

    def test_gaps_are_to_the_mean_and_signed_differences_from_it(self):
        assert self.run.gap(OWN) == pytest.approx(abs(0.5 - 0.44) / 4)
        assert self.run.differences("original")["forget_accuracy"] == pytest.approx(0.56)

    def test_the_floor_is_what_one_more_retrained_model_would_read(self):
        """Each to the mean of the other two: 0.06, 0 and 0.06, in one figure of four; 4/3 to 3/2 of a variance."""
        assert self.run.floor == pytest.approx((0.06 + 0 + 0.06) / 3 / 4 * (4 / 3 / 1.5) ** 0.5)
        assert self.run.jsd_floor == pytest.approx(0.3)

    def test_a_figure_that_ranks_as_avg_gap_does_has_a_correlation_of_one(self):
        assert ranking([self.run], lambda row: row["forget_accuracy"]) == pytest.approx([1.0])
        flat = Run.of(
            document(**{name: (row(0.45),) for name in (OWN, LASTING, LOTUS, "salun", "finetune, annealed")})
        )
        alike = Run(flat.cell, 0, {name: row(0.45) for name in flat.rows}, flat.retrained)
        assert ranking([alike], score) == []  # nothing differs by more than the floor


def test_tables_and_json_of_what_is_finished(tmp_path, monkeypatch):
    for seed in (0, 1):
        (tmp_path / f"digits-vit-10-seed{seed}.json").write_text(json.dumps(document(seed)))
    for seed, missing in ((2, ("salun/0", "salun/1")), (3, (f"{LASTING}/1",))):
        broken_off = document(seed)
        for name in missing:
            del broken_off["rows"][name]
        (tmp_path / f"digits-vit-10-seed{seed}.json").write_text(json.dumps(broken_off))
    runs = [Run.of(entry) for entry in read(tmp_path)]
    assert [run.seed for run in runs] == [0, 1]
    assert "| margin_matching " in overall(runs) and "| *floor: retrain again* |" in overall(runs)
    assert by_cell(runs, Run.gap, "{:.4f}").startswith("| digits · vit ")
    monkeypatch.setattr("sys.argv", ["floor_report", str(tmp_path), "--output", str(tmp_path / "out")])
    main()
    text, found = (tmp_path / "out.md").read_text(), json.loads((tmp_path / "out.json").read_text())
    assert "1 cells" in text and "2 runs, seeds 0, 1" in text and len(found) == 2
    assert Run.of(found[0]).gap(OWN) == pytest.approx(0.015)
    assert found == read(tmp_path / "out.json") and found[0]["rows"].keys() == document()["rows"].keys()
    assert (tmp_path / "out.png").stat().st_size > 10_000
    monkeypatch.setattr("sys.argv", ["floor_report", str(tmp_path / "out.json"), "--output", str(tmp_path / "out")])
    main()
    assert (tmp_path / "out.md").read_text() == text


def test_a_setting_is_its_seeds_together():
    """Gaps of 0.015 and 0.065, and one floor; the one run meets the aim, the other and the mean do not."""
    near, far = (Run.of(document(seed, **{OWN: (row(0.44 + 4 * gap),)})) for seed, gap in enumerate((0.015, 0.065)))
    assert near.gap(OWN) < 2.5 * near.floor < (near.gap(OWN) + far.gap(OWN)) / 2
    assert in_floors([near, far], OWN) == pytest.approx(0.04 / near.floor)
    assert [len(seeds) for seeds in settings_of([near, far])] == [2]
    (line,) = [line for line in aims([near, far]).splitlines() if "2.5 floors" in line]
    assert [cell.strip() for cell in line.split("|")[3:5]] == ["0 of 1", "1 of 2"]
    assert "| 0.0400 ± 0.0354 |" in by_cell([near, far], Run.gap, "{:.4f}")


@pytest.mark.parametrize("page", ["floor_comparison", "all_methods"])
def test_what_is_published_is_of_its_figures(page):
    docs = Path(__file__).parents[2] / "docs"
    runs = [Run.of(entry) for entry in read(docs / f"{page}.json")]
    text = (docs / f"{page}.md").read_text(encoding="utf-8")
    for table in (overall(runs), signed(runs), aims(runs), by_cell(runs, Run.gap, "{:.4f}", floor=True)):
        assert table in text


def test_what_is_published_is_not_measured_again(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "floor_comparison.json"
    monkeypatch.setattr(FloorCell, "models_and_sets", lambda self: pytest.fail(f"{self.name} is measured"))
    options = ["--output_dir", str(tmp_path), "--known", str(page), "--only", "digits-vit-10-seed1"]
    for _ in range(2):
        monkeypatch.setattr("sys.argv", ["floor_comparison", *options])
        compare()
        (found,) = read(tmp_path)
        assert found in read(page)
        options = options[:2] + options[4:]


def test_every_method_is_compared_and_has_as_many_configurations():
    for model in ("resnet", "vit"):
        both = [*configurations(model), *other_configurations(model)]
        names = [name.split("/")[0] for name in both]
        assert {names.count(name) for name in names} == {2}
        told = {name.removesuffix("_r").split(",")[0] for name in names}
        refused = set() if model == "resnet" else {"ct"}
        assert {"matching", *METHODS} - {"retrain"} - refused == told


def test_visits_are_samples_learned_from():
    model = TINY_MODELS["vit"]()
    pixels = torch.zeros(5, 3, 16, 16)
    with counted_visits(model) as count:
        model.train()(pixel_values=pixels)
        model.eval()(pixel_values=pixels)
        with torch.no_grad():
            model.train()(pixel_values=pixels)
    model.train()(pixel_values=pixels)
    assert count == [5]


def test_the_retrained_models_are_three_trainings(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("cells.train", lambda *_, seed, **__: asked.append(seed))
    options = argparse.Namespace(output_dir=str(tmp_path), cifar10="", methods="ours")
    original, retrained, sets = FloorCell("digits", "vit", "10 %", 2, options).models_and_sets()
    assert asked == [2, 2, 102, 202] and len(retrained) == len(RETRAINED) == 3
    assert {*sets} == {"forget", "retain", "unseen", "test"}
    assert len(list(Path(tmp_path, "models").iterdir())) == 4
