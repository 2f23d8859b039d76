"""What to forget may be chosen on every rank by logits of its own: then all must have chosen the same."""

from __future__ import annotations

from accelerate.utils import gather_object

from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.trainer.arguments import UnlearningArguments


def require_same_choice(split: ForgetRetainSplit, arguments: UnlearningArguments) -> None:
    """Refuse ranks that chose other rows, as devices of several kinds may where samples are as hard as each other.

    Args:
        split: this rank's.
        arguments: of the run; call it on every rank.

    Raises:
        ValueError: if the ranks' splits differ.
    """
    if arguments.world_size > 1 and len(set(gather_object([split.digest]))) > 1:
        raise ValueError(
            "The processes chose different rows to forget: their devices compute the original's logits differently. "
            "Choose once, on one process, and give the rows by forget_rows."
        )
