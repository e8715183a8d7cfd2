"""The choice of the program that decodes and rescales images: NVIDIA's DALI, or simplejpeg and Pillow (vgg/pillow.py).

The two differ by a grey level. So results of one are not continued with the other: the decoder in use is part of the
prepared data's identity, unless it is DALI.
"""

from __future__ import annotations

from importlib.metadata import distributions
from importlib.util import find_spec

from pipeline.errors import Failure

DALI, PILLOW = "dali", "pillow"
DALI_PACKAGES = {"nvidia-dali-cuda130": "cuda13", "nvidia-dali-cuda120": "cuda12"}  # and their extras in pyproject.toml
CONSTRAINTS = {"cuda12": "constraints-cuda12.txt"}  # the file of an extra; constraints.txt for all else


def has_dali() -> bool:
    """Return True if DALI is installed. It is not imported, because that is slow."""
    spec = find_spec("nvidia") and find_spec("nvidia.dali")
    return spec is not None and spec.origin is not None  # without an origin it is what is left of an old installation


def installed_dali() -> list[str]:
    """Return the names of the installed packages of DALI: none, or one."""
    return [name for name in DALI_PACKAGES if any(distributions(name=name))]


def installed_extra() -> str:
    """Return the extra of pyproject.toml by which DALI is installed; an empty string without DALI."""
    return next((DALI_PACKAGES[name] for name in installed_dali()), "")


def constraints() -> str:
    """Return the name of the file with the versions that go with the installed extra."""
    return CONSTRAINTS.get(installed_extra(), "constraints.txt")


def decoder_in_use(choice: str) -> str:
    """Return the decoder that `choice` (auto, dali or pillow) means. Raise Failure if it is dali and not installed."""
    if choice == PILLOW or (choice != DALI and not has_dali()):
        return PILLOW
    if not has_dali():
        raise Failure("params.yaml requires DALI (decoder: dali), which is not installed; decoder: auto works without")
    return DALI


def differing(choice: str) -> dict[str, str]:
    """Return what a decoder adds to the identity of data: its name, unless it is DALI. Raise as `decoder_in_use`."""
    name = decoder_in_use(choice)
    return {} if name == DALI else {"decoder": name}
