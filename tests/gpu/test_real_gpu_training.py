"""The training stream and a training run on a real GPU: repeated, shared by two processes, and resumed."""

from __future__ import annotations

import os
import signal
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import Interrupted
from stages import train, trainer
from tests.support.images import Pictures, photographs
from tests.support.training import with_random_weights
from vgg.fit import State
from vgg.stream import Batch, StreamConfig, training_stream

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
pytest.importorskip("nvidia.dali")
PLAN = StreamConfig(3, 16, 96, (110, 220))
WEIGHTS = Path("weights/trained/A-256.pt")


@pytest.fixture
def pictures(rng: np.random.Generator) -> Pictures:
    """Forty images of several shapes."""
    return photographs(rng, [(150 + 7 * n, 330 - 4 * n) for n in range(40)])


def batches(images: Pictures, gpu: int | None, rank: int = 0, ranks: int = 1) -> list[Batch]:
    """Return the first two batches, with their pixels on the CPU."""
    stream = training_stream(images, PLAN, rank=rank, ranks=ranks, threads=2, gpu=gpu)
    return [batch._replace(pixels=batch.pixels.cpu().clone()) for batch in islice(stream, 2)]


def check_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Check that two decoders' pixels differ no more than decoders do where colours meet."""
    apart = (found.int() - wanted.int()).abs().flatten()
    assert float(apart.float().mean()) <= 2.0
    assert int(apart.kthvalue(round(0.999 * len(apart))).values) <= 24


def test_the_stream_is_the_same_each_time(pictures: Pictures) -> None:
    for one, other in zip(batches(pictures, 0), batches(pictures, 0), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.colour, other.colour) and torch.equal(one.keys, other.keys)


def test_the_streams_pixels_are_on_the_gpu_and_near_the_cpus(pictures: Pictures) -> None:
    assert next(training_stream(pictures, PLAN, threads=2, gpu=0)).pixels.device == torch.device("cuda", 0)
    for one, other in zip(batches(pictures, 0), batches(pictures, None), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        check_close(one.pixels, other.pixels)


def test_two_processes_together_get_the_batch_of_one(pictures: Pictures) -> None:
    alone, first, second = batches(pictures, 0), batches(pictures, 0, 0, 2), batches(pictures, 0, 1, 2)
    for whole, *parts in zip(alone, first, second, strict=True):
        for rank, part in enumerate(parts):
            assert part.ids.tolist() == whole.ids[rank::2].tolist()
            assert torch.equal(part.labels, whole.labels[rank::2])
            assert torch.equal(part.keys, whole.keys[rank::2])
            check_close(part.pixels, whole.pixels[rank::2])


def test_a_run_that_is_stopped_and_resumed_ends_like_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = with_random_weights(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "compiled", lambda model, *_: model)  # compiling takes longer than training here
    block = params.active.training.model_copy(update={"device": "gpu", "precision": "float32"})
    active = params.active.model_copy(update={"train": block})
    params = params.model_copy(update={"profiles": {**params.profiles, params.profile: active}})
    initial = stored(Path("weights/trained/random-A.pt"))
    train.main(params, "A-256")
    wanted = stored(WEIGHTS)
    WEIGHTS.unlink()
    real = trainer.Trainer._after_step

    def interrupt(self: trainer.Trainer, state: State, loss: float, stop: bool) -> None:
        if state.step == 8:
            os.kill(os.getpid(), signal.SIGINT)
        real(self, state, loss, stop)

    monkeypatch.setattr(trainer.Trainer, "_after_step", interrupt)
    with pytest.raises(Interrupted, match="step 9;"):
        train.main(params, "A-256")
    monkeypatch.setattr(trainer.Trainer, "_after_step", real)
    train.main(params, "A-256")
    found = stored(WEIGHTS)
    assert (wanted - initial).norm() > 0
    # a GPU adds up in an order of the moment; a momentum or a step that is lost makes tenths
    assert (found - wanted).norm() <= 0.02 * (wanted - initial).norm()


def stored(path: Path) -> torch.Tensor:
    """Return all weights of a file as one vector."""
    weights = torch.load(path, map_location="cpu", weights_only=True)["weights"]
    return torch.cat([weights[name].double().flatten() for name in sorted(weights)])
