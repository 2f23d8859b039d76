"""The entropy figure: one panel a model, one curve a split, nothing lost at the edges."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as PILImage

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.functional.membership import prediction_entropy
from hf_lotus.reporting.entropy_figure import entropy_figure


def predictions(sharpness: float, samples: int = 200, classes: int = 10) -> Predictions:
    """Predictions on made-up logits: sharpness 0 is uniform, 20 is almost certain."""
    logits = sharpness * np.random.default_rng(0).standard_normal((samples, classes))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    entropy = prediction_entropy(odds / odds.sum(axis=1, keepdims=True))
    return Predictions(np.zeros(samples, int), logits.argmax(axis=1), entropy, logits.astype(np.float32))


SPLITS = {"forget": predictions(2), "retain": predictions(20), "unseen": predictions(1), "test": predictions(0.5)}


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that were saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(figure) or save(figure, *a, **k))
    return figures


def test_one_panel_a_model_and_one_curve_a_split(drawn, tmp_path):
    entropy_figure({"original": SPLITS, "lotus": SPLITS, "retrain": SPLITS}, tmp_path / "entropy.png", "Entropy")
    (figure,) = drawn
    assert [panel.get_title() for panel in figure.axes] == ["original", "lotus", "retrain"]
    assert figure.get_suptitle() == "Entropy"
    for panel in figure.axes:
        labels = [text.get_text() for text in panel.get_legend().get_texts()]
        shown = ("retain", "forget", "test")
        assert labels == [f"{split} (mean {SPLITS[split].entropy.mean():.3f})" for split in shown]
        assert not panel.get_legend().get_window_extent().overlaps(panel.get_window_extent())  # hides no curve
        assert panel.get_xlim() == (0, pytest.approx(np.log(10)))
    with PILImage.open(tmp_path / "entropy.png") as picture:
        assert picture.size[0] > 2.5 * picture.size[1] > 1000
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100


def test_the_unseen_set_stands_in_where_there_is_no_test_set(drawn, tmp_path):
    splits = {name: SPLITS[name] for name in ("forget", "retain", "unseen")}
    entropy_figure({"original": splits}, tmp_path / "entropy.svg")
    labels = [text.get_text().split()[0] for text in drawn[0].axes[0].get_legend().get_texts()]
    assert labels == ["retain", "forget", "unseen"]
    assert (tmp_path / "entropy.svg").read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 10, 37, 100])
def test_every_sample_counts_even_uniform_and_certain_ones(drawn, tmp_path, classes):
    uniform, certain = predictions(0, 50, classes), predictions(1e4, 50, classes)
    # Rounding can lift the entropy of a uniform prediction above ln(classes).
    lifted = Predictions(uniform.labels, uniform.predicted, np.nextafter(uniform.entropy, 10) + 1e-15, uniform.logits)
    entropy_figure({"m": {"forget": lifted, "retain": certain, "test": uniform}}, tmp_path / "entropy.png")
    retain, forget, test = (curve.get_data().values for curve in drawn[0].axes[0].patches)
    assert forget[-1] == test[-1] == retain[0] == 1
    assert len(retain) == 30 and retain.sum() == forget.sum() == 1


def test_a_name_is_drawn_as_it_is_written(drawn, tmp_path):
    entropy_figure({r"$\frac{$ 50%": SPLITS}, tmp_path / "entropy.png", r"title $\oops$")
    assert drawn[0].axes[0].get_title() == r"$\frac{$ 50%"
