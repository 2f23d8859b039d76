"""Make a text classifier forget an author by a LoRA adapter alone: the weights below it stay as they are, to the bit.

    python examples/unlearn_by_adapter.py --model_name_or_path your-name/bert-reviews \
        --dataset_name your-name/reviews --forget_column author --forget_values a17 --output_dir unlearned

What is saved is the adapter, some hundred kilobytes, with its record and its card; `--merged_dir` also saves whole
weights. Whoever has the adapter can take it off again: publish the merged weights where the base must not be had.
"""

from dataclasses import dataclass, field

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, HfArgumentParser

from hf_lotus import ForgetRetainSplit, MarginMatching, UnlearningArguments, UnlearningTrainer

# The rates that methods settle by themselves are those for whole weights.
RATE = 1e-3


@dataclass
class ScriptArguments:
    """What to unlearn from what, and by which adapter."""

    model_name_or_path: str = field(metadata={"help": "A trained text classifier: a Hub id or a local folder."})
    dataset_name: str = field(metadata={"help": "The data set that it was trained on."})
    forget_column: str = field(metadata={"help": "Forget by the values of this column …"})
    forget_values: list[str] = field(metadata={"nargs": "+", "help": "… namely these."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens per text, as the model was trained with."})
    rank: int = field(default=16, metadata={"help": "Rank of the adapter."})
    target_modules: list[str] | None = field(
        default=None, metadata={"nargs": "+", "help": "Layers that get one. Default: all linear ones."}
    )
    merged_dir: str | None = field(
        default=None, metadata={"help": "Folder for whole weights, with nothing to take off."}
    )


def main() -> None:
    """Unlearn by an adapter, measure, save."""
    script, args = HfArgumentParser((ScriptArguments, UnlearningArguments)).parse_args_into_dataclasses()
    args.learning_rate = args.learning_rate or RATE
    model = AutoModelForSequenceClassification.from_pretrained(script.model_name_or_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(script.model_name_or_path)
    lora = LoraConfig(r=script.rank, lora_alpha=2 * script.rank, target_modules=script.target_modules or "all-linear")
    data = load_dataset(script.dataset_name)
    split = ForgetRetainSplit.from_column(data["train"], script.forget_column, script.forget_values)

    trainer = UnlearningTrainer(
        model=get_peft_model(model, lora),  # the teacher shares its base, and has the adapter as it is now
        args=args,
        method=MarginMatching(),
        forget_dataset=split.forget,
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
        trainer.model.print_trainable_parameters()
    if args.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.create_model_card()  # with the adapter, results.json, forget_set.json and a figure beside it
    if script.merged_dir is not None and trainer.is_world_process_zero():
        trainer.model.merge_and_unload().save_pretrained(script.merged_dir)
        tokenizer.save_pretrained(script.merged_dir)
    trainer.end()


if __name__ == "__main__":
    main()
