"""What became of each request: figures by hand, and the table and the picture of many runs."""

import json

import numpy as np
import pytest
from PIL import Image

from hf_lotus.evaluation.attacks import entropy_attack
from hf_lotus.functional.membership import member_rate
from hf_lotus.requests.history import history_figure, history_table, measure_requests
from hf_lotus.requests.queue import RequestQueue
from hf_lotus.requests.retained import Retained


def side(accuracy, rate):
    return {"accuracy": accuracy, "member_rate": rate}


def right_on(number, original, model):
    """Who was right on the first `number` of 1,000 samples: the first `original` of a thousand, and so many others."""
    digests = [f"{place:016x}" * 4 for place in range(1000)]
    samples = [digests[place] for place in range(1000 - number, 1000)]
    places = np.arange(1000 - number, 1000)
    return Retained.of(samples, places % 1000 >= 1000 - original, places % 1000 >= 1000 - model)


def kept(queue, requests, models, retained=None):
    """A run that is done, with what it measured."""
    names = [name for name in requests if name not in queue.planned()]
    run = queue.begin({name: {"date": "2026-01-01", "samples": []} for name in names}, "0" * 64)
    run.work.mkdir()
    run.keep({"requests": requests, "models": models}, retained or right_on(500, 400, 400))
    run.finish("now")


@pytest.fixture
def queue(tmp_path):
    """Two runs: the second brings back what the first had forgotten, and loses accuracy."""
    queue = RequestQueue(tmp_path / "queue")
    original, reference = side(0.95, 0.7), side(0.8, 0.6)
    one = {"samples": 10, "original": original, "reference": reference}
    kept(
        queue,
        {"one": {**one, "model": side(0.81, 0.61)}},
        {"original": {"retain": 0.96, "test": 0.82}, "model": {"retain": 0.95, "test": 0.81}},
        right_on(800, 500, 480),
    )
    kept(
        queue,
        {"one": {**one, "model": side(0.93, 0.66)}, "*two*": {**one, "samples": 4, "model": side(0.75, None)}},
        {"original": {"retain": 0.97, "test": 0.82}, "model": {"retain": 0.85, "test": 0.7}},
        right_on(600, 500, 300),
    )
    return queue


def test_the_table_has_every_request_in_every_model(queue):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in history_table(queue.runs()).splitlines()]
    assert lines[2] == ["Request", "Samples", "Run", "original", "run 1", "run 2", "*unseen data*"]
    assert lines[4] == ["one", "10", "1", "0.950", "0.810", "0.930", "0.800"]
    assert lines[5] == [r"\*two\*", "4", "2", "0.950", "–", "0.750", "0.800"]
    assert [r"\*two\*", "4", "2", "0.700", "–", "–", "0.600"] in lines
    # Of the 600 samples that both retained, the original has 500 right, and the models 480 and 300; on the 800 of the
    # first run its own figures are others.
    assert ["retain", "0.833", "0.800", "0.500"] in lines and ["test", "0.820", "0.810", "0.700"] in lines
    assert "retain: the 600 samples that every run retained" in history_table(queue.runs())


def test_a_model_that_has_not_changed_keeps_its_retain_accuracy(queue):
    """Whatever leaves the retain set: each run's own accuracy would fall or rise by that alone."""
    requests, models = queue.runs()[1].measured["requests"], queue.runs()[1].measured["models"]
    kept(queue, requests, models, right_on(450, 500, 300))
    rows = [line for line in history_table(queue.runs()).splitlines() if line.startswith("| retain")]
    last, before = [float(cell) for cell in rows[0].split("|")[4:6]]
    assert last == before == pytest.approx(300 / 450, abs=1e-3)


def test_a_run_of_an_earlier_version_has_no_retain_accuracy_that_could_be_compared(queue):
    (queue.runs()[0].folder / "retained.npz").unlink()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in history_table(queue.runs()).splitlines()]
    assert ["retain", "–", "–", "–"] in lines


def test_what_is_gone_keeps_the_figures_of_its_time(queue):
    requests = {**queue.runs()[1].measured["requests"], "one": {"samples": 0}, "three": {"samples": 0}}
    kept(queue, requests, queue.runs()[1].measured["models"])
    table = history_table(queue.runs())
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert ["one", "10", "1", "0.950", "0.810", "0.930", "–", "0.800"] in cells
    assert ["three", "0", "3", "–", "–", "–", "–", "–"] in cells


def test_many_runs_are_sampled_with_the_first_and_the_last_and_only_those_are_read(queue, monkeypatch):
    from hf_lotus.requests import history

    one = {"samples": 10, "original": side(0.95, 0.7), "reference": side(0.8, 0.6), "model": side(0.5, 0.5)}
    for _ in range(5):
        kept(queue, {"one": one}, {"original": {"retain": 0.97}, "model": {"retain": 0.85}})
    monkeypatch.setattr(history, "_MOST_RUNS", 3)
    (queue.runs()[1].folder / "measured.json").write_text("nothing that could be read")
    table = history_table(queue.runs())
    assert "| original | run 1 | run 4 | run 7 |" in table
    assert "Of 7 runs 3 are shown: the first, the last, and some between them." in table


def test_without_a_run_there_is_no_table(tmp_path):
    assert history_table(RequestQueue(tmp_path).runs()) == "No run has made a model yet."


@pytest.mark.parametrize("requests", [2, 30])
def test_the_figure(queue, tmp_path, requests):
    if requests > 2:
        (name, figures), models = next(iter(queue.runs()[0].measured["requests"].items())), queue.runs()[0].measured
        many = {name: figures} | {f"more {i}": {**figures, "model": side(0.7 + i / 100, 0.5)} for i in range(requests)}
        kept(queue, many, models["models"])
    history_figure(queue.runs(), tmp_path / "history.png")
    with Image.open(tmp_path / "history.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 1000 and (pixels != 255).any(axis=2).mean() > 0.01


def test_measured_by_hand(make):
    trainer = make("resnet")
    trainer.train()
    found = trainer.student_predictions()
    positions = {"some": np.array([0, 5, 7]), "gone": np.array([], dtype=int)}
    measured = measure_requests(trainer.evaluator, found, positions)
    assert measured["requests"]["gone"] == {"samples": 0}
    some, places = measured["requests"]["some"], positions["some"]
    for which, predictions in {"original": trainer.evaluator.yardstick.original, "model": found}.items():
        forget = predictions["forget"]
        right = [forget.predicted[place] == forget.labels[place] for place in places]
        assert some[which]["accuracy"] == pytest.approx(sum(right) / 3)
        assert some[which]["member_rate"] == member_rate(entropy_attack(predictions), forget.entropy[places])
        assert measured["models"][which]["retain"] == predictions["retain"].accuracy
    unseen = trainer.evaluator.yardstick.original["unseen"]
    by_class = [(unseen.predicted == c)[unseen.labels == c].mean() for c in found["forget"].labels[places]]
    assert some["reference"]["accuracy"] == pytest.approx(np.mean(by_class))
    assert json.loads(json.dumps(measured)) == measured
