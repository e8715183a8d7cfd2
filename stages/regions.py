"""Boxes of images as images of their own: exactly the box, as appendix B describes persons."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgg.draws import Floats, Ints
from vgg.images import Decoder, Images


class Regions:
    """The boxes (n, 4) of the `images` of these numbers (n,), in pixels of the stored image, as images."""

    def __init__(self, images: Images, numbers: Ints, boxes: Floats, decoder: str) -> None:
        self.images, self.numbers, self.decoder = images, numbers, Decoder(1, decoder=decoder)
        right, bottom = (side[numbers, None] for side in (images.widths, images.heights))
        limits = np.hstack([right, bottom, right, bottom])
        whole = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(np.int64)
        self.boxes = np.clip(whole, 0, limits)
        self.widths: Ints = self.boxes[:, 2] - self.boxes[:, 0]
        self.heights: Ints = self.boxes[:, 3] - self.boxes[:, 1]
        self.labels: Ints = np.zeros(len(numbers), np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, region: int) -> NDArray[np.uint8]:
        (pixels,) = self.decoder([self.images[int(self.numbers[region])]])
        left, top, right, bottom = self.boxes[region]
        encoded = io.BytesIO()
        Image.fromarray(pixels[top:bottom, left:right]).save(encoded, "PNG", compress_level=0)  # without loss
        return np.frombuffer(encoded.getvalue(), np.uint8)
