"""Texts made ready: what the tokenizer itself gives, alone and in batches."""

import pickle

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding

from hf_lotus.data.duplicates import content_digests, find_duplicates
from hf_lotus.data.prepared import ready, ready_splits
from hf_lotus.data.text import ReadyText, folded, text_content
from hf_lotus.publishing.digests import sample_contents
from hf_lotus.trainer.round_data import RoundDataset
from tests.support import tiny_text

TOKENIZER = tiny_text.tokenizer()


@pytest.fixture(scope="module")
def data():
    return tiny_text.texts(60)


def own_batch(data, rows, tokenizer=TOKENIZER, **options):
    """The rows tokenised and padded by the stock collator."""
    samples = [tokenizer(data[row]["text"], **options) for row in rows]
    batch = DataCollatorWithPadding(tokenizer)([dict(sample) for sample in samples])
    return {**batch, "labels": torch.tensor(data[rows]["label"])}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_what_the_tokenizers_own_collator_gives(data, side):
    tokenizer = tiny_text.tokenizer(side)
    samples, rows = ReadyText(data, tokenizer), [7, 3, 59, 3]
    assert same(samples.__getitems__(rows), own_batch(data, rows, tokenizer))
    alone = samples[7]
    assert alone["input_ids"].tolist() == tokenizer(data[7]["text"])["input_ids"]
    assert samples.labels.tolist() == data["label"][:] and len(samples) == 60


def test_some_rows_are_a_set_of_their_own(data):
    samples = ReadyText(data, TOKENIZER)
    part = samples.select([7, 3, 59]).select(np.array([2, 0]))
    assert same(part.__getitems__([0, 1]), samples.__getitems__([59, 7]))
    assert part.source["text"][:] == [data[59]["text"], data[7]["text"]] and len(part) == 2
    assert part.longest == max(len(TOKENIZER(text)["input_ids"]) for text in part.source["text"])
    assert part.tokens["input_ids"].data_ptr() == samples.tokens["input_ids"].data_ptr(), "nothing is copied"


def test_pickled_to_a_worker_it_gives_the_same(data):
    samples = ReadyText(data, TOKENIZER)
    assert same(pickle.loads(pickle.dumps(samples)).__getitems__([5, 1]), samples.__getitems__([5, 1]))


def test_long_texts_are_cut_off_where_asked_and_where_the_tokenizer_says(data):
    assert same(ReadyText(data, TOKENIZER, max_length=5).__getitems__([0, 1]),
                own_batch(data, [0, 1], truncation=True, max_length=5))  # fmt: skip
    long = Dataset.from_dict({"text": ["rose " * 50], "label": [0]})
    assert ReadyText(long, TOKENIZER).longest == 32
    with pytest.raises(ValueError, match="max_length must be 1 token or more, got 0"):
        ReadyText(data, TOKENIZER, max_length=0)


def test_two_texts_that_belong_together_are_one_sample():
    pairs = Dataset.from_dict({"premise": ["the ship", "rose"], "hypothesis": ["fog", "a bee"], "label": [0, 1]})
    samples = ready(pairs, TOKENIZER)
    assert samples[0]["input_ids"].tolist() == TOKENIZER("the ship", "fog")["input_ids"]
    assert samples[0]["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1]
    turned = ready(pairs, TOKENIZER, text_column=["hypothesis", "premise"])
    assert turned[0]["input_ids"].tolist() == TOKENIZER("fog", "the ship")["input_ids"]


def test_sides_of_a_round_are_padded_together(data):
    """As if all had come from one set, whichever side has the longest text."""
    forget, retain = data.select(range(20)), data.select(range(20, 60))
    both = RoundDataset(ReadyText(forget, TOKENIZER), ReadyText(retain, TOKENIZER), torch.arange(20), torch.arange(40))
    positions = [50, 3, 21, 0, 19]
    batch = both.__getitems__(positions)
    assert batch.pop("is_forget").tolist() == [False, True, False, True, True]
    assert batch.pop("position").tolist() == positions
    assert same(batch, own_batch(data, positions))


def test_which_texts_share_a_batch_changes_logits_by_rounding_alone(data):
    model, samples = tiny_text.tiny_bert().eval(), ReadyText(data, TOKENIZER)

    def logits(rows):
        batch = samples.__getitems__(rows)
        batch.pop("labels")
        with torch.no_grad():
            return model(**batch).logits

    alone = torch.cat([logits([row]) for row in range(60)])
    torch.testing.assert_close(logits(range(60)), alone, rtol=0, atol=1e-6)


class TestReady:
    def test_raw_texts_are_told_by_their_features_and_the_tokenizer(self, data):
        assert isinstance(ready(data, TOKENIZER), ReadyText)
        assert ready(data, None) is data, "inputs that only the user knows may stand beside a column named text"
        tokens = Dataset.from_dict({"input_ids": [[1, 2]], "text": ["a b"], "label": [0]})
        assert ready(tokens, TOKENIZER) is tokens

    def test_a_column_of_another_name_is_named(self, data):
        renamed = data.rename_column("text", "body")
        with pytest.raises(ValueError, match="name it by text_column. The columns are body, author, label"):
            ready(renamed, TOKENIZER)
        assert same(ready(renamed, TOKENIZER, text_column="body")[3], ReadyText(data, TOKENIZER)[3])
        with pytest.raises(ValueError, match="Column 'label' is ClassLabel.*which is no text"):
            ready(renamed, TOKENIZER, text_column="label")
        with pytest.raises(ValueError, match="no column 'bdy'. Did you mean 'body'"):
            ready(renamed, TOKENIZER, text_column=["bdy"])

    def test_pictures_and_texts_are_not_mixed(self, digits, data):
        with pytest.raises(ValueError, match="has raw images, which only an image processor turns"):
            ready(digits, TOKENIZER, "forget set")
        captioned = digits.add_column("text", ["a rose"] * len(digits))
        assert ready(captioned, TOKENIZER, text_column="text").kind == "text"
        with pytest.raises(ValueError, match="one kind; got image_column and text_column"):
            ready(captioned, TOKENIZER, text_column="text", image_column="image")
        with pytest.raises(ValueError, match="raw texts, which only a tokenizer.*AutoTokenizer.*got NoneType"):
            ready(data, None, text_column="text")

    def test_what_cannot_be_made_ready(self, data):
        without = tiny_text.tokenizer()
        without.pad_token = None
        with pytest.raises(ValueError, match="no padding token.*tokenizer.eos_token"):
            ready(data, without)
        gap = Dataset.from_dict({"text": ["a", None], "label": [0, 1]})
        with pytest.raises(ValueError, match="Row 1 has no text in column 'text'"):
            ready(gap, TOKENIZER)

    def test_texts_longer_than_the_model_takes(self, data):
        endless = tiny_text.tokenizer()
        endless.model_max_length = int(1e30)
        parts = tiny_text.divided(tiny_text.texts())
        parts["test"] = Dataset.from_dict({"text": ["rose " * 50], "label": [0]})
        with pytest.raises(
            ValueError, match="The test set has a text of 52 tokens, the model takes 32.*max_length=32"
        ):
            ready_splits(parts, tiny_text.tiny_bert().config, endless)
        splits, _ = ready_splits(parts, tiny_text.tiny_bert().config, endless, max_length=32)
        assert splits["test"].longest == 32


class TestContents:
    def test_texts_are_known_by_their_characters_alone(self, data):
        kind, contents = sample_contents(data)
        assert kind == "text" and len(set(contents.tolist())) == len(set(data["text"][:]))
        again = data.remove_columns("author").with_format("torch").select([4])
        np.testing.assert_array_equal(sample_contents(again)[1], contents[[4]])
        spaced = Dataset.from_dict({"text": [data[4]["text"] + " "], "label": [0]})
        assert sample_contents(spaced)[1] != contents[4]
        with pytest.raises(ValueError, match="Texts can be compared by 'text' or 'folded', got 'pixels'"):
            content_digests(data, by="pixels")

    def test_where_one_text_ends_and_the_other_begins_is_told(self):
        assert text_content(["ab", "c"]) != text_content(["a", "bc"]) != text_content(["abc"])

    def test_folding_takes_away_case_and_spaces_and_nothing_else(self):
        assert folded(" The\u00a0 ROSE\n") == folded("the rose") == "the rose"
        assert folded("Stra\u00dfe e\u0301") == folded("STRASSE \u00e9")
        assert folded("the rose.") != folded("the rose")

    def test_duplicates_are_counted_and_those_that_nearly_are(self):
        def part(*texts):
            return Dataset.from_dict({"text": list(texts), "label": [0] * len(texts)})

        parts = {"forget": part("a rose", "the bee", "fog"), "retain": part("A  Rose", "fog"), "test": None}
        found = str(find_duplicates(parts))
        assert found == "Identical texts: 1 of forget & retain (but for case and spaces: 2 of forget & retain)."
        assert str(find_duplicates({**parts, "retain": part("x")})) == "Identical texts: none across the parts."
