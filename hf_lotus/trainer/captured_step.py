"""A step of the device as one graph: recorded once a round, and replayed with one call of the host."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers.utils import logging

from hf_lotus.trainer.capture_rules import why_not_captured, why_not_pass
from hf_lotus.utils.graphs import DeviceGraph, Graph, layout_of, refill, watching_host

if TYPE_CHECKING:
    from hf_lotus.trainer.trainer import UnlearningTrainer

logger = logging.get_logger(__name__)

# To record a step takes as long as a few steps do: with fewer than these left of the round it is not worth it.
_WORTH = 4
# Graphs of a round. Each holds on to what its steps need, and texts may come in as many lengths as there are batches.
_MOST = 4


class CapturedSteps:
    """Takes the steps of a run, by a graph where it can be: gather, augment, normalise, forward, loss and backward.

    A graph lives for a round at most. All that differs from round to round may so be read when it is recorded, bits
    unchanged: the temperature and other values, shifts, the teacher, a mask. What differs from step to step lies in
    memory that stays where it is: the loader's batch is copied there, noise is drawn from generators that are seeded
    before each replay, and the gradients are written to the same place each time. Steps that differ in anything else
    which the device is told (shapes, the pass, the number that the loss is divided by) are of another kind.

    Of each kind the first step of a round is taken as ever: a true step, and the warming up that a recording needs
    (lazily made constants, the choice of convolutions, workspaces). Recording itself does nothing on the device, so
    that weights, gradients, statistics and noise are what they would be. In the run's first round the second step is
    taken as ever too, and it is watched whether the host draws numbers in it or waits. So the smaller last batch of a
    round, which comes once, is never recorded: it cannot be filled up either, as BatchNorm would see it.

    The optimizer's step is not in the graph. Trainer clips, calls callbacks and sets the learning rate between the
    two, and a checkpoint puts another state in the place of the optimizer's; the fused one is a few calls.

    Args:
        trainer: of the run.

    Attributes:
        make: makes a `Graph`, as `DeviceGraph` does.
        is_recording: whether a step is being recorded: a batch then tells no number that differs from step to step.
    """

    def __init__(self, trainer: UnlearningTrainer):
        self.trainer = trainer
        self.make: Callable[..., Graph] = DeviceGraph
        self.is_recording = False
        self._is_on = False
        self._taken: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, _Captured] = {}
        # Kind → why it is not recorded, or None, as its watched step told; for the whole run.
        self._verdicts: dict[Hashable, str | None] = {}
        self._told: set[str] = set()

    def require(self) -> None:
        """Refuse to run where steps must be recorded and cannot be.

        Raises:
            ValueError: with the reason.
        """
        if self.trainer.args.capture_graph:
            self._check(why_not_captured(self.trainer))

    def begin_round(self) -> None:
        """Forget the round before, and look anew at whether steps can be recorded."""
        self.forget()
        asked = self.trainer.args.capture_graph
        self._is_on = asked is not False and self._may(why_not_captured(self.trainer))

    def forget(self) -> None:
        """Free what the graphs hold; until the next round begins, steps are taken as ever."""
        self._is_on = False
        self._taken, self._graphs = {}, {}

    def take(self, inputs: dict[str, Tensor], work: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        """Take the step of a batch: its loss, whose gradients the parameters then hold.

        Args:
            inputs: the loader's batch, on the device.
            work: batch → the loss, once all of the step's work on the device is called.
        """
        kind = self._kind(inputs) if self._is_on else None
        if kind is None:
            return work(inputs)
        captured = self._graphs.get(kind)
        if captured is not None and captured.still_fits():
            return captured.replay(inputs)
        self._graphs.pop(kind, None)
        before = self._taken.get(kind, 0)
        self._taken[kind] = before + 1
        if before == 0 or self._steps_left < _WORTH or len(self._graphs) >= _MOST:
            return work(inputs)
        if kind not in self._verdicts:
            with watching_host(self.trainer.args.device) as found:
                loss = work(inputs)
            self._verdicts[kind] = f"a step {found[0]}" if found else None
            return loss
        if not self._may(self._verdicts[kind]):
            return work(inputs)
        self._graphs[kind] = self._record(inputs, work)
        return self._graphs[kind].replay(inputs)

    def _kind(self, inputs: Mapping[str, Any]) -> Hashable:
        """All that the device is told of a step and the loader's batch does not hold; None for what no graph can."""
        trainer = self.trainer
        current = trainer.current_pass
        if not self._may(why_not_pass(current)):
            return None
        layout = layout_of(inputs)
        if layout is None:
            return None
        # What the sum of losses is divided by.
        counts = tuple(trainer.counts) if current.paired else sum(trainer.counts)
        return layout, current, counts

    @property
    def _steps_left(self) -> int:
        """Steps of the round that are not yet taken, that of the batch at hand included."""
        return self.trainer.sampler.steps(self.trainer.sampler.round) - self.trainer.step_of_round

    def _may(self, why_not: str | None) -> bool:
        if why_not is not None:
            self._check(why_not)
            if self.trainer.args.device.type == "cuda" and why_not not in self._told:
                self._told.add(why_not)
                logger.warning(f"Steps are not replayed as a graph: {why_not}.")
        return why_not is None

    def _check(self, why_not: str | None) -> None:
        if why_not is not None and self.trainer.args.capture_graph:
            raise ValueError(f"capture_graph is required and cannot be had: {why_not}. Leave capture_graph out.")

    def _record(self, inputs: dict[str, Tensor], work: Callable[[dict[str, Tensor]], Tensor]) -> _Captured:
        trainer = self.trainer
        static = {name: value.clone() for name, value in inputs.items()}
        # Where a parameter has no gradient yet, the recorded backward pass makes one that each replay writes anew.
        trainer.model.zero_grad()
        beside = [captured.graph for captured in self._graphs.values()]
        graph = self.make(trainer.args.device, [trainer.noise], beside)
        self.is_recording = True
        try:
            with trainer.passes.noting() as noted:
                loss = graph.record(lambda: work(static))
        except Exception as error:
            # What CUDA was recording is lost, and with it the device's state: there is no going on from here.
            raise RuntimeError(
                "The step could not be recorded as a graph. Run again with capture_graph=False (--capture_graph "
                "false), and see whether the method or the model asks for values in the midst of a step."
            ) from error
        finally:
            self.is_recording = False
        return _Captured(trainer, graph, static, loss, noted, trainer.operations_of_batch)


@dataclass
class _Captured:
    """A recorded step, with the memory that it reads and writes.

    Attributes:
        trainer: of the run.
        graph: the recording.
        inputs: the batch that it reads.
        loss: what it writes the loss to.
        noted: the passes that it makes (`PassCounter.noting`).
        operations: the floating-point operations of its batch.
    """

    trainer: UnlearningTrainer
    graph: Graph
    inputs: dict[str, Tensor]
    loss: Tensor
    noted: list[tuple[str, int]]
    operations: int

    def __post_init__(self) -> None:
        parameters = list(self.trainer.model.parameters())
        self._places = [(parameter, parameter.data_ptr()) for parameter in parameters]
        self._gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]

    def still_fits(self) -> bool:
        """Whether the weights lie where they lay: a callback may put others in their place."""
        return all(parameter.data_ptr() == place for parameter, place in self._places)

    def replay(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Take a step; its loss, good until the next one."""
        refill(self.inputs, inputs)
        self.graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient  # Trainer takes it off after each step
        trainer = self.trainer
        trainer.operations_of_batch = self.operations
        with trainer.passes.showing(*trainer.shown):
            trainer.passes.again(self.noted)
        return self.loss
