"""`hf-lotus prove`: prove of one sample that it is in a record, so that the proof needs no other sample."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_lotus.cli.flags import flag_parser
from hf_lotus.cli.sample_files import SAMPLE_FILES
from hf_lotus.publishing.digests import Salt
from hf_lotus.publishing.hub import fetch
from hf_lotus.publishing.merkle import InclusionProof
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.publishing.verification import check_salt


@dataclass
class ProveArguments:
    """What to prove, or what to check."""

    image: str | None = field(default=None, metadata={"help": "The picture, as it is in the data set."})
    text: str | None = field(default=None, metadata={"help": "Or the text: a file with it, to the last character."})
    audio: str | None = field(default=None, metadata={"help": "Or the clip: a file with it."})
    label: int | None = field(default=None, metadata={"help": "Its class's number in the data set."})
    salt_file: str | None = field(default=None, metadata={"help": "The salt of the record, from its owner."})
    output: str = field(default="proof.json", metadata={"help": "Where to write the proof."})
    check: str | None = field(
        default=None, metadata={"help": "A proof to check against the record, instead of making one; needs no salt."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model."})


def run(argv: list[str]) -> int:
    """Make a proof, or check one; return 0, or 1 if the proof does not hold."""
    parser = flag_parser(ProveArguments, "prove")
    parser.add_argument("model", help="The published model: a Hub id or a local folder.")
    arguments, given = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    asked = {kind: path for kind in SAMPLE_FILES if (path := getattr(arguments, kind)) is not None}
    making = (arguments.label, arguments.salt_file)
    if arguments.check is None and (len(asked) != 1 or None in making):
        raise ValueError(
            "A proof is made of one of --image, --text and --audio, with --label and --salt_file; --check checks one."
        )
    if arguments.check is not None and (asked or any(value is not None for value in making)):
        raise ValueError("--check needs neither a sample, --label nor --salt_file: the proof names the digest.")
    record = ForgetSetRecord.from_json(fetch(given.model, arguments.revision) / RECORD)
    if record.digests is None:
        raise ValueError("The record has no digests of samples, so nothing can be proven of one.")
    root = str(record.digests["merkle_root"])
    if arguments.check is not None:
        proof = InclusionProof.from_json(arguments.check)
        holds = proof.leads_to(root)
        said = "is one of the forgotten samples'" if holds else "is NOT proven to be one of the forgotten samples'"
        print(f"Digest {proof.digest} {said}; Merkle root {root}.")
        print("It takes the salt to say of which sample it is.")
        return 0 if holds else 1
    salt = Salt.read(arguments.salt_file)
    if check_salt(record, salt).holds is False:
        raise ValueError(f"{arguments.salt_file} is not the salt of this record, which commits to another.")
    proof = InclusionProof.of(
        record.digests["samples"], salt.digest(_content(*asked.popitem(), record), arguments.label)
    )
    if not proof.leads_to(root):
        raise ValueError(
            "The record's Merkle root is not that of its digests; hf-lotus verify says what else is wrong."
        )
    proof.to_json(arguments.output)
    print(f"The proof is in {arguments.output}: {proof.digest} is under the Merkle root {root}.")
    return 0


def _content(kind: str, path: str, record: ForgetSetRecord) -> bytes:
    """The digest of a sample's content."""
    assert record.digests is not None
    if record.digests["content"] != SAMPLE_FILES[kind].content:
        raise ValueError(f"The record's digests are not of {SAMPLE_FILES[kind].name}s.")
    return SAMPLE_FILES[kind].digest(path)
