"""The embedded characters: the same bytes from the same parameters, faces kept apart, boxes around the ink, variety."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from pipeline.datasets.sources import characters, fingerprint, open_source
from pipeline.datasets.sources.base import SPLITS
from pipeline.datasets.sources.characters import ALPHABETS, FAMILIES, Characters
from pipeline.errors import UsageError
from pipeline.experiment.params import CharactersParams
from pipeline.experiment.validation import load, parse
from tests.support import ROOT
from tests.support.fake_source import items_of
from tests.support.images import decoded, gaps_around_ink

PROFILE = load(ROOT / "params.yaml").active
DRAWING = CharactersParams(
    seed=0, alphabets=("latin",), train_images=3, val_images=2, canvas=(280, 700), size=(0.45, 0.6), spread=0.05,
    rotation=15.0, shear=0.2, texture=10.0,
)  # fmt: skip
ALL = {"alphabets": tuple(ALPHABETS)}
CODE = """
from tests.pipeline.datasets.sources.test_characters import *
print(hash_of(items_of(source(seed={seed}), "val", 30)))
"""


def source(ratio: Fraction = Fraction(3, 7), limit: int | None = None, **changes: Any) -> Characters:
    """Characters with other parameters than DRAWING's."""
    return Characters(DRAWING.model_copy(update=changes), limit, ratio)


def hash_of(items: list[Any]) -> str:
    """A hash of all that items are."""
    return characters.hashlib.sha256(repr([tuple(item) for item in items]).encode()).hexdigest()


def faces_of(drawer: Characters, split: str) -> set[str]:
    """The faces of a split's images, as their ids say."""
    return {entry.id.split("/")[0] for entry in drawer.listing().entries[split]}


def test_two_interpreters_draw_the_same_bytes(seed: int) -> None:
    command = [sys.executable, "-c", CODE.format(seed=seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == hash_of(items_of(source(seed=seed), "val", 30)), seed


def test_an_image_is_the_same_whatever_else_is_drawn(seed: int) -> None:
    drawer = source(seed=seed)
    entries = drawer.listing().entries["train"][:20]
    backwards = [drawer.read(entry) for entry in reversed(entries)]
    few = pickle.loads(pickle.dumps(source(seed=seed, limit=20)))
    assert few.listing().entries["train"] == entries, seed
    assert [few.read(entry) for entry in entries] == backwards[::-1], seed


def test_another_seed_draws_other_bytes(seed: int) -> None:
    drawers = source(seed=seed), source(seed=seed + 1)
    entries = drawers[0].listing().entries["val"][:20]
    one, other = ({drawer.read(entry).data for entry in entries} for drawer in drawers)
    assert len(one) == len(other) == 20
    assert not one & other, seed


@pytest.mark.parametrize("alphabets", [("latin",), ("latin", "greek"), ("cyrillic", "latin", "greek")])
def test_all_images_of_a_face_are_in_one_split_and_each_family_is_in_both(
    alphabets: tuple[str, ...], seed: int
) -> None:
    drawer = source(seed=seed, alphabets=alphabets)
    train, val = (faces_of(drawer, split) for split in SPLITS)
    assert not train & val, seed
    assert sorted(train | val) == sorted(drawer.faces)
    for family in FAMILIES.values():
        if set(family) <= set(drawer.faces):
            assert (len(val & set(family)), len(train & set(family))) == (1, len(family) - 1), (seed, family)


def test_every_face_is_held_out_by_some_seed() -> None:
    held_out = set().union(*(source(seed=seed).held_out for seed in range(60)))
    assert held_out == {face for family in FAMILIES.values() for face in family}


@pytest.mark.parametrize(("split", "images"), [("train", 3), ("val", 2)])
def test_each_face_draws_each_character_as_often_as_the_parameters_say(split: str, images: int, seed: int) -> None:
    drawer = source(seed=seed, **ALL)
    listing = drawer.listing()
    entries = listing.entries[split]
    counts = Counter(tuple(entry.id.split("/")[:2]) for entry in entries)
    assert set(counts.values()) == {images}
    assert len(counts) == len(faces_of(drawer, split)) * len(listing.classes)
    assert all(listing.classes[entry.label] == entry.id.split("/")[1] for entry in entries)
    assert len({entry.id for entry in entries}) == len(entries)


def test_the_known_counts_are_those_of_the_listing(seed: int) -> None:
    for limit in (None, 7, 10**6):
        drawer = source(seed=seed, limit=limit, **ALL)
        listing = drawer.listing()
        counts = [len(listing.entries[split]) for split in SPLITS]
        assert [*drawer.known[:3]] == [*counts, len(listing.classes)]


def test_classes_are_mixed(seed: int) -> None:
    labels = [entry.label for entry in source(seed=seed).listing().entries["train"]]
    assert np.mean(np.diff(labels) == 0) < 0.05, "a 51st by chance, std 0.003 over 2,495"


def test_a_limit_takes_the_first_of_each_split(seed: int) -> None:
    for split in SPLITS:
        assert source(seed=seed, limit=13).listing().entries[split] == source(seed=seed).listing().entries[split][:13]


def test_every_face_has_a_glyph_of_its_own_for_every_character() -> None:
    """An outline that two characters of a face share would be one image with two labels."""
    for alphabets in [("latin",), ALL["alphabets"]]:
        drawer = source(alphabets=alphabets)
        for face in drawer.faces:
            glyphs = TTFont(characters._file(face)).getBestCmap()
            assert len({glyphs[ord(character)] for character in drawer.classes}) == len(drawer.classes), face


def test_the_alphabets_share_no_character() -> None:
    every = "".join(ALPHABETS.values())
    assert len(set(every)) == len(every)


def test_images_are_jpegs_with_sides_of_the_canvas_and_a_box_inside(seed: int) -> None:
    low, high = (side * 3 / 7 for side in DRAWING.canvas)
    for item in items_of(source(seed=seed, **ALL), "val", 150):
        ((left, top, right, bottom),) = item.boxes
        with Image.open(io.BytesIO(item.encoded)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert low - 0.5 <= min(image.size) <= high + 0.5, item.id  # rounded to a pixel
            assert 0 <= left < right <= image.width, item.id
            assert 0 <= top < bottom <= image.height, item.id


def test_the_box_is_drawn_around_the_ink(seed: int) -> None:
    for item in items_of(source(seed=seed, texture=0.0, rotation=40.0), "val", 100):
        (box,) = item.boxes
        gaps = gaps_around_ink(item.encoded, box)
        assert min(gaps) >= -1, (seed, item.id, gaps)  # a pixel that JPEG may smear
        assert max(gaps) <= 4, (seed, item.id, gaps)  # the end of a thin, slanted stroke is faint


def test_the_longer_side_without_deformation_is_the_size(seed: int) -> None:
    for item in items_of(source(seed=seed, size=(0.5, 0.5), rotation=0.0, shear=0.0), "train", 100):
        ((left, top, right, bottom),) = item.boxes
        wanted = min(decoded(item.encoded).shape[:2]) / 2
        assert max(right - left, bottom - top) == pytest.approx(wanted, abs=3), (seed, item.id)


@pytest.mark.parametrize(("character", "face"), [("T", "DejaVuSans"), ("Ж", "STIXGeneral"), ("ω", "DejaVuSerif-Bold")])
def test_the_ink_is_the_character_of_the_label(character: str, face: str, seed: int) -> None:
    """The ink, without deformation, is what Pillow draws; chance correlates by less than a half."""
    drawer = source(seed=seed, texture=0.0, rotation=0.0, shear=0.0, **ALL)
    label = drawer.classes.index(character)
    image = drawer.read(drawer._entry(drawer.faces.index(face), label, 0))
    ink = Image.open(io.BytesIO(image.data)).convert("L").crop(image.boxes[0]).resize((40, 40))
    wanted = characters.glyph_of(face, character, 100.0)
    wanted = wanted.crop(wanted.getbbox()).resize((40, 40))
    assert np.corrcoef(255 - np.asarray(ink, float).ravel(), np.asarray(wanted, float).ravel())[0, 1] > 0.9, seed


def test_rotation_and_shear_deform(seed: int) -> None:
    """A vertical bar's box is wider by its height's share: sin 40 degrees, or a shear of 0.5."""
    widths = {}
    for name, changes in {"no": {}, "rotation": {"rotation": 40.0}, "shear": {"shear": 0.5}}.items():
        drawer = source(seed=seed, **{"rotation": 0.0, "shear": 0.0, **changes})
        face, label = drawer.faces.index("DejaVuSans"), drawer.classes.index("l")
        boxes = np.array([drawer.read(drawer._entry(face, label, number)).boxes[0] for number in range(40)])
        widths[name] = ((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])).max()
    assert widths["no"] < 0.2 < 0.4 < min(widths["rotation"], widths["shear"]), (seed, widths)


CHANGES = {
    "seed": 1, "alphabets": ("latin", "greek"), "train_images": 4, "val_images": 1, "canvas": (281, 700),
    "size": (0.45, 0.61), "spread": 0.06, "rotation": 16.0, "shear": 0.3, "texture": 10.5,
}  # fmt: skip


def test_the_fingerprint_changes_with_every_parameter() -> None:
    assert set(CHANGES) == set(CharactersParams.model_fields)
    prints = [source(**{name: value}).fingerprint() for name, value in CHANGES.items()]
    prints += [source().fingerprint(), source(limit=5).fingerprint(), source(Fraction(1, 2)).fingerprint()]
    assert len({repr(values) for values in prints}) == len(prints)


@pytest.mark.parametrize(
    "change",
    [("VERSION", 2), ("version", lambda _: "0.0"), ("hash_of", lambda _: "another"), ("features", None)],
    ids=lambda change: change[0],
)
def test_the_fingerprint_changes_with_generator_libraries_and_faces(
    change: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = source().fingerprint()
    name, value = change
    if name == "features":
        monkeypatch.setattr(characters.features, "version", lambda _: "0.0")
    else:
        monkeypatch.setattr(characters, name, value)
    assert source().fingerprint() != before
    assert {"matplotlib", "numpy", "pillow", "freetype", "faces"} <= set(before)


def test_the_drawing_does_not_import_matplotlib() -> None:
    code = "import sys; import pipeline.datasets.sources; assert 'matplotlib' not in sys.modules"
    code += "; from tests.pipeline.datasets.sources.test_characters import source, items_of"
    code += "; items_of(source(), 'val', 1); source().fingerprint(); assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize(("profile", "classes", "images"), [("mini", 50, 1000), ("evening", 50, 3000)])
def test_the_profiles_have_classes_and_images_enough_to_tell_nets_apart(
    profile: str, classes: int, images: int
) -> None:
    known = open_source(load(ROOT / "params.yaml").profiles[profile]).known
    assert known is not None
    assert known.classes >= classes
    assert known.val >= images


def test_the_profile_opens_the_characters(seed: int) -> None:
    drawing = DRAWING.model_copy(update={"seed": seed})
    data = PROFILE.data.model_copy(update={"source": "characters", "characters": drawing, "limit": 3})
    profile = PROFILE.model_copy(update={"data": data})
    opened = open_source(profile)
    assert (opened.name, opened.comparable, opened.grouped) == ("characters", False, True)
    assert items_of(opened, "val") == items_of(source(seed=seed, limit=3), "val")
    assert fingerprint(profile) == source(seed=seed, limit=3).fingerprint()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("size: [0.4, 0.55]", "size: [0.55, 0.4]", "data.characters.size is [0.55, 0.4]: the smaller value must"),
        ("alphabets: [latin]", "alphabets: [latin, latin]", "an alphabet is named twice"),
        ("alphabets: [latin]", "alphabets: [hebrew]", "Input should be 'latin', 'greek' or 'cyrillic'"),
        ("alphabets: [latin]", "alphabets: []", "at least 1 item"),
        ("rotation: 10.0", "rotations: 10.0", "Did you mean rotation"),
    ],
)
def test_an_impossible_parameter_is_refused(old: str, new: str, words: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    with pytest.raises(UsageError) as refusal:
        parse(text.replace(old, new, 1).encode(), ROOT / "params.yaml")
    assert words in str(refusal.value)
