"""Signatures with bare keys: what is signed holds, and a change of any byte, file or key does not."""

import base64
import hashlib
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys

import pytest

from hf_lotus import ForgetSetRecord, LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.cli.main import main
from hf_lotus.publishing import keys
from hf_lotus.publishing.attestation import (
    ATTESTATION,
    PREDICATE_TYPE,
    SIGNATURE,
    _bundle,
    check_attestation,
    envelope_of,
    predicate_of,
)
from hf_lotus.publishing.digests import file_digest
from hf_lotus.publishing.keys import new_key, read_private_key, read_public_key
from hf_lotus.publishing.manifest import published_files
from hf_lotus.publishing.signing import check_signature, sign
from tests.conftest import TINY_MODELS

SIGNED_FILES = ["README.md", "config.json", "entropy.png", "forget_set.json", "model.safetensors",
                "preprocessor_config.json", "results.json", ATTESTATION]  # fmt: skip


class TestWithoutThePackage:
    """What is said where the extra is absent; these tests run without it too."""

    def test_says_what_to_install(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(keys.importlib.util, "find_spec", lambda name: None)
        (tmp_path / "key").write_text("")
        (tmp_path / SIGNATURE).write_text("{}")
        wanted = "Signatures need the package model-signing. Install it: pip install 'hf-lotus\\[signing\\]'."
        for call in (lambda: sign(tmp_path, "key"), lambda: check_signature(tmp_path, "key"), lambda: new_key("key")):
            with pytest.raises(ValueError, match=wanted):
                call()
        assert main(["sign", str(tmp_path), "--key", "key"]) == 2
        assert "hf-lotus sign: Signatures need the package" in capsys.readouterr().err

    def test_an_unsigned_model_is_said_to_be_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr(keys.importlib.util, "find_spec", lambda name: None)
        (unsigned,) = check_signature(tmp_path, None)
        assert unsigned.holds is None and "UNSIGNED: nothing tells who published it" in str(unsigned)
        (unsigned,) = check_signature(tmp_path, "key.pub")
        assert unsigned.holds is False and "UNSIGNED" in str(unsigned)


ABSENT = any(importlib.util.find_spec(package) is None for package in keys._NEEDED)
needs_signing = pytest.mark.skipif(ABSENT, reason="the extra 'signing' is not installed")


@pytest.fixture(scope="module")
def published(tmp_path_factory, parts, processor):
    """The folder of a model that has unlearned one round, complete and unsigned, with key pairs beside it."""
    folder = tmp_path_factory.mktemp("published") / "model"
    args = UnlearningArguments(str(folder), num_train_epochs=1, use_cpu=True, save_strategy="no", seed=1)
    sets = {f"{name}_dataset": parts[name] for name in ("forget", "retain", "unseen")}
    trainer = UnlearningTrainer(
        TINY_MODELS["vit"](), args, LoTUS(stop_margin=2.0), **sets, eval_dataset=parts["test"],
        processing_class=processor,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    new_key(folder.with_name("owner"))
    new_key(folder.with_name("other"))
    return folder


@pytest.fixture
def unsigned(published, tmp_path):
    """A copy of that folder and its keys."""
    shutil.copytree(published.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "model"


@pytest.fixture
def signed(unsigned):
    assert sign(unsigned, unsigned.with_name("owner")) == sorted(SIGNED_FILES)
    return unsigned


def check(folder, key="owner.pub"):
    return {check.name: (check.holds, check.detail) for check in check_signature(folder, folder.with_name(key))}


def failed(folder, key="owner.pub"):
    return {name: detail for name, (holds, detail) in check(folder, key).items() if holds is False}


def flip(path, at=-2):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


OF_THESE, NONE_UNSIGNED, STATEMENT = (
    "the signature is of this key and of these files",
    "no file is unsigned",
    "the statement of unlearning is of this key, these files and this record",
)


@needs_signing
class TestSignatures:
    def test_what_was_signed_holds(self, signed):
        found = check(signed)
        assert list(found) == [OF_THESE, NONE_UNSIGNED, STATEMENT]
        assert all(holds for holds, _ in found.values())
        # training_args.bin is never published: it is not signed, and that is said.
        assert found[NONE_UNSIGNED][1].endswith(": training_args.bin")
        assert {path.name for path in published_files(signed)} == {*SIGNED_FILES, SIGNATURE}

    @pytest.mark.parametrize("name", SIGNED_FILES)
    def test_a_flipped_bit_of_any_file(self, signed, name):
        flip(signed / name)
        assert name in failed(signed)[OF_THESE]
        _, stale = check_signature(signed, None)
        assert stale.holds is False and name in stale.detail

    @pytest.mark.parametrize("name", SIGNED_FILES)
    def test_a_file_that_is_gone(self, signed, name):
        (signed / name).unlink()
        assert name in failed(signed)[OF_THESE]

    def test_a_flipped_bit_anywhere_in_the_signature(self, signed):
        text = (signed / SIGNATURE).read_text()
        whole = json.loads(text)
        envelope = whole["dsseEnvelope"]
        for place in range(0, len(text), 97):
            content = bytearray(text.encode())
            content[place] ^= 1
            (signed / SIGNATURE).write_bytes(content)
            try:
                same = json.loads(content)["dsseEnvelope"] == envelope
            except (ValueError, KeyError):
                same = False
            # What is beside the envelope (the log's entries, of which there are none) is no part of what was signed.
            assert same or OF_THESE in failed(signed), f"byte {place} may be changed"

    @pytest.mark.parametrize("name", ["modeling_evil.py", "pytorch_model.bin", "notes.txt", "deep/file"])
    def test_a_file_more(self, signed, name):
        (signed / name).parent.mkdir(exist_ok=True)
        (signed / name).write_text("")
        assert failed(signed) == {NONE_UNSIGNED: f"{name.split('/')[0]} came after the signature"}

    def test_an_adapter_more_is_none_of_the_signed_files_either(self, signed):
        (signed / "adapter_config.json").write_text("")  # which is published: the statement lists what is
        found = failed(signed)
        assert len(found) == 2 and found[NONE_UNSIGNED] == "adapter_config.json came after the signature"
        assert "its files are others: adapter_config.json" in found.values()

    def test_a_weight_file_more_that_is_published(self, signed):
        shutil.copy(signed / "model.safetensors", signed / "model-00002.safetensors")
        assert NONE_UNSIGNED in failed(signed)

    def test_another_key(self, signed):
        assert "Key mismatch" in failed(signed, "other.pub")[OF_THESE]

    def test_another_key_that_claims_to_be_this_one(self, signed):
        """The hint of the key is no part of what is signed: set right, the signature itself must fail."""
        sign(signed, signed.with_name("other"))
        bundle = json.loads((signed / SIGNATURE).read_text())
        pem = keys.public_pem(read_public_key(signed.with_name("owner.pub")))
        bundle["verificationMaterial"]["publicKey"]["hint"] = hashlib.sha256(pem).hexdigest()
        (signed / SIGNATURE).write_text(json.dumps(bundle))
        assert failed(signed) == {OF_THESE: "its signature is not of this key"}

    def test_the_signature_of_another_model_of_the_same_owner(self, signed, tmp_path):
        other = tmp_path / "second"
        shutil.copytree(signed, other)
        assert main(["card", str(other), "--license", "mit"]) == 0
        sign(other, signed.with_name("owner"))
        shutil.copy(other / SIGNATURE, signed / SIGNATURE)
        assert "forget_set.json" in failed(signed)[OF_THESE]

    def test_the_packages_own_command_agrees(self, signed):
        """Another's verifier reads the signature; the work files, which it would call unsigned, left out."""
        command = [sys.executable, "-m", "model_signing", "verify", "key", str(signed), "--signature",
                   str(signed / SIGNATURE), "--public_key", str(signed.with_name("owner.pub"))]  # fmt: skip
        (signed / "training_args.bin").unlink()
        assert subprocess.run(command, capture_output=True).returncode == 0
        flip(signed / "config.json")
        assert subprocess.run(command, capture_output=True).returncode == 1

    def test_the_packages_own_signature_is_read(self, unsigned):
        """Signed by `model_signing sign key`, which knows no statement of unlearning: that is said."""
        (unsigned / "training_args.bin").unlink()
        subprocess.run(
            [sys.executable, "-m", "model_signing", "sign", "key", str(unsigned), "--signature",
             str(unsigned / SIGNATURE), "--private_key", str(unsigned.with_name("owner"))],
            check=True, capture_output=True,
        )  # fmt: skip
        assert check(unsigned)[OF_THESE] == (True, "")
        assert check(unsigned)[STATEMENT] == (None, f"there is no {ATTESTATION}")

    def test_links_into_the_hubs_cache_are_read(self, signed, tmp_path):
        """A downloaded model is a folder of links."""
        (tmp_path / "snapshot").mkdir()
        for name in (*SIGNED_FILES, SIGNATURE):
            os.symlink(signed / name, tmp_path / "snapshot" / name)
        assert not failed(tmp_path / "snapshot")
        flip(signed / "config.json")
        assert OF_THESE in failed(tmp_path / "snapshot")

    @pytest.mark.parametrize(
        "content",
        [b"", b"\xff", b"[]", b"{}", b'{"dsseEnvelope": 1}', b"[" * 100_000,
         b'{"dsseEnvelope": {"payloadType": "text/plain", "payload": "", "signatures": []}}',
         b'{"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": "W10=", "signatures": []}}',
         b'{"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": []}}'],
    )  # fmt: skip
    @pytest.mark.parametrize("name", [SIGNATURE, ATTESTATION])
    def test_files_that_are_no_signature(self, signed, name, content):
        (signed / name).write_bytes(content)
        assert failed(signed)
        assert any(check.holds is False for check in check_signature(signed, None))

    def test_names_outside_of_the_folder_are_never_read(self, signed):
        payload, _ = envelope_of(signed / SIGNATURE)
        statement = json.loads(payload)
        outside = {"name": "../owner", "algorithm": "sha256", "digest": file_digest(signed.with_name("owner"))}
        statement["predicate"]["resources"] = [outside]
        bundle = _bundle(json.dumps(statement).encode(), read_private_key(signed.with_name("other")))
        (signed / SIGNATURE).write_text(json.dumps(bundle))
        assert check_signature(signed, None)[1].holds is False


@needs_signing
class TestSigning:
    def test_a_folder_that_is_not_whole(self, unsigned):
        flip(unsigned / "model.safetensors")
        with pytest.raises(ValueError, match="is not whole"):
            sign(unsigned, unsigned.with_name("owner"))
        assert not (unsigned / SIGNATURE).exists() and not (unsigned / ATTESTATION).exists()

    @pytest.mark.parametrize("name", ["modeling.py", "adapter_model.bin", "custom_config.json", "weights.pkl"])
    def test_a_file_that_would_be_loaded_and_not_published(self, unsigned, name):
        (unsigned / name).write_text("")
        with pytest.raises(ValueError, match=f"{name} could be loaded and would not be published"):
            sign(unsigned, unsigned.with_name("owner"))

    def test_a_link(self, unsigned, tmp_path):
        (unsigned / "entropy.png").rename(tmp_path / "away.png")
        os.symlink(tmp_path / "away.png", unsigned / "entropy.png")
        with pytest.raises(ValueError, match="entropy.png only point elsewhere"):
            sign(unsigned, unsigned.with_name("owner"))

    def test_signed_again_after_a_change(self, signed):
        assert main(["card", str(signed), "--license", "mit"]) == 0
        assert failed(signed)
        sign(signed, signed.with_name("owner"))
        assert not failed(signed) and not list(signed.glob("*.part"))

    def test_tells_no_place(self, signed, tmp_path):
        for name in (SIGNATURE, ATTESTATION):
            payload, _ = envelope_of(signed / name)
            assert str(tmp_path).encode() not in payload and b"training_args" not in payload


@needs_signing
class TestStatement:
    def files(self, folder):
        return {name: file_digest(folder / name) for name in SIGNED_FILES if name != ATTESTATION}

    def forge(self, folder, change, key="owner"):
        """Have the owner say something else, signed as it should be."""
        statement = json.loads(envelope_of(folder / ATTESTATION)[0])
        change(statement)
        bundle = _bundle(json.dumps(statement).encode(), read_private_key(folder.with_name(key)))
        (folder / ATTESTATION).write_text(json.dumps(bundle))

    def problems(self, folder):
        record = ForgetSetRecord.from_json(folder / "forget_set.json")
        return check_attestation(
            folder / ATTESTATION, record, self.files(folder), read_public_key(folder.with_name("owner.pub"))
        )

    def test_says_what_the_record_says(self, signed):
        statement = json.loads(envelope_of(signed / ATTESTATION)[0])
        record = ForgetSetRecord.from_json(signed / "forget_set.json")
        assert statement["predicateType"] == PREDICATE_TYPE == "https://hf-lotus/unlearning/v1"
        assert statement["predicate"]["forgotten"] == {
            "samples": 60,
            "merkleRoot": record.digests["merkle_root"],
            "saltCommitment": record.digests["salt_commitment"],
        }
        assert statement["predicate"] == predicate_of(record)
        assert {subject["name"] for subject in statement["subject"]} == {*SIGNED_FILES} - {ATTESTATION}
        assert self.problems(signed) == []

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s["predicate"]["forgotten"].update(samples=61), "differs from the record in forgotten"),
            (lambda s: s["predicate"].update(method="retrain"), "differs from the record in method"),
            (lambda s: s["predicate"].update(certified=True), "not as the schema says"),
            (lambda s: s["predicate"].pop("dataset"), "not as the schema says"),
            (lambda s: s["subject"].pop(), "its files are others: results.json"),
            (lambda s: s.update(predicateType="https://hf-lotus/unlearning/v2"), "is of the types"),
            (lambda s: s.pop("subject"), "its statement is none"),
        ],
    )
    def test_what_else_its_owner_may_have_said(self, signed, change, message):
        self.forge(signed, change)
        (problem,) = self.problems(signed)
        assert message in problem

    def test_of_another_key(self, signed):
        self.forge(signed, lambda statement: None, key="other")
        assert self.problems(signed) == ["no signature of it is of this key"]

    def test_is_a_dsse_envelope_as_another_reads_it(self, signed):
        """securesystemslib, the reference implementation of DSSE, takes the signature for this key's."""
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import SSlibKey

        envelope = json.loads((signed / ATTESTATION).read_text())["dsseEnvelope"]
        key = SSlibKey.from_crypto(read_public_key(signed.with_name("owner.pub")), keyid="")
        read = Envelope.from_dict(
            {**envelope, "signatures": [{"sig": envelope["signatures"][0]["sig"], "keyid": key.keyid}]}
        )
        assert read.payload == base64.b64decode(envelope["payload"])
        assert list(read.verify([key], 1)) == [key.keyid]


@needs_signing
class TestKeys:
    def test_the_private_one_is_its_owners_alone(self, published):
        assert stat.S_IMODE(published.with_name("owner").stat().st_mode) == 0o600
        assert read_private_key(published.with_name("owner")).curve.name == "secp256r1"

    def test_none_is_replaced(self, published):
        before = published.with_name("owner").read_bytes()
        with pytest.raises(ValueError, match="is there already and was kept"):
            new_key(published.with_name("owner"))
        assert published.with_name("owner").read_bytes() == before

    def test_a_password(self, unsigned, tmp_path):
        new_key(tmp_path / "locked", "secret")
        for password in (None, "wrong"):
            with pytest.raises(ValueError, match="locked"):
                sign(unsigned, tmp_path / "locked", password)
        sign(unsigned, tmp_path / "locked", "secret")
        assert not failed(unsigned, "locked.pub")

    def test_what_is_no_key(self, signed, tmp_path):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

        def write(key):
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            (tmp_path / "key").write_bytes(pem)
            (tmp_path / "key.pub").write_bytes(keys.public_pem(key.public_key()))

        for key in (rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate(),
                    ec.generate_private_key(ec.SECP256K1())):  # fmt: skip
            write(key)
            for call in (
                lambda: sign(signed, tmp_path / "key"),
                lambda: check_signature(signed, tmp_path / "key.pub"),
            ):
                with pytest.raises(ValueError, match="models are signed on secp256r1"):
                    call()
        with pytest.raises(ValueError, match="is a private key: a signature is checked with the public one"):
            check_signature(signed, signed.with_name("owner"))
        (tmp_path / "text").write_bytes(b"\xff no key")
        with pytest.raises(ValueError, match="is not a public key in PEM"):
            check_signature(signed, tmp_path / "text")
        with pytest.raises(ValueError, match="is not a private key in PEM"):
            sign(signed, tmp_path / "text")
        with pytest.raises(FileNotFoundError):
            check_signature(signed, tmp_path / "absent")

    def test_every_curve_of_the_format(self, unsigned, tmp_path):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        for curve in (ec.SECP384R1(), ec.SECP521R1()):
            key = ec.generate_private_key(curve)
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            (tmp_path / "curve").write_bytes(pem)
            (tmp_path / "curve.pub").write_bytes(keys.public_pem(key.public_key()))
            sign(unsigned, tmp_path / "curve")
            assert not failed(unsigned, "curve.pub")


@needs_signing
def test_the_command(unsigned, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_LOTUS_KEY_PASSWORD", "secret")
    assert main(["sign", str(unsigned), "--key", str(tmp_path / "fresh"), "--new_key"]) == 0
    assert f"{len(SIGNED_FILES)} files are signed in {unsigned}/model.sig" in capsys.readouterr().out
    assert b"ENCRYPTED" in (tmp_path / "fresh").read_bytes()
    assert not failed(unsigned, "fresh.pub")
    assert main(["sign", str(unsigned), "--key", str(tmp_path / "absent")]) == 2


@needs_signing
def test_verify_says_whose_it_is(unsigned, tmp_path, capsys):
    assert main(["verify", str(unsigned)]) == 0
    assert "UNSIGNED" in capsys.readouterr().out
    assert main(["sign", str(unsigned), "--key", str(tmp_path / "fresh"), "--new_key"]) == 0
    assert main(["verify", str(unsigned), "--key", str(tmp_path / "fresh.pub")]) == 0
    assert "UNSIGNED" not in capsys.readouterr().out
    with (unsigned / "config.json").open("a") as file:
        file.write("\n")
    assert main(["verify", str(unsigned), "--key", str(tmp_path / "fresh.pub")]) == 1
    assert "FAILED  the signature" in capsys.readouterr().out
