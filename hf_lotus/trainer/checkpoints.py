"""Checkpoints that say which run they are of, and going on from the right one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from accelerate.utils import broadcast_object_list
from safetensors.torch import load, save
from torch import Tensor
from transformers import PreTrainedModel
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from hf_lotus.trainer.fingerprint import differences, run_identity
from hf_lotus.trainer.sharding import load_whole
from hf_lotus.utils.files import write_whole

if TYPE_CHECKING:
    from hf_lotus.trainer.trainer import UnlearningTrainer

logger = logging.get_logger(__name__)

# Beside a checkpoint's weights: the run that it is of, and the seconds of unlearning until then.
MARK = "unlearning_run.json"
# The tensors of the last decision about a round, where it has any.
ROUND_STATE = "round_state.safetensors"


class Checkpoints:
    """The checkpoints of one trainer: which run each is of, and which one to go on from.

    Args:
        trainer: the trainer.
    """

    def __init__(self, trainer: UnlearningTrainer):
        self._trainer = trainer
        self._identity: dict[str, Any] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the run (`run_identity`), as it was when training last began."""
        if self._identity is None:
            self._identity = self.identify()
        return self._identity

    def identify(self, *, ended: bool = False) -> dict[str, Any]:
        """What determines the run as it stands; `ended` as in `run_identity`."""
        trainer = self._trainer
        return run_identity(trainer.method, trainer.teacher, trainer.splits, trainer.args, ended=ended)

    def begin(self, resume_from_checkpoint: str | os.PathLike | bool | None) -> str | None:
        """Start the clock, and find the checkpoint to go on from; on all ranks the same.

        Args:
            resume_from_checkpoint: a folder, or True for the last of this run's checkpoints in `output_dir`.

        Returns:
            the checkpoint's folder, or None to begin anew.

        Raises:
            ValueError: if there is none, or it is not whole, or of another run.
        """
        clock = self._trainer.stopwatch
        clock.start()
        found: str | None = None
        mark: dict[str, Any] = {}
        problem: str | None = None
        if self._trainer.is_world_process_zero():
            # Before the teacher may be divided over devices.
            self._identity = self.identify()
            try:
                found, mark = self._find(resume_from_checkpoint)
            except ValueError as error:
                problem = str(error)
        # Decided by the first rank: a file that another one does not see yet must not part them.
        told: list[Any] = [found, mark.get("seconds", 0.0), problem, self._identity, mark.get("passes")]
        if self._trainer.args.world_size > 1:
            broadcast_object_list(told)
        found, clock.carried, problem, self._identity, passes = told
        self._trainer.passes.begin(passes)  # the ranks take equally many, so that the first rank's stand for each
        if problem is not None:
            raise ValueError(problem)
        return found

    def _find(self, given: str | os.PathLike | bool | None) -> tuple[str | None, dict[str, Any]]:
        """The checkpoint to go on from, and its mark."""
        if given is None or given is False:
            return None, {}
        if given is not True:
            return os.fspath(given), self._check(os.fspath(given))
        problems, output_dir = [], self._trainer.args.output_dir
        for folder in _newest_first(output_dir):
            try:
                mark = self._check(str(folder))
            except ValueError as error:
                problems.append(str(error))
                continue
            if problems:
                logger.warning(f"Going on from {folder}. Passed over: {problems[0]}")
            return str(folder), mark
        none = f"There is no checkpoint in {output_dir!r} to resume from: leave resume_from_checkpoint out."
        raise ValueError(problems[0] if problems else none)

    def _check(self, folder: str) -> dict[str, Any]:
        """The mark of a checkpoint, if one can go on from there."""
        if not os.path.isdir(folder):
            raise ValueError(
                f"There is no checkpoint folder {folder!r} to resume from. Give a folder, or True for the last one in "
                "output_dir."
            )
        anew = "To begin anew, leave resume_from_checkpoint out and give an output_dir of its own."
        mark = read_mark(folder)
        if mark is None:
            raise ValueError(
                f"The checkpoint {folder!r} does not say which run it is of: it has no readable {MARK}. An older "
                f"version of hf-lotus wrote it, or another program. {anew}"
            )
        if told := differences(mark["run"], self.identity):
            raise ValueError(
                f"The checkpoint {folder!r} is of another run, which differs in: {'; '.join(told)}. To go on with "
                f"that run, give what it was given. {anew}"
            )
        if not self._trainer.hooks.edits:
            _require_whole(folder)
        return mark

    def mark(self, folder: str | os.PathLike, **more: object) -> None:
        """Write into a folder which run its weights are of; the first rank's job.

        Args:
            folder: with weights, or about to get them.
            **more: what else to say of them, as JSON values.
        """
        if self._trainer.is_world_process_zero():
            os.makedirs(folder, exist_ok=True)
            cost = {"seconds": self._trainer.stopwatch.seconds, "passes": self._trainer.passes.counts}
            text = json.dumps({"run": self.identity, **cost, **more}, indent=1)
            write_whole(Path(folder) / MARK, text + "\n")

    def mark_first(self, folder: str | os.PathLike | None) -> None:
        """Mark a checkpoint of a round before its weights are written, and write what else it counts on.

        Any other folder is left alone. Not after: older checkpoints may be deleted right after its last file is there.
        """
        if self._trainer.is_in_train and folder is not None and _number(Path(folder)) >= 0:
            self.mark(folder)
            if self._trainer.is_world_process_zero():
                write_round_state(folder, self._trainer.round_state)
            self._trainer.keep_renewed_teacher()

    def load_marked(self, folder: str, **more: object) -> None:
        """Load weights from a folder that `mark` was called for with the same words.

        Raises:
            ValueError: if the folder holds other weights.
        """
        self.require_marked(folder, **more)
        self._trainer.load_weights(folder)

    def require_marked(self, folder: str, **more: object) -> None:
        """Raise `ValueError` unless `mark` was called for a folder with the same words by this run."""
        mark = read_mark(folder) or {"run": None}
        other = self._identity is not None and mark["run"] != self._identity
        if other or any(mark.get(name) != value for name, value in more.items()):
            told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in more.items())
            raise ValueError(
                f"{folder!r} no longer holds the weights that this run kept there ({told}): another run, or a later "
                "part of this one, wrote there since. Begin anew, in an output_dir of its own."
            )

    def load_pretrained(self, folder: str) -> bool:
        """Load weights the way `from_pretrained` does, where the model has one; return whether it has.

        `Trainer` matches the saved names against the module's own without renaming, and for ViT-family models most
        do not match, which it only warns of.
        """
        trainer = self._trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        if not isinstance(model, PreTrainedModel) or hasattr(model, "peft_config"):
            return False
        if trainer.is_fsdp_enabled and not (Path(folder) / SAFE_WEIGHTS_NAME).is_file():
            return False  # each rank has saved its own part
        # The class of the teacher: the student's is another one while its weights are divided.
        kind = cast(type[PreTrainedModel], type(trainer.teacher))
        load_whole(model, kind.from_pretrained(folder, dtype=model.dtype).state_dict())
        return True


def read_mark(folder: str | os.PathLike) -> dict[str, Any] | None:
    """What `Checkpoints.mark` wrote into a folder; None where there is nothing readable."""
    try:
        mark = json.loads((Path(folder) / MARK).read_text(encoding="utf-8"))
        return {**mark, "run": dict(mark["run"]), "seconds": float(mark["seconds"])}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_round_state(folder: str | os.PathLike, state: Mapping[str, Tensor]) -> None:
    """Write the tensors of a decision about a round beside a checkpoint's weights; no file where it has none."""
    path = Path(folder) / ROUND_STATE
    if state:
        write_whole(path, save({name: value.contiguous() for name, value in state.items()}))
    else:
        path.unlink(missing_ok=True)  # of another run, in whose folder this one writes


def read_round_state(folder: str | os.PathLike) -> dict[str, Tensor]:
    """What `write_round_state` wrote into a folder, to the bit; empty where the decision had no tensors."""
    path = Path(folder) / ROUND_STATE
    return load(path.read_bytes()) if path.is_file() else {}


def last_whole_checkpoint(folder: str | os.PathLike) -> str | None:
    """The last checkpoint of an output folder that was written to its end; None if there is none.

    A process that is killed while it writes a checkpoint leaves one from which nothing can go on.
    """
    for checkpoint in _newest_first(folder):
        with suppress(ValueError):
            _require_whole(str(checkpoint))
            return str(checkpoint)
    return None


def _newest_first(folder: str | os.PathLike) -> list[Path]:
    return sorted(Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_number, reverse=True)


def _number(folder: Path) -> int:
    name, _, number = folder.name.rpartition("-")
    return int(number) if name == PREFIX_CHECKPOINT_DIR and number.isdecimal() else -1


def _require_whole(folder: str) -> None:
    """Raise `ValueError` unless a checkpoint was written to its end, with all that a run goes on from."""
    try:
        json.loads((Path(folder) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The checkpoint {folder!r} was not written to its end ({TRAINER_STATE_NAME} is missing or broken), as "
            "when a run is killed while it saves. Give an earlier one, or True for the last whole one."
        ) from error
    names = os.listdir(folder)
    if not any(name.startswith("optimizer") or name == "latest" for name in names):  # "latest": DeepSpeed's
        raise ValueError(
            f"The checkpoint {folder!r} holds weights alone, without the optimizer's state (save_only_model=True), so "
            "that no run can go on from it. Begin anew, without resume_from_checkpoint."
        )
