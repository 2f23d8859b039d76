"""Data set + image processor → ready pixels: decoded and resized once, finished in batches on the device.

The only room that knows about images. An image processor does two kinds of work: geometry (decode, resize, crop),
which is done once per image and kept as uint8, and arithmetic (rescale, normalise), which is cheap on the device and
done per batch. The split is checked against the processor's own output; a processor that cannot be split this way is
obeyed as it is, and its float output kept instead.
"""

from __future__ import annotations

import copy
import mmap
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, cast

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as PILImage
from torch import Tensor
from transformers import BaseImageProcessor

from hf_lotus.data.columns import find_image_column, find_label_column, read_labels
from hf_lotus.data.decoding import Decoder, fill
from hf_lotus.data.pictures import read_pictures
from hf_lotus.data.pixel_store import PixelStore, picture_keys
from hf_lotus.data.samples import ReadySamples

# Stores up to this size live in memory; larger ones in an unlinked file beside the data sets' cache.
IN_MEMORY_BYTES = 1 << 26
# How far the finished pixels may lie from the processor's own; rounding alone stays under 1e-6.
AGREEMENT = 1e-5


@dataclass(frozen=True)
class Augmentation:
    """Random augmentation of training batches, on the device.

    Attributes:
        horizontal_flip: mirror each image with probability one half.
        crop_padding: pad with this many black pixels on each side and crop a random window of the original size.
    """

    horizontal_flip: bool = False
    crop_padding: int = 0

    def __bool__(self) -> bool:
        return self.horizontal_flip or self.crop_padding > 0

    def __call__(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Augment a batch of shape (batch, channels, height, width), each image by its own draw."""
        batch, _, height, width = pixels.shape

        def draw(high: int) -> Tensor:
            return torch.randint(high, (batch,), generator=generator, device=pixels.device)

        if self.horizontal_flip:
            flip = draw(2).bool()
            pixels = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
        if self.crop_padding:
            padded = F.pad(pixels, [self.crop_padding] * 4)
            rows = draw(2 * self.crop_padding + 1)[:, None] + torch.arange(height, device=pixels.device)
            columns = draw(2 * self.crop_padding + 1)[:, None] + torch.arange(width, device=pixels.device)
            which = torch.arange(batch, device=pixels.device)[:, None, None]
            # Indexing on both sides of the channel slice moves it last: (batch, height, width, channels).
            pixels = padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        return pixels


class _Arithmetic(Protocol):
    """The settings of a processor that rescales and normalises, which transformers' base class does not declare."""

    do_normalize: bool
    image_mean: Sequence[float]
    image_std: Sequence[float]
    rescale_factor: float


class PixelPipeline:
    """The two halves of an image processor: `prepare` once per image, `finish` once per batch on the device.

    Args:
        processor: a transformers image processor.
        example: any image of the data, on which the two halves are checked against the processor itself.
    """

    def __init__(self, processor: BaseImageProcessor, example: PILImage.Image):
        self.processor = processor
        self.mean: Tensor | None = None
        self.std: Tensor | None = None
        self._passes: tuple[int, int] | None = None
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}  # where batches have been finished
        whole = processor([self._colour(example)], return_tensors="pt")["pixel_values"][0]
        if self._can_split():
            its = cast(_Arithmetic, processor)
            self.mean = torch.tensor(its.image_mean if its.do_normalize else [0.0])[:, None, None]
            self.std = torch.tensor(its.image_std if its.do_normalize else [1.0])[:, None, None]
            prepared = self.prepare([example])
            # A processor with steps of its own (offsets, other orders) fails here: then its output is kept whole.
            same = prepared.dtype == torch.uint8 and prepared[0].shape == whole.shape
            if not same or (self.finish(prepared)[0] - whole).abs().max() > AGREEMENT:
                self.mean = self.std = None
        self.shape, self.dtype = whole.shape, torch.uint8 if self.mean is not None else torch.float32
        self._passes = self._passing_size()

    def _can_split(self) -> bool:
        return bool(getattr(self.processor, "do_rescale", False)) and hasattr(self.processor, "do_normalize")

    def _colour(self, image: PILImage.Image) -> PILImage.Image:
        """RGB, unless the processor is for single-channel images: stray greyscale or alpha would break a batch."""
        single_channel = len(getattr(self.processor, "image_mean", None) or [0, 0, 0]) == 1
        return image if single_channel or getattr(image, "mode", "RGB") == "RGB" else image.convert("RGB")

    def prepare(self, images: Sequence[PILImage.Image]) -> Tensor:
        """Geometry: PIL images → uint8 pixels (batch, channels, height, width); float32 where it cannot be split."""
        coloured = [self._colour(image) for image in images]
        options = {} if self.mean is None else {"do_rescale": False, "do_normalize": False}
        if self._passes and all(image.size == self._passes and image.mode == "RGB" for image in coloured):
            return _as_they_are(coloured)
        return self.processor(coloured, return_tensors="pt", **options)["pixel_values"]

    @property
    def made_by(self) -> list[object]:
        """What determines the prepared pixels besides the images, as JSON values."""
        return [type(self.processor).__name__, self.processor.to_dict(), list(self.shape), str(self.dtype)]

    def _passing_size(self) -> tuple[int, int] | None:
        """The (width, height) of images whose pixels the processor gives back as they are: it is shown noise."""
        if self.mean is None or self.shape[0] != 3:
            return None
        noise = np.random.default_rng(0).integers(0, 256, (*self.shape[1:], 3), dtype=np.uint8)
        image = PILImage.fromarray(noise)
        prepared = self.prepare([image])
        return image.size if torch.equal(prepared, _as_they_are([image])) else None

    def finish(self, pixels: Tensor) -> Tensor:
        """Arithmetic: prepared pixels → the model's float32 input, on the pixels' device."""
        if self.mean is None or self.std is None:
            return pixels
        if pixels.device not in self._constants:
            # One multiply and one add: x · scale/std − mean/std.
            scale = cast(_Arithmetic, self.processor).rescale_factor / self.std
            self._constants[pixels.device] = scale.to(pixels.device), (-self.mean / self.std).to(pixels.device)
        scale, shift = self._constants[pixels.device]
        return torch.addcmul(shift, pixels.float(), scale)

    @property
    def range(self) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest value of the model's input, each of shape (channels, 1, 1); None where not known."""
        if self.mean is None:
            return None
        black = torch.zeros((1, self.shape[0], 1, 1), dtype=torch.uint8)
        return self.finish(black)[0], self.finish(black + 255)[0]


class ReadyImages(ReadySamples):
    """An image data set whose rows are decoded and resized when first touched, and never again.

    Pixels live in one shared buffer (anonymous memory, or an unlinked file when large), so worker processes fill the
    same pages and nothing is held as Python objects. `finish` turns a batch into the model's input on its device.

    Args:
        dataset: a `datasets.Dataset` with an image and a label column.
        processor: the model's image processor.
        image_column: found from the features if None.
        label_column: found from the features if None.
        num_labels: the model's number of classes, to choose between several label columns.
        ready_images_dir: folder of a `PixelStore`, from which the pixels are taken, and where those that it lacks are
            kept: all are then made ready at once.
        decoding_workers: processes that then decode what is missing, where that pays.

    Raises:
        ValueError: if a column cannot be found, or the processor gives images of different sizes.
    """

    kind: ClassVar[str] = "image"

    def __init__(
        self,
        dataset: datasets.Dataset,
        processor: BaseImageProcessor,
        image_column: str | None = None,
        label_column: str | None = None,
        num_labels: int | None = None,
        ready_images_dir: str | None = None,
        decoding_workers: int = 0,
    ):
        self.image_column = find_image_column(dataset, image_column)
        if self.image_column is None:
            raise ValueError(f"The data set has no image column; its columns are {', '.join(dataset.column_names)}.")
        self.labels = torch.from_numpy(read_labels(dataset, find_label_column(dataset, label_column, num_labels)))
        self.images = dataset.with_format(None).select_columns([self.image_column])
        self.pipeline = PixelPipeline(processor, read_pictures(self.images, self.image_column, [0])[0])
        self.pixels = _shared_tensor((len(dataset), *self.pipeline.shape), self.pipeline.dtype)
        self.is_ready = _shared_tensor((len(dataset),), torch.bool)
        self.places: Tensor | None = None  # of each row's pixels, where it is not the row itself
        self._decoder = Decoder(self.images, self.image_column, self.pipeline)
        if ready_images_dir is not None and (keys := picture_keys(self.images, self.image_column)) is not None:
            store = PixelStore(ready_images_dir, self.pipeline.made_by)
            fill(self._decoder, store, keys, self.pixels, self.is_ready, decoding_workers)

    @property
    def source(self) -> datasets.Dataset:
        """The image column, as it is stored."""
        return self.images

    @property
    def input_range(self) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest value of the model's input, each of shape (channels, 1, 1); None where not known."""
        return self.pipeline.range

    @property
    def row_bytes(self) -> int:
        """Bytes of a picture made ready."""
        return self.pixels[:1].nbytes

    def __getitems__(self, rows: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """Prepared pixels (batch, channels, height, width) and labels (batch,) of the given rows, as one batch."""
        wanted = torch.as_tensor(rows)
        places = self._places(wanted)
        missing = wanted[~self.is_ready[places]].unique()
        if len(missing):
            self.pixels[self._places(missing)] = self._decoder.pixels(missing.tolist())
            self.is_ready[self._places(missing)] = True
        # Many times faster than indexing by a tensor, and the same.
        return {"pixel_values": self.pixels.index_select(0, places), "labels": self.labels[wanted]}

    def select(self, rows: Sequence[int] | np.ndarray) -> ReadyImages:
        """Some of the rows as a set of its own, which shares the pixels: what one prepares is ready for the other."""
        part, wanted = copy.copy(self), torch.as_tensor(np.asarray(rows, dtype=np.int64))
        part.labels, part.images = self.labels[wanted], self.images.select(wanted.tolist())
        part.places = self._places(wanted)
        part._decoder = replace(self._decoder, images=part.images)
        return part

    def _places(self, rows: Tensor) -> Tensor:
        """Where the pixels of rows are."""
        return rows if self.places is None else self.places[rows]

    def finish(
        self,
        batch: Mapping[str, Tensor],
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The batch with its pixels augmented (where asked for) and normalised, on their own device."""
        pixels = batch["pixel_values"]
        if augmentation is not None:
            pixels = augmentation(pixels, generator)
        # Convolutions are faster on this layout, and nothing that was measured is slower.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return {**batch, "pixel_values": self.pipeline.finish(pixels)}


def _as_they_are(images: Sequence[PILImage.Image]) -> Tensor:
    """The pixels of RGB images of one size, uint8, shape (batch, 3, height, width)."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


def _shared_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A zeroed tensor that forked worker processes share; its pages take room only once they are written."""
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    if num_bytes <= IN_MEMORY_BYTES:
        buffer = mmap.mmap(-1, num_bytes)
    else:
        with tempfile.TemporaryFile(dir=_cache_folder()) as file:
            file.truncate(num_bytes)
            buffer = mmap.mmap(file.fileno(), num_bytes)
    return torch.frombuffer(buffer, dtype=dtype).view(shape)


def _cache_folder() -> str:
    # The system's temporary folder may itself be in memory, which a large store must not be.
    datasets.config.HF_DATASETS_CACHE.mkdir(parents=True, exist_ok=True)
    return str(datasets.config.HF_DATASETS_CACHE)
