"""The choice of a GPU, what stages do differently on one, and DALI's pipelines for one, by a torch that claims two."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import Failure
from pipeline.system import devices
from pipeline.system.devices import gpu_fault, gpu_of
from stages import common, trainer
from stages.common import SPARE, device, posteriors_at, save_tensors, weights_of
from stages.distributed import processes, shared
from stages.tools import measure
from stages.trainer import Trainer
from tests.support.batches import RECIPE
from tests.support.batches import small as small_net
from tests.support.images import needs_dali, repository_params
from vgg import images, stream
from vgg.distributed import ALONE
from vgg.fit import State, optimiser
from vgg.images import Decoder

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What torch says of GPUs and what it is told."""
    told = SimpleNamespace(there=True, count=2, current=None, share=None)
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: told.there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: told.count)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90a", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "set_device", lambda where: setattr(told, "current", where))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *share: setattr(told, "share", share))
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace())
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace())
    gpu_fault.cache_clear()
    yield told
    gpu_fault.cache_clear()


@pytest.mark.parametrize(("count", "place", "wanted"), [(1, None, 0), (4, "3", 3)])
def test_each_process_has_a_gpu_of_its_own(
    count: int, place: str | None, wanted: int, cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.count = count
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if place:
        monkeypatch.setenv("LOCAL_RANK", place)
    assert device("cpu", 1, "float32") == CPU and cuda.current is None and gpu_of("cpu", 0) is None
    for choice in ("auto", "gpu"):
        where = torch.device("cuda", wanted)
        assert device(choice, 1, "float32") == where and cuda.current == where and cuda.share == (1 - SPARE, where)
    assert processes("auto", "auto") == processes("auto", "gpu") == count
    assert processes("auto", "cpu") == 1 and processes(3, "auto") == min(3, count)


def test_a_process_without_a_gpu_of_its_own_says_so(cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(Failure, match="process 3 of this machine has no GPU: there are only 2"):
        device("auto", 1, "float32")
    assert device("cpu", 1, "float32") == CPU
    assert [gpu_of("gpu", number) for number in range(4)] == [0, 1, 0, 1], "shards go to GPUs by turns"


def test_products_of_ten_bits_are_for_tf32_alone(cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for precision in ("tf32", "bfloat16", "tf32", "float32"):
        device("auto", 1, precision)
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert flags == (precision == "tf32",) * 2


def test_a_driver_without_a_usable_gpu_means_the_cpu_unless_a_gpu_is_asked_for(cuda: SimpleNamespace) -> None:
    cuda.there = False
    assert device("auto", 1, "float32") == CPU and processes("auto", "auto") == 1
    with pytest.raises(Failure, match="device: gpu"):
        device("gpu", 1, "float32")


@pytest.mark.parametrize("width", ["1/8", 1])
def test_the_cpu_instead_of_a_gpu_is_a_warning_for_narrow_nets_and_a_failure_for_full_ones(
    width: Any, tmp_path: Path, cuda: SimpleNamespace, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    params = repository_params(tmp_path, net={"width_ratio": width})
    settings, done = params.active.training.model_copy(update={"processes": 1}), list[Any]()
    shared(params, settings, "test", lambda *words: done.append(words), "word")
    assert done == [(params, "word", torch.device("cuda", 0), ALONE)] and not capsys.readouterr().out
    cuda.there = False
    gpu_fault.cache_clear()
    if width == 1:
        with pytest.raises(Failure, match=r"has a GPU, but .*fix: vgg-repro doctor; .* set device: cpu in params.yaml"):
            shared(params, settings, "test", lambda *words: done.append(words), "word")
        assert len(done) == 1
    else:
        shared(params, settings, "test", lambda *words: done.append(words), "word")
        assert done[1] == (params, "word", CPU, ALONE)
        assert capsys.readouterr().out.startswith("warning: the CPU is used, because torch finds no usable GPU; fix: ")
    for_the_cpu = settings.model_copy(update={"device": "cpu"})
    shared(params, for_the_cpu, "test", lambda *words: done.append(words), "word")
    assert done[-1][-2] == CPU and not capsys.readouterr().out


@pytest.mark.parametrize(("most", "parts", "each"), [(0, 2, 2), (4, 4, 1)])
def test_each_process_tries_its_own_share_and_all_take_the_most_parts_that_any_needs(
    most: int, parts: int, each: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A batch of 10 in 4 processes is at most 3 images each."""
    asked: dict[str, tuple[Any, ...]] = {}
    monkeypatch.setattr(
        trainer, "data_parallel", lambda *arguments: asked.setdefault("together", arguments) and "model"
    )
    monkeypatch.setattr(trainer, "parts_that_fit", lambda *arguments: asked.setdefault("fit", arguments) and 2)
    monkeypatch.setattr(trainer, "compiled", lambda *arguments: asked.setdefault("compiled", arguments)[0])
    ranks = SimpleNamespace(rank=1, size=4, maximum=lambda value, where: max(value, most))
    params = repository_params(tmp_path, train={"batch": 10, "precision": "float32"})
    fake_trainer: Any = SimpleNamespace(net="net", name="A-256", where=GPU, ranks=ranks, params=params)
    assert Trainer._model(fake_trainer) == ("model", parts)
    crop = params.active.net.crop
    together, compiled = ("net", GPU, ranks), ("model", "net", each, crop, False, ranks, print)
    assert asked == {"together": together, "fit": ("net", 3, crop, False), "compiled": compiled}
    assert f"10 images do not fit at once; using {parts} parts" in capsys.readouterr().out
    asked.clear()
    fake_trainer.where = CPU
    assert Trainer._model(fake_trainer) == ("model", 1) and asked == {"together": ("net", CPU, ranks)}


@pytest.mark.parametrize("where", [CPU, GPU])
def test_a_run_goes_on_by_the_sums_of_its_device_wherever_its_checkpoint_is_from(
    where: torch.device, tmp_path: Path, seed: int
) -> None:
    net = small_net(seed)
    sgd = optimiser(net, RECIPE)
    sgd.param_groups[0]["fused"] = where == CPU
    saved = {"weights": weights_of(net), "momentum": sgd.state_dict(), "state": State(step=7).as_dict()}
    fake_trainer: Any = SimpleNamespace(
        net=net, sgd=sgd, where=where, name="A-256", folder=tmp_path, steps=6, recipe=RECIPE
    )
    fake_trainer.checkpoint = tmp_path / "last.pt"
    save_tensors(fake_trainer.checkpoint, saved)
    Trainer._resume(fake_trainer)
    assert fake_trainer.state.step == 7 and [group["fused"] for group in sgd.param_groups] == [where == GPU]


def test_whole_images_are_decoded_where_they_are_scored_and_cudnn_may_choose_where_all_shapes_are_one(
    cuda: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, flags = list[Any](), list[bool]()
    monkeypatch.setattr(common, "rescaled_batches", lambda *arguments: asked.append(arguments[4:8]) or iter([]))
    scorer: Any = SimpleNamespace(device=GPU, ranks=SimpleNamespace(rank=0, size=1))
    scorer.posteriors = lambda *_: flags.append(torch.backends.cudnn.benchmark) or "posteriors"
    for mode in ("centre", "dense", "crops"):
        scores: Any = posteriors_at(repository_params(tmp_path), scorer, [], mode, 256, None)  # type: ignore[arg-type]
        assert scores == "posteriors"
    assert flags == [True, False, True] and asked == [(1, 0, 1, "bilinear")] * 3


def test_the_plans_measurements_wait_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = list[Any]()
    monkeypatch.setattr(torch.cuda, "synchronize", happened.append)
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    measure._seconds(lambda: happened.append("step"), GPU)
    assert happened == ["step", GPU, "step", GPU]


def test_the_plan_measures_nets_as_training_computes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Compiled, and in as many parts."""
    asked, net = list[tuple[Any, ...]](), small_net(seed)
    monkeypatch.setattr(measure, "parts_that_fit", lambda *arguments: asked.append(arguments) or 4)
    monkeypatch.setattr(measure, "compiled", lambda *arguments: asked.append(arguments[:-1]) or "compiled")
    assert measure._model(net, 10, 64, True, GPU) == ("compiled", 4)
    assert asked == [(net, 10, 64, True), (net, net, 3, 64, True, ALONE)]
    assert measure._model(net, 10, 64, True, CPU) == (net, 1)

    calls = list[int]()
    params = repository_params(tmp_path, train={"batch": 3, "device": "cpu", "precision": "float32"})

    class Wrapper(nn.Module):
        def __init__(self, net: nn.Module, *_: Any) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            scores: torch.Tensor = self.net(x, keys)
            return scores

    monkeypatch.setattr(measure, "_model", lambda *arguments: (Wrapper(*arguments), 2))
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    assert measure._training_rate(params, "A", 5, None) > 0
    assert calls == [2, 1] * 2, "a step before measuring, and one that is measured"


# DALI's pipelines, which nothing but a GPU can run


class Operator:
    """One of a pipeline's, by DALI's own words on it."""

    def __init__(self, made: Any) -> None:
        lines = [line.strip() for line in str(made.spec).splitlines()]
        self.kind = lines[0].removeprefix("OpSpec for ").rstrip(":")
        self.about = dict(line.split(": ", 1) for line in lines if ": " in line)
        middle = lines.index("Outputs:")
        self.takes, self.gives = lines[2:middle], lines[middle + 1 : lines.index("Arguments:")]


PIPELINES: dict[str, tuple[Callable[[int | None], Any], str, str]] = {
    "training": (lambda gpu: stream._pipeline(iter([]), 4, 64, 3, gpu), "decoders__ImageSlice", "ResizeCropMirror"),
    "whole": (lambda gpu: images._pipeline(iter([]), 4, 3, gpu, "bilinear"), "decoders__Image", "Resize"),
    "prepare": (lambda gpu: Decoder(4, gpu)._build(True), "decoders__Image", "Resize"),
}


@needs_dali
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("number", [None, 1])
def test_dali_decodes_and_rescales_on_the_gpu_it_is_given(
    number: int | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a pipeline that is not built, as that needs a driver."""
    from nvidia.dali import Pipeline

    monkeypatch.setattr(Pipeline, "build", lambda self: None)
    make, decoder, rescaler = PIPELINES[name]
    pipe = make(number)
    pipe._build_graph()
    made = [Operator(one) for one in pipe._ops]
    inputs, found = [one for one in made if one.kind == "ExternalSource"], {one.kind: one for one in made}
    assert pipe.device_id == number and set(found) == {"ExternalSource", decoder, rescaler}
    assert inputs and all(one.about["device"] == "cpu" for one in inputs)
    decoding, end = found[decoder], "cpu" if number is None else "gpu"
    assert decoding.about["device"] == ("cpu" if number is None else "mixed")
    assert found[rescaler].about["device"] == end
    assert [one.rsplit("_", 1)[1] for one in (*decoding.gives, *found[rescaler].gives)] == [end, end]
    assert found[rescaler].takes[0] == decoding.gives[0]  # no copy in between
    assert [one.device for one in pipe._graph_outputs] == [end]
    # a GPU's own upsampling of colours is coarser than the CPU's
    assert ("jpeg_fancy_upsampling" in decoding.about) == (number is not None)
    assert number is None or decoding.about["jpeg_fancy_upsampling"] in ("1", "True")
    # the JPEG engines would decode a share of each batch, so pixels would depend on an image's place
    assert number is None or float(decoding.about["hw_decoder_load"]) == 0.0


@needs_dali
def test_dali_runs_in_the_order_of_torchs_stream_on_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvidia.dali import Pipeline

    monkeypatch.setattr(torch.cuda, "current_stream", lambda gpu: ("stream of", gpu))
    signature = inspect.signature(Pipeline.run)
    pipe = SimpleNamespace(run=lambda *arguments: signature.bind(pipe, *arguments).arguments)
    assert images.outputs_of(pipe, 1)["cuda_stream"] == ("stream of", 1)
    assert "cuda_stream" not in images.outputs_of(pipe, None)
