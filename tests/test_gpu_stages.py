"""Stages on a pretended GPU, from the choice of the device to finished weights, and DALI's pipelines for one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pretend import CPU, WHERE, Compiled, Others, Pretend, pretended
from test_train import tiny
from torch import Tensor, nn

from pipeline.device import gpu_of
from pipeline.errors import Failure, Interrupted
from pipeline.facts import read_statistics
from pipeline.params import Params
from stages import measure, prepare, score, train, trainer
from stages import random as random_weights
from stages.ranks import processes
from stages.setup import SPARE, device, weights_of
from stages.trainer import Trainer
from vgg import fit, images, stream
from vgg.fit import momenta
from vgg.images import Decoder
from vgg.nets import VGG

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here and need not be pretended")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretend]:
    """Two GPUs, of which this process has the second."""
    with pretended(monkeypatch) as mode:
        yield mode


# The device


@pytest.mark.parametrize(("count", "place", "wanted"), [(1, None, 0), (2, "1", 1), (4, "3", 3), (4, "0", 0)])
def test_each_process_has_a_gpu_of_its_own(
    count: int, place: str | None, wanted: int, gpu: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.count, gpu.current = count, 77
    if place is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", place)
    for choice in ("auto", "gpu"):
        assert device(choice, 1, "float32") == torch.device("cuda", wanted)
        assert gpu.current == wanted and gpu.shares[-1] == (1 - SPARE, torch.device("cuda", wanted))
    assert gpu_of("auto", int(place or 0)) == wanted
    gpu.current = 77
    assert device("cpu", 1, "float32") == CPU and gpu.current == 77 and gpu_of("cpu", 0) is None
    assert processes("auto", "auto") == processes("auto", "gpu") == count
    assert processes("auto", "cpu") == 1 and processes(3, "auto") == min(3, count)


def test_a_process_without_a_gpu_of_its_own_says_so(gpu: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(Failure, match="process 3 of this machine has no GPU, for there are 2"):
        device("auto", 1, "float32")
    assert device("cpu", 1, "float32") == CPU
    assert [gpu_of("auto", number) for number in range(4)] == [0, 1, 0, 1], "shards go to GPUs by turns"


def test_products_of_ten_bits_are_for_tf32_alone(gpu: Pretend) -> None:
    for precision in ("float32", "tf32", "bfloat16", "tf32", "float32"):
        device("auto", 1, precision)
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert flags == (precision == "tf32",) * 2


def test_a_driver_without_a_gpu_means_the_cpu_unless_a_gpu_is_asked_for(gpu: Pretend) -> None:
    gpu.use("cpu")
    assert device("auto", 1, "float32") == CPU and processes("auto", "auto") == 1
    with pytest.raises(Failure, match="device: gpu"):
        device("gpu", 1, "float32")


# Whole stages, with DALI on the CPU


class Decoding:
    """A pipeline that says it is on a GPU and asks for torch's stream."""

    def __init__(self, pipe: Any, gpu: Pretend, number: int | None) -> None:
        self.pipe, self.gpu, self.number = pipe, gpu, number

    def run(self, *streams: Any) -> Any:
        assert streams == (() if self.number is None else ((self.gpu.stream, self.number),))
        self.gpu.decoded = self.number
        return self.pipe.run()


def changed(params: Params, block: str, **keys: object) -> Params:
    """The parameters with keys of a block of the profile changed."""
    chosen = params.chosen.model_copy(update={block: getattr(params.chosen, block).model_copy(update=keys)})
    return params.model_copy(update={"profiles": {**params.profiles, params.profile: chosen}})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data and random weights of A."""
    folder = tmp_path_factory.mktemp("dry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        params = tiny(folder)
        prepare.main(changed(params, "prepare", processes=1))
        random_weights.main(params, "A")
    return folder


@pytest.fixture
def params(place: Path, gpu: Pretend, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The tiny run's parameters; DALI, which needs a driver to be asked for a GPU, decodes on the CPU for it."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("LOCAL_RANK", str(WHERE.index))  # so that this process has the second GPU
    for module in (stream, images):
        real = module._pipeline
        fake = lambda *given, real=real: Decoding(real(*given[:-1], None), gpu, given[-1])
        monkeypatch.setattr(module, "_pipeline", fake)
    take = stream.from_dlpack

    def taken(tensor: Any) -> Tensor:
        made = take(tensor)
        return made if gpu.decoded is None else gpu.claim(made.clone(), torch.device("cuda", gpu.decoded))

    monkeypatch.setattr(stream, "from_dlpack", taken)
    monkeypatch.setattr("torch.utils.dlpack.from_dlpack", taken)
    monkeypatch.setattr(torch, "compile", lambda model, **_: Compiled(model))
    return changed(tiny(place, precision="float32", processes=1, device="auto"), "score", device="auto")


def trained(params: Params) -> dict[str, Tensor]:
    """The weights of the finished run, which are taken away."""
    train.main(params, "A-256")
    found: dict[str, Tensor] = torch.load("weights/trained/A-256.pt", weights_only=True)["weights"]
    Path("weights/trained/A-256.pt").unlink()
    return found


def check_near(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Weights agree to 1e-5 of their size, and what 18 steps have changed to 1e-3: a fused step rounds otherwise."""
    begun = torch.load("weights/trained/random-A.pt", weights_only=True)["weights"]
    for name, value in wanted.items():
        apart = (found[name] - value).norm()
        assert found[name].device == CPU and value.ne(begun[name]).any(), name
        assert apart <= 1e-5 * value.norm() and apart <= 1e-3 * (value - begun[name]).norm(), name


@pytest.fixture(scope="module")
def of_a_cpu(place: Path) -> dict[str, Tensor]:
    """The weights of the run on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return trained(tiny(place, precision="float32", processes=1))


@pytest.mark.parametrize(("most", "parts"), [(99, 1), (4, 4)])
def test_a_run_on_a_gpu_ends_as_one_on_a_cpu(
    most: int,
    parts: int,
    params: Params,
    of_a_cpu: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The batch of 10 whole, or in 4 parts where 4 images fit; crops have one shape, for which cudnn may choose."""
    seen, real = set[tuple[bool, bool]](), VGG.forward

    def forward(self: VGG, x: Tensor, keys: Tensor | None = None) -> Tensor:
        assert x.device == WHERE and x.is_contiguous(memory_format=torch.channels_last)
        if self.training and len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.add((self.training, torch.backends.cudnn.benchmark))
        return real(self, x, keys)

    monkeypatch.setattr(VGG, "forward", forward)
    check_near(trained(params), of_a_cpu)
    assert seen == {(True, True), (False, True)}
    assert ("10 images do not fit at once: in 4 parts" in capsys.readouterr().out) == (parts == 4)
    rows = Path("reports/mini/runs/A-256.csv").read_text().splitlines()[1:]
    assert len(rows) == 3 and all(0 <= float(row.split(",")[-1]) <= 100 for row in rows)
    assert "cuda:1" in Path("reports/mini/runs/A-256.json").read_text()


@pytest.mark.parametrize("order", [("gpu", "cpu"), ("cpu", "gpu"), ("gpu", "gpu")])
def test_a_run_begun_on_one_device_goes_on_on_another(
    order: tuple[str, str],
    params: Params,
    of_a_cpu: dict[str, Tensor],
    gpu: Pretend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, stop, seen = Trainer._after_step, 7, list[tuple[list[bool], set[torch.device]]]()

    def after_step(self: Trainer, state: fit.State, loss: float, asked: bool) -> None:
        fused = [group["fused"] for group in self.sgd.param_groups]
        seen.append((fused, {one.device for one in (*self.net.parameters(), *momenta(self.sgd))}))
        assert all(one.device == CPU for one in weights_of(self.net).values())
        real(self, state, loss, asked or state.step == stop)

    monkeypatch.setattr(Trainer, "_after_step", after_step)
    gpu.use(order[0])
    with pytest.raises(Interrupted, match="step 7;"):
        trained(params)
    stop = 0
    gpu.use(order[1])
    check_near(trained(params), of_a_cpu)
    wanted = [([name == "gpu"], {WHERE if name == "gpu" else CPU}) for name in order]
    assert seen == wanted[:1] * 7 + wanted[1:] * 11


@pytest.mark.parametrize(("largest", "parts", "each"), [(0, 2, 2), (4, 4, 1)])
def test_each_process_tries_its_own_share_and_all_take_the_most_parts_that_any_needs(
    largest: int, parts: int, each: int, params: Params, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of 10 in 4 processes is at most 3 images each."""
    asked: dict[str, tuple[Any, ...]] = {}
    ranks, model = Others(1, 4), nn.Module()
    monkeypatch.setattr(Others, "largest", largest)
    monkeypatch.setattr(trainer, "data_parallel", lambda *given: asked.setdefault("together", given) and model)
    monkeypatch.setattr(trainer, "parts_that_fit", lambda *given: asked.setdefault("fit", given) and 2)
    monkeypatch.setattr(trainer, "compiled", lambda *given: asked.setdefault("compiled", given)[0])
    for where in (WHERE, CPU):
        asked.clear()
        one = Trainer(params, "A-256", read_statistics(), where, place / "none", ranks)
        assert {weight.device for weight in one.net.parameters()} == {where}
        found = one._model()
        assert found == (model, parts if where == WHERE else 1)
        assert asked.pop("together") == (one.net, where, ranks)
        if where == WHERE:
            assert asked.pop("fit") == (one.net, 3, 64, False)
            assert asked.pop("compiled") == (model, one.net, each, 64, False, ranks, print)
        assert not asked


@pytest.mark.parametrize("mode", ["dense", "centre"])
def test_a_net_scored_on_a_gpu_has_a_cpus_posteriors(
    mode: str, params: Params, gpu: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace_init(params)
    found, flags = list[dict[str, NDArray[Any]]](), list[bool]()
    real = VGG.forward
    monkeypatch.setattr(VGG, "forward", lambda *given: flags.append(torch.backends.cudnn.benchmark) or real(*given))
    for name in ("cpu", "gpu"):
        gpu.use(name)
        score.main(changed(params, "score", processes=1), run, mode)
        with np.load(f"scores/{mode}-{run}.npz") as file:
            found.append({name: file[name] for name in file.files})
    wanted, got = found
    assert gpu.decoded == WHERE.index and set(flags) == {mode != "dense"}
    assert len(got["labels"]) > 10 and wanted.keys() == got.keys()
    for name, one in wanted.items():
        assert np.array_equal(got[name], one), name


def replace_init(params: Params) -> str:
    """The run that is scored, whose weights are net A's random ones."""
    Path("weights/trained/A-256.pt").write_bytes(Path("weights/trained/random-A.pt").read_bytes())
    return "A-256"


def test_the_plans_measurements_run_on_a_gpu(params: Params, gpu: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    for statistics in (None, read_statistics()):
        gpu.waits.clear()
        assert measure._training_rate(params, "A-LRN", 10, statistics) > 0
        assert gpu.waits[-1] == "synchronize"
    assert measure.scoring_rate(changed(params, "score", batch=2), 10) > 0


# DALI's pipelines, which nothing but a GPU can run


class Operator:
    """One of a pipeline's, by DALI's own words on it."""

    def __init__(self, made: Any) -> None:
        lines = [line.strip() for line in str(made.spec).splitlines()]
        self.kind = lines[0].removeprefix("OpSpec for ").rstrip(":")
        self.about = dict(line.split(": ", 1) for line in lines if ": " in line)
        middle = lines.index("Outputs:")
        self.takes, self.gives = lines[2:middle], lines[middle + 1 : lines.index("Arguments:")]


def defined(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> tuple[Any, dict[str, Operator]]:
    """A pipeline that is not built, as that needs a driver, and its operators but the inputs, by name."""
    from nvidia.dali import Pipeline

    monkeypatch.setattr(Pipeline, "build", lambda self: None)
    pipe = make()
    pipe._build_graph()
    made = [Operator(one) for one in pipe._ops]
    inputs = [one for one in made if one.kind == "ExternalSource"]
    assert inputs and all(one.about["device"] == "cpu" for one in inputs)
    return pipe, {one.kind: one for one in made if one.kind != "ExternalSource"}


PIPELINES: dict[str, tuple[Callable[[int | None], Any], str, str]] = {
    "training": (lambda gpu: stream._pipeline(iter([]), 4, 64, 3, gpu), "decoders__ImageSlice", "ResizeCropMirror"),
    "whole": (lambda gpu: images._pipeline(iter([]), 4, 3, gpu), "decoders__Image", "Resize"),
    "prepare": (lambda gpu: Decoder(4, gpu)._build(True), "decoders__Image", "Resize"),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("number", [None, 0, 1])
def test_dali_decodes_and_rescales_on_the_gpu_it_is_given(
    number: int | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, decoder, rescaler = PIPELINES[name]
    pipe, found = defined(monkeypatch, lambda: make(number))
    assert pipe.device_id == number and set(found) == {decoder, rescaler}
    decoding, end = found[decoder], "cpu" if number is None else "gpu"
    assert decoding.about["device"] == ("cpu" if number is None else "mixed")
    assert found[rescaler].about["device"] == end
    assert [one.rsplit("_", 1)[1] for one in (*decoding.gives, *found[rescaler].gives)] == [end, end]
    assert found[rescaler].takes[0] == decoding.gives[0]  # no copy in between
    assert [one.device for one in pipe._graph_outputs] == [end]
    # a GPU's own upsampling of colours is coarser than the CPU's
    assert ("jpeg_fancy_upsampling" in decoding.about) == (number is not None)
    assert number is None or decoding.about["jpeg_fancy_upsampling"] in ("1", "True")


@pytest.mark.parametrize("number", [None, 0, 1])
def test_dali_runs_in_the_order_of_torchs_stream_on_its_gpu(number: int | None, gpu: Pretend) -> None:
    from nvidia.dali import Pipeline

    pipe = SimpleNamespace(run=lambda *given, **more: Signature.bind(pipe, *given, **more).arguments)
    Signature = inspect.signature(Pipeline.run)
    found = images.run(pipe, number)
    wanted = {} if number is None else {"cuda_stream": (gpu.stream, number)}
    assert {key: value for key, value in found.items() if key == "cuda_stream"} == wanted
