"""What an audit's page says of each test, to somebody who is not a researcher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Words:
    """One test in words.

    Attributes:
        question: what it asks.
        tried: what was done.
        figure: what its number means, and where it should lie.
        shows: what an accusation means, and what its absence does not.
        axis: title of the figure's axis.
        reference: the value of a model that never saw the samples; None where there is no fixed one.
    """

    question: str
    tried: str
    figure: str
    shows: str
    axis: str
    reference: float | None = None


# What a page calls a sample of each kind; one of any other, "sample".
NAMES = {"image": "picture", "text": "text", "audio": "clip"}

_MANY = (
    "Many models that were made to forget in the same way were compared with many that were trained without the "
    "{samples} from the start. So it judges the way of forgetting, on models of this kind, more than this one model."
)

_WORDS = {
    "relearning_excess": Words(
        "Does it come back when somebody trains the model on?",
        "A copy of the model was trained for one round on the data that it was to keep, and on nothing else. Then it "
        "was looked whether it had got better at the forgotten {samples} than at comparable ones that it never saw.",
        "How much more the forgotten {samples} gained than unseen ones did, as a share of {samples}. It should be "
        "near 0.",
        "What returns without being shown again was hidden and not gone. That nothing returns under this one training "
        "does not mean that nothing would under another.",
        "gain on forgotten minus gain on unseen",
        0.0,
    ),
    "linear_probe": Words(
        "Do its inner features still give the forgotten {samples} away?",
        "The numbers that the model computes just before its answer were taken, and a simple classifier learned from "
        "them which class a {sample} is of: once of the forgotten {samples}, once of as many that the model never "
        "saw.",
        "By how much the classes of forgotten {samples} are easier to tell than those of unseen ones, as a share of "
        "{samples}. It should be near 0.",
        "If they are easier to tell, a trace is left under the surface, whatever the model answers. A cleverer "
        "classifier than a linear one may find traces that this one does not.",
        "label probe: forgotten minus unseen",
        0.0,
    ),
    "relative_test": Words(
        "Does it answer like a model that never had the {samples}, or like the old one?",
        "Its answers on the forgotten {samples} were compared with those of a model that was trained without them, "
        "and with those of the original model. The test asks which of the two they are nearer to.",
        "How much farther its answers lie from the retrained model's than from the original's. Above 0 it leans to "
        "the original. p is how often chance alone would give as much.",
        "Nearer to the original means that it still answers as if it had the {samples}. Nearer to the retrained one "
        "means that its answers look right, not that nothing is left inside.",
        "distance: from retrained minus from original",
        0.0,
    ),
    "relative_test_unseen": Words(
        "The same without a retrained model: does it treat them as {samples} that it never saw?",
        "Its answers on the forgotten {samples} were compared with what the original says of {samples} that it never "
        "saw, and with what the original says of the forgotten ones.",
        "How much farther its answers lie from the original's on unseen {samples} than from the original's on these. "
        "Above 0 it leans to the original.",
        "As above. It needs no second training, but {samples} that are comparable and were really never trained on.",
        "distance: from unseen minus from original",
        0.0,
    ),
    "rmia": Words(
        "Could an attacker tell that these {samples} were trained on?",
        "A published attack (RMIA) was run. It compares how sure the model is of a {sample} with how sure models are "
        "that never had it, and calls those {samples} members of the training data that stand out.",
        "How often a forgotten {sample} stands out more than an unseen one: 0.5 is guessing, 1 is always.",
        "An attacker who does better than guessing learns that {samples} were in the training data. One who does not "
        "has only this attack's limits; there are stronger ones.",
        "AUC of the attack",
        0.5,
    ),
    "u_lira": Words(
        "{Sample} by {sample}, does it answer as models do that had it?",
        "For every forgotten {sample} it was learned how models answer that had it, and how models do that never had "
        "it. Then it was asked which of the two the answer looks like.",
        "How often the answer looks like that of a model that had the {sample}. 0.5 is guessing where many models are "
        "compared; for one model the pool's retrained models say what is usual.",
        "This is the strongest attack known on single {samples}, and it needs many models to be fair. Its figures "
        "hold for models that were trained as those of the pool.",
        "accuracy of the attack",
        0.5,
    ),
    "klom": Words(
        "{Sample} by {sample}, how far off are the answers of models that forgot in this way?",
        _MANY,
        "How far apart the two groups' answers lie for the worst 5 % of the {samples}; 0 would be no difference. "
        "Groups that "
        'are alike give more than 0 too: the row "retrain" shows how much.',
        "It notices {samples} that are forgotten too little, and {samples} that are forgotten too much. Smaller "
        "groups give larger values.",
        "KLOM, 95th percentile",
    ),
    "epsilon": Words(
        "How well could anybody tell, from one answer, whether the {sample} was forgotten or never there?",
        _MANY,
        "The proven epsilon, on average: 0 means that nobody can tell, 1 that an attacker's odds may grow 2.7-fold.",
        "It is what this number of models can prove, so a small value may only mean that there were few of them.",
        "proven epsilon, mean over the {samples}",
    ),
}

_NOT_SHOWN = (
    "That a test finds nothing is no proof that nothing is left. Tests look in known places.",
    "Whoever provides a model can make it pass tests of this kind without having forgotten anything (Zhang et al., "
    "Verification of Machine Unlearning is Fragile, arXiv:2408.00929). An audit is worth most where the auditor runs "
    "it, and not the provider, on data of the auditor's choice.",
    "The original model, its copies, and everything made from it still know the {samples}.",
    "Tests that compare with unseen data hold only if it was really never trained on, and is of the same kind.",
)


def words_of(tier: str, kind: str | None) -> Words:
    """One test in words.

    Args:
        tier: the test.
        kind: what the samples are, as `ReadySamples.kind`; None where only outputs are known, or whoever asked made
            the model's inputs.
    """
    told = _WORDS[tier]
    texts: dict[str, Any] = {name: _named(value, kind) for name, value in vars(told).items() if isinstance(value, str)}
    return replace(told, **texts)


def not_shown(kind: str | None) -> list[str]:
    """What no test shows, whatever it finds."""
    return [_named(text, kind) for text in _NOT_SHOWN]


def name_of(kind: str | None) -> str:
    """What to call one sample."""
    return NAMES.get(kind or "", "sample")


def _named(text: str, kind: str | None) -> str:
    sample = name_of(kind)
    return text.format(sample=sample, samples=f"{sample}s", Sample=sample.capitalize())
