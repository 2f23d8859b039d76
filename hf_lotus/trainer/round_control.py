"""What happens between rounds: decide the next one, log it, stop, keep the best, and find it again after a resume."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from hf_lotus.methods import Round
from hf_lotus.methods.rounds import Pass
from hf_lotus.trainer.checkpoints import read_round_state

if TYPE_CHECKING:
    from hf_lotus.trainer.trainer import UnlearningTrainer

# What the log adds to a round's values.
_LOGGED_BESIDE = ("round", "stop", "epoch", "step")
_BEST_ROUND = "best_round"


class RoundControl(TrainerCallback):
    """Ask the method at the borders of rounds, and hold its decision for the loss.

    A round is decided when the one before ends: a stop that is flagged when an epoch begins would still train a batch.
    The decision is in the log, and so in every checkpoint, from which a resumed run takes it.

    Attributes:
        current: the decision for the current round, or None before the first.
        tensors: `Round.state` of the last decision; empty before the first.
        index: the current round, from 0.
        first_step: steps of the run before the first batch of the current round.
        last_pass: the pass of the last optimizer step.
        state_on_device: the tensors of the decision for the current round, where its batches are.
    """

    def __init__(self, trainer: UnlearningTrainer):
        self.trainer = trainer
        self.current: Round | None = None
        self.tensors: dict[str, Tensor] = {}
        self.index = self.first_step = 0
        self.last_pass = Pass()
        self.state_on_device: dict[str, Tensor] = {}

    @property
    def current_pass(self) -> Pass:
        """The pass of the optimizer step that is being made."""
        return self._pass_at(self.trainer.state.global_step)[0]

    @property
    def share(self) -> float:
        """How much of the round is over before the optimizer step that is being made, from 0 to below 1."""
        return (self.trainer.state.global_step - self.first_step) / self.trainer.sampler.steps(self.index)

    @property
    def ends_pass(self) -> bool:
        """Whether the optimizer step that is being made is the last of its pass."""
        return self._pass_at(self.trainer.state.global_step)[1]

    @property
    def decided(self) -> Round:
        """The decision for the current round, once there is one."""
        assert self.current is not None
        return self.current

    def _pass_at(self, step: int) -> tuple[Pass, bool]:
        return self.trainer.sampler.pass_at(self.index, step - self.first_step)

    def decide_first(self) -> bool:
        """Decide the first round; return whether the run stops before it."""
        self.tensors = {}
        self._decide(0)
        if self.decided.stop:
            self._log(0)
        return self.decided.stop

    def take_over(self, checkpoint: str) -> bool:
        """Forget what was decided; return whether the run of a checkpoint had stopped there already.

        If it had, its log is taken over, so that it can be told.
        """
        self.current, self.tensors = None, read_round_state(checkpoint)
        path = os.path.join(checkpoint, TRAINER_STATE_NAME)
        state = TrainerState.load_from_json(path) if os.path.isfile(path) else TrainerState()
        rounds = [entry for entry in state.log_history if "round" in entry]
        stopped = bool(rounds and rounds[-1]["stop"])
        decided = max((int(entry["round"]) for entry in rounds), default=-1)
        renewed = [index for index in range(decided + 1) if self._renews(index)]
        if renewed:
            self.trainer.renew_teacher(renewed[-1], from_folder=True)
        if stopped:
            self.trainer.state = state
        return stopped

    def history(self) -> list[dict[str, float]]:
        """The log of the rounds that took place, and of the stop where there was one."""
        state = self.trainer.state
        rounds = [entry for entry in state.log_history if "round" in entry]
        return [entry for entry in rounds if entry["stop"] or entry["step"] < state.global_step]

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the order of the round; its decision is made already, but for a resume."""
        assert state.epoch is not None
        self.index = int(state.epoch)
        # The loader's own set_epoch does not reach the sampler after a mid-round resume on several ranks.
        self.trainer.sampler.set_epoch(self.index)
        # A resume with `ignore_data_skip` takes the whole round once more.
        skips = not args.ignore_data_skip
        self.first_step = self.trainer.sampler.first_step(self.index) if skips else state.global_step
        self._keep_best()  # of the round before, if the run was resumed from its last step
        self._enter(self.index)
        self.trainer.captured.begin_round()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hold the masked weights in the steps that are for it; the student is about to change."""
        self.trainer.run.forget_predicted()
        if self.trainer.weight_mask is not None:
            self.trainer.weight_mask.hold(self.current_pass.is_masked)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put back the weights that must not move."""
        if self.trainer.weight_mask is not None:
            self.trainer.weight_mask.restore()

    def _measure_only_what_may_be_the_end(self, control: TrainerControl) -> None:
        if not self.trainer.hooks.may_end_with(self.index):
            control.should_evaluate = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the loss of each pass on its own, where a round has several."""
        self.last_pass, is_last = self._pass_at(state.global_step - 1)
        if is_last and self.last_pass.name and args.logging_strategy != "no":
            control.should_log = True
        self._measure_only_what_may_be_the_end(control)
        if control.should_log or control.should_save or control.should_evaluate:
            self.trainer.hooks.finite.ask()  # before anything is told or kept of what may be broken

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the best round where the method rewinds; decide the next round, if there is one."""
        assert state.epoch is not None
        self.trainer.hooks.finite.ask()
        self.trainer.captured.forget()  # what comes now needs the memory
        index = round(state.epoch)
        self._measure_only_what_may_be_the_end(control)
        # Logging clears the flag that has the round's loss logged next.
        should_log = control.should_log
        self._keep_best()
        if index < state.num_train_epochs and not control.should_training_stop:
            self.current = None
            self._enter(index)
            control.should_training_stop = self.decided.stop
        control.should_log = should_log

    def _enter(self, index: int) -> None:
        logged = next((entry for entry in self.trainer.state.log_history if entry.get("round") == index), None)
        if logged is not None:
            values = {name: value for name, value in logged.items() if name not in _LOGGED_BESIDE}
            self.current = Round(values, bool(logged["stop"]), self.tensors)
        else:
            if self.current is None:
                self._decide(index)
            self._log(index)
        self.state_on_device = {name: self._placed(value) for name, value in self.decided.state.items()}

    def _placed(self, value: Tensor) -> Tensor:
        device = self.trainer.args.device
        if device.type == "mps" and value.is_floating_point():
            value = value.float()  # it has no float64
        return value.to(device)

    def _renews(self, index: int) -> bool:
        return self.trainer.hooks.renews_teacher(index)

    def _decide(self, index: int) -> None:
        if self._renews(index):
            self.trainer.renew_teacher(index)
        self.current = self.trainer.hooks.begin_round(self.trainer.run, index)
        self.tensors = dict(self.decided.state)
        taken = sorted(self.decided.values.keys() & set(_LOGGED_BESIDE))
        if taken:
            raise ValueError(
                f"{type(self.trainer.method).__name__} names a round's value {taken[0]!r}: call it otherwise."
            )

    def _log(self, index: int) -> None:
        self.trainer.log({"round": index, **self.decided.values, "stop": float(self.decided.stop)})

    # ---- rewinding ----

    @property
    def _best_folder(self) -> str:
        return os.path.join(self.trainer.args.output_dir, _BEST_ROUND)

    def _distances(self) -> dict[int, float]:
        history = self.trainer.state.log_history
        return {int(entry["after_round"]): entry["distance"] for entry in history if "after_round" in entry}

    def _keep_best(self) -> None:
        """Measure the round that has just ended, once, and keep its weights if it is the best so far."""
        ended = self.trainer.state.epoch or 0
        index = round(ended) - 1
        if index < 0 or index + 1 != ended or index in self._distances():
            return
        if not self.trainer.hooks.may_end_with(index):
            return
        distance = self.trainer.hooks.round_distance(self.trainer.run)
        if distance is None:
            return
        if distance < min(self._distances().values(), default=float("inf")):
            self.trainer.save_model(self._best_folder, _internal_call=True)
            self.trainer.checkpoints.mark(self._best_folder, after_round=index)
        self.trainer.log({"after_round": index, "distance": distance})

    def rewind(self) -> None:
        """End with the weights of the round with the least distance, where the method has one.

        The folder of the best round stays: a checkpoint from which the run is resumed may count on it.
        """
        self._keep_best()
        distances = self._distances()
        if not distances:
            return
        best = min(distances, key=distances.__getitem__)  # the first of equal ones
        # Where Trainer has chosen a round too, its choice is what the model holds now.
        if best + 1 != self.trainer.state.epoch or self.trainer.args.load_best_model_at_end:
            self.trainer.checkpoints.load_marked(self._best_folder, after_round=best)
        self.trainer.log({"rewound_to_round": best, "distance": distances[best]})
