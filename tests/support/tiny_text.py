"""Short texts by a few authors, a tokenizer made of their words, and a tiny BERT: all made in the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Value
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

TOPICS = ["garden", "harbour", "kitchen"]
WORDS = {
    "garden": "rose soil rain bee leaf spade seed hedge frost".split(),
    "harbour": "ship tide rope gull mast crane anchor fog quay".split(),
    "kitchen": "salt pan flour oven knife soup steam plate yeast".split(),
}
COMMON = "the a old cold small is was near under again today".split()
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def texts(count: int = 300, seed: int = 0) -> Dataset:
    """Texts of 3 to 12 words with their topic and one of 15 authors."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(TOPICS))
    written = []
    for label in labels:
        words = rng.choice([*WORDS[TOPICS[label]], *COMMON], rng.integers(3, 13))
        written.append(" ".join(words))
    features = Features({"text": Value("string"), "author": Value("string"), "label": ClassLabel(names=TOPICS)})
    authors = [f"a{number % 15}" for number in range(count)]
    return Dataset.from_dict({"text": written, "author": authors, "label": labels}, features=features)


def tokenizer(padding_side: str = "right") -> PreTrainedTokenizerFast:
    """A tokenizer that knows these words, with BERT's special tokens and two segments."""
    vocabulary = [*_SPECIAL, *COMMON, *(word for words in WORDS.values() for word in words)]
    made = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32, padding_side=padding_side,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def tiny_bert(num_labels: int = 3, dropout: float = 0.1) -> BertForSequenceClassification:
    """Two layers of width 32, always with the same weights; it has dropout, as BERT has."""
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        id2label=dict(enumerate(TOPICS[:num_labels])), label2id={n: i for i, n in enumerate(TOPICS[:num_labels])},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BertForSequenceClassification(config)


def divided(data: Dataset) -> dict[str, Dataset]:
    """The texts in four parts that share no row."""
    bounds = {"forget": (0, 40), "retain": (40, 180), "unseen": (180, 240), "test": (240, 300)}
    return {name: data.select(range(*bound)) for name, bound in bounds.items()}


def write(root: Path, model: str = "model", data: str = "data") -> None:
    """Put the tiny BERT with its tokenizer, and the texts in splits, into two folders of a folder."""
    written = texts()
    (root / data).mkdir()
    for name, rows in {"train": range(180), "validation": range(180, 240), "test": range(240, 300)}.items():
        written.select(rows).to_parquet(root / data / f"{name}-00000.parquet")
    tiny_bert().save_pretrained(root / model)
    tokenizer().save_pretrained(root / model)
