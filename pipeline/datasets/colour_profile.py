"""Embedded colour profiles: whether an image's colours are other than sRGB, and the conversion to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product

import numpy as np
from PIL import Image, ImageCms

STEPS = (0, 51, 102, 153, 204, 255)  # levels at which a profile is compared with sRGB
SAME = 2.0  # largest difference, in grey levels, of a profile that is taken for sRGB
SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's colours to the image mode that they are


def has_other_colours(image: Image.Image) -> bool:
    """Return whether an image has an embedded profile of other colours than sRGB that fits its pixels."""
    profile = image.info.get("icc_profile")
    mode = _mode(profile) if profile else ""
    return mode in ("RGB", "L", "CMYK") and mode == _plain_mode(image) and not _is_srgb(profile)


def in_srgb(image: Image.Image) -> Image.Image:
    """Return an image of other colours in sRGB, as RGB; an alpha channel is kept, as RGBA."""
    profile = image.info["icc_profile"]
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    converted = _converted(image.convert(_mode(profile)), profile)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    result = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    assert result is not None  # it is not done in place
    return result


def _plain_mode(image: Image.Image) -> str:
    """Return the mode of an image's colours, without transparency and palette."""
    if image.mode in ("P", "PA"):
        return "RGB"
    return {"RGBA": "RGB", "RGBX": "RGB", "LA": "L", "1": "L", "I;16": "", "I": ""}.get(image.mode, image.mode)


@lru_cache(64)  # a data set has few profiles, each in many images
def _mode(profile: bytes) -> str:
    """Return the image mode of a profile's colours; an empty string if it is broken or of another kind."""
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
    except (OSError, ImageCms.PyCMSError):
        return ""
    return SPACES.get(space, "")


@lru_cache(64)
def _is_srgb(profile: bytes) -> bool:
    """Return whether a profile's colours are those of sRGB, by what it makes of some; also of a broken profile."""
    mode = _mode(profile)
    if mode == "CMYK":
        return False
    levels = np.array([*product(STEPS, repeat=len(mode))], np.uint8)
    image = Image.fromarray(levels.reshape(-1, 1, 3) if mode == "RGB" else levels.reshape(-1, 1))
    try:
        seen = np.asarray(_converted(image, profile), np.int64)
    except (OSError, ImageCms.PyCMSError):
        return True
    return bool(np.abs(seen - np.asarray(image.convert("RGB"), np.int64)).max() <= SAME)
