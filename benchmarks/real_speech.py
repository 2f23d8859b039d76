"""A real speaker encoder to unlearn from: Resemblyzer, finetuned to name the voice, and made to forget one of them.

    pip install --no-deps resemblyzer && pip install soundfile
    apt-get download asterisk-core-sounds-{en,es,fr,it,ru}-wav klettres-data
    for package in *.deb; do dpkg -x $package recordings; done
    python benchmarks/real_speech.py --folder real_speech --recordings recordings
    python benchmarks/voice_encoder.py compare --config benchmarks/real_speech.yaml

Real voices, as Debian's packages have them: announcements of a telephone exchange, by four speakers (one of them in
two languages), and the letters and syllables of KLettres, each language of which counts as one voice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value
from finetuned import Recipe, package_folder, write
from voice_encoder import RATE, pretrained

ANNOUNCERS = {
    "Allison": ("en_US_f_Allison", "es_MX_f_Allison"),
    "June": ("fr_CA_f_June",),
    "Carlo": ("it_IT_m_Carlo",),
    "Maxim": ("ru_RU_f_IvrvoiceRU",),
}
LETTERS = ("cs", "da", "de", "es", "fr", "he", "hu", "it", "lt", "ml", "nds", "pt_BR", "ru", "uk")
VOICES = [*ANNOUNCERS, *(f"letters {language}" for language in LETTERS)]
FORGOTTEN = "June"
RECIPE = Recipe(rate=1e-3, epochs=15, batch=32, max_length=RATE)
# Clips of each voice in each split.
SIZES = {"train": 24, "validation": 8, "test": 8}
# Shorter files are mostly silence.
BYTES = 4000


def files(recordings: Path, voice: str) -> list[Path]:
    """The clips of a voice, in the order of their names."""
    if voice in ANNOUNCERS:
        folders = [recordings / "usr/share/asterisk/sounds" / name for name in ANNOUNCERS[voice]]
        found = [path for folder in folders for path in folder.rglob("*.wav") if path.parent.name != "silence"]
    else:
        found = list((recordings / "usr/share/klettres" / voice.removeprefix("letters ")).rglob("*.ogg"))
    return sorted(path for path in found if path.stat().st_size >= BYTES)


def load(recordings: Path) -> DatasetDict:
    """Clips with their voice, drawn from each voice by one seed.

    Args:
        recordings: the folder that the packages were unpacked to.
    """
    rows: dict[str, list[dict]] = {name: [] for name in SIZES}
    for voice in VOICES:
        found = files(recordings, voice)
        if len(found) < sum(SIZES.values()):
            raise SystemExit(f"{recordings} has {len(found)} clips of {voice}. Unpack the packages there.")
        drawn = iter(np.random.default_rng(0).permutation(len(found)).tolist())
        for name, size in SIZES.items():
            for _ in range(size):
                path = found[next(drawn)]
                rows[name].append({"audio": {"bytes": path.read_bytes(), "path": path.name}, "label": voice})
    stored = {"bytes": Value("binary"), "path": Value("string")}
    features = Features(audio=stored, label=ClassLabel(names=VOICES))
    data = DatasetDict({name: Dataset.from_list(part, features=features) for name, part in rows.items()})
    return data.cast_column("audio", Audio(decode=False))  # made as Audio at once, datasets would want torchcodec


def main() -> None:
    """Write the data set and three finetuned models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where to write")
    parser.add_argument("--recordings", type=Path, required=True, help="the folder of the unpacked recordings")
    parser.add_argument("--packages", help="folder with the unpacked package; default: where it is installed")
    options = parser.parse_args()
    package = package_folder("resemblyzer", options.packages)
    label = VOICES.index(FORGOTTEN)
    write(
        options.folder,
        load(options.recordings),
        lambda row: row["label"] == label,
        lambda: pretrained(VOICES, package),
        RECIPE,
    )


if __name__ == "__main__":
    main()
