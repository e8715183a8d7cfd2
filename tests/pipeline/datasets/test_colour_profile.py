"""Embedded colour profiles: converted to sRGB for the user's own photographs, ignored and counted for ILSVRC."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.datasets.dataset_key import request_hash
from pipeline.datasets.image_file import OTHER_COLOURS, StoredImage, look
from pipeline.datasets.manifest_summary import read_manifest, summarise
from pipeline.datasets.prepare import prepare
from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from tests.support import ROOT
from tests.support.cases import case
from tests.support.colour_profiles import DISPLAY_P3, profile, to_srgb
from tests.support.images import decoded, needs_dali, photograph, repository_params

GAMMA = 2.2
P3 = profile("RGB ", GAMMA, DISPLAY_P3)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
APART = 2.0  # grey levels between lcms's arithmetic and NumPy's


def saved(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    """An image's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def seen(encoded: bytes, convert: bool = True) -> StoredImage:
    """The image as it is stored."""
    return look(encoded, 32.0, convert_colours=convert)


def apart(stored: StoredImage, wanted: np.ndarray) -> float:
    """The largest difference in grey levels."""
    return float(np.abs(decoded(stored.encoded).astype(float) - wanted).max())


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    """A photograph, (40, 50, 3)."""
    return photograph(rng, 40, 50)


def test_other_colours_become_srgb_in_every_format(pixels: np.ndarray) -> None:
    image, wanted = Image.fromarray(pixels), to_srgb(pixels, GAMMA, DISPLAY_P3)
    assert np.abs(wanted - pixels).max() > 5, "the profile matters"
    for kind, how in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        with case(kind):
            stored = seen(saved(image, kind, icc_profile=P3, **how))
            assert stored.converted == f"{kind} {OTHER_COLOURS}" and not stored.other_colours
            assert apart(stored, wanted) <= APART
    jpeg = saved(image, "JPEG", quality=95, icc_profile=P3)
    with Image.open(io.BytesIO(jpeg)) as opened:
        assert apart(seen(jpeg), to_srgb(np.asarray(opened), GAMMA, DISPLAY_P3)) <= APART


def test_grey_palettes_and_transparency_have_profiles_too(pixels: np.ndarray) -> None:
    grey = Image.fromarray(pixels).convert("L")
    levels = np.repeat(np.asarray(grey)[..., None], 3, 2)
    stored = seen(saved(grey, icc_profile=profile("GRAY", 1.0)))
    assert apart(stored, to_srgb(levels, 1.0)) <= APART
    palette = Image.fromarray(pixels).quantize(16)
    flat = np.asarray(palette.convert("RGB"))
    assert apart(seen(saved(palette, icc_profile=P3)), to_srgb(flat, GAMMA, DISPLAY_P3)) <= APART
    clear = Image.fromarray(pixels).convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(np.arange(50) < 25, 0, 255).astype(np.uint8)[None].repeat(40, 0)))
    wanted = to_srgb(pixels, GAMMA, DISPLAY_P3)
    wanted[:, :25] = 255
    assert apart(seen(saved(clear, icc_profile=P3)), wanted) <= APART


def test_srgb_under_any_name_and_profiles_that_do_not_fit_keep_the_bytes(pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    for what, data in (
        ("sRGB", saved(image, "JPEG", icc_profile=SRGB)),
        ("none", saved(image, "JPEG")),
        ("broken", saved(image, "JPEG", icc_profile=P3[:200])),
        ("rubbish", saved(image, "JPEG", icc_profile=b"no profile")),
        ("of grey", saved(image, "PNG", icc_profile=profile("GRAY", 1.0))),
        ("of RGB in grey", saved(image.convert("L"), "PNG", icc_profile=P3)),
    ):
        for convert in (True, False):
            with case((what, convert)):
                stored = seen(data, convert)
                assert stored.encoded == data and not stored.converted and not stored.other_colours


def test_ignored_colours_keep_the_bytes_and_are_marked(pixels: np.ndarray) -> None:
    data = saved(Image.fromarray(pixels), "JPEG", icc_profile=P3)
    stored = seen(data, convert=False)
    assert stored.encoded == data and stored.other_colours and not stored.converted


def folder_of(root: Path, rng: np.random.Generator) -> Path:
    """Two classes, one image in each split of each with the profile of a telephone."""
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(3):
                how = {"icc_profile": P3} if number == 0 else {"icc_profile": SRGB} if number == 1 else {}
                data = saved(Image.fromarray(photograph(rng, 40, 50)), "JPEG", **how)
                (root / split / label / f"{number}.jpg").write_bytes(data)
    return root


@pytest.mark.parametrize("chosen", [None, "convert", "ignore"])
def test_the_data_page_counts_converted_and_ignored_ones(
    chosen: str | None, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))
    root = folder_of(tmp_path / "photographs", rng)
    how = {"processes": 1} | ({"colour_profiles": chosen} if chosen else {})
    facts = prepare(repository_params(tmp_path, data={"source": "imagefolder", "path": str(root)}, prepare=how))
    assert (facts.train, facts.val) == (6, 6)
    converted, ignored = (0, 2) if chosen == "ignore" else (2, 0)
    for split in summarise(read_manifest()).splits.values():
        assert (split.converted_colours, split.ignored_colours, split.converted) == (converted, ignored, 0)
    assert facts.stored.get("colour_profiles") == (None if chosen == "ignore" else "convert")


def hashes(params: Params) -> dict[str, str]:
    """The hash of what each profile asks for."""
    return {name: request_hash(params.model_copy(update={"profile": name})) for name in params.profiles}


@needs_dali
def test_data_sets_whose_profiles_are_ignored_have_the_keys_of_before() -> None:
    """The hashes of main before there was the parameter."""
    params = load(ROOT / "params.yaml", extra=False)
    assert {name: params.profiles[name].converts_colours for name in params.profiles} == dict.fromkeys(
        params.profiles, False
    )
    assert hashes(params)["mini"] == "9e2b3325e7c5a568" and hashes(params)["evening"] == "7cd90bfca56bee89"
    assert hashes(params)["paper"] == "163e43c24be13c40"
    for name in ("mini", "evening"):
        assert params.profiles[name].prepare.colour_profiles is None, "dvc.lock has these blocks as they were"


def test_an_image_folder_is_converted_by_default(tmp_path: Path) -> None:
    own = {"source": "imagefolder", "path": "/photographs"}
    usual = repository_params(tmp_path, data=own)
    ignored = repository_params(tmp_path, data=own, prepare={"colour_profiles": "ignore"})
    assert usual.active.converts_colours and not ignored.active.converts_colours
    assert request_hash(usual) != request_hash(ignored)
