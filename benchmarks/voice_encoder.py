"""Resemblyzer's speaker encoder as a classifier of transformers, and hf-lotus with it: `voice_encoder.py compare …`.

The network (three LSTM layers and a linear one, trained to tell thousands of speakers apart) and its weights are those
of the package resemblyzer; its import needs librosa and webrtcvad, so that only its file of weights is read. The
features are its too: 40 mel bands of power, without a logarithm, every 10 ms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    BatchFeature,
    PretrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_lotus.cli.main import main

RATE, BANDS, WINDOW, HOP = 16_000, 40, 400, 160
# Quieter clips are made as loud as this, in dB of full scale.
LOUDNESS = -30.0


class VoiceEncoderConfig(PretrainedConfig):
    """The encoder's sizes.

    Attributes:
        hidden_size: of the LSTM and of the embedding.
        num_layers: of the LSTM.
        scale: what the embedding, which has length 1, is multiplied by before the head.
    """

    model_type = "voice_encoder"

    hidden_size: int = 256
    num_layers: int = 3
    scale: float = 16.0


class VoiceFeatureExtractor(SequenceFeatureExtractor):
    """Clips → mel spectrograms of shape (frames, 40); a clip that is shorter than it should be is repeated."""

    model_input_names = ["input_features"]

    def __init__(
        self, feature_size: int = BANDS, sampling_rate: int = RATE, padding_value: float = 0.0, **kwargs: Any
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **{"return_attention_mask": False, **kwargs})

    def __call__(self, wave: np.ndarray, max_length: int | None = None, **options: Any) -> BatchFeature:
        """The features of one clip, as a batch of one.

        Args:
            wave: samples, shape (samples,), at the extractor's rate.
            max_length: samples that the clip is cut to or repeated up to.
            **options: padding, truncation and such, which all clips of one length have no use for.
        """
        wave = np.asarray(wave, dtype=np.float64)
        gain = LOUDNESS - 10 * np.log10(np.mean(wave**2) + 1e-12)
        wave = wave * 10 ** (max(gain, 0.0) / 20)
        wave = np.resize(wave, max_length) if max_length is not None else wave
        filters = mel_filter_bank(WINDOW // 2 + 1, BANDS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
        bands = spectrogram(wave, window_function(WINDOW, "hann"), WINDOW, HOP, power=2.0, mel_filters=filters)
        return BatchFeature({"input_features": [bands.T.astype(np.float32)]})


class VoiceEncoderForAudioClassification(PreTrainedModel):
    """The encoder with a linear head on its embedding."""

    config_class = VoiceEncoderConfig
    main_input_name = "input_features"

    def __init__(self, config: VoiceEncoderConfig):
        super().__init__(config)
        self.lstm = nn.LSTM(BANDS, config.hidden_size, config.num_layers, batch_first=True)
        self.linear = nn.Linear(config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_features: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        """Logits of shape (batch, classes) of features of shape (batch, frames, 40)."""
        hidden = self.lstm(input_features)[1][0][-1]
        embedding = F.normalize(torch.relu(self.linear(hidden)), dim=1)
        logits = self.classifier(self.config.scale * embedding)
        return SequenceClassifierOutput(
            loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits
        )


AutoConfig.register("voice_encoder", VoiceEncoderConfig)
AutoModelForAudioClassification.register(VoiceEncoderConfig, VoiceEncoderForAudioClassification)
AutoFeatureExtractor.register(VoiceEncoderConfig, VoiceFeatureExtractor)


def pretrained(labels: list[str], package: Path) -> tuple[VoiceEncoderForAudioClassification, VoiceFeatureExtractor]:
    """The encoder with the package's weights and a fresh head, and its feature extractor.

    Args:
        labels: names of the classes.
        package: the folder of resemblyzer.
    """
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: k for k, name in enumerate(labels)}}
    model = VoiceEncoderForAudioClassification(VoiceEncoderConfig(**names))
    state = torch.load(package / "pretrained.pt", map_location="cpu", weights_only=True)["model_state"]
    missing, _ = model.load_state_dict(state, strict=False)  # two numbers of its first loss are left over
    if any(not name.startswith("classifier.") for name in missing):
        raise ValueError(f"The packaged weights are another network's: they lack {missing[:4]}.")
    return model, VoiceFeatureExtractor()


if __name__ == "__main__":
    raise SystemExit(main())
