"""vgg-repro features: any folder's images described by a run's network, from the command to the file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.datasets import any_folder
from pipeline.datasets.any_folder import FolderPart, files_below, parts_of_folder
from pipeline.experiment.other_sets import FIVE
from pipeline.experiment.validation import load
from pipeline.results import vector_file
from stages import features
from tests.support.images import jpeg, photograph
from tests.support.other_archives import unpack
from tests.support.program import program
from tests.support.training import in_copy_of

ODD = ["GIF", "BMP", "TIFF", "PPM", "JPEG2000"]


@pytest.fixture
def project(describing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    in_copy_of(describing, tmp_path / "project", monkeypatch)
    return tmp_path / "project"


@pytest.fixture
def photographs(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Nested folders whose order by path is not that of a walk, with formats, strays and damage of every kind."""
    taken = [photograph(rng, *size) for size in ((90, 120), (120, 90), (96, 96), (90, 120), (20, 30))]
    files = {
        name: jpeg(pixels)
        for name, pixels in zip(("z.jpg", "a/1", "a-b/2.jpg", "a/b/c/3.jpeg", "a/small.jpg"), taken, strict=True)
    }
    for kind in ODD:
        buffer = io.BytesIO()
        Image.fromarray(taken[0]).save(buffer, kind)
        files[f"odd/{kind}"] = buffer.getvalue()
    files |= {".hidden/4.jpg": files["z.jpg"], "Thumbs.db": b"x", "a/notes.txt": b"notes", "a/IMG.CR2": b"raw"}
    files |= {"a/IMG.jpg": files["z.jpg"], "a/cut.jpg": files["z.jpg"][:200], "a/empty.png": b""}
    folder = unpack(files, tmp_path / "photographs")
    (folder / "a/loop").symlink_to("..")
    (folder / "out.jpg").symlink_to(unpack({"5.jpg": files["z.jpg"]}, tmp_path / "elsewhere") / "5.jpg")
    return folder


USED = sorted(
    ["z.jpg", "a/1", "a-b/2.jpg", "a/b/c/3.jpeg", "a/small.jpg", "a/IMG.jpg", *(f"odd/{kind}" for kind in ODD)]
)
SCALES = "256,384"


def describe(project: Path, folder: Path, file: str, *words: str) -> dict[str, np.ndarray]:
    """What the command writes."""
    done = program(project, "features", str(folder), "--run", "D-jitter", "--out", file, "--scales", SCALES, *words)
    assert done.code == 0, done
    with np.load(project / file) as arrays:
        return dict(arrays)


def test_images_of_all_formats_and_depths_are_described_in_the_order_of_their_paths(
    project: Path, photographs: Path
) -> None:
    made = describe(project, photographs, "x.npz")
    assert made["path"].tolist() == USED
    assert (made["vector"].shape, made["vector"].dtype) == ((len(USED), 16), np.float32)
    assert np.allclose(np.linalg.norm(made["vector"], axis=1), 1)
    rows = dict(zip(USED, made["vector"], strict=True))
    assert not np.allclose(rows["z.jpg"], rows["a/1"], atol=1e-4)
    assert all(np.allclose(rows[f"odd/{kind}"], rows["odd/BMP"], atol=1e-3) for kind in ODD if kind != "GIF")
    about = json.loads(str(made["about"]))
    assert (about["run"], about["weights"]) == ("D-jitter", "trained")
    assert (about["scales"], about["pixels"]) == ([256, 384], [73, 110])


def test_what_cannot_be_read_is_listed_by_name_and_other_files_are_not(project: Path, photographs: Path) -> None:
    done = program(project, "features", str(photographs), "--run", "D-jitter", "--out", "x.npz", "--scales", "256")
    listed = [line.split(": ")[1] for line in done.out.splitlines() if line.startswith("skipped: ")]
    assert listed == ["a/loop", "out.jpg", "a/cut.jpg", "a/empty.png"]
    assert done.out.splitlines()[-1] == f"x.npz: path ({len(USED)},), vector ({len(USED)}, 16) float32; 4 skipped"
    linked = describe(project, photographs, "y.npz", "--follow-links")
    assert sorted(set(linked["path"].tolist()) - {*USED}) == ["out.jpg"]


def test_the_same_folder_gives_the_same_bytes(project: Path, photographs: Path) -> None:
    for ending in ("npz", "parquet"):
        for name in ("x", "y"):
            program(project, "features", str(photographs), "--run", "D-jitter", "--out", f"{name}.{ending}")
        assert (project / f"x.{ending}").read_bytes() == (project / f"y.{ending}").read_bytes()


def test_only_a_part_of_the_images_is_stored_at_a_time(
    project: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = describe(project, photographs, "x.npz")
    (tmp_path / "stored").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "stored"))
    monkeypatch.setattr(any_folder, "PART_IMAGES", 4)
    held = []

    def parts(*given: object) -> object:
        for part in parts_of_folder(*given):  # type: ignore[arg-type]
            held.append((len(part.shards), len(list((tmp_path / "stored").iterdir()))))
            yield part

    monkeypatch.setattr("stages.tools.describe.parts_of_folder", parts)
    split = describe(project, photographs, "y.npz")
    assert split["path"].tolist() == whole["path"].tolist()
    assert np.allclose(split["vector"], whole["vector"], atol=2e-3)  # bfloat16, in batches of other sizes
    assert len(held) == 4 and {folders for _, folders in held} == {1} and max(images for images, _ in held) <= 4
    assert not list((tmp_path / "stored").iterdir())


def test_parts_are_bounded_in_bytes_too(project: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_below(photographs)
    monkeypatch.setattr(any_folder, "PART_BYTES", 1)
    parts: list[FolderPart] = []
    for part in parts_of_folder(load(), files):
        assert part.files == 1
        parts.append(part)
    assert len(parts) == len(files.images)


def test_scales_are_stacked_or_averaged_and_the_defaults_are_the_papers(project: Path, photographs: Path) -> None:
    stacked = describe(project, photographs, "x.npz", "--aggregate", "stack")
    assert stacked["vector"].shape == (len(USED), 32)
    done = program(project, "features", str(photographs), "--run", "D-jitter", "--out", "y.npz")
    assert done.code == 0
    with np.load(project / "y.npz") as made:
        about = json.loads(str(made["about"]))
    assert (len(about["scales"]), about["aggregate"]) == (len(FIVE), "average")


def test_parquet_has_paths_and_vectors_in_the_type_asked_for(project: Path, photographs: Path) -> None:
    words = ("--run", "D-jitter", "--scales", SCALES)
    program(project, "features", str(photographs), *words, "--out", "x.parquet", "--dtype", "float16")
    frame = pd.read_parquet(project / "x.parquet")
    vectors = np.stack(list(frame["vector"]))
    assert frame["path"].tolist() == USED and vectors.dtype == np.float16
    assert np.allclose(vectors, describe(project, photographs, "y.npz")["vector"], atol=1e-3)


def test_the_profile_says_the_type_unless_the_command_does(project: Path, photographs: Path) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("dtype: float32", "dtype: float16"))
    assert describe(project, photographs, "x.npz")["vector"].dtype == np.float16
    assert describe(project, photographs, "y.npz", "--dtype", "float32")["vector"].dtype == np.float32


def no_images(project: Path, photographs: Path) -> tuple[str, ...]:
    unpack({"none/.hidden/x.jpg": b"", "none/deep/Thumbs.db": b""}, project)
    return "none", "D-jitter", "x.npz"


def no_readable_image(project: Path, photographs: Path) -> tuple[str, ...]:
    unpack({"bad/x.jpg": b"bad"}, project)
    return "bad", "D-jitter", "x.npz"


def no_weights(project: Path, photographs: Path) -> tuple[str, ...]:
    return str(photographs), "E-jitter", "x.npz"


def a_localiser(project: Path, photographs: Path) -> tuple[str, ...]:
    return str(photographs), "PCR-256", "x.npz"


def an_existing_file(project: Path, photographs: Path) -> tuple[str, ...]:
    (project / "old.npz").write_bytes(b"old")
    return str(photographs), "D-jitter", "old.npz"


def no_such_place(project: Path, photographs: Path) -> tuple[str, ...]:
    return str(photographs), "D-jitter", "nowhere/x.npz"


def no_place_for_files(project: Path, photographs: Path) -> tuple[str, ...]:
    return str(photographs), "D-jitter", "/proc/x.npz"


def another_format(project: Path, photographs: Path) -> tuple[str, ...]:
    return str(photographs), "D-jitter", "x.csv"


def small_scale(project: Path, photographs: Path) -> tuple[str, ...]:
    return str(photographs), "D-jitter", "x.npz", "--scales", "100,256"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (no_images, "there are no images in none"),
        (no_readable_image, "none of the images in bad can be read"),
        (no_weights, "weights/trained/E-jitter.pt does not exist; make it with: vgg-repro train E-jitter"),
        (a_localiser, "PCR-256 predicts boxes"),
        (an_existing_file, "old.npz exists already"),
        (no_such_place, "there is no folder nowhere"),
        (no_place_for_files, "/proc/x.npz could not be written"),
        (another_format, "unknown output format '.csv'. Available: .npz, .parquet"),
        (small_scale, "--scales must be different whole numbers from 224 on"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_met_is_one_message_and_leaves_no_file(
    case: Callable[[Path, Path], tuple[str, ...]], words: str, project: Path, photographs: Path
) -> None:
    folder, run, file, *options = case(project, photographs)
    before = sorted(project.iterdir())
    done = program(project, "features", folder, "--run", run, "--out", file, *options)
    assert done.code in (1, 2) and words in done.error and len(done.error.splitlines()) == 1
    assert sorted(project.iterdir()) == before


def test_parquet_without_pyarrow_says_what_to_install(
    project: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_file, "find_spec", lambda name: None)
    done = program(project, "features", str(photographs), "--run", "D-jitter", "--out", "x.parquet")
    assert done.code == 1 and "pyarrow, which is not installed: python -m pip install" in done.error


def test_an_interruption_leaves_no_file(project: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = sorted(project.iterdir())
    monkeypatch.setattr("stages.tools.describe.activations", interrupted)
    done = program(project, "features", str(photographs), "--run", "D-jitter", "--out", "x.npz")
    assert done.code == 130 and done.error == "vgg-repro: features stopped; x.npz is not written\n"
    assert sorted(project.iterdir()) == before


def test_activations_that_float16_cannot_hold_are_refused() -> None:
    values = np.array([[1.0, 70000.0]], np.float32)
    assert features.kept_as("float32", values) is not None
    with pytest.raises(Exception, match=r"70000 is above 65504, the largest number of float16"):
        features.kept_as("float16", values)
    assert features.kept_as("float16", values[:, :1]).dtype == np.float16
