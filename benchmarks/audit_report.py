"""The tables of the audit: which way to forget passes which tier, whether tiers agree and are calibrated.

    python benchmarks/audit_report.py audit_table --output docs/audit_table

Judges what `audit_table.py` left by the audit's own tiers, each model by itself for tiers 1 to 4, all models of a row
together for tiers 5 and 6. Every row is held against the same reference models, none of which is in a row. Writes
docs/audit_table.md and .json. What was judged is kept; started again, it judges what is new.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from audit_table import Cast, methods, say
from scipy.stats import spearmanr

from hf_lotus.audit import exchange
from hf_lotus.audit.evidence import FORGET, UNSEEN, Ensemble, Evidence, Outputs, References
from hf_lotus.audit.pool import Pool
from hf_lotus.audit.pool_files import read_arrays
from hf_lotus.audit.tiers import MEASURES
from hf_lotus.evaluation.results import ORIGINAL, RETRAIN
from hf_lotus.functional.intervals import clopper_pearson
from hf_lotus.trainer.relearning import Outcome
from hf_lotus.utils.documents import write_document
from hf_lotus.utils.text import markdown_table

AUDITED, AGAIN = "audited", "retrain again"
ROWS = (ORIGINAL, *methods(), RETRAIN, AGAIN)
ONE_MODEL = ("relearning_excess", "linear_probe", "relative_test", "relative_test_unseen", "rmia")
MANY_MODELS = ("u_lira", "klom", "epsilon")
PROBES = ("relearning_excess", "linear_probe")
CHEAP_FIGURES = ("relearning_excess", "gap after relearning", "linear_probe", "membership AUC of the probe")
CHEAP_FIGURES += ("relative_test", "relative_test_unseen", "rmia")
# Models that tiers 5 and 6 take a side, and points that a correlation takes, at least.
FEWEST, FEWEST_POINTS = 4, 8
# Models that RMIA is given; and in the calibration, draws of each tier and forget set.
REFERENCES, DRAWS = 4, {RETRAIN: 80, ORIGINAL: 20}
# Unseen samples that the relative test's control is made on; deals of the models' names in the calibration.
UNSEEN_CONTROL, DEALS = 400, 39
NAMES = {
    "relearning_excess": "1 relearning",
    "linear_probe": "2 probe",
    "relative_test": "3 relative",
    "relative_test_unseen": "3 relative, retrain-free",
    "rmia": "4 RMIA",
    "u_lira": "5 U-LiRA",
    "klom": "5 KLOM",
    "epsilon": "6 ε",
}

INTRODUCTION = """# Do the tiers of the audit agree?

A pool of {models} small ResNets (80,000 weights, `cifar10-pool`), each trained on a random half of {train} images of
CIFAR-10 for 14 epochs: accuracy {own:.3f} on its own half, {test:.3f} on test data. Three forget sets of 200, each
wholly in half of the models (originals) and wholly absent from the others (retrained models). **n is small**: {n}
models of every row and set for tiers 1 to 4, and the same {n} against {references} retrained models for tiers 5 and
6. What is not accused at that n is not shown to be gone. How it was run: `benchmarks/audit_table.py`; all figures,
with intervals: [audit_table.json](audit_table.json).

Mean figure, and how many models are accused at 5 % (✕); of tiers 5 and 6, which judge all models of a row together,
whether they are. The methods saw other unseen data than the audit. Settings: `methods()` in the script; for cost,
SCRUB and SalUn take 5 rounds and a restart 6, fewer than by default."""
CALIBRATION = """## False positives and power

How often honestly retrained models are accused, and how often untouched originals. A draw is another model, held
against others, or, for tiers 1 and 2, a random half of one model's samples. Draws share models, so that the
intervals (Clopper–Pearson) are too narrow. *Cannot tell*: draws of both kinds in which a tier does not speak; they
count as not accused. Tiers 5 and 6: 4 models against 7, exact by exchange; 39 deals.

"""
AGREEMENT = """## Do the cheap tiers rank as the expensive ones?

Spearman's correlation of a row's mean figure with KLOM (95th percentile) and U-LiRA (accuracy), over rows × forget
sets; bootstrap over these points. *All rows* have the original and the retrained models among them.

"""


class Table:
    """What the stages left, and the evidence made of it.

    Args:
        folder: of the stages.
        models: of each row and forget set.
    """

    def __init__(self, folder: str | Path, models: int):
        self.folder = Path(folder)
        self.pool = Pool.open(self.folder / "pool")
        self.casts = {name: Cast.of(self.pool, name, models) for name in self.pool.forget_sets}
        self.unlearned = {(made.label, made.forget_set): made for made in self.pool.unlearned()}
        self.confidences = cache(self._confidences)

    def about(self) -> dict[str, Any]:
        """The pool, in figures."""
        records = self.pool.records
        accuracy = {
            side: float(np.mean([r["accuracy"][side] for r in records])) for side in ("own", "left_out", "test")
        }
        costs = {
            f"{label}, {name}": float(np.median([r["seconds"] for r in made.records]))
            for (label, name), made in sorted(self.unlearned.items())
        }
        first = next(iter(self.casts.values()))
        return {
            "models": len(records),
            "train": len(self.pool.labels["train"]),
            "seconds_of_a_model": float(np.median([r["seconds"] for r in records])),
            "seconds_of_unlearning": costs,
            "n": len(first.originals),
            "references": len(first.references),
            "forget_sets": {name: len(rows) for name, rows in self.pool.forget_sets.items()},
            "training": self.pool.plan["training"],
            **accuracy,
        }

    def originals(self, name: str) -> list[int]:
        """All that had a set."""
        return self.pool.with_all(self.pool.digests["train"][self.pool.forget_sets[name]]).tolist()

    def numbers(self, row: str, name: str) -> list[int]:
        """The models of a row that are there."""
        wanted = self.casts[name].of_row(row)
        if row not in methods():
            return wanted
        made = self.unlearned.get((row, name))
        done = {record["number"] for record in made.records} if made else set()
        return [number for number in wanted if number in done]

    def _confidences(self, row: str, name: str) -> dict[str, dict[int, Outputs]]:
        """Side → number → what the model says; the audit's unseen data is the pool's test part."""
        of_pool = row not in methods()
        if of_pool:
            kept, numbers = self.pool, [record["number"] for record in self.pool.records]
        else:
            kept = self.unlearned[row, name]
            numbers = [record["number"] for record in kept.records]
        forget, labels = self.pool.forget_sets[name], self.pool.labels
        sides = {
            FORGET: (kept.logits("train", forget), labels["train"][forget]),
            UNSEEN: (kept.logits("test"), labels["test"]),
        }
        return {
            side: {n: Outputs.of_logits(one, truth) for n, one in zip(numbers, logits, strict=True)}
            for side, (logits, truth) in sides.items()
        }

    def outputs(self, row: str, name: str, number: int) -> dict[str, Outputs]:
        """What a model says of the forget set and of unseen data."""
        found = self.confidences(row if row in methods() else ORIGINAL, name)
        return {side: found[side][number] for side in (FORGET, UNSEEN)}

    def labels(self, name: str) -> dict[str, np.ndarray]:
        """The classes of the forget set and of the unseen data."""
        return {FORGET: self.pool.labels["train"][self.pool.forget_sets[name]], UNSEEN: self.pool.labels["test"]}

    def references(self, name: str, numbers: list[int]) -> References:
        """Some models that never had a set, as RMIA takes them."""
        given = [self.outputs(RETRAIN, name, number) for number in numbers]
        return References(*(np.stack([each[side].probability for each in given]) for side in (FORGET, UNSEEN)))

    def ensemble(self, row: str, name: str, numbers: list[int]) -> np.ndarray:
        """What models say of the forget set, shape (models, samples)."""
        return np.stack([self.outputs(row, name, number)[FORGET].confidence for number in numbers])

    def probed(self, row: str, name: str, number: int) -> dict[str, np.ndarray] | None:
        """What was probed of a model; None where it was not."""
        path = self.folder / "probed" / row / name / f"{number:03d}.npz"
        return read_arrays(path) if path.with_suffix(".json").is_file() else None

    def is_probed(self) -> bool:
        """Whether all originals and retrained models were."""
        rows = (ORIGINAL, RETRAIN, AGAIN)
        return all(self.probed(row, name, n) for name in self.casts for row in rows for n in self.numbers(row, name))

    def of_one(
        self, tier: str, row: str, name: str, number: int, original: int, never: list[int], seed: int = 0
    ) -> Evidence:
        """The evidence on one model, which is called "audited".

        Args:
            tier: that it is for: what it does not look at is left out.
            row: of the table.
            name: of the forget set.
            number: of the model, or of that which it was unlearned from.
            original: number of the original that it is held against.
            never: numbers of retrained models: two controls, and then RMIA's references.
            seed: of the tier's draws.
        """
        outputs, labels = {AUDITED: self.outputs(row, name, number)}, self.labels(name)
        if tier == "rmia":
            return Evidence(
                AUDITED, labels, outputs, references=self.references(name, never[2 : 2 + REFERENCES]), seed=seed
            )
        outputs |= {ORIGINAL: self.outputs(ORIGINAL, name, original)}
        if tier == "relative_test":
            outputs |= {
                control: self.outputs(RETRAIN, name, of) for control, of in zip((RETRAIN, AGAIN), never, strict=False)
            }
            # A control of that test alone: a part of the unseen samples does.
            some = np.random.default_rng(seed).permutation(len(labels[UNSEEN]))[:UNSEEN_CONTROL]
            labels = {**labels, UNSEEN: labels[UNSEEN][some]}
            outputs = {
                of: {FORGET: sides[FORGET], UNSEEN: Outputs(sides[UNSEEN].confidence[some])}
                for of, sides in outputs.items()
            }
        return Evidence(AUDITED, labels, outputs, seed=seed)

    def of_probes(self, row: str, name: str, number: int, seed: int = 0) -> Evidence | None:
        """The evidence of tiers 1 and 2 on one model; of a random half of the samples where the seed is not 0."""
        found = self.probed(row, name, number)
        if found is None:
            return None
        labels, rng = self.labels(name), np.random.default_rng(seed)
        kept = {
            side: np.sort(rng.permutation(len(of))[: len(of) // 2 if seed else None]) for side, of in labels.items()
        }
        labels = {side: of[kept[side]] for side, of in labels.items()}
        right = [tuple(found[f"{side}_{when}"][kept[side]] for when in ("before", "after")) for side in kept]
        outcome = Outcome(right[0], right[1], labels[FORGET], labels[UNSEEN])
        features = {side: found[f"{side}_features"][kept[side]] for side in kept}
        outputs = self.outputs(row, name, number)
        return Evidence(
            AUDITED, labels, {AUDITED: outputs}, relearned={AUDITED: outcome}, features={AUDITED: features}, seed=seed
        )

    def of_many(self, name: str, unlearned: np.ndarray, retrained: np.ndarray, seed: int = 0) -> Evidence:
        """The evidence of tiers 5 and 6 on all models of a row, each of shape (models, samples)."""
        sides = {"unlearned": Ensemble(AUDITED, unlearned), "retrained": Ensemble(RETRAIN, retrained)}
        return Evidence(AUDITED, self.labels(name), {AUDITED: {}}, **sides, seed=seed)


def judged(tier: str, evidence: Evidence) -> dict[str, Any]:
    """What a tier reads on the audited model alone: the controls are rows of their own here."""
    finding = MEASURES[tier](evidence)
    own = finding.audited
    if own is None:
        return {"value": None, "accused": None, "reason": finding.reason}
    return {**own.to_dict(), "model": None}


def judge(table: Table) -> list[dict[str, Any]]:
    """Every row, forget set and model by every tier; what was judged before is taken."""
    path = table.folder / "judged.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    known = {(entry["row"], entry["forget_set"], tuple(entry["numbers"]), entry["tier"]) for entry in kept}
    for row, name in product(ROWS, table.casts):
        cast, numbers = table.casts[name], table.numbers(row, name)
        for place, number in enumerate(numbers):
            for tier in ONE_MODEL:
                if (row, name, (number,), tier) in known:
                    continue
                turned = cast.references[place:] + cast.references[:place]
                if tier in PROBES:
                    evidence = table.of_probes(row, name, number)
                else:
                    evidence = table.of_one(tier, row, name, number, cast.originals[place], turned)
                if evidence is not None:
                    kept.append(
                        {"row": row, "forget_set": name, "numbers": [number], "tier": tier, **judged(tier, evidence)}
                    )
        for tier in MANY_MODELS:
            if len(numbers) >= FEWEST and (row, name, tuple(numbers), tier) not in known:
                sides = [table.ensemble(row, name, numbers), table.ensemble(RETRAIN, name, cast.references)]
                found = judged(tier, table.of_many(name, *sides))
                kept.append({"row": row, "forget_set": name, "numbers": numbers, "tier": tier, **found})
        write_document(path, kept)
        say(f"judged: {row}, {name}")
    return kept


def calibrate(table: Table) -> dict[str, dict[str, Any]]:
    """Tier → how often honestly retrained models and untouched originals are accused, over many draws.

    Tiers 5 and 6 are given fewer deals than in an audit, for time; at 39, too, one draw in 20 gives p ≤ 0.05.
    """
    exchange.DEALS = DEALS
    path = table.folder / "calibrated.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for tier in sorted(NAMES, key=lambda tier: tier == "u_lira"):  # which takes longest
        if tier in kept or (tier in PROBES and not table.is_probed()):
            continue
        kept[tier] = {}
        for kind, row in (("false_positives", RETRAIN), ("power", ORIGINAL)):
            accused = [
                judged(tier, evidence)["accused"]
                for name in table.casts
                for evidence in _draws(table, tier, row, name)
            ]
            told = [each for each in accused if each is not None]
            low, high = (float(bound) for bound in clopper_pearson(sum(told), len(accused)))
            kept[tier][kind] = {
                "draws": len(accused), "accused": sum(told), "cannot_tell": len(accused) - len(told),
                "rate": sum(told) / len(accused), "interval": [low, high],
            }  # fmt: skip
        write_document(path, kept)
        say(f"calibrated: {tier} {kept[tier]}")
    return kept


def _draws(table: Table, tier: str, row: str, name: str) -> Iterator[Evidence]:
    """Draws of one kind of audited model, each held against others that it is not among."""
    rng = np.random.default_rng(len(tier))
    cast = table.casts[name]
    never, had = cast.retrained + cast.again + cast.references, table.originals(name)
    if tier in PROBES:
        rows = (RETRAIN, AGAIN) if row == RETRAIN else (ORIGINAL,)
        models = [(of, number) for of in rows for number in table.numbers(of, name)]
        found = (
            table.of_probes(of, name, number, seed) for seed, (of, number) in product(range(1, DRAWS[row]), models)
        )
        yield from islice((evidence for evidence in found if evidence is not None), DRAWS[row])
        return
    for seed in range(DRAWS[row]):
        others = rng.permutation(never).tolist()
        audited = others.pop() if row == RETRAIN else int(rng.choice(had))
        if tier in MANY_MODELS:
            of = [audited, *others[: FEWEST - 1]] if row == RETRAIN else rng.permutation(had)[:FEWEST].tolist()
            rest = [number for number in others if number not in of][: 2 * FEWEST - 1]
            yield table.of_many(name, table.ensemble(row, name, of), table.ensemble(RETRAIN, name, rest), seed)
        else:
            original = int(rng.choice(had)) if row == RETRAIN else audited
            yield table.of_one(tier, row, name, audited, original, others, seed)


def agreement(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Spearman's correlation of each cheap figure with KLOM and U-LiRA over rows × forget sets, by bootstrap."""
    points: dict[tuple[str, str], dict[str, float]] = {}
    for entry in entries:
        key = entry["row"], entry["forget_set"]
        for figure, value in _figures(entry):
            points.setdefault(key, {}).setdefault(figure, []).append(value)  # type: ignore[attr-defined]
    means = {key: {figure: float(np.mean(values)) for figure, values in of.items()} for key, of in points.items()}
    found = []
    for which, figure, against in product(("all rows", "methods alone"), CHEAP_FIGURES, ("klom", "u_lira")):
        pairs = [
            (of[figure], of[against])
            for (row, _), of in sorted(means.items())
            if figure in of and against in of and (which == "all rows" or row in methods())
        ]
        if len(pairs) < FEWEST_POINTS:
            continue
        values, rng = np.array(pairs), np.random.default_rng(0)
        drawn = [spearmanr(values[rng.integers(len(values), size=len(values))]).statistic for _ in range(2000)]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        entry = {"points": len(pairs), "spearman": float(spearmanr(values).statistic)}
        found.append(
            {"of": which, "figure": figure, "against": against, **entry, "interval": [float(low), float(high)]}
        )
    return found


def _figures(entry: dict[str, Any]) -> Iterator[tuple[str, float]]:
    if entry["value"] is None:
        return
    yield entry["tier"], entry["value"]
    if entry["tier"] == "relearning_excess":
        yield "gap after relearning", entry["more"]["gap_after"]
    if entry["tier"] == "linear_probe":
        yield "membership AUC of the probe", entry["more"]["membership_auc"]


def page(document: dict[str, Any]) -> str:
    """The tables as Markdown."""
    entries, about = document["judged"], document["pool"]
    cells = {
        (row, name): [e for e in entries if (e["row"], e["forget_set"]) == (row, name)]
        for row, name in product(ROWS, about["forget_sets"])
    }
    parts = [INTRODUCTION.format(**about)]
    for name in about["forget_sets"]:
        rows = [[row, *(_verdict(cells[row, name], tier) for tier in NAMES)] for row in ROWS]
        parts.append(f"## Forget set {name}\n\n" + markdown_table(["", *NAMES.values()], rows))
    header = ["", "False positives", "95 %", "Power", "95 %", "Cannot tell"]
    rows = []
    for tier, of in document["calibration"].items():
        figures = [of["false_positives"], of["power"]]
        shown = [(f"{f['accused']} of {f['draws']}", "{:.3f} to {:.3f}".format(*f["interval"])) for f in figures]
        silent = " and ".join(str(f["cannot_tell"]) for f in figures)
        rows.append([NAMES[tier], *shown[0], *shown[1], silent])
    parts.append(CALIBRATION + markdown_table(header, rows))
    rows = [
        [
            f"{e['figure']}",
            e["of"],
            e["against"],
            str(e["points"]),
            f"{e['spearman']:.2f}",
            "{:.2f} to {:.2f}".format(*e["interval"]),
        ]
        for e in document["agreement"]
    ]
    header = ["Figure", "Of", "Against", "Points", "Spearman", "95 %"]
    parts.append(AGREEMENT + markdown_table(header, [[plain_names(r[0]), r[1], NAMES[r[2]], *r[3:]] for r in rows]))
    return "\n\n".join(parts) + "\n"


def plain_names(figure: str) -> str:
    """A tier's figure as the tables call it."""
    return NAMES.get(figure, figure)


def _verdict(entries: list[dict[str, Any]], tier: str) -> str:
    """Mean figure, and how many models, or whether all together, are accused."""
    found = [entry for entry in entries if entry["tier"] == tier and entry["value"] is not None]
    if not found:
        return "–"
    value = np.mean([entry["value"] for entry in found])
    accused = sum(bool(entry["accused"]) for entry in found)
    if tier in MANY_MODELS:
        return f"{value:.2f}{' ✕' if accused else ''}"
    return f"{value:.2f} {f'✕ {accused}/{len(found)}' if accused else f'0/{len(found)}'}"


def main() -> None:
    """Judge, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the stages of audit_table.py left all")
    parser.add_argument("--models", type=int, default=4, help="of each row and forget set, as audit_table.py had it")
    parser.add_argument("--output", default="docs/audit_table", help="the files, without their endings")
    options = parser.parse_args()
    table = Table(options.folder, options.models)
    calibration, entries = calibrate(table), judge(table)
    document = {
        "pool": table.about(),
        "calibration": calibration,
        "agreement": agreement(entries),
        "judged": entries,
    }
    write_document(f"{options.output}.json", document)
    Path(f"{options.output}.md").write_text(page(document), encoding="utf-8")


if __name__ == "__main__":
    main()
