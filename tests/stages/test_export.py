"""`weights export`: torchvision, safetensors and ONNX Runtime on what it writes; it is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
import torchvision
import yaml
from safetensors import safe_open
from torch import Tensor, nn

from pipeline.datasets.facts import Facts
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import NETS, Params
from pipeline.experiment.paths import CLASSIFICATION, weights
from pipeline.experiment.validation import parse
from pipeline.published import load_published
from stages import imported as published
from stages.common import save_tensors, weights_of
from stages.tools.export import main
from tests.support import ROOT, foreign_files
from tests.support.disk import FULL, Disk
from tests.support.program import program
from vgg.nets import VGG

WIDTH, FC, CLASSES = Fraction(1, 8), 32, 7
TOLERANCE = 1e-4  # of the largest score: float32 sums in another order
ENDINGS = (".pth", ".pt", ".safetensors", ".onnx")
# ---------------------------------------------------------------------- nets, theirs and ours


def theirs(net: str, crop: int) -> nn.Module:
    """The narrow net as torchvision's code has it, or would have it; its crop's last map goes to the classifier."""
    parts = foreign_files.features(net, float(WIDTH))
    with torch.device("meta"):  # torchvision's own Linear layers would fill 400 MB
        made = torchvision.models.VGG(parts, init_weights=False)
    made.avgpool = nn.Identity()
    channels = [part for part in parts if isinstance(part, nn.Conv2d)][-1].out_channels
    put_classifier(made, channels * (crop // 32) ** 2, FC, CLASSES)
    return made.eval()


def put_classifier(made: Any, inward: int, fc: int, classes: int) -> None:
    """Linear layers of these sizes in the place of torchvision's."""
    for place, (wide, out) in zip((0, 3, 6), pairwise([inward, fc, fc, classes]), strict=True):
        made.classifier[place] = nn.Linear(wide, out)


def lively(net: str, rng: np.random.Generator, crop: int, width: float = float(WIDTH), fc: int = FC) -> VGG:
    """Our net with random weights whose scores differ from picture to picture, however narrow it is."""
    made = VGG(net, CLASSES, crop, width, fc).eval()
    with torch.no_grad():
        for name, layer in made.named_children():
            if isinstance(layer, nn.Conv2d):
                shape = layer.weight.shape
                half = rng.standard_normal((-(-shape[0] // 2), *shape[1:]), np.float32)
                values = np.concatenate([half, 0.3 * rng.standard_normal(half.shape, np.float32) - half])[: shape[0]]
                values = rng.standard_normal(shape, np.float32) if name == "fc3" else values
                layer.weight.copy_(torch.from_numpy(values * np.float32(np.sqrt(2 / np.prod(shape[1:])))))
                layer.bias.copy_(torch.from_numpy(0.2 * rng.standard_normal(shape[0], np.float32)))
    return made


def agree(scores: np.ndarray, wanted: np.ndarray) -> None:
    """Scores equal but for the order of sums; and they are such that another net's would not."""
    assert scores.shape == wanted.shape
    largest = np.abs(wanted).max()
    assert np.abs(scores - wanted).max() <= TOLERANCE * largest
    assert np.ptp(wanted) > 0.1 * largest


def scores(net: nn.Module, pictures: Tensor, ceil: bool | None = None) -> np.ndarray:
    """What torch computes; `ceil` is for nets of ours."""
    with torch.inference_mode():
        return net(pictures, **({} if ceil is None else {"ceil": ceil})).numpy()


# ---------------------------------------------------------------------- runs to export


class ExportFolder:
    """A folder with parameters and runs' nets, and a crop of `crop` pixels."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng = folder, rng
        self.crop = int(rng.choice([64, 96, 128]))
        self.mean = (rng.integers(60 * 64, 190 * 64, 3) / 64).tolist()  # no digits to lose; those of others: see below
        self.scale = float(rng.choice([1.0, 58.0, rng.integers(32, 6400) / 64]))
        self.params = self.write()

    def write(
        self, origin: str = "trained", imports: dict[str, Any] | None = None, remainder: str = "even", **net: Any
    ) -> Params:
        """params.yaml with these weights, imports and remainder, and keys of the profile's net changed."""
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        size = {"size_ratio": f"{self.crop}/224", "width_ratio": str(WIDTH), "fc": FC, "input_scale": self.scale}
        values |= {"weights": origin, "imports": imports or {}}
        values["profiles"]["mini"]["net"] |= size | net
        values["profiles"]["mini"]["score"]["remainder"] = remainder
        text = yaml.safe_dump(values)
        (self.folder / "params.yaml").write_text(text)
        self.params = parse(text.encode(), Path("params.yaml"))
        assert self.params.active.net.crop == round(224 * self.params.active.net.size_ratio)
        return self.params

    def prepared(self) -> None:
        """The facts of a training set of that mean."""
        Facts(
            "digits", "digits", False, [f"class {i}" for i in range(CLASSES)], 9, 9, 0, self.mean, np.eye(3).tolist(),
            {}, "of no image",
        ).write("mini")  # fmt: skip

    def train(self, net: str) -> tuple[str, VGG]:
        """A run of `net` and its finished net."""
        self.prepared()
        made = lively(net, self.rng, self.params.active.net.crop)
        run = next(name for name, row in self.params.runs.items() if row.net == net)
        save_tensors(weights(run), {"net": net, "weights": weights_of(made)})
        return run, made

    def publish(self, net: str) -> str:
        """A run of `net` in whose place stands a published one: BGR, its own mean and std in 0..1."""
        file = self.folder / "published.pth"
        torch.save(dict(lively(net, self.rng, self.crop).state_dict()), file)
        run = next(name for name, row in self.params.runs.items() if row.net == net)
        mean, std = ((self.rng.choice(100, 3, False) / 256 + low).tolist() for low in (0.25, 0.125))
        row = {"file": str(file), "channels": "BGR", "range": 1, "mean": mean, "std": std}
        published.main(self.write("published", {run: row}), run)
        return run

    @property
    def left(self) -> dict[str, bytes]:
        """All that lies where files are exported to, hidden files too."""
        files = (path for path in sorted((self.folder / "out").rglob("*")) if path.is_file())
        return {str(path.relative_to(self.folder / "out")): path.read_bytes() for path in files}

    def out(self, name: str) -> Path:
        """A file to export to."""
        (self.folder / "out").mkdir(exist_ok=True)
        return Path("out") / name


@pytest.fixture
def place(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> ExportFolder:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    return ExportFolder(tmp_path, rng)


def metadata(file: Path) -> dict[str, str]:
    """What stands beside a file's tensors."""
    if file.suffix == ".onnx":
        return {entry.key: entry.value for entry in onnx.load(str(file)).metadata_props}
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            return opened.metadata()
    return torch.load(file, weights_only=True)._metadata[""]


def note(file: Path) -> dict[str, Any]:
    """Of that, what was put there for people and programs."""
    (values,) = (json.loads(value) for key, value in metadata(file).items() if "vgg" in key)
    return values


def tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, read by its format's own library."""
    if file.suffix == ".safetensors":
        return safetensors.torch.load_file(file)
    return dict(torch.load(file, weights_only=True))


def same_bits(values: Any, wanted: Tensor) -> bool:
    """Whether two arrays of float32 are of the same shape and bits."""
    ours, theirs = np.asarray(values), wanted.numpy()
    return ours.dtype == np.float32 and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


# ---------------------------------------------------------------------- torchvision's state dict


@pytest.mark.parametrize("net", ["A-LRN", "C", "E"])
def test_torchvisions_code_computes_the_same_from_the_state_dict(net: str, place: ExportFolder) -> None:
    run, ours = place.train(net)
    file = place.out("net.pth")
    main(place.params, run, file)
    state = torch.load(file, weights_only=True)
    reference = theirs(net, place.crop)
    assert list(state) == list(reference.state_dict())
    assert all(type(value) is Tensor and value.dtype == torch.float32 for value in state.values())
    assert [state[f"classifier.{place}.weight"].dim() for place in (0, 3, 6)] == [2, 2, 2]
    reference.load_state_dict(state, strict=True)
    pictures = torch.from_numpy(place.rng.standard_normal((3, 3, place.crop, place.crop), np.float32))
    agree(scores(reference, pictures), scores(ours, pictures).reshape(3, CLASSES))
    assert set(place.left) == {file.name}
    numbers = sum(value.numel() for value in state.values())
    assert file.stat().st_size < 4 * numbers + 50_000  # no storage of something larger
    main(place.params, run, place.out("net.safetensors"))
    tensor = tensors(Path("out/net.safetensors"))
    assert set(state) == set(tensor) and all(same_bits(tensor[name], value) for name, value in state.items())


def test_torchvisions_model_loads_a_full_net_strictly(place: ExportFolder) -> None:
    place.write(size_ratio=1, width_ratio=1, fc=64)
    place.prepared()
    ours = lively("A", place.rng, 224, 1.0, 64)
    run = next(name for name, row in place.params.runs.items() if row.net == "A")
    save_tensors(weights(run), {"net": "A", "weights": weights_of(ours)})
    file = place.out("net.pt")
    main(place.params, run, file)
    with torch.device("meta"):
        model = torchvision.models.vgg11(init_weights=False)
        put_classifier(model, 512 * 7 * 7, 64, CLASSES)
    model.load_state_dict(torch.load(file, weights_only=True), strict=True, assign=True)
    pictures = torch.from_numpy(place.rng.standard_normal((1, 3, 224, 224), np.float32))
    agree(scores(model.eval(), pictures), scores(ours, pictures).reshape(1, CLASSES))


# ---------------------------------------------------------------------- imported again


@pytest.mark.parametrize("origin", ["trained", "published"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_an_import_gives_back_every_bit_and_the_input(ending: str, origin: str, place: ExportFolder) -> None:
    net = str(place.rng.choice(NETS))
    run = place.train(net)[0] if origin == "trained" else place.publish(net)
    path = weights(run, origin)
    values = torch.load(path, weights_only=True)
    odd = [-0.0, 1e-45, -1e-39, torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny]
    values["weights"]["fc2.bias"][: len(odd)] = torch.tensor(odd)
    save_tensors(path, values)
    other = weights(run, "published" if origin == "trained" else "trained")
    save_tensors(other, {"net": net, "weights": weights_of(lively(net, place.rng, place.crop)), "input": {}})
    file = place.out(f"net{ending}")
    main(place.params, run, file)
    imported = load_published(file, net, place.params.active.net)
    assert set(imported.weights) == set(values["weights"])
    for name, value in values["weights"].items():
        assert same_bits(imported.weights[name], value), name
    if origin == "trained":
        mean, std = place.mean, [place.scale] * 3
    else:
        mean, std = values["input"]["mean_rgb"], values["input"]["std_rgb"]
        assert (
            len(set(std)) == 3 and not CLASSIFICATION.facts("mini").exists()
        )  # no training set has anything to do with it
    assert imported.convention.channels == "RGB"
    assert imported.mean_rgb == pytest.approx(mean, rel=1e-12)
    assert imported.std_rgb == pytest.approx(std, rel=1e-12)
    assert imported.classes == ()


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_mean_with_all_its_digits_is_written_and_comes_back(ending: str, place: ExportFolder) -> None:
    levels = (float(level) for level in place.rng.uniform(60, 190, 10_000))
    awkward = [level for level in levels if level * 255 / 255 != level]
    for mean in (awkward[:3], awkward[3:6]):
        place.mean = mean
        run, _ = place.train("shallow")
        main(place.params, run, place.out(f"net{ending}"))
        imported = load_published(Path(f"out/net{ending}"), "shallow", place.params.active.net)
        assert imported.mean_rgb == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("origin", ["trained", "published"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_each_file_says_its_run_and_its_input(ending: str, origin: str, place: ExportFolder) -> None:
    run = place.train("A")[0] if origin == "trained" else place.publish("A")
    file = place.out(f"net{ending}")
    main(place.params, run, file)
    values = note(file)
    assert (values["run"], values["net"]) == (run, "A")
    assert (values["input"]["channels"], values["input"]["range"]) == ("RGB", 255)
    if origin == "trained":
        assert (values["input"]["mean"], values["input"]["std"]) == (place.mean, [place.scale] * 3)
    else:
        taken = torch.load(weights(run, "published"), weights_only=True)["input"]
        assert (values["input"]["mean"], values["input"]["std"]) == (taken["mean_rgb"], taken["std_rgb"])
        assert "published.pth" in json.dumps(values)  # where it is from


def test_an_exported_net_is_imported_without_a_word_about_its_input(place: ExportFolder) -> None:
    run, ours = place.train("shallow")
    file = place.folder / place.out("net.safetensors")
    main(place.params, run, file)
    published.main(place.write("published", {run: {"file": str(file)}}), run)
    stored = torch.load(weights(run, "published"), weights_only=True)
    assert all(same_bits(stored["weights"][name], value) for name, value in ours.state_dict().items())
    assert stored["input"]["mean_rgb"] == pytest.approx(place.mean, rel=1e-12)
    assert stored["input"]["std_rgb"] == pytest.approx([place.scale] * 3, rel=1e-12)


# ---------------------------------------------------------------------- ONNX


@pytest.mark.parametrize("remainder", ["ceil", "even"])
def test_onnx_runtime_computes_the_dense_scores_of_any_pictures(remainder: str, place: ExportFolder) -> None:
    """With the poolings of dense evaluation; cutting an image to whole cells is left to whoever cuts it."""
    place.write(remainder=remainder)
    run, ours = place.train("A-LRN")
    file = place.out("net.onnx")
    main(place.params, run, file)
    assert set(place.left) == {"net.onnx"}  # one file
    values = note(file)
    assert (values["run"], values["input"]["mean"], values["input"]["std"]) == (
        run,
        place.mean,
        [place.scale] * 3,
    )
    onnx.checker.check_model(onnx.load(str(file), load_external_data=False), full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (input_,), (wanted,) = session.get_inputs(), session.get_outputs()
    assert input_.shape[1] == 3 and not any(isinstance(side, int) for side in (*input_.shape[::2], input_.shape[3]))
    crop, room = place.crop, place.rng.integers(1, 150, 6).tolist()
    shapes = [(1, 0, 0), (4, 0, 0), (1, room[0], room[1]), (3, room[2], 32 + room[3]), (2, 0, room[4]), (5, room[5], 0)]
    for count, height, width in shapes:
        pictures = torch.from_numpy(place.rng.standard_normal((count, 3, crop + height, crop + width), np.float32))
        (outputs,) = session.run([wanted.name], {input_.name: pictures.numpy()})
        assert outputs.shape[:2] == (count, CLASSES)
        agree(outputs, scores(ours, pictures, remainder == "ceil"))
    main(place.params, run, place.out("net.pth"))
    reference = theirs("A-LRN", crop)
    reference.load_state_dict(tensors(Path("out/net.pth")))
    pictures = torch.from_numpy(place.rng.standard_normal((2, 3, crop, crop), np.float32))
    (outputs,) = session.run(None, {input_.name: pictures.numpy()})
    agree(outputs.reshape(2, CLASSES), scores(reference, pictures))


# ---------------------------------------------------------------------- whole or not at all


def old(place: ExportFolder, file: Path) -> dict[str, bytes]:
    """An older file in the place of the new one, or none; what lies there."""
    (place.folder / "out/beside.txt").write_bytes(b"somebody's")
    if place.rng.random() < 0.5:
        file.write_bytes(place.rng.bytes(int(place.rng.integers(1, 5000))))
    return place.left


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_an_older_file_is_replaced_and_a_disk_that_fills_harms_none(ending: str, place: ExportFolder) -> None:
    run, _ = place.train("A")
    file = place.out(f"net{ending}")
    file.write_bytes(b"old")
    with Disk(place.folder) as disk:
        main(place.params, run, file)
    whole = file.read_bytes()
    assert note(file)["run"] == run and set(place.left) == {file.name}
    assert sum(opened.bytes for opened in disk.opened) >= len(whole)
    file.unlink()
    check_no_room(place, run, file, [{"full": (0, room)} for room in place.rng.integers(len(whole), size=2).tolist()])
    check_no_room(place, run, file, [{"sync": 0}])


def check_no_room(place: ExportFolder, run: str, file: Path, disks: list[dict[str, Any]]) -> None:
    """An export to such disks fails by the file's name and changes nothing."""
    for how in disks:
        before = old(place, file)
        with Disk(place.folder, **how) as full, pytest.raises(Failure, match=FULL) as failure:
            main(place.params, run, file)
        assert full.failed == 0
        assert place.left == before, how
        assert file.name in str(failure.value) and "\n" not in str(failure.value)
        file.unlink(missing_ok=True)


def one_bit(imported: Any) -> Any:
    """The same but for the last bit of one weight."""
    name = "conv5_1.weight"
    values = imported.weights[name].copy()
    values.reshape(-1)[-1] = np.nextafter(values.reshape(-1)[-1], np.float32(9))
    return replace(imported, weights={**imported.weights, name: values})


def without_a_tensor(imported: Any) -> Any:
    """The same without a bias."""
    return replace(imported, weights={name: value for name, value in imported.weights.items() if name != "fc2.bias"})


def other_mean(imported: Any) -> Any:
    """The same with another mean."""
    red, green, blue = imported.convention.mean
    return replace(imported, convention=replace(imported.convention, mean=(blue + 1, green, red)))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_that_reads_back_as_something_else_is_not_left(
    ending: str, place: ExportFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = place.train("A")
    file = place.out(f"net{ending}")
    before = old(place, file)
    for change in (one_bit, without_a_tensor, other_mean):
        monkeypatch.setattr(
            "stages.tools.export.load_published",
            lambda *given, change=change, **more: change(load_published(*given, **more)),
        )
        with pytest.raises(Failure) as failure:
            main(place.params, run, file)
        assert place.left == before, change
        assert file.name in str(failure.value) and "\n" not in str(failure.value)


def off(scores: np.ndarray) -> np.ndarray:
    """One score off by a thousandth of the largest."""
    scores = scores.copy()
    scores.reshape(-1)[-1] += 1e-3 * np.abs(scores).max()
    return scores


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "off": off,
    "averaged": lambda found: found.mean((2, 3), keepdims=True),
    "no numbers": lambda found: np.full_like(found, np.nan),
}


def test_an_onnx_file_that_finds_no_room_or_computes_something_else_is_not_left(
    place: ExportFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = place.train("shallow")
    file = place.out("net.onnx")
    main(place.params, run, file)
    model = onnx.load(str(file))  # torch takes seconds to make one
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: SimpleNamespace(model_proto=model))
    check_no_room(place, run, file, [{"full": (0, int(place.rng.integers(file.stat().st_size)))}])
    before, right = old(place, file), onnxruntime.InferenceSession.run
    for what, change in SCORES.items():
        wrong = lambda *given, change=change, **more: [change(right(*given, **more)[0])]
        monkeypatch.setattr(onnxruntime.InferenceSession, "run", wrong)
        with pytest.raises(Failure) as failure:
            main(place.params, run, file)
        assert place.left == before, what
        assert file.name in str(failure.value) and "\n" not in str(failure.value)


def test_an_export_that_is_cut_short_leaves_nothing(place: ExportFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = place.train("A")
    file = place.out("net.pth")
    before = old(place, file)
    for error in (KeyboardInterrupt, MemoryError):
        monkeypatch.setattr("stages.tools.export.load_published", Mock(side_effect=error))
        with pytest.raises(error):
            main(place.params, run, file)
        assert place.left == before


# ---------------------------------------------------------------------- what people get wrong


def readable(outcome: Any, code: int, *words: str) -> None:
    """The program ended with that code and one line, which has the words."""
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.error
    (line,) = outcome.error.splitlines()
    assert line.startswith("vgg-repro: ") and "unexpected" not in line, line
    for word in words:
        assert word in line, (word, line)


def test_the_command_says_what_it_wrote(place: ExportFolder) -> None:
    run, _ = place.train("A-LRN")
    outcome = program(place.folder, "weights", "export", run, str(place.out("net.safetensors")))
    assert outcome.code == 0, outcome
    (line,) = outcome.out.splitlines()
    assert all(word in line for word in ("out/net.safetensors", run, "A-LRN", "RGB", f"{place.mean[0]:g}"))
    assert load_published(Path("out/net.safetensors"), "A-LRN", place.params.active.net).mean_rgb[0] == place.mean[0]


def test_another_ending_is_a_usage_error_that_names_those_there_are(place: ExportFolder) -> None:
    run, _ = place.train("A")
    with pytest.raises(UsageError):
        main(place.params, run, place.out("net"))
    for name in ("net", "net.PTH", "net.pth.gz", ".pth"):
        readable(program(place.folder, "weights", "export", run, f"out/{name}"), 2, name, *ENDINGS)
    assert place.left == {}


def test_a_run_that_is_not_there_is_told_how_it_is_made(place: ExportFolder) -> None:
    place.prepared()
    file = str(place.out("net.onnx"))
    readable(program(place.folder, "weights", "export", "D-jitter", file), 1, "vgg-repro train D-jitter")
    place.write("published")
    readable(program(place.folder, "weights", "export", "D-jitter", file), 1, "vgg-repro weights import D-jitter")
    readable(program(place.folder, "weights", "export", "D-348", file), 2, "D-384")
    assert place.left == {}


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_folder_that_is_not_or_cannot_be_there_is_one_readable_line(ending: str, place: ExportFolder) -> None:
    run, _ = place.train("A")
    readable(program(place.folder, "weights", "export", run, f"not there/net{ending}"), 1, "not there")
    assert not Path("not there").exists()
    place.out("file").write_bytes(b"no folder")
    readable(program(place.folder, "weights", "export", run, f"out/file/net{ending}"), 1, f"out/file/net{ending}")
    (place.folder / f"out/folder{ending}").mkdir()
    readable(program(place.folder, "weights", "export", run, f"out/folder{ending}"), 1, f"out/folder{ending}")
    assert place.left == {"file": b"no folder"} and Path(f"out/folder{ending}").is_dir()


def test_weights_that_do_not_fit_or_are_broken_and_missing_facts_are_one_readable_line(place: ExportFolder) -> None:
    run, _ = place.train("A")
    file = str(place.out("net.pth"))
    place.write(fc=FC + 1)
    readable(program(place.folder, "weights", "export", run, file), 1, f"{run}.pt")
    place.write()
    CLASSIFICATION.facts("mini").unlink()
    readable(program(place.folder, "weights", "export", run, file), 1, "vgg-repro prepare")
    place.prepared()
    content = weights(run).read_bytes()
    weights(run).write_bytes(content[: int(place.rng.integers(1, len(content)))])
    readable(program(place.folder, "weights", "export", run, file), 1, f"vgg-repro train {run}")
    assert place.left == {}


def test_without_the_packages_for_onnx_the_failure_names_the_command(
    place: ExportFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.tools.export.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(Failure, match=r"to write ONNX, install onnxscript: python -m pip install .* '.\[onnx\]'"):
        main(place.params, "A-256", place.folder / "net.onnx")
