"""`hf-lotus sign`: sign a model's folder with a bare key, so that others can check that it is its owner's."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hf_lotus.cli.flags import flag_parser
from hf_lotus.publishing.attestation import SIGNATURE
from hf_lotus.publishing.keys import new_key
from hf_lotus.publishing.signing import sign

PASSWORD = "HF_LOTUS_KEY_PASSWORD"


@dataclass
class SignArguments:
    """The key. A private key's password is read from the variable HF_LOTUS_KEY_PASSWORD."""

    key: str = field(metadata={"help": "PEM file of the private key, on the curve P-256, P-384 or P-521."})
    new_key: bool = field(
        default=False, metadata={"help": "Make the key first, with the public one beside it in KEY.pub."}
    )


def run(argv: list[str]) -> int:
    """Sign; return the exit status."""
    parser = flag_parser(SignArguments, "sign")
    parser.add_argument("folder", help="Folder of the model, with weights, forget_set.json and README.md.")
    arguments, given = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    password = os.environ.get(PASSWORD) or None
    if arguments.new_key:
        public = new_key(arguments.key, password)
        print(f"The private key is in {arguments.key}: keep it to yourself. The public one is in {public}.")
    files = sign(given.folder, arguments.key, password)
    print(f"{len(files)} files are signed in {given.folder}/{SIGNATURE}: {', '.join(files)}")
    print("Give the public key to whoever is to check it, by another way than the model; sign again after any change.")
    return 0
