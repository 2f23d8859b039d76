"""Whose unseen margins should forget samples get: the original's, the student's own, or between the two?

    python benchmarks/whose_unseen.py --output_dir broad --cifar10 path/or/id --output docs/whose_unseen

Margin matching three ways, where the deletion changes what unseen data looks like (half of each class; 10 %, of which
80 % from two classes) and where it does not (10 %), on the small ResNet and ViT of `floor_comparison.py`, whose models
are taken where they are. Broken off, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

from floor_comparison import FloorCell
from floor_report import Run

from hf_lotus import Contender, MarginMatching
from hf_lotus.methods.margin_matching import UNSEEN_MARGINS
from hf_lotus.utils.text import markdown_table


class UnseenCell(FloorCell):
    """A cell of `floor_comparison.py` with the three targets as contenders, at the method's defaults."""

    @property
    def name(self) -> str:
        """Of its file, beside the comparison's own."""
        return f"unseen-{super().name}"

    @property
    def contenders(self) -> dict[str, Contender]:
        """One row a target, named as configurations are."""
        return {f"{whose}/0": Contender(MarginMatching(unseen_margins=whose), {}) for whose in UNSEEN_MARGINS}


def main() -> None:
    """Run the cells, then write a row a cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="broad_comparison", help="folder for models and results")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--output", type=Path, default=Path("whose_unseen"), help="path without suffix")
    options = parser.parse_args()
    rows = []
    for model, forget in product(("resnet", "vit"), ("10 %", "10 %, skewed", "50 %")):
        cell = UnseenCell("cifar10", model, forget, 0, options)
        cell.run()
        run = Run.of(json.loads((Path(options.output_dir) / f"{cell.name}.json").read_text(encoding="utf-8")))
        gold = [row["forget_accuracy"] for row in run.retrained]
        reached = [f"{run.rows[whose]['forget_accuracy']:.3f}" for whose in UNSEEN_MARGINS]
        gaps = [f"{run.gap(whose):.4f}" for whose in UNSEEN_MARGINS]
        free = [f"{run.rows[whose]['retrain_free_gap']:.4f}" for whose in UNSEEN_MARGINS]
        span = f"{min(gold):.3f} … {max(gold):.3f}"
        rows.append([f"{model} · {forget}", span, " / ".join(reached), " / ".join(gaps), " / ".join(free)])
    heads = ["Cell", "Retrained: forget acc.", "Forget acc.", "Avg Gap", "Retrain-free gap"]
    order = f"Original's / student's own / mean of both (`unseen_margins`: {', '.join(UNSEEN_MARGINS)}), one seed."
    options.output.with_suffix(".md").write_text(f"{order}\n\n{markdown_table(heads, rows)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
