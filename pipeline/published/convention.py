"""The description of a published net: the tensors as in its file, and the convention of its input images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure

Array = NDArray[Any]
Channels = Literal["RGB", "BGR"]
Three = tuple[float, float, float]
ONES: Three = (1.0, 1.0, 1.0)
GREY_LEVELS = 255.0
WHOLE = "The paper's nets need it: save the state dict or the weights of the whole net, with its classifier"


@dataclass(frozen=True)
class Convention:
    """A net's input convention: channel order, values from 0 to `range`, minus `mean`, divided by `std`."""

    channels: Channels
    range: float  # 255 or 1
    mean: Three  # in the order of the channels and in the range
    std: Three

    @property
    def mean_rgb(self) -> Three:
        """Return the mean in grey levels 0..255, red first."""
        return self._rgb(self.mean)

    @property
    def std_rgb(self) -> Three:
        """Return the standard deviation in grey levels 0..255, red first."""
        return self._rgb(self.std)

    def _rgb(self, values: Three) -> Three:
        first, second, third = (_in_range(value, self.range, GREY_LEVELS) for value in values)
        return (first, second, third) if self.channels == "RGB" else (third, second, first)

    def taking(self, channels: Channels, range: float) -> Convention:
        """Return the same convention for images with another channel order or range."""
        step = -1 if channels != self.channels else 1
        mean, std = (
            tuple(_in_range(value, self.range, range) for value in values[::step]) for values in (self.mean, self.std)
        )
        return Convention(channels, range, mean, std)  # type: ignore[arg-type]  # three of each

    @staticmethod
    def of(values: Mapping[str, Any]) -> Convention:
        """Return the convention that `as_dict` wrote. Raise KeyError, TypeError or ValueError if it is none."""
        mean, std = (tuple(float(value) for value in values[key]) for key in ("mean", "std"))
        valid = values["channels"] in ("RGB", "BGR") and values["range"] > 0 and len(mean) == len(std) == 3
        if not valid or not all(map(isfinite, mean)) or not all(0 < value < inf for value in std):
            raise ValueError("not a valid input of a net")
        return Convention(values["channels"], float(values["range"]), mean, std)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """Return the convention as plain values."""
        return {"channels": self.channels, "range": self.range, "mean": [*self.mean], "std": [*self.std]}


def _in_range(value: float, old: float, range: float) -> float:
    """Convert a value from the range `old` to `range`. Return it bit for bit if they are equal."""
    return value if old == range else value * range / old


# Sources: the authors' nets; MatConvNet's import script, which turns them to RGB; torchvision's documentation.
CAFFE = Convention("BGR", 255.0, (103.939, 116.779, 123.68), ONES)
MATCONVNET = CAFFE.taking("RGB", 255.0)
TORCHVISION = Convention("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CONVENTIONS = {"caffe": CAFFE, "matconvnet": MATCONVNET, "torchvision": TORCHVISION}


class InputOverride(NamedTuple):
    """A user's statements about the net in a file. A None leaves the value to the file or its kind."""

    channels: Channels | None = None
    range: float | None = None
    mean: Three | None = None
    std: Three | None = None
    class_map: Path | None = None

    def over(self, usual: Convention | None) -> Convention | None:
        """Return the convention `usual` with these values, or None if the mean is unknown.

        Raise Failure for another range without a mean and a standard deviation.
        """
        usual_range = usual.range if usual else GREY_LEVELS
        if self.range not in (None, usual_range) and (self.mean is None or self.std is None):
            raise Failure(
                f"a range of {self.range:g} instead of {usual_range:g} changes the scale of mean and std: give both too"
            )
        if usual is None:
            if self.mean is None:
                return None
            usual = Convention(self.channels or "RGB", self.range or GREY_LEVELS, self.mean, ONES)
        usual = usual.taking(self.channels or usual.channels, self.range or usual.range)
        return replace(usual, mean=self.mean or usual.mean, std=self.std or usual.std)


@dataclass(frozen=True)
class RawWeights:
    """A net's tensors by the names in its file: LAYER.weight (out, in, ...) and LAYER.bias (out,)."""

    file: Path
    kind: str  # a key of layer_names.HEADS
    tensors: Mapping[str, Array]
    convention: Convention | None  # the usual one for such nets; None if there is no usual one
    classes: tuple[str, ...] = ()  # the WordNet ids of its outputs, if the file has them
    exported: Mapping[str, Any] | None = None  # the note that `weights export` wrote next to the tensors
    unused: tuple[str, ...] = ()  # keys of averages of the weights in the same checkpoint


@dataclass(frozen=True)
class ConvertedWeights:
    """A published net in the form of ours: it takes RGB, and its classes are in our order."""

    kind: str
    weights: dict[str, NDArray[np.float32]]  # with the names and shapes of VGG's state dict
    convention: Convention  # of the net in its file
    classes: tuple[str, ...]  # the WordNet ids of its outputs, if they are known
    exported: Mapping[str, Any] | None = None  # the note of `weights export` about the net that it wrote
    unused: tuple[str, ...] = ()  # keys of averages of the weights in the same checkpoint

    @property
    def mean_rgb(self) -> Three:
        """Return the mean to subtract from RGB pixels, in grey levels."""
        return self.convention.mean_rgb

    @property
    def std_rgb(self) -> Three:
        """Return the standard deviation to divide the result by, in grey levels."""
        return self.convention.std_rgb
