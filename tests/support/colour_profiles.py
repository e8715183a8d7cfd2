"""Colour profiles made by hand, and what they make of pixels, computed with NumPy alone."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# Columns: red, green and blue of each in XYZ, adapted to the white D50
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
WHITE = (0.9642, 1.0, 0.8249)


def fixed(value: float) -> bytes:
    """A number as ICC's s15Fixed16."""
    return struct.pack(">i", round(value * 65536))


def profile(space: str, gamma: float, matrix: NDArray[np.float64] = SRGB) -> bytes:
    """An ICC profile of version 2: RGB with a matrix, or GRAY, and a curve that is a power."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    xyz = lambda values: b"XYZ \0\0\0\0" + b"".join(map(fixed, values))
    text = b"test\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(12 + 67)
    tags = {b"desc": name, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(WHITE)}
    if space == "RGB ":
        tags |= {color + b"XYZ": xyz(matrix[:, place]) for place, color in enumerate((b"r", b"g", b"b"))}
        tags |= {color + b"TRC": curve for color in (b"r", b"g", b"b")}
    else:
        tags[b"kTRC"] = curve
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0\0\0\0", 0x02400000, b"mntr", space.encode(), b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + b"".join(map(fixed, WHITE))
    return head.ljust(128, b"\0") + body


def to_srgb(pixels: NDArray[np.uint8], gamma: float, matrix: NDArray[np.float64] = SRGB) -> NDArray[np.float64]:
    """The levels (..., 3) in sRGB of such pixels."""
    linear = (pixels / 255) ** gamma @ (np.linalg.inv(SRGB) @ matrix).T
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
