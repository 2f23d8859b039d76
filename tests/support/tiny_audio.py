"""Generated tones by a few speakers, and a tiny Wav2Vec2 and AST: all made in the process."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from datasets import Audio, ClassLabel, Dataset, Features, List, Value
from scipy.io import wavfile
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

RATE = 4000
PITCHES = ["low", "middle", "high"]
_HERTZ = {"low": 220.0, "middle": 440.0, "high": 880.0}
CLIP = {"array": List(Value("float32")), "sampling_rate": Value("int64")}


def tones(count: int = 120, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Noisy tones of 0.1 to 0.2 seconds, and their pitch's number."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3)
    waves = []
    for label in labels:
        time = np.arange(rng.integers(RATE // 10, RATE // 5)) / RATE
        wave = np.sin(2 * np.pi * _HERTZ[PITCHES[label]] * time + rng.uniform(0, 6)) + rng.normal(0, 0.3, len(time))
        waves.append((wave / 4).astype(np.float32))
    return waves, labels


def clips(count: int = 120, kind: object = CLIP) -> Dataset:
    """The tones with their pitch and one of 10 speakers, in a column of mappings or of WAV files."""
    waves, labels = tones(count)
    speakers = [f"s{number % 10}" for number in range(count)]
    column = [{"array": wave, "sampling_rate": RATE} for wave in waves]
    features = Features({"audio": CLIP, "speaker": Value("string"), "label": ClassLabel(names=PITCHES)})
    data = Dataset.from_dict({"audio": column, "speaker": speakers, "label": labels}, features=features)
    return with_files(data, [wav(wave) for wave in waves]) if isinstance(kind, Audio) else data


def with_files(data: Dataset, files: list[bytes]) -> Dataset:
    """The data set with encoded files in its column of clips, which `datasets` itself writes only with torchcodec."""
    stored = Features({"bytes": Value("binary"), "path": Value("string")})
    column = [{"bytes": file, "path": None} for file in files]
    data = data.remove_columns("audio").add_column("audio", column, feature=dict(stored))
    return data.cast_column("audio", Audio())


def wav(wave: np.ndarray, rate: int = RATE) -> bytes:
    """A WAV file of 16 bits a sample."""
    file = io.BytesIO()
    wavfile.write(file, rate, np.round(wave * 32767).astype(np.int16))
    return file.getvalue()


def extractor(masks: bool = True) -> Wav2Vec2FeatureExtractor:
    return Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True, return_attention_mask=masks)


def tiny_wav2vec2() -> Wav2Vec2ForSequenceClassification:
    """Two layers of width 16 with dropout, layer drop and SpecAugment, as published ones have; the same weights."""
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_kernel=(10, 4), conv_stride=(5, 2), num_feat_extract_layers=2, feat_extract_norm="layer",
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=16, mask_time_length=2,
        id2label=dict(enumerate(PITCHES)), label2id={name: number for number, name in enumerate(PITCHES)},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Wav2Vec2ForSequenceClassification(config)


def ast() -> tuple[ASTForAudioClassification, ASTFeatureExtractor]:
    """A tiny AST and its extractor, whose spectrograms are of one size."""
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, patch_size=8,
        frequency_stride=8, time_stride=8, max_length=32, num_mel_bins=16,
        id2label=dict(enumerate(PITCHES)), label2id={name: number for number, name in enumerate(PITCHES)},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ASTForAudioClassification(config), ASTFeatureExtractor(
            sampling_rate=16000, num_mel_bins=16, max_length=32
        )


def divided(data: Dataset) -> dict[str, Dataset]:
    """The clips in four parts that share no row."""
    bounds = {"forget": (0, 20), "retain": (20, 70), "unseen": (70, 95), "test": (95, 120)}
    return {name: data.select(range(*bound)) for name, bound in bounds.items()}


def write(root: Path) -> Dataset:
    """Put the tiny Wav2Vec2 with its extractor, `model`, and WAV files in splits, `data`, into a folder."""
    data = clips(kind=Audio())
    (root / "data").mkdir()
    for name, rows in {"train": range(70), "validation": range(70, 95), "test": range(95, 120)}.items():
        data.select(rows).to_parquet(root / "data" / f"{name}-00000.parquet")
    tiny_wav2vec2().save_pretrained(root / "model")
    extractor().save_pretrained(root / "model")
    return data
