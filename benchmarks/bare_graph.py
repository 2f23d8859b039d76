"""The limit on a GPU: forward and backward of whole batches as one CUDA graph, over tensors that lie ready on it.

Nothing of the package is used here: it is what `speed.py` measures the package against.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WARM_UP = 3


class GraphedRound:
    """A round of bare steps: whole batches replay one graph, and what is left over is passed as ever.

    Args:
        model: in training mode, on a GPU; its gradients are the graph's.
        pixels: normalised, shape (samples, channels, height, width), on the GPU.
        labels: shape (samples,), on the GPU.
        batch_size: samples of a step.
        bf16: compute in bfloat16 by autocast.
    """

    def __init__(self, model: nn.Module, pixels: Tensor, labels: Tensor, batch_size: int, bf16: bool = False):
        self.model, self.pixels, self.labels, self.bf16 = model.train(), pixels, labels, bf16
        self.given = pixels[:batch_size].clone(), labels[:batch_size].clone()
        self.whole = len(labels) // batch_size
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self._step(*self.given)
        torch.cuda.current_stream().wait_stream(aside)
        model.zero_grad()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._step(*self.given)

    def _step(self, pixels: Tensor, labels: Tensor) -> None:
        # Weights are cast anew in every step, as they are where an optimizer changes them in between.
        with torch.autocast("cuda", torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            logits = self.model(pixel_values=pixels).logits
        nn.functional.cross_entropy(logits.float(), labels).backward()

    def __call__(self) -> None:
        """Take the steps of a round."""
        size = len(self.given[1])
        for step in range(self.whole):
            rows = slice(step * size, (step + 1) * size)
            self.given[0].copy_(self.pixels[rows])
            self.given[1].copy_(self.labels[rows])
            self.graph.replay()
        if len(self.labels) > self.whole * size:
            # Another batch size is another graph; its gradients are added to, and the next replay writes them anew.
            self._step(self.pixels[self.whole * size :], self.labels[self.whole * size :])
