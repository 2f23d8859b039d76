"""Clips made ready: what the feature extractor itself gives, whatever way they are stored."""

import numpy as np
import pytest
import torch
from datasets import Audio, Dataset, Features, List, Value
from scipy.io import wavfile

from hf_lotus.data.audio import ReadyAudio, audio_content, read_clip, resampled
from hf_lotus.data.duplicates import content_digests, find_duplicates
from hf_lotus.data.prepared import ready
from hf_lotus.publishing.digests import sample_contents
from hf_lotus.trainer.round_data import RoundDataset
from tests.support import tiny_audio

pytestmark = pytest.mark.usefixtures("datasets_cache")
EXTRACTOR = tiny_audio.extractor()
WAVES, LABELS = tiny_audio.tones(30)


@pytest.fixture(scope="module")
def data():
    return tiny_audio.clips(30)


def own_batch(rows, extractor=EXTRACTOR, **options):
    """The rows by the stock extractor, in one call."""
    batch = extractor([WAVES[row] for row in rows], sampling_rate=tiny_audio.RATE, padding=True, return_tensors="pt",
                      **options)  # fmt: skip
    return {**batch, "labels": torch.from_numpy(LABELS[rows])}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-6, check_dtype=False)


def test_a_batch_is_what_the_extractor_gives(data):
    samples, rows = ReadyAudio(data, EXTRACTOR), [7, 3, 29, 3]
    assert_same(samples.__getitems__(rows), own_batch(rows))
    assert_same({name: value[None] for name, value in samples[7].items()}, own_batch([7]))
    assert samples.labels.tolist() == LABELS.tolist() and len(samples) == 30


def test_some_rows_are_a_set_of_their_own(data):
    samples = ReadyAudio(data, EXTRACTOR)
    part = samples.select([7, 3, 5]).select(np.array([2, 0]))
    assert_same(part.__getitems__([0, 1]), samples.__getitems__([5, 7]))
    assert np.array_equal(content_digests(part.source), content_digests(data.select([5, 7])))


def test_however_clips_are_stored_they_are_the_same(data):
    files = ready(tiny_audio.clips(30, Audio()), EXTRACTOR)
    quantised = [np.round(wave * 32767).astype(np.int16) / np.float32(32768) for wave in WAVES]
    lists = Dataset.from_dict({"wave": quantised, "label": LABELS})
    numbers = ready(lists, EXTRACTOR, audio_column="wave")
    mappings = ready(
        Dataset.from_dict(
            {"audio": [{"array": wave, "sampling_rate": tiny_audio.RATE} for wave in quantised], "label": LABELS},
            features=Features({"audio": tiny_audio.CLIP, "label": Value("int64")}),
        ),
        EXTRACTOR,
    )
    for row in (0, 29):
        assert torch.equal(files[row]["input_values"], numbers[row]["input_values"])
        assert torch.equal(files[row]["input_values"], mappings[row]["input_values"])
    files, mappings = sample_contents(files.source), sample_contents(mappings.source)
    assert files[0] == mappings[0] == "samples" and (files[1] == mappings[1]).all()


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float32"])
def test_wav_files_of_every_kind_are_read_alike(tmp_path, kind):
    wave = np.array([0.0, 0.5, -0.5, 0.25], dtype=np.float32)
    values = {"uint8": wave * 128 + 128, "int16": wave * 2**15, "int32": wave * 2.0**31, "float32": wave}[kind]
    wavfile.write(tmp_path / "a.wav", 800, np.stack([values, values], 1).astype(kind))  # two channels
    read, rate = read_clip({"bytes": None, "path": str(tmp_path / "a.wav")})
    np.testing.assert_array_equal(read, wave)
    assert read.dtype == np.float32 and rate == 800


def test_another_rate_is_resampled_to_the_same_tone():
    time = np.arange(4000) / 4000
    half = resampled(np.sin(2 * np.pi * 100 * time).astype(np.float32), 4000, 2000)
    expected = np.sin(2 * np.pi * 100 * np.arange(2000) / 2000)
    assert half.shape == (2000,) and np.abs(half - expected)[50:-50].max() < 1e-2
    assert resampled(half, 2000, 2000) is half


def test_sides_of_a_round_are_padded_together(data):
    forget, retain = (ReadyAudio(data.select(rows), EXTRACTOR) for rows in (range(10), range(10, 30)))
    both = RoundDataset(forget, retain, torch.arange(10), torch.arange(20))
    positions = [25, 3, 11, 0]
    batch = both.__getitems__(positions)
    assert (
        batch.pop("is_forget").tolist() == [False, True, False, True] and batch.pop("position").tolist() == positions
    )
    assert_same(batch, own_batch(positions))


class TestWithoutAnAttentionMask:
    def test_clips_must_be_of_one_length(self, data):
        longest = max(len(wave) for wave in WAVES)
        without = tiny_audio.extractor(masks=False)
        with pytest.raises(
            ValueError, match=f"to {longest} samples, and the model takes no attention mask.*{longest} keeps"
        ):
            ReadyAudio(data, without)
        samples = ReadyAudio(data, without, max_length=500)
        batch = samples.__getitems__([7, 3])
        assert batch.keys() == {"input_values", "labels"} and batch["input_values"].shape == (2, 500)
        assert torch.equal(samples[3]["input_values"], batch["input_values"][1])

    def test_spectrograms_of_one_size(self):
        model, extractor = tiny_audio.ast()
        samples = ready(tiny_audio.clips(6), extractor)
        batch = samples.__getitems__([0, 5])
        assert batch["input_values"].shape == (2, 32, 16)
        wave = resampled(WAVES[5] if len(WAVES) == 6 else tiny_audio.tones(6)[0][5], tiny_audio.RATE, 16000)
        expected = extractor(wave, sampling_rate=16000, return_tensors="pt")["input_values"][0]
        torch.testing.assert_close(batch["input_values"][1], expected)


def test_what_a_clip_is_known_by():
    wave = np.zeros(4, dtype=np.float32)
    assert audio_content({"array": wave, "sampling_rate": 8}) != audio_content({"array": wave, "sampling_rate": 16})
    assert audio_content(wave) != audio_content(wave[:3])
    first, second = tiny_audio.clips(4), tiny_audio.clips(30).select([3, 9])
    parts = {"forget": first, "retain": Dataset.from_dict(first[2:], features=first.features), "test": second}
    assert str(find_duplicates(parts)).startswith("Identical clips: 2 of forget & retain")


def test_what_cannot_be_made_ready(data, tmp_path):
    with pytest.raises(ValueError, match="raw clips, which only a feature extractor.*AutoFeatureExtractor"):
        ready(data, None, "forget set")
    with pytest.raises(ValueError, match="Column 'speaker' is .* which is no clip \\(audio\\)"):
        ready(data, EXTRACTOR, audio_column="speaker")
    with pytest.raises(ValueError, match="several columns of clips \\(audio, other\\)"):
        ready(data.add_column("other", data["audio"], feature=tiny_audio.CLIP), EXTRACTOR)
    broken = tiny_audio.with_files(data.select([0]), [b"no sound"])
    with pytest.raises(ValueError, match="Row 0, column 'audio': the clip (is no WAV file|cannot be read)"):
        ready(broken, EXTRACTOR)
    empty = Dataset.from_dict({"wave": [[]], "label": [0]}, features=Features({"wave": List(Value("float32")),
                                                                             "label": Value("int64")}))  # fmt: skip
    with pytest.raises(ValueError, match="a clip is finite numbers"):
        ready(empty, EXTRACTOR, audio_column="wave")
