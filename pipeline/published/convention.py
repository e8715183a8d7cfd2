"""What a published net is: its tensors as its file has them, and how it wants its pictures."""

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


@dataclass(frozen=True)
class Convention:
    """How a net takes a picture: channels in this order, from 0 to `range`, minus `mean`, divided by `deviation`."""

    channels: Channels
    range: float  # 255 or 1
    mean: Three  # in the order of the channels and in the range
    deviation: Three

    @property
    def mean_rgb(self) -> Three:
        """In grey levels 0..255, red first."""
        return self._rgb(self.mean)

    @property
    def deviation_rgb(self) -> Three:
        """In grey levels 0..255, red first."""
        return self._rgb(self.deviation)

    def _rgb(self, values: Three) -> Three:
        first, second, third = (_in_range(value, self.range, GREY_LEVELS) for value in values)
        return (first, second, third) if self.channels == "RGB" else (third, second, first)

    def taking(self, channels: Channels, range: float) -> Convention:
        """The same of a picture in another order of channels, or in another range."""
        turn = -1 if channels != self.channels else 1
        mean, deviation = (
            tuple(_in_range(value, self.range, range) for value in values[::turn])
            for values in (self.mean, self.deviation)
        )
        return Convention(channels, range, mean, deviation)  # type: ignore[arg-type]  # three of each

    @staticmethod
    def of(values: Mapping[str, Any]) -> Convention:
        """The convention that `as_dict` gave. KeyError, TypeError or ValueError if it is none."""
        mean, deviation = (tuple(float(one) for one in values[key]) for key in ("mean", "deviation"))
        right = values["channels"] in ("RGB", "BGR") and values["range"] > 0 and len(mean) == len(deviation) == 3
        if not right or not all(map(isfinite, mean)) or not all(0 < one < inf for one in deviation):
            raise ValueError("no input of a net")
        return Convention(values["channels"], float(values["range"]), mean, deviation)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"channels": self.channels, "range": self.range, "mean": [*self.mean], "deviation": [*self.deviation]}


def _in_range(value: float, was: float, range: float) -> float:
    """A length of one range in another; the same to the last bit where they are the same."""
    return value if was == range else value * range / was


# The authors' nets; MatConvNet's import script turns them to RGB; torchvision's documentation of its weights.
CAFFE = Convention("BGR", 255.0, (103.939, 116.779, 123.68), ONES)
MATCONVNET = CAFFE.taking("RGB", 255.0)
TORCHVISION = Convention("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CONVENTIONS = {"caffe": CAFFE, "matconvnet": MATCONVNET, "torchvision": TORCHVISION}


class InputOverride(NamedTuple):
    """What somebody says of a file's net; where nothing is given, its kind or the file itself says it."""

    channels: Channels | None = None
    range: float | None = None
    mean: Three | None = None
    deviation: Three | None = None
    class_map: Path | None = None

    def over(self, usual: Convention | None) -> Convention | None:
        """The convention with what is given in it; none if nobody knows the mean."""
        known = usual.range if usual else GREY_LEVELS
        if self.range not in (None, known) and (self.mean is None or self.deviation is None):
            raise Failure(
                f"a range of {self.range:g}, not {known:g}, changes what mean and deviation mean: give both too"
            )
        if usual is None:
            if self.mean is None:
                return None
            usual = Convention(self.channels or "RGB", self.range or GREY_LEVELS, self.mean, ONES)
        usual = usual.taking(self.channels or usual.channels, self.range or usual.range)
        return replace(usual, mean=self.mean or usual.mean, deviation=self.deviation or usual.deviation)


@dataclass(frozen=True)
class RawWeights:
    """A net's tensors by the names that its file has for them: LAYER.weight (out, in, ...) and LAYER.bias (out,)."""

    file: Path
    kind: str  # a key of layer_names.HEADS
    tensors: Mapping[str, Array]
    convention: Convention | None  # what such nets usually take; none if that differs
    classes: tuple[str, ...] = ()  # the WordNet ids of its outputs, if the file has them
    exported: Mapping[str, Any] | None = None  # what `weights export` wrote beside the tensors


@dataclass(frozen=True)
class ConvertedWeights:
    """A published net in the shape of ours: it takes RGB, and its classes are in our order."""

    kind: str
    weights: dict[str, NDArray[np.float32]]  # by the names and in the shapes of VGG's state dict
    convention: Convention  # of the net in its file
    classes: tuple[str, ...]  # the WordNet ids of its outputs, if somebody says them
    exported: Mapping[str, Any] | None = None  # what `weights export` says of the net that it wrote

    @property
    def mean_rgb(self) -> Three:
        """What is subtracted from RGB pixels, grey levels."""
        return self.convention.mean_rgb

    @property
    def deviation_rgb(self) -> Three:
        """What they are then divided by, grey levels."""
        return self.convention.deviation_rgb
