"""Data set + tokenizer → ready texts: tokenised once, padded batch by batch.

The only room that knows about texts. Tokens are kept end to end without padding, four bytes each.
"""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Mapping, Sequence
from typing import ClassVar

import datasets
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.data.data_collator import pad_without_fast_tokenizer_warning
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from hf_lotus.data.columns import find_label_column, find_text_columns, read_labels
from hf_lotus.data.samples import ReadySamples, bounds_of

# Texts that are tokenised at a time.
_BLOCK = 1000
_MASK = "attention_mask"


class ReadyText(ReadySamples):
    """A data set of texts, tokenised when it is made.

    A batch is padded to its longest text, by the tokenizer's own `pad`. The attention mask keeps padding out, so that
    which texts share a batch changes a logit by rounding alone.

    Args:
        dataset: a `datasets.Dataset` with one text column, or two whose texts belong together, and a label column.
        tokenizer: the model's tokenizer; it must have a padding token.
        text_column: the column, or both; found from the features if None.
        label_column: found from the features if None.
        num_labels: the model's number of classes, to choose between several label columns.
        max_length: tokens after which a text is cut off; as many as the tokenizer says if None.

    Raises:
        ValueError: if a column cannot be found, a row has no text, or the tokenizer cannot pad.
    """

    kind: ClassVar[str] = "text"

    def __init__(
        self,
        dataset: datasets.Dataset,
        tokenizer: PreTrainedTokenizerBase,
        text_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
    ):
        columns = find_text_columns(dataset, text_column)
        if not columns:
            raise ValueError(
                "Cannot tell which column holds the texts: name it by text_column. The columns are "
                f"{', '.join(dataset.column_names)}."
            )
        if tokenizer.pad_token is None:
            raise ValueError(
                "The tokenizer has no padding token, so texts of different lengths make no batch. Set one: "
                "tokenizer.pad_token = tokenizer.eos_token and model.config.pad_token_id = tokenizer.pad_token_id."
            )
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be 1 token or more, got {max_length}.")
        self.labels = torch.from_numpy(read_labels(dataset, find_label_column(dataset, label_column, num_labels)))
        self.texts, self.tokenizer = dataset.with_format(None).select_columns(list(columns)), tokenizer
        known = tokenizer.model_max_length if tokenizer.model_max_length < VERY_LARGE_INTEGER else None
        self.tokens, self.bounds = _tokenized(self.texts, tokenizer, max_length or known)

    @property
    def source(self) -> datasets.Dataset:
        """The text columns, as they are stored."""
        return self.texts

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int((self.bounds[:, 1] - self.bounds[:, 0]).max())

    def select(self, rows: Sequence[int] | np.ndarray) -> ReadyText:
        """Some of the rows as a set of its own, which shares the tokens."""
        part, wanted = copy.copy(self), torch.as_tensor(np.asarray(rows, dtype=np.int64))
        part.labels, part.bounds, part.texts = self.labels[wanted], self.bounds[wanted], self.texts.select(rows)
        return part

    def __getitems__(self, rows: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """Tokens (batch, longest of them) and labels (batch,) of the given rows, as one padded batch."""
        wanted = torch.as_tensor(rows)
        bounds = self.bounds[wanted].tolist()
        unpadded = {name: [flat[a:b].tolist() for a, b in bounds] for name, flat in self.tokens.items()}
        return {**self._padded(unpadded), "labels": self.labels[wanted]}

    def joined(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Batches laid end to end, each padded to the longest text of them all."""
        names = [name for name in batches[0] if name != "labels"]
        rows = {name: [row for batch in batches for row in batch[name].tolist()] for name in names}
        return {**self._padded(rows), "labels": torch.cat([batch["labels"] for batch in batches])}

    def _padded(self, tokens: Mapping[str, list[list[int]]]) -> dict[str, Tensor]:
        return dict(
            pad_without_fast_tokenizer_warning(self.tokenizer, dict(tokens), padding=True, return_tensors="pt")
        )


def _tokenized(
    texts: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, limit: int | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Tokens of all rows laid end to end, by the model's names for them (int32), and each row's bounds (rows, 2).

    The attention mask is not kept: without padding it is one everywhere.
    """
    blocks: dict[str, list[np.ndarray]] = {}
    lengths: list[int] = []
    cut = {"truncation": limit is not None, "max_length": limit}
    with tqdm(total=len(texts), desc="Tokenising", unit="text", leave=False, disable=len(texts) < 20_000) as bar:
        for start in range(0, len(texts), _BLOCK):
            rows = texts[start : start + _BLOCK]
            _require_texts(rows, start)
            found = tokenizer(*rows.values(), **cut, return_attention_mask=False)
            for name, values in found.items():
                blocks.setdefault(name, []).append(np.fromiter((v for row in values for v in row), dtype=np.int32))
            lengths += [len(row) for row in found[tokenizer.model_input_names[0]]]
            bar.update(len(lengths) - bar.n)
    return {name: torch.from_numpy(np.concatenate(parts)) for name, parts in blocks.items()}, bounds_of(lengths)


def _require_texts(rows: Mapping[str, Sequence[str | None]], start: int) -> None:
    for name, values in rows.items():
        missing = next((place for place, value in enumerate(values) if value is None), None)
        if missing is not None:
            raise ValueError(
                f"Row {start + missing} has no text in column {name!r}. Leave it out, or give it an empty text."
            )


def text_content(texts: Sequence[str]) -> bytes:
    """What tells a sample of one or two texts from any other: each with its length, in UTF-8."""
    parts = [text.encode() for text in texts]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def folded(text: str) -> str:
    """A text without what sets copies of it apart: case, kinds of spaces and how many, and ways to write a letter."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
