"""The bill of materials of an unlearned model (CycloneDX 1.6, ML-BOM): itself, its base, its data, what it forgot.

All of it is read off the record: of the forgotten samples their number and the commitments, and nothing that tells
who they are of. The same record gives the same bytes.
"""

from __future__ import annotations

import importlib.util
import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lotus.publishing.attestation import BOM
from hf_lotus.publishing.manifest import changed_files
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.utils.files import write_whole
from hf_lotus.utils.text import counted
from hf_lotus.version import __version__

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType

# Bills of one record have one serial number, those of different records different ones.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://hf-lotus/bom/v1")
_LIMITS = (
    "Approximate unlearning: no certificate that no trace of the forgotten samples is left in the weights.",
    "The base model, and every other model that was made from it, still knows the forgotten samples.",
)


def write_bom(folder: str | Path, name: str | None = None) -> Path:
    """Write `bom.cdx.json` into a model's folder; the file appears whole or not at all.

    Args:
        folder: with weights and `forget_set.json`.
        name: of the model; by default what its card calls it.

    Returns:
        its path.

    Raises:
        OSError: if there is no record.
        ValueError: if the record cannot be read, the files are not its own, its card has another name, or the package
            is not installed.
    """
    folder = Path(folder)
    record = ForgetSetRecord.from_json(folder / RECORD)
    if wrong := changed_files(folder, record.files):
        raise ValueError(f"{', '.join(wrong)} in {folder}, by its {RECORD}: a bill would be of another model.")
    recorded = model_name(folder, record)
    if record.card.get("model_name") and name not in (None, recorded):
        raise ValueError(
            f"The card calls the model {recorded!r}, and the bill would call it {name!r}, which `verify` refuses. "
            "Write the card anew first: hf-lotus card --model_name."
        )
    write_whole(folder / BOM, json.dumps(make_bom(record, name or recorded), indent=1) + "\n")
    return folder / BOM


def model_name(folder: str | Path, record: ForgetSetRecord) -> str:
    """What the card of a model calls it; where the record does not say, its folder's name."""
    return str(record.card.get("model_name") or Path(folder).resolve().name)


def make_bom(record: ForgetSetRecord, name: str) -> dict[str, Any]:
    """The bill of materials as JSON values.

    Args:
        record: of what the model was made to forget.
        name: of the model.

    Raises:
        ValueError: if the package cyclonedx-python-lib is not installed.
    """
    if importlib.util.find_spec("cyclonedx") is None:
        raise ValueError("A bill of materials needs cyclonedx-python-lib. Install it: pip install 'hf-lotus[bom]'.")
    from cyclonedx.output.json import JsonV1Dot6

    document = json.loads(JsonV1Dot6(_bom(record, name)).output_as_string())
    document["metadata"]["timestamp"] = _time(record.created)  # not that of this moment
    if document["metadata"]["timestamp"] is None:
        del document["metadata"]["timestamp"]
    # The package has no model cards yet, and the schema does.
    document["metadata"]["component"]["modelCard"] = _model_card(record)
    return document


def _time(text: str) -> str | None:
    """A record's time as CycloneDX takes it; None where it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).isoformat(timespec="seconds")


def _bom(record: ForgetSetRecord, name: str) -> Bom:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType, Pedigree

    base = _source(ComponentType.MACHINE_LEARNING_MODEL, "base-model", record.base_model)
    data = _source(ComponentType.DATA, "dataset", record.dataset)
    model = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        name=name,
        version=record.digest,
        description=f"Made to forget {counted(record.rows, 'training sample')} by machine unlearning.",
        properties=_forgotten(record),
        pedigree=Pedigree(ancestors=[_source(ComponentType.MACHINE_LEARNING_MODEL, "ancestor", record.base_model)]),
        components=[_file(file, digest) for file, digest in sorted(record.weights.items())],
    )
    tool = Component(type=ComponentType.APPLICATION, name="hf-lotus", version=__version__)
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, record.digest),
        components=[base, data],
    )
    bom.metadata.component = model
    bom.metadata.tools.components.add(tool)
    bom.register_dependency(model, [base, data])
    bom.register_dependency(base, [data])
    return bom


def _source(kind: ComponentType, ref: str, origin: Mapping[str, Any]) -> Component:
    """A model or data set that the model comes from; at its commit where it is on the Hub."""
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import DisjunctiveLicense
    from packageurl import PackageURL

    name, revision = str(origin["name"] or "not recorded"), origin.get("revision")
    purl = None
    if origin.get("id") and ref != "dataset":  # the type huggingface is of models
        *namespace, last = str(origin["id"]).split("/")
        purl = PackageURL("huggingface", "/".join(namespace) or None, last, str(revision) if revision else None)
    license = dict(origin.get("license") or {})
    shown = license.get("license_name") or license.get("license")
    return Component(
        type=kind,
        bom_ref=ref,
        name=name,
        version=str(revision) if revision else None,
        purl=purl,
        licenses=[DisjunctiveLicense(name=shown)] if shown else None,
        properties=[_property(f"dataset:{key}", origin.get(key)) for key in ("config", "split") if origin.get(key)],
    )


def _file(name: str, digest: str) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    sha = HashType(alg=HashAlgorithm.SHA_256, content=digest)
    return Component(type=ComponentType.FILE, bom_ref=f"file:{name}", name=name, hashes=[sha])


def _forgotten(record: ForgetSetRecord) -> list[Property]:
    """What was forgotten: how many, and commitments to which."""
    digests: Mapping[str, object] = record.digests or {}
    told = {
        "forgotten:samples": record.rows,
        "forgotten:merkle-root": digests.get("merkle_root"),
        "forgotten:salt-commitment": digests.get("salt_commitment"),
        "forgotten:requests": len(record.requests),
        "record:digest": record.digest,
        "record:previous": record.previous,
        "method": record.method.get("name"),
        "status": record.status,
    }
    return [_property(key, value) for key, value in told.items() if value is not None]


def _property(name: str, value: object) -> Property:
    from cyclonedx.model import Property

    return Property(name=f"hf-lotus:{name}", value=str(value))


def _model_card(record: ForgetSetRecord) -> dict[str, object]:
    task = {"task": record.task} if record.task else {}
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            **task,
            "datasets": [{"ref": "dataset"}],
        },
        "considerations": {"technicalLimitations": list(_LIMITS)},
    }
