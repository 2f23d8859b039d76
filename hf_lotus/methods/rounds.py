"""What makes a round: the data that a method asks for, and the passes over it."""

from __future__ import annotations

from dataclasses import dataclass

from hf_lotus.data.images import Augmentation


@dataclass(frozen=True)
class Streams:
    """The data that a method asks for, drawn once per run.

    Attributes:
        forget: whether the forget set is part of it, whole.
        retain_fraction: the share of the retain set in it, from 0 (none) to 1 (all).
        forget_per_class: instead of each forget sample once, this many of each class, repeated where there are fewer.
        retain_per_class: instead of a share, this many retain samples of each class, or all where there are fewer.
    """

    forget: bool
    retain_fraction: float
    forget_per_class: int | None = None
    retain_per_class: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.retain_fraction <= 1:
            raise ValueError(f"retain_fraction must lie between 0 and 1, got {self.retain_fraction}.")
        if not self.forget and self.retain_fraction == 0:
            raise ValueError("A round needs the forget set, a part of the retain set, or both.")
        for name in ("forget_per_class", "retain_per_class"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} must be 1 or more samples, got {count}.")


@dataclass(frozen=True)
class Pass:
    """One pass of a round over the chosen samples: mixed, over one side alone, in pairs of batches, or balanced.

    Attributes:
        forget: whether the forget samples take part.
        retain: whether the retain samples take part.
        paired: each batch of retain samples is joined by a batch of forget samples, which start over when they run
            out; the loss is then averaged over each side on its own. Otherwise both sides are shuffled together.
        forget_batch_size: forget samples per device and batch in a paired pass or one without retain samples; the
            training batch size if None.
        separate_forward: of a paired pass, the student sees each side in a forward pass of its own, so that BatchNorm
            does not mix their statistics. A side of a single sample, which BatchNorm refuses, joins the other one.
        forget_share: each batch has this share of forget samples, or all of them where they are fewer; both sides
            start over when they run out.
        samples: of such a balanced pass, after how many samples it ends.
        needs_teacher: whether the pass needs the teacher's logits, where the method does.
        augmentation: how its training images are augmented; None for the run's own way.
        name: what the log calls the pass, where a round has several.
    """

    forget: bool = True
    retain: bool = True
    paired: bool = False
    forget_batch_size: int | None = None
    separate_forward: bool = False
    forget_share: float | None = None
    samples: int | None = None
    needs_teacher: bool = True
    augmentation: Augmentation | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.paired and not (self.forget and self.retain):
            raise ValueError("A paired pass needs both sides.")
        if self.separate_forward and not self.paired:
            raise ValueError("separate_forward is for the two sides of a paired pass: give paired=True.")
        if (self.forget_share is None) != (self.samples is None):
            raise ValueError("A balanced pass has a forget_share and a number of samples: give both, or neither.")
        if self.forget_share is not None:
            if self.paired or not (self.forget and self.retain):
                raise ValueError("A balanced pass has both sides, and is not paired.")
            if not 0 < self.forget_share < 1:
                raise ValueError(f"forget_share must lie between 0 and 1, got {self.forget_share}.")
            if self.samples is not None and self.samples < 1:
                raise ValueError(f"samples must be 1 or more, got {self.samples}.")
        if self.forget_batch_size is not None and self.forget_batch_size < 1:
            raise ValueError(f"forget_batch_size must be 1 or more samples, got {self.forget_batch_size}.")
