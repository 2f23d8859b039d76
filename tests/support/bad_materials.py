"""Models, data sets and files that are wrong, each in its own way, made when they are first asked for."""

from __future__ import annotations

import csv
import io
import json
import shutil
import struct
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification

from tests.conftest import TINY_MODELS, scans

WEIGHTS = "model.safetensors"


class Materials:
    """A folder with a good model, good data, and bad ones; every attribute is a path.

    Args:
        root: an empty folder.
        processor: the model's image processor.
    """

    def __init__(self, root: Path, processor):
        self.root, self.processor = root, processor

    def _folder(self, name: str) -> Path:
        (self.root / name).mkdir()
        return self.root / name

    def _file(self, name: str, content: str | bytes) -> Path:
        (self.root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.root / name

    # ---- models ----

    @cached_property
    def model(self) -> Path:
        folder = self._folder("model")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            TINY_MODELS["resnet"]().save_pretrained(folder)
        self.processor.save_pretrained(folder)
        return folder

    def _other_model(self, name: str) -> Path:
        return Path(shutil.copytree(self.model, self.root / name))

    def _with_config(self, name: str, **changes) -> Path:
        folder = self._other_model(name)
        config = json.loads((folder / "config.json").read_text())
        kept = {key: value for key, value in {**config, **changes}.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))
        return folder

    def _with_weights(self, name: str, content: bytes) -> Path:
        folder = self._other_model(name)
        (folder / WEIGHTS).write_bytes(content)
        return folder

    @cached_property
    def truncated(self) -> Path:
        return self._with_weights("truncated", (self.model / WEIGHTS).read_bytes()[:-1000])

    @cached_property
    def short(self) -> Path:
        return self._with_weights("short", (self.model / WEIGHTS).read_bytes()[:5])

    @cached_property
    def garbage(self) -> Path:
        return self._with_weights("garbage", np.random.default_rng(0).bytes(4000))

    @cached_property
    def no_bytes(self) -> Path:
        return self._with_weights("no_bytes", b"")

    @cached_property
    def headless(self) -> Path:
        folder = self._other_model("headless")
        kept = {name: value for name, value in load_file(folder / WEIGHTS).items() if "classifier" not in name}
        save_file(kept, folder / WEIGHTS, {"format": "pt"})
        return folder

    @cached_property
    def other_head(self) -> Path:
        return self._with_config("other_head", num_labels=None, **_classes(7))

    @cached_property
    def not_finite(self) -> Path:
        folder = self._other_model("not_finite")
        weights = load_file(folder / WEIGHTS)
        weights["classifier.1.weight"][:] = torch.nan
        save_file(weights, folder / WEIGHTS, {"format": "pt"})
        return folder

    @cached_property
    def pickled(self) -> Path:
        folder = self._other_model("pickled")
        torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
        (folder / WEIGHTS).unlink()
        return folder

    @cached_property
    def broken_config(self) -> Path:
        folder = self._other_model("broken_config")
        (folder / "config.json").write_text('{"model_type": "resnet", ')
        return folder

    @cached_property
    def listed_config(self) -> Path:
        folder = self._other_model("listed_config")
        (folder / "config.json").write_text("[1, 2]")
        return folder

    @cached_property
    def typeless(self) -> Path:
        return self._with_config("typeless", model_type=None, architectures=None)

    @cached_property
    def unknown_type(self) -> Path:
        return self._with_config("unknown_type", model_type="resnot")

    @cached_property
    def odd_sizes(self) -> Path:
        return self._with_config("odd_sizes", hidden_sizes="wide")

    @cached_property
    def remote_code(self) -> Path:
        code = {"AutoModelForImageClassification": "theirs.Theirs", "AutoConfig": "theirs.TheirConfig"}
        folder = self._with_config("remote_code", model_type="theirs", auto_map=code)
        (folder / "theirs.py").write_text("open('executed', 'w')\n")
        return folder

    @cached_property
    def remote_processor(self) -> Path:
        folder = self._other_model("remote_processor")
        (folder / "theirs.py").write_text("open('executed', 'w')\n")
        own = {"auto_map": {"AutoImageProcessor": "theirs.Theirs"}, "image_processor_type": "Theirs"}
        (folder / "preprocessor_config.json").write_text(json.dumps(own))
        return folder

    @cached_property
    def regression(self) -> Path:
        return self._with_config("regression", problem_type="regression")

    @cached_property
    def several_labels(self) -> Path:
        return self._with_config("several_labels", problem_type="multi_label_classification")

    @cached_property
    def other_order(self) -> Path:
        names = [f"digit {9 - number}" for number in range(10)]
        labels = {"id2label": dict(enumerate(names)), "label2id": {name: n for n, name in enumerate(names)}}
        return self._with_config("other_order", **labels)

    @cached_property
    def without_processor(self) -> Path:
        folder = self._other_model("without_processor")
        (folder / "preprocessor_config.json").unlink()
        return folder

    @cached_property
    def broken_processor(self) -> Path:
        folder = self._other_model("broken_processor")
        (folder / "preprocessor_config.json").write_text("{")
        return folder

    @cached_property
    def odd_processor(self) -> Path:
        folder = self._other_model("odd_processor")
        kept = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").write_text(json.dumps({**kept, "size": "large"}))
        return folder

    @cached_property
    def text_model(self) -> Path:
        folder = self._folder("text_model")
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        BertForSequenceClassification(BertConfig(vocab_size=50, **small)).save_pretrained(folder)
        return folder

    @cached_property
    def nothing(self) -> Path:
        return self._folder("nothing")

    @cached_property
    def a_file(self) -> Path:
        return self._file("a_file", "not a folder\n")

    # ---- data ----

    @cached_property
    def _scans(self) -> Dataset:
        return scans().shuffle(seed=0)

    def _save(self, name: str, **parts: Dataset) -> Path:
        DatasetDict(parts).save_to_disk(self.root / name)
        return self.root / name

    def _with_train(self, name: str, train: Dataset) -> Path:
        rest = {"validation": range(100, 130), "test": range(130, 160)}
        return self._save(name, train=train, **{part: self._scans.select(rows) for part, rows in rest.items()})

    @cached_property
    def data(self) -> Path:
        return self._with_train("data", self._scans.select(range(80)))

    @cached_property
    def without_validation(self) -> Path:
        return self._save("two_parts", train=self._scans.select(range(40)), test=self._scans.select(range(40, 60)))

    def _with_picture(self, name: str, content: bytes | None) -> Path:
        rows = self._scans.select(range(40)).cast_column("image", Image(decode=False)).to_dict()
        rows["image"][3] = None if content is None else {"bytes": content, "path": None}
        return self._with_train(name, Dataset.from_dict(rows, features=self._scans.features))

    @cached_property
    def null_image(self) -> Path:
        return self._with_picture("null_image", None)

    @cached_property
    def broken_image(self) -> Path:
        return self._with_picture("broken_image", b"no picture at all")

    @cached_property
    def cut_image(self) -> Path:
        encoded = io.BytesIO()
        self._scans[3]["image"].save(encoded, "PNG")
        return self._with_picture("cut_image", encoded.getvalue()[:-40])

    @cached_property
    def bomb(self) -> Path:
        return self._with_picture("bomb", png_bomb(60_000))

    @cached_property
    def other_classes(self) -> Path:
        few = self._scans.select(range(60)).cast_column("label", Value("int64"))
        return self._with_train("other_classes", few.map(lambda row: {"label": row["label"] + 20}))

    @cached_property
    def fractional_labels(self) -> Path:
        return self._with_train("fractional", self._scans.select(range(60)).cast_column("label", Value("float64")))

    @cached_property
    def null_label(self) -> Path:
        rows = self._scans.select(range(40)).cast_column("image", Image(decode=False)).to_dict()
        rows["label"][2] = None
        return self._with_train("null_label", Dataset.from_dict(rows, features=self._scans.features))

    @cached_property
    def one_row(self) -> Path:
        return self._with_train("one_row", self._scans.select([0]))

    @cached_property
    def no_rows(self) -> Path:
        return self._with_train("no_rows", self._scans.select([]))

    @cached_property
    def texts(self) -> Path:
        features = Features({"text": Value("string"), "label": ClassLabel(num_classes=10)})
        rows = Dataset.from_dict({"text": ["a", "b"] * 20, "label": list(range(10)) * 4}, features=features)
        return self._save("texts", train=rows, validation=rows, test=rows)

    @cached_property
    def broken_parquet(self) -> Path:
        folder = self._folder("broken_parquet")
        (folder / "train-00000.parquet").write_bytes(b"PAR1 no parquet at all")
        return folder

    @cached_property
    def broken_state(self) -> Path:
        folder = Path(shutil.copytree(self.data, self.root / "broken_state"))
        (folder / "dataset_dict.json").write_text('{"splits": ')
        return folder

    @cached_property
    def cut_arrow(self) -> Path:
        folder = Path(shutil.copytree(self.data, self.root / "cut_arrow"))
        file = next((folder / "train").glob("*.arrow"))
        file.write_bytes(file.read_bytes()[:300])
        return folder

    @cached_property
    def a_script(self) -> Path:
        folder = self._folder("a_script")
        (folder / "a_script.py").write_text("open('executed', 'w')\n")
        return folder

    # ---- rows ----

    def _rows(self, name: str, content: str | bytes) -> Path:
        return self._file(name, content)

    @cached_property
    def rows(self) -> Path:
        return self._rows("rows.json", json.dumps(list(range(8))))

    @cached_property
    def rows_binary(self) -> Path:
        return self._rows("rows_binary.txt", np.random.default_rng(1).bytes(500))

    @cached_property
    def rows_binary_json(self) -> Path:
        return self._rows("rows_binary.json", np.random.default_rng(1).bytes(500))

    @cached_property
    def rows_words(self) -> Path:
        return self._rows("rows_words.txt", "1\n2\nthree\n")

    @cached_property
    def rows_escape(self) -> Path:
        return self._rows("rows_escape.txt", "1\n\x1b[2Jthree\n")

    @cached_property
    def rows_mapping(self) -> Path:
        return self._rows("rows_mapping.json", '{"rows": [1]}')

    @cached_property
    def rows_halves(self) -> Path:
        return self._rows("rows_halves.json", "[1, 2.5]")

    @cached_property
    def rows_cut(self) -> Path:
        return self._rows("rows_cut.json", "[1, 2")

    @cached_property
    def rows_deep(self) -> Path:
        return self._rows("rows_deep.json", "[" * 100_000)

    @cached_property
    def rows_far(self) -> Path:
        return self._rows("rows_far.txt", "3\n80\n81\n")

    @cached_property
    def rows_negative(self) -> Path:
        return self._rows("rows_negative.txt", "-1\n")

    @cached_property
    def rows_huge(self) -> Path:
        return self._rows("rows_huge.txt", "1" * 30)

    @cached_property
    def rows_endless(self) -> Path:
        return self._rows("rows_endless.txt", "1" * 6000)

    @cached_property
    def rows_none(self) -> Path:
        return self._rows("rows_none.txt", "")

    @cached_property
    def rows_all(self) -> Path:
        return self._rows("rows_all.json", json.dumps(list(range(80))))

    @cached_property
    def rows_columns(self) -> Path:
        path = self.root / "rows_columns.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["user", "picture"], ["u1", "3"]])
        return path

    # ---- options and recipes ----

    def yaml(self, name: str, content: str | bytes) -> Path:
        path = self.root / f"{name}.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


def png_bomb(side: int) -> bytes:
    """A PNG that says it is `side` × `side` pixels, in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def _classes(number: int) -> dict[str, dict]:
    names = {str(n): f"LABEL_{n}" for n in range(number)}
    return {"id2label": names, "label2id": {name: int(n) for n, name in names.items()}}
