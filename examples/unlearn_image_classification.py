"""Unlearn part of an image classifier's training data with LoTUS, and measure what was forgotten.

    python examples/unlearn_image_classification.py \
        --model_name_or_path your-name/resnet-photos --dataset_name your-name/photos --output_dir unlearned

Both are Hub ids or local folders; every training argument of the Trainer is a flag too.
The same file runs on many devices: accelerate launch examples/unlearn_image_classification.py …
"""

from dataclasses import dataclass, field

import torch
from datasets import load_dataset
from transformers import AutoImageProcessor, AutoModelForImageClassification, HfArgumentParser

from hf_lotus import ForgetRetainSplit, LoTUS, UnlearningArguments, UnlearningTrainer


@dataclass
class ScriptArguments:
    """What to unlearn from what."""

    model_name_or_path: str = field(metadata={"help": "A trained image classifier: a Hub id or a local folder."})
    dataset_name: str = field(metadata={"help": "The data set that it was trained on, with a train and a test split."})
    forget_fraction: float = field(default=0.1, metadata={"help": "How much of each class to forget."})
    alpha: float = field(default=2.0, metadata={"help": "LoTUS's α: how fast the temperature rises."})


def main() -> None:
    """Unlearn, measure, save."""
    script, args = HfArgumentParser((ScriptArguments, UnlearningArguments)).parse_args_into_dataclasses()
    model = AutoModelForImageClassification.from_pretrained(script.model_name_or_path, dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(script.model_name_or_path)
    data = load_dataset(script.dataset_name)

    # What to forget. There are also from_indices, from_file, from_column and from_class.
    split = ForgetRetainSplit.from_fraction(data["train"], script.forget_fraction, seed=0)
    # LoTUS needs data that the model has never seen; what is unseen here is no longer tested on.
    held_out = ForgetRetainSplit.from_fraction(data["test"], 0.5, seed=0)

    trainer = UnlearningTrainer(
        model=model,
        args=args,
        method=LoTUS(alpha=script.alpha),
        forget_dataset=split.forget,
        retain_dataset=split.retain,
        unseen_dataset=held_out.forget,
        eval_dataset=held_out.retain,
        processing_class=processor,
    )
    trainer.train()
    result = trainer.compare()
    if trainer.is_world_process_zero():
        print(result.to_markdown())
    if args.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.create_model_card()  # with the model, results.json, forget_set.json and a figure beside it
    trainer.end()


if __name__ == "__main__":
    main()
