"""What somebody does to a published model, or to what is told of it, and what `hf-lotus verify` must say of it.

Each is done to a copy of a whole model's folder, of its data and of a queue's runs, by means that anybody has: files
and the command line. So the same list can be run against any version of the package.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hf_lotus.cli.main import main


@dataclass(frozen=True)
class Place:
    """What the attacks are done to.

    Attributes:
        root: with `unlearned` (the model), its salt, `model` (the original), `data`, the forgotten picture `in.png`
            and the queue `requests`, of two runs.
    """

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "unlearned"

    def path(self, name: str) -> Path:
        return self.model / name

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace a text that is there, wherever it is."""
        text = self.path(name).read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old!r}"
        self.path(name).write_text(text.replace(old, new), encoding="utf-8")

    def edit(self, name: str, change: Callable[[dict], object]) -> None:
        """Change a JSON file's values."""
        document = json.loads(self.path(name).read_text(encoding="utf-8"))
        change(document)
        self.path(name).write_text(json.dumps(document, indent=1), encoding="utf-8")

    def flip(self, path: Path) -> None:
        """Change one bit."""
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    def add(self, name: str, content: str) -> None:
        self.path(name).parent.mkdir(exist_ok=True)
        self.path(name).write_text(content)

    def forge(self, change: Callable[[dict], object] = lambda record: None) -> None:
        """What a publisher can do: have the record agree with the files, and the card with the record."""

        def agree(record: dict) -> None:
            for listed in ("files", "weights"):
                for name in record.get(listed, ()):
                    record[listed][name] = hashlib.sha256(self.path(name).read_bytes()).hexdigest()
            change(record)

        self.edit("forget_set.json", agree)
        assert main(["card", str(self.model)]) == 0


@dataclass(frozen=True)
class Attack:
    """One of them.

    Attributes:
        who: does it.
        name: of what is done.
        do: it.
        told: what `verify` must print of it, as a regular expression.
        means: further words of the `verify` that finds it; "ROOT" stands for the place.
        status: that it must end with.
    """

    who: str
    name: str
    do: Callable[[Place], object]
    told: str
    means: str = ""
    status: int = 1

    def run(self, root: Path, output: Callable[[], str]) -> str | None:
        """Do it and verify; return what is wrong with what was said, or None.

        Args:
            root: of the place, a copy that nobody else needs.
            output: gives what was printed since it was last called.
        """
        place = Place(root)
        self.do(place)
        output()
        words = self.means.replace("ROOT", str(root)).split()
        named = words and not words[0].startswith("--")
        status = main(["verify", *([] if named else [str(place.model)]), *words])
        printed = output()
        if status != self.status:
            return f"status {status}: {printed}"
        return None if re.search(self.told, printed) else f"not told: {self.told}\n{printed}"


DATA = "--dataset_name ROOT/data --salt_file ROOT/unlearned.forget_set.salt --device cpu --original_model ROOT/model"
PICTURE = "--salt_file ROOT/unlearned.forget_set.salt --image ROOT/in.png"
FILE, CARD = "FAILED  .*", "FAILED  the card "


def reverse_labels(place: Place) -> None:
    def reverse(config: dict) -> None:
        names = [config["id2label"][number] for number in sorted(config["id2label"], key=int)]
        config["id2label"] = {str(number): name for number, name in enumerate(reversed(names))}
        config["label2id"] = {name: number for number, name in enumerate(reversed(names))}

    place.edit("config.json", reverse)


def omit_a_sample(place: Place) -> None:
    """Take the asked picture out of the list, and have everything agree."""
    from datasets import Dataset, Features, Image

    from hf_lotus import Salt
    from hf_lotus.publishing.digests import merkle_root, sample_contents

    picture = Dataset.from_dict({"image": [str(place.root / "in.png")]}, features=Features({"image": Image()}))
    content = sample_contents(picture)[1][0].tobytes()
    salt = Salt.read(place.root / "unlearned.forget_set.salt")
    own = {salt.digest(content, label) for label in range(10)}

    def omit(record: dict) -> None:
        listed = [digest for digest in record["digests"]["samples"] if digest not in own]
        assert len(listed) < record["rows"]
        record["digests"] |= {"samples": listed, "merkle_root": merkle_root(listed)}
        record["rows"], record["class_histogram"] = len(listed), None

    place.forge(omit)


def forge_histogram(place: Place) -> None:
    """Claim that all forgotten samples are of a class that the asked picture does not have."""

    def claim(record: dict) -> None:
        record["class_histogram"] = [{"label": 9 - place_label(place), "name": None, "rows": record["rows"]}]

    place.forge(claim)


def place_label(place: Place) -> int:
    return int((place.root / "in.label").read_text())


def the_base_model_itself(place: Place) -> None:
    """Publish the original's weights as unlearned ones, and have everything agree."""
    shutil.copy(place.root / "model" / "model.safetensors", place.path("model.safetensors"))
    place.forge(lambda record: record.update(base_weights="ab" * 32))


def list_code(place: Place) -> None:
    place.add("modeling_own.py", "raise SystemExit('run')\n")
    digest = hashlib.sha256(place.path("modeling_own.py").read_bytes()).hexdigest()
    place.forge(lambda record: record.get("files", {}).update({"modeling_own.py": digest}))


def ask_for_code(place: Place) -> None:
    place.edit("config.json", lambda config: config.update(auto_map={"AutoModel": "other/repo--own.Model"}))
    place.forge()


def swap_figure(place: Place) -> None:
    other = place.root / "other.png"
    from PIL import Image

    Image.new("RGB", (40, 40), "green").save(other)
    shutil.copy(other, place.path("entropy.png"))


def link_elsewhere(place: Place) -> None:
    """A file in the place of which there is a link, whose target has other content."""
    (place.root / "elsewhere.json").write_text("{}")
    place.path("config.json").unlink()
    place.path("config.json").symlink_to(place.root / "elsewhere.json")


def earlier(place: Place) -> Path:
    return place.root / "requests" / "runs" / "0001" / "model"


def another_first_record(place: Place) -> None:
    """Write the first run's record anew, in itself sound: the second no longer follows it."""
    Place(place.root)
    path = earlier(place) / "forget_set.json"
    document = json.loads(path.read_text())
    document["created"] = "2020-01-01T00:00:00+00:00"
    path.write_text(json.dumps(document))
    assert main(["card", str(earlier(place))]) == 0


HOSTILE, STRANGER, PUBLISHER, OWNER = "hostile repository", "stranger", "publisher", "owner's queue"
ATTACKS = [
    Attack(
        STRANGER,
        "flips a bit of the weights",
        lambda p: p.flip(p.path("model.safetensors")),
        FILE + "model.safetensors",
    ),
    Attack(STRANGER, "reverses id2label", reverse_labels, FILE + "config.json"),
    Attack(STRANGER, "reverses id2label, looked at with the data", reverse_labels, FILE + "config.json", DATA),
    Attack(
        STRANGER,
        "zeroes image_mean",
        lambda p: p.edit("preprocessor_config.json", lambda d: d.update(image_mean=[0.0, 0.0, 0.0])),
        FILE + "preprocessor_config.json",
    ),
    Attack(
        STRANGER,
        "removes the processor",
        lambda p: p.path("preprocessor_config.json").unlink(),
        FILE + "preprocessor_config.json",
    ),
    Attack(STRANGER, "replaces the figure", swap_figure, FILE + "entropy.png"),
    Attack(STRANGER, "removes the figure", lambda p: p.path("entropy.png").unlink(), FILE + "entropy.png"),
    Attack(
        STRANGER,
        "changes a figure in results.json",
        lambda p: p.edit("results.json", lambda d: d["models"][1].update(forget_accuracy=0.01)),
        FILE + "results.json",
    ),
    Attack(
        STRANGER,
        "changes the data set's name in results.json",
        lambda p: p.edit("results.json", lambda d: d["provenance"].update(dataset="other/data")),
        FILE + "results.json",
    ),
    Attack(STRANGER, "puts a link in a file's place", link_elsewhere, FILE + "config.json"),
    Attack(
        STRANGER,
        "changes the link to the base model",
        lambda p: p.replace("README.md", "- Base model: model", "- Base model: [model](https://example.org)"),
        CARD,
    ),
    Attack(
        STRANGER,
        "names a base model in the card's header",
        lambda p: p.replace("README.md", "library_name:", "base_model: other/model\nlibrary_name:"),
        CARD,
    ),
    Attack(
        STRANGER,
        "writes of 8000 training samples",
        lambda p: p.replace("README.md", "20 training samples", "8000 training samples"),
        CARD,
    ),
    Attack(
        STRANGER,
        "writes CERTIFIED into the card",
        lambda p: p.replace("README.md", "## Limitations", "**CERTIFIED** by an authority.\n\n## Limitations"),
        CARD,
    ),
    Attack(
        STRANGER,
        "writes CERTIFIED below the card",
        lambda p: p.path("README.md").write_text(p.path("README.md").read_text() + "\n\nCERTIFIED\n"),
        CARD,
    ),
    Attack(
        STRANGER,
        "takes the limitations out of the card",
        lambda p: p.replace("README.md", "Approximate unlearning is evidence, not proof: nothing here", "This"),
        CARD,
    ),
    Attack(
        STRANGER,
        "adds a tag to the card",
        lambda p: p.replace("README.md", "- hf-lotus\n", "- hf-lotus\n- certified\n"),
        CARD,
    ),
    Attack(
        STRANGER,
        "adds a license",
        lambda p: p.replace("README.md", "library_name:", "license: mit\nlibrary_name:"),
        CARD,
    ),
    Attack(STRANGER, "adds weights", lambda p: p.add("pytorch_model.bin", "other"), FILE + "pytorch_model.bin"),
    Attack(
        STRANGER, "adds weights in a folder", lambda p: p.add("onnx/model.onnx", "other"), FILE + "onnx/model.onnx"
    ),
    Attack(STRANGER, "adds an adapter", lambda p: p.add("adapter_config.json", "{}"), FILE + "adapter_config.json"),
    Attack(
        STRANGER,
        "adds Python code",
        lambda p: p.add("modeling_own.py", "raise SystemExit\n"),
        FILE + "modeling_own.py",
    ),
    Attack(
        STRANGER,
        "adds auto_map and Python code",
        lambda p: (
            p.add("modeling_own.py", ""),
            p.edit("config.json", lambda d: d.update(auto_map={"AutoModel": "x"})),
        ),
        FILE + "config.json has auto_map",
    ),
    Attack(STRANGER, "adds a pickle", lambda p: p.add("weights.pkl", "x"), FILE + "weights.pkl"),
    Attack(
        STRANGER, "adds a tokenizer", lambda p: p.add("tokenizer_config.json", "{}"), FILE + "tokenizer_config.json"
    ),
    Attack(STRANGER, "adds a certificate", lambda p: p.add("CERTIFICATE.pdf", "x"), FILE + "CERTIFICATE.pdf"),
    Attack(
        STRANGER,
        "adds a bill of materials of another model",
        lambda p: p.add("bom.cdx.json", "{}"),
        FILE + "bom.cdx.json",
    ),
    Attack(
        STRANGER,
        "changes the number of samples in the record",
        lambda p: p.replace("forget_set.json", '"rows": 20', '"rows": 8000'),
        "FAILED  the record's digests agree with its Merkle root and its counts",
    ),
    Attack(
        STRANGER,
        "replaces a digest in the record",
        lambda p: p.edit("forget_set.json", lambda d: d["digests"]["samples"].__setitem__(0, "00" * 32)),
        "FAILED  the record's digests agree.*the root is not that of the digests",
    ),
    Attack(
        STRANGER,
        "changes the method in the record",
        lambda p: p.edit("forget_set.json", lambda d: d["method"].update(alpha=9.0)),
        CARD,
    ),
    Attack(
        STRANGER,
        "changes the record's date",
        lambda p: p.edit("forget_set.json", lambda d: d.update(created="2020")),
        CARD,
    ),
    Attack(STRANGER, "removes the record", lambda p: p.path("forget_set.json").unlink(), "FAILED  there is a record"),
    Attack(
        HOSTILE,
        "lists a file of another folder",
        lambda p: p.edit("forget_set.json", lambda d: d.setdefault("files", {}).update({"../salt": "ab" * 32})),
        "FAILED  the record can be read",
    ),
    Attack(
        HOSTILE,
        "has a record of deep brackets",
        lambda p: p.add("forget_set.json", "[" * 100_000),
        "FAILED  the record can be read",
    ),
    Attack(
        HOSTILE, "has terminal escapes in a file's name", lambda p: p.add("a\x1b[2Jb", "x"), FILE + "a\ufffd\\[2Jb"
    ),
    Attack(
        PUBLISHER,
        "lists Python code in the record",
        list_code,
        FILE + "modeling_own.py",
    ),
    Attack(PUBLISHER, "asks for another repository's code", ask_for_code, FILE + "config.json has auto_map"),
    Attack(
        PUBLISHER,
        "swaps the labels, and forges record and card",
        lambda p: (reverse_labels(p), p.forge()),
        "FAILED  the model numbers its classes as the data set does",
        DATA,
    ),
    Attack(
        PUBLISHER,
        "publishes the original, and forges record and card",
        the_base_model_itself,
        "FAILED  (the weights are not the original's|lotus: )",
        DATA,
    ),
    Attack(
        PUBLISHER,
        "forges figures, record and card",
        lambda p: (
            p.edit("results.json", lambda d: d["models"][1].update(retain_accuracy=0.999)),
            p.forge(lambda r: r["results"]["models"][1].update(retain_accuracy=0.999)),
        ),
        "FAILED  lotus: retain accuracy",
        DATA,
    ),
    Attack(
        PUBLISHER,
        "hides a picture by a forged class histogram",
        forge_histogram,
        "in.png: IN the forget set",
        PICTURE,
        0,
    ),
    Attack(
        PUBLISHER, "omits a sample", omit_a_sample, "FAILED  .*in.png: NOT in the forget set", PICTURE + " --expect in"
    ),
    Attack(
        PUBLISHER,
        "puts another salt forward",
        lambda p: (p.root / "unlearned.forget_set.salt").write_text("ab" * 32),
        "FAILED  the salt is the record's",
        PICTURE,
    ),
    Attack(
        OWNER,
        "a bit of an earlier run's weights flips",
        lambda p: p.flip(earlier(p) / "model.safetensors"),
        "FAILED  .*0001/model is whole: .*model.safetensors",
        "ROOT/requests",
    ),
    Attack(
        OWNER,
        "an earlier run's record is written anew",
        another_first_record,
        "FAILED  the record in .*0002/model follows the one before it",
        "ROOT/requests",
    ),
    Attack(
        OWNER,
        "an earlier run is gone",
        lambda p: shutil.rmtree(earlier(p)),
        "FAILED  the record in .*0002/model follows .*an earlier model's folder",
        "ROOT/requests",
    ),
]
