"""From what a tier reads on each model to its verdict: one rule for all tiers, fixed before anything is measured.

A tier accuses a model where its own rule does, which is at `LEVEL` on a model that never saw the samples. Then:

- it accuses the audited model, and no retrained model that reads alike: "found: not forgotten";
- it accuses the audited model, but a retrained one too whose interval is not wholly below: "cannot tell at this n",
  for something other than remembering sets it off;
- it does not accuse the audited model, but the original: "nothing found";
- it accuses not even the original, which knows the samples: "cannot tell at this n", for it is blind here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hf_lotus.evaluation.findings import CANNOT_TELL, FOUND, NOTHING, Finding, Reading
from hf_lotus.evaluation.results import ORIGINAL, is_retrained_row


def concluded(tier: str, rule: str, readings: Sequence[Reading], n: int, counts: Mapping[str, int]) -> Finding:
    """The finding of a tier that could be measured.

    Args:
        tier: its key.
        rule: by what it accuses.
        readings: the audited model's first.
        n: what the figure rests on.
        counts: all that was counted.
    """
    own, others = readings[0], readings[1:]
    verdict, reason = _verdict(own, others)
    return Finding(tier, verdict, reason, rule, n, counts, tuple(readings))


def _verdict(own: Reading, others: Sequence[Reading]) -> tuple[str, str]:
    if own.accused is None:
        return CANNOT_TELL, own.reason
    if own.accused:
        alike = [r.model for r in others if is_retrained_row(r.model) and r.accused and not _is_above(own, r)]
        if alike:
            return CANNOT_TELL, (
                f"The rule accuses {' and '.join(alike)} as well, which never saw the samples: something else than "
                "remembering sets this test off here."
            )
        return FOUND, ""
    original = next((reading for reading in others if reading.model == ORIGINAL), None)
    if original is not None and original.accused is False:
        return CANNOT_TELL, (
            "The rule does not accuse the original model either, which was trained on the samples: on so many samples "
            "this test sees nothing that could be forgotten."
        )
    return NOTHING, ""


def _is_above(own: Reading, other: Reading) -> bool:
    """Whether the one's interval lies wholly above the other's."""
    return own.interval is not None and other.interval is not None and own.interval[0] > other.interval[1]
