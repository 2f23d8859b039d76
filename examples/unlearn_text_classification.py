"""Make a text classifier forget an author, by margin matching, and measure what was forgotten.

    python examples/unlearn_text_classification.py --model_name_or_path your-name/bert-reviews \
        --dataset_name your-name/reviews --forget_column author --forget_values a17 --output_dir unlearned

Both are Hub ids or local folders; every training argument of the Trainer is a flag too. The data set has the splits
train, validation (never trained on) and test, with a text column and a label column.
"""

from dataclasses import dataclass, field

import torch
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, HfArgumentParser

from hf_lotus import ForgetRetainSplit, MarginMatching, UnlearningArguments, UnlearningTrainer


@dataclass
class ScriptArguments:
    """What to unlearn from what."""

    model_name_or_path: str = field(metadata={"help": "A trained text classifier: a Hub id or a local folder."})
    dataset_name: str = field(metadata={"help": "The data set that it was trained on."})
    forget_column: str = field(metadata={"help": "Forget by the values of this column …"})
    forget_values: list[str] = field(metadata={"nargs": "+", "help": "… namely these."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens per text, as the model was trained with."})


def main() -> None:
    """Unlearn, measure, save."""
    script, args = HfArgumentParser((ScriptArguments, UnlearningArguments)).parse_args_into_dataclasses()
    model = AutoModelForSequenceClassification.from_pretrained(script.model_name_or_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(script.model_name_or_path)
    data = load_dataset(script.dataset_name)
    split = ForgetRetainSplit.from_column(data["train"], script.forget_column, script.forget_values)

    trainer = UnlearningTrainer(
        model=model,
        args=args,
        method=MarginMatching(),
        forget_dataset=split.forget,  # raw texts: tokenised once, padded batch by batch
        retain_dataset=split.retain,
        unseen_dataset=data["validation"],
        eval_dataset=data["test"],
        processing_class=tokenizer,
        max_length=script.max_length,
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
