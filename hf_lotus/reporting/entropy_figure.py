"""Figures of a comparison, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.results import ORIGINAL, RETRAIN
from hf_lotus.evaluation.row_details import entropy_bins, entropy_shares
from hf_lotus.evaluation.yardstick import Yardstick

# Okabe and Ito's palette: told apart with any colour vision. Line styles tell them apart without colour.
SPLIT_STYLES = {
    "retain": {"color": "#009E73", "linestyle": "-"},
    "forget": {"color": "#D55E00", "linestyle": "-"},
    "test": {"color": "#0072B2", "linestyle": "--"},
    "unseen": {"color": "#0072B2", "linestyle": "--"},
}


def entropy_figure(models: Mapping[str, Mapping[str, Predictions]], path: str | Path, title: str = "") -> None:
    """Draw the entropy of the predictions on forget, retain and test data, one panel a model.

    The Streisand figure of LoTUS (arXiv:2503.18314): a forget curve that leaves the test curve on either side gives
    the forgotten samples away, by being too sure of them or by being suspiciously unsure.

    Args:
        models: model name → split → predictions.
        path: where to write the figure; the suffix decides the format.
        title: heading of the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, as it takes a second to import
    from matplotlib.figure import Figure

    first = next(iter(models.values()))
    held_out = "test" if "test" in first else "unseen"
    splits = [split for split in ("retain", "forget", held_out) if split in first]
    num_classes = first["forget"].num_classes
    bins = entropy_bins(np.log(num_classes))
    figure = Figure(figsize=(3.6 * len(models), 4), layout="constrained")
    panels = figure.subplots(1, len(models), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (name, predictions) in zip(panels, models.items(), strict=True):
        for split in splits:
            entropy = predictions[split].entropy
            shares = entropy_shares(entropy, bins)
            label = f"{split} (mean {entropy.mean():.3f})"
            panel.stairs(shares, bins, label=label, linewidth=1.8, **SPLIT_STYLES[split])
        # Most predictions are sure; on a linear axis the first bin would hide every other.
        panel.set_yscale("log")
        panel.set_xlim(0, bins[-1])
        panel.set_title(name, parse_math=False)
        panel.set_xlabel("entropy of the prediction (nats)")
        # Inside the panel it would hide curves: unsure predictions lie at the right, sure ones at the left.
        panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("share of samples (log scale)")
    if title:
        figure.suptitle(title, parse_math=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)


def comparison_figure(
    yardstick: Yardstick, name: str, predictions: Mapping[str, Predictions], path: str | Path
) -> None:
    """The entropy figure of one unlearned model, between the original and, where there is one, the retrained model.

    Args:
        yardstick: what the model was measured against.
        name: the unlearned model's name.
        predictions: its predictions, split → `Predictions`.
        path: where to write the figure.
    """
    shown = {ORIGINAL: yardstick.original, name: predictions}
    if yardstick.retrained is not None:
        shown[RETRAIN] = yardstick.retrained
    entropy_figure(shown, path, "Entropy of the predictions: a forget curve should lie on the test curve")
