"""Stage illustrations against slow references: crops cut by hand, the training stream itself, receptive fields."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.datasets.facts import read_statistics
from pipeline.datasets.prepare import prepare
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import illustrated_images, illustrations, posteriors, summary, weights
from pipeline.experiment.validation import load
from pipeline.results.encoded_images import decoded
from pipeline.results.illustrations import WHOLE, Illustrations, crop_name, grid_values, read_illustrations
from stages import illustrations as stage
from stages.common import build, normaliser, open_shards, save_tensors, weights_of
from tests.support import ROOT
from tests.support.images import USUAL, jpeg, photograph
from vgg.draws import epoch_words, order
from vgg.images import Rescaled, rescaled_batches
from vgg.initialise import randomise
from vgg.maps import cell_starts, posteriors_by_place, score_map
from vgg.nets import VGG
from vgg.normalise import Normalise
from vgg.score import Scorer, dense
from vgg.stream import StreamConfig, training_stream

RUN = "D-jitter"
SEED, BATCH, CROP, Q = 5, 8, 64, 146  # 2/7 of the paper's 224 and 512
CLASSES = ("cat", "dog", "owl")
CLOSE = 2e-5


def write(folder: Path, **changes: dict[str, object]) -> Params:
    """Write parameters of a tiny net and an image folder; return them."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    mini = values["profiles"]["mini"]
    mini["data"] |= {"source": "imagefolder", "path": "images"}
    mini["prepare"] |= {"processes": 1, "device": "cpu"}
    mini["net"] |= {"size_ratio": "2/7", "width_ratio": "1/16", "fc": 16, "last_std": 1.0}
    mini["train"] |= {"batch": BATCH, "seed": SEED}
    mini["score"] |= {"device": "cpu", "precision": "float32"}
    for block, keys in changes.items():
        (values if block == "weights" else mini)[block] = keys if block == "weights" else {**mini[block], **keys}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return load(folder / "params.yaml")


def net_of(params: Params) -> VGG:
    """A net with random weights, which gives different images different classes."""
    net = build(params, "D", len(CLASSES))
    randomise(net, "he", 0.01, 1.0, 3)
    return net.eval()


def write_scores(images: int, labels: NDArray[np.int64], right: NDArray[np.bool_]) -> None:
    """Write dense posteriors by which some images are right."""
    guesses = np.where(right, labels, (labels + 1) % len(CLASSES))
    values = np.full((images, len(CLASSES)), 0.2, np.float32)
    values[np.arange(images), guesses] = 0.6
    posteriors(RUN, "dense").parent.mkdir(exist_ok=True)
    np.savez(posteriors(RUN, "dense"), **{"512": values}, labels=labels)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Params:
    """A prepared folder of photographs of all shapes, a trained net D-jitter and its dense posteriors, all right."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGG_REPRO_SHARDS", raising=False)
    for split, count in (("train", 9), ("val", 6)):
        for name in CLASSES:
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = (int(side) for side in rng.integers(150, 290, 2))
                (folder / f"{number}.jpg").write_bytes(jpeg(photograph(rng, height, width)))
    parameters = write(tmp_path)
    prepare(parameters)
    net = net_of(parameters)
    save_tensors(weights(RUN), {"net": "D", "weights": weights_of(net)})
    summary(RUN).write_text(json.dumps({"seed": SEED, "data": read_statistics().manifest, "weights_sha256": ""}))
    labels = open_shards(parameters, "val", read_statistics()).labels
    write_scores(len(labels), labels, np.ones(len(labels), bool))
    return parameters


def made(params: Params) -> Illustrations:
    """Run the stage; return what it wrote."""
    stage.main(params)
    found = read_illustrations(params.profile)
    assert found is not None
    return found


def all_pixels(params: Params) -> list[Tensor]:
    """Every whole validation image (1, 3, H, W) at Q."""
    found: dict[int, Tensor] = {}
    for batch in rescaled_batches(open_shards(params, "val", read_statistics()), Q, 1, decoder=USUAL):
        found[int(batch.ids[0])] = batch.pixels.clone()
    return [found[number] for number in sorted(found)]


def by_hand(params: Params, crop: Tensor) -> NDArray[np.float32]:
    """A net's posteriors (K,) of one crop (1, 3, CROP, CROP)."""
    statistics = read_statistics()
    values = (crop.float() - torch.tensor(statistics.mean_rgb)[:, None, None]) / params.active.net.input_scale
    with torch.inference_mode():
        scores = net_of(params)(values)
    assert scores.shape[2:] == (1, 1)
    return np.asarray(scores[0, :, 0, 0].softmax(0).numpy())


def test_every_crop_has_the_posterior_of_that_crop_cut_by_hand(params: Params) -> None:
    found = made(params)
    image, pixels = found.scored, all_pixels(params)
    ids = open_shards(params, "val", read_statistics()).ids
    whole = pixels[ids.index(image.id)]
    assert tuple(whole.shape[2:]) == (image.height, image.width) and min(image.height, image.width) == Q
    for places in (image.grid, image.cut):
        true, other = grid_values(places.true), grid_values(places.other)
        for i, top in enumerate(places.tops):
            for j, left in enumerate(places.lefts):
                wanted = by_hand(params, whole[:, :, top : top + CROP, left : left + CROP])
                assert (true[i, j], other[i, j]) == pytest.approx((wanted[image.label], wanted[image.other]), abs=CLOSE)
    assert (image.grid.tops[0], image.grid.tops[-1]) == (0, image.height - CROP)
    assert (image.grid.lefts[0], image.grid.lefts[-1]) == (0, image.width - CROP)


def test_the_map_is_that_of_dense_evaluation_before_it_is_averaged(params: Params, rng: np.random.Generator) -> None:
    scorer = scorer_with(params, "even")
    pixels = torch.from_numpy(photograph(rng, 153, 210).transpose(2, 0, 1)[None].copy())
    maps = [score_map(scorer, view) for view in (pixels, pixels.flip(3))]
    wanted = torch.stack([scores.mean((1, 2)).softmax(0) for scores in maps]).mean(0).numpy()
    found = scorer.posteriors([Rescaled(pixels, np.array([0]))], 1, dense)
    assert found[0] == pytest.approx(wanted, abs=CLOSE)


def scorer_with(params: Params, remainder: str) -> Scorer:
    """A scorer of the net."""
    return Scorer(net_of(params), normaliser(params, read_statistics()), CROP, torch.device("cpu"), remainder=remainder)


@pytest.mark.parametrize("remainder", ["even", "floor", "ceil"])
def test_a_cells_receptive_field_is_centred_on_its_crop(remainder: str) -> None:
    """Of a net whose weights and inputs are positive and whose poolings are means, so that every pixel counts."""
    net = VGG("D", 2, CROP, 1 / 32, 4).eval()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    for number in range(1, 6):
        setattr(net, f"pool{number}", nn.AvgPool2d(2))
    scorer = Scorer(net, Normalise(torch.zeros(3), torch.zeros(3, 3)), CROP, torch.device("cpu"), remainder=remainder)
    height, width = 32 * 9 + 11, 32 * 10
    first = 5 if remainder == "even" else 0
    pixels = torch.ones(1, 3, 32 * 9, width, requires_grad=True)
    scores = net(pixels)  # of the middle of an image of height x width, or of its upper part
    tops, lefts = (cell_starts(side, 10, scorer) for side in (height, width))
    scores[0, 0, 3, 4].backward()
    assert pixels.grad is not None
    tall, wide = (np.flatnonzero(pixels.grad[0].abs().sum((0, axis)).numpy()) for axis in (2, 1))
    assert tops[3] + CROP / 2 == first + (tall[0] + tall[-1] + 1) / 2
    assert lefts[4] + CROP / 2 == (wide[0] + wide[-1] + 1) / 2


def test_places_beyond_the_image_have_no_crop(params: Params, rng: np.random.Generator) -> None:
    scorer = scorer_with(params, "ceil")
    pixels = torch.from_numpy(photograph(rng, 150, 161).transpose(2, 0, 1)[None].copy())
    scores = score_map(scorer, pixels)
    tops, lefts = (cell_starts(side, cells, scorer) for side, cells in zip((150, 161), scores.shape[1:], strict=True))
    assert (tops, lefts) == ([0, 32, 64, 96], [0, 32, 64, 96, 128])
    found = np.isfinite(posteriors_by_place(scorer, pixels, tops, lefts)).all(2)
    assert found[:3, :4].all() and not found[3].any() and not found[:, 4].any()


def first_wrong(params: Params, tried: NDArray[np.int64]) -> int | None:
    """The first of some images that the net gets wrong at the centre crop, and its guess."""
    pixels, labels = all_pixels(params), open_shards(params, "val", read_statistics()).labels
    for number in tried.tolist():
        height, width = pixels[number].shape[2:]
        top, left = (height - CROP) // 2, (width - CROP) // 2
        if by_hand(params, pixels[number][:, :, top : top + CROP, left : left + CROP]).argmax() != labels[number]:
            return int(number)
    return None


def test_the_image_is_the_first_that_dense_gets_right_and_the_centre_crop_wrong(params: Params) -> None:
    shards = open_shards(params, "val", read_statistics())
    numbers = order(epoch_words(SEED, 0, len(shards)))
    right = np.zeros(len(shards), bool)
    right[numbers[3:]] = True
    write_scores(len(shards), shards.labels, right)
    wanted = first_wrong(params, numbers[3:])
    assert wanted is not None
    image = made(params).scored
    assert image.id == shards.ids[wanted] and image.label == shards.labels[wanted]
    assert image.dense_right and not image.centre_right and image.centre.other > image.centre.true
    assert (image.dense.true, image.dense.other) == pytest.approx((0.6, 0.2))


def test_if_the_centre_crop_is_never_wrong_it_is_the_first_and_the_other_class_the_next(params: Params) -> None:
    shards = open_shards(params, "val", read_statistics())
    numbers = order(epoch_words(SEED, 0, len(shards)))
    wrong = [number for number in numbers if first_wrong(params, numbers[numbers == number]) is not None]
    only = np.array([number not in wrong for number in range(len(shards))])
    assert only.any()
    write_scores(len(shards), shards.labels, only)
    image = made(params).scored
    assert image.id == shards.ids[next(number for number in numbers if only[number])]
    assert image.dense_right and image.centre_right and image.other != image.label


def test_if_dense_gets_none_right_it_is_any(params: Params) -> None:
    shards = open_shards(params, "val", read_statistics())
    write_scores(len(shards), shards.labels, np.zeros(len(shards), bool))
    assert not made(params).scored.dense_right


def test_the_training_crops_are_those_that_the_stream_yields(params: Params) -> None:
    found = made(params)
    shards = open_shards(params, "train", read_statistics())
    assert found.training is not None and found.training.seed == SEED
    number = shards.ids.index(found.training.id)
    components = normaliser(params, read_statistics()).components
    steps = len(shards) // BATCH
    for place, scales in enumerate([(73, 73), (110, 110), (73, 146)]):
        series = found.training.series[place]
        stream = training_stream(shards, StreamConfig(SEED, BATCH, CROP, scales), decoder=USUAL)
        for epoch in range(10):
            batches = [[values.clone() if isinstance(values, Tensor) else values for values in next(stream)]
                       for _ in range(steps)]  # fmt: skip
            (batch,) = [batch for batch in batches if number in batch[4]]
            at = batch[4].tolist().index(number)
            pixels, colour = batch[0][at].permute(1, 2, 0).float(), batch[2][at]
            shift = colour @ components
            assert series.draws[epoch].shift == pytest.approx(shift.tolist(), abs=1e-4)
            assert scales[0] <= min(series.draws[epoch].height, series.draws[epoch].width) <= scales[1]
            shown = decoded(found.images[crop_name(place, epoch)]).astype(float)
            assert np.abs(shown - (pixels + shift).clamp(0, 255).numpy()).mean() < 4, "JPEG"
            if place == 0:
                plain = decoded(found.images[crop_name(0, epoch, plain=True)]).astype(float)
                assert np.abs(plain - pixels.numpy()).mean() < 4


def test_the_image_and_its_central_crops_are_those_of_the_scales(params: Params) -> None:
    found = made(params)
    image = found.scored
    assert [(scale.scale, min(scale.height, scale.width)) for scale in image.scales] == [(256, 73), (512, Q)]
    for scale in image.scales:
        assert scale.top == (scale.height - CROP) // 2 and scale.left == (scale.width - CROP) // 2
    whole = decoded(found.images[WHOLE])
    assert whole.shape[:2] == (image.height, image.width), "it is small enough to be kept as it is"
    last, crop = image.scales[1], decoded(found.images["scale-512"])
    cut = whole[last.top : last.top + CROP, last.left : last.left + CROP]
    assert np.abs(crop.astype(float) - cut).mean() < 4


def test_it_is_deterministic_and_another_seed_shows_another_image(params: Params) -> None:
    first = made(params)
    files = [path("mini").read_bytes() for path in (illustrations, illustrated_images)]
    made(params)
    assert [path("mini").read_bytes() for path in (illustrations, illustrated_images)] == files
    summary(RUN).write_text(json.dumps({"seed": SEED + 2, "data": read_statistics().manifest, "weights_sha256": ""}))
    assert first.training is not None
    assert made(params).training != first.training


def test_published_weights_have_their_own_input_and_no_training_crops(params: Params, tmp_path: Path) -> None:
    published = write(tmp_path, weights="published")  # type: ignore[arg-type]
    stored = {"net": "D", "weights": weights_of(net_of(params)), "classes": [],
              "input": {"mean_rgb": [124.0, 117.0, 104.0], "std_rgb": [58.0, 57.0, 57.0]}}  # fmt: skip
    weights(RUN, "published").parent.mkdir()
    save_tensors(weights(RUN, "published"), stored)
    summary(RUN).unlink()
    found = made(published)
    assert found.training is None and not any(name.startswith("crop") for name in found.images)
    ids = open_shards(params, "val", read_statistics()).ids
    whole = all_pixels(params)[ids.index(found.scored.id)]
    mean, std = (torch.tensor(stored["input"][key])[:, None, None] for key in ("mean_rgb", "std_rgb"))
    with torch.inference_mode():
        wanted = net_of(params)((whole[:, :, :CROP, :CROP].float() - mean) / std)[0, :, 0, 0].softmax(0)
    assert found.scored.grid.true[0][0] == pytest.approx(float(wanted[found.scored.label]), abs=CLOSE)


def test_without_weights_the_command_that_makes_them_is_named(params: Params) -> None:
    weights(RUN).unlink()
    with pytest.raises(Failure, match=f"vgg-repro train {RUN}"):
        stage.main(params)


def test_long_images_are_not_chosen_unless_all_are(params: Params, rng: np.random.Generator) -> None:
    @dataclass
    class Sizes:
        heights: NDArray[np.int64]
        widths: NDArray[np.int64]

    sizes = Sizes(np.array([100, 100, 300]), np.array([201, 200, 100]))
    assert stage._usual(sizes, np.array([2, 1, 0])).tolist() == [1]  # type: ignore[arg-type]
    assert stage._usual(sizes, np.array([2, 0])).tolist() == [2, 0]  # type: ignore[arg-type]
