"""`weights check`: what agrees and what misses, and what it says of nets that really recognise what they see."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from scipy.stats import binomtest
from torchvision.models import vgg11, vgg16

import stages.tools.check
from pipeline.datasets.shards import Shards
from pipeline.experiment.paper_tables import published_errors
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.experiment.validation import parse
from pipeline.published.agreement import Checked, Trial
from reports.check_page import check_page
from reports.terminal import terminal
from tests.support import ROOT, clones
from tests.support.images import jpeg, run_seed
from tests.support.program import Outcome, program
from vgg.errors import Error
from vgg.initialise import randomise
from vgg.nets import VGG

AUTHORS = {  # net to dense and to centre crop: top-1 and top-5
    "D": {"dense": {(25.6, 8.1)}, "centre": {(28.5, 9.9), (28.73, 9.95), (29.03, 10.12)}},
    "E": {"dense": {(25.5, 8.0)}, "centre": {(28.7, 9.9), (28.74, 10.01), (28.94, 10.17)}},
}
TORCHVISIONS = {"A": (30.98, 11.37), "B": (30.07, 10.75), "D": (28.41, 9.62), "E": (27.62, 9.12)}
RULES = parse((ROOT / "params.yaml").read_bytes(), Path("params.yaml")).evidence.cells

# ---------------------------------------------------------------------- the published figures


def test_the_published_figures_are_those_of_their_publishers() -> None:
    with (ROOT / "pipeline/experiment/printed/published_nets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [
        (row["whose"], row["net"], row["mode"], int(row["test_scale"]), float(row["top1"]), float(row["top5"]))
        for row in rows
    ]
    scales = {"dense": 384, "centre": 256}
    wanted = [
        ("authors", net, mode, scales[mode], *pair)
        for net, modes in AUTHORS.items()
        for mode, pairs in modes.items()
        for pair in pairs
    ]
    wanted += [("torchvision", net, "centre", 256, *pair) for net, pair in TORCHVISIONS.items()]
    assert sorted(found) == sorted(wanted)
    assert all(row["from"] for row in rows)
    assert all((row["kind"] == "published") == ("the paper" in row["from"]) for row in rows)
    assert {row["kind"] for row in rows} == {"published", "frameworks"} < RULES.keys()


def test_a_std_of_one_is_the_authors_and_any_other_torchvisions() -> None:
    params = parse((ROOT / "params.yaml").read_bytes(), Path("params.yaml"))
    for net, run in (("A", "A-256"), ("B", "B-256"), ("C", "C-256"), ("D", "D-jitter"), ("E", "E-384")):
        for std in ([1.0, 1.0, 1.0], [0.229, 0.224, 0.225], [58.0, 58.0, 58.0], [1.0, 1.0, 2.0]):
            record = {"input": {"range": 255, "std": std}}
            found = {
                (mode, scale): {(float(row["top1"]), float(row["top5"])) for row in rows}
                for mode, scale, rows in published_errors(params, run, record)
            }
            if set(std) == {1.0}:
                modes = AUTHORS.get(net, {})
                assert found == {(mode, {"dense": 384, "centre": 256}[mode]): modes[mode] for mode in modes}
            else:
                assert found == ({("centre", 256): {TORCHVISIONS[net]}} if net in TORCHVISIONS else {})


# ---------------------------------------------------------------------- made-up errors


def interval(wrong: int, images: int) -> Error:
    """SciPy's Wilson interval, in per cent."""
    bounds = binomtest(wrong, images).proportion_ci(0.95, "wilson")
    return Error(100 * wrong / images, 100 * bounds.low, 100 * bounds.high, wrong, images)


def check_text(nets: Sequence[Checked], images: str = "") -> str:
    """What a terminal shows."""
    return terminal(check_page(nets, images))


def rows(*pairs: tuple[float, float]) -> list[dict[str, str]]:
    """Published figures."""
    return [
        {"net": "D", "whose": "authors", "kind": "frameworks", "mode": "centre", "test_scale": "256",
         "top1": f"{one}", "top5": f"{five}", "from": f"source {number}"}
        for number, (one, five) in enumerate(pairs)
    ]  # fmt: skip


def checked(top1: Error, top5: Error, *pairs: tuple[float, float], **more: Any) -> Checked:
    """What came of a net D at the centre crop, beside these published pairs."""
    values: dict[str, Any] = {"run": "D-jitter", "mode": "centre", "scale": 256, "sure": 0.8} | more
    return Checked(top1=top1, top5=top5, figures=rows(*pairs), rules=RULES, **values)


def agreement_of(error: Error, figures: Sequence[float]) -> str:
    """What an error, judged against the nearest of these figures of other frameworks, comes to."""
    figure = min(figures, key=lambda figure: abs(error.error - figure))
    points, rounding = error.error - figure, 0.5 * 10.0 ** -len(f"{figure}".partition(".")[2])
    share, rest = max(0.03, abs(points) / 100), 1 - error.images / 50_000
    variance = (share + figure / 100 * (1 - figure / 100) * rest) / error.images * 1e4 + rounding**2 / 3
    least, most = abs(points) - 1.959964 * variance**0.5, abs(points) + 1.959964 * variance**0.5
    return "agrees" if most < 0.5 else "DIFFERS" if least > 0.5 else "undecided"


def test_a_net_agrees_if_its_distance_to_the_nearest_figure_is_surely_within_the_tolerance(
    rng: np.random.Generator,
) -> None:
    assert RULES["frameworks"].tolerance == 0.5 and RULES["frameworks"].share == 0.03
    seen = set()
    for _ in range(20):
        images = int(np.exp(rng.uniform(np.log(20), np.log(50_000)))) if rng.random() < 0.5 else 50_000
        pairs = [tuple(np.round(rng.uniform((5, 2), (60, 30)), 2).tolist())]
        pairs += [tuple(np.round(np.array(pairs[0]) + rng.uniform(-1, 1, 2), 2).tolist())] * 2
        ones, fives = zip(*pairs[: int(rng.integers(1, 4))], strict=True)
        right5 = interval(round(images * fives[0] / 100), images)
        for points in rng.uniform(-2, 2, 40):
            error = interval(round(images * min(100, max(0, ones[0] + points)) / 100), images)
            net = checked(error, right5, *zip(ones, fives, strict=True))
            each = {agreement_of(error, ones), agreement_of(right5, fives)}
            expected = next(word for word in ("DIFFERS", "undecided", "agrees") if word in each)
            assert net.agreement == expected, (error, right5, ones, fives)
            assert net.differs == (expected == "DIFFERS") == ("DIFFERS" in check_text([net]))
            assert bool(net.miss("top1")) == (agreement_of(error, ones) == "DIFFERS")
            seen.add((expected, error.error > max(ones)))
    assert seen == set(product(("agrees", "DIFFERS", "undecided"), (True, False)))  # too good as well as too bad


def test_too_few_images_are_said_to_be_too_few_and_how_many_are_enough() -> None:
    few = checked(interval(144, 500), interval(50, 500), (28.7, 9.9))
    text = " ".join(check_text([few]).split())
    assert few.agreement == "undecided" and "500 images are too few" in text and "needs about 23,000" in text
    for images, agreement in ((few.needed + 100, "agrees"), (few.needed - 100, "undecided")):
        exact = interval(round(0.287 * images), images)
        assert checked(exact, interval(round(0.099 * images), images), (28.7, 9.9)).agreement == agreement
    close = checked(interval(14_600, 50_000), interval(4_950, 50_000), (28.7, 9.9))
    assert close.agreement == "undecided" and "close to the tolerance" in " ".join(check_text([close]).split())


def test_the_papers_own_figures_have_a_smaller_tolerance_than_other_frameworks() -> None:
    top1, top5 = interval(14_500, 50_000), interval(4_950, 50_000)  # 0.3 points above
    figures = rows((28.7, 9.9))
    assert checked(top1, top5, (28.7, 9.9)).agreement == "agrees"
    papers = replace(checked(top1, top5, (28.7, 9.9)), figures=[{**figures[0], "kind": "published"}])
    assert papers.agreement == "undecided"
    assert replace(papers, top1=interval(14_550, 50_000)).agreement == "DIFFERS"  # 0.4 points above


def test_the_table_has_the_errors_the_figures_and_where_they_are_from(rng: np.random.Generator) -> None:
    top1, top5 = interval(14_350, 50_000), interval(4_950, 50_000)
    other = checked(interval(20_000, 50_000), top5, (25.6, 8.1), mode="dense", scale=384)
    text = check_text([checked(top1, top5, (28.5, 9.9), (29.03, 10.12)), other])
    first, second = (line for line in text.splitlines() if line.startswith("| D-jitter"))
    assert all(part in first for part in ("centre crop", "256", "50,000", "28.7", "28.5 to 29.0", "9.9", "agrees"))
    assert all(part in second for part in ("dense", "384", "40.0", "25.6", "8.1", "DIFFERS"))
    for error in (top1, top5):
        assert f"{error.error:.1f} ({error.low:.1f} to {error.high:.1f})" in first
    assert "source 0" in text and "source 1" in text
    assert "photographs of my own" in check_text([checked(top1, top5, (28.7, 9.9))], "photographs of my own")


def meaning(text: str) -> str:
    """What is said of misses, behind the table and its notes."""
    return "\n".join(part for part in text.split("\n\n") if re.match(r"\S+, (centre crop|dense): ", part))


def test_nothing_is_explained_of_a_net_that_agrees() -> None:
    net = checked(interval(287, 1000), interval(99, 1000), (28.7, 9.9), square=True, sure=0.99)
    assert meaning(check_text([net])) == ""


def test_a_net_that_is_sure_and_wrong_nearly_always_has_another_order_of_classes(rng: np.random.Generator) -> None:
    images = int(rng.integers(100, 50_000))
    wrong, five = interval(round(images * rng.uniform(0.97, 1)), images), interval(round(images * 0.97), images)
    pairs = ((28.5, 9.9),)
    sure = meaning(check_text([checked(wrong, five, *pairs, sure=float(rng.uniform(0.6, 1)))]))
    assert "order of classes" in sure and "--class-map" in sure
    unsure = meaning(check_text([checked(wrong, five, *pairs, sure=float(rng.uniform(0.001, 0.1)))]))
    assert unsure and "order of classes" not in unsure and "--class-map" not in unsure


def test_another_input_that_does_better_is_named(rng: np.random.Generator) -> None:
    wrong, five = interval(450, 500), interval(400, 500)
    trials = [Trial("--one", interval(440, 500)), Trial("--better 3", interval(145, 500)), Trial("-x", wrong)]
    trials = [trials[i] for i in rng.permutation(3)]
    text = meaning(check_text([checked(wrong, five, (28.5, 9.9), trials=trials)]))
    assert "--better 3" in text and "29.0 %" in text and "500 images" in text
    assert "--one" not in text and "-x" not in text and "--class-map" not in text
    same = [Trial("--one", interval(449, 500))]
    assert "import it again" not in meaning(check_text([checked(wrong, five, (28.5, 9.9), trials=same)]))


def missed_by(points: float, **more: Any) -> str:
    """What is said of so many points above the figures."""
    wrong, right = interval(round(28_500 + 1000 * points), 100_000), interval(9_900, 100_000)
    return meaning(check_text([checked(wrong, right, (28.5, 9.9), **more)]))


def test_squares_of_one_size_are_named() -> None:
    for points in (3, 20):
        squares, others = (missed_by(points, square=square) for square in (True, False))
        assert "squares of one size" in squares and "warp" in squares
        assert others and "squares of one size" not in others


def test_a_small_miss_may_be_the_filter_of_resizing_and_a_large_one_is_not_put_down_to_it() -> None:
    for points in (-1.5, -0.9, 0.9, 1.5):
        text = missed_by(points)
        assert "filter" in text and f"{abs(points):.1f}" in text
        assert ("high" in text) == (points > 0) and ("low" in text) == (points < 0)
    for points in (-25, -12, 12, 30):
        text = missed_by(points)
        assert text and "filter" not in text and "so little" not in text


def test_a_net_that_is_too_good_is_not_put_down_to_what_makes_nets_worse() -> None:
    text = meaning(check_text([checked(interval(200, 1000), interval(99, 1000), (28.5, 9.9), square=True)]))
    assert text and "costs about 3 points" not in text


def test_settings_that_come_closer_to_the_published_error_are_named_first() -> None:
    """And the others, so that nobody tries them again."""
    right = interval(81, 1000)
    for wrong, nearer, near, farther in ((300, 258, 270, 301), (220, 255, 240, 219)):  # too high, too low
        trials = [Trial(f"score.key: {number}", interval(number, 1000)) for number in (farther, near, wrong, nearer)]
        net = checked(interval(wrong, 1000), right, (25.6, 8.1), mode="dense", scale=384, settings=trials)
        assert [trial.words for trial in net.closer] == [f"score.key: {number}" for number in (nearer, near)]
        closer, others = meaning(check_text([net])).splitlines()[-2:]
        assert closer.endswith(
            f"closer to the published top-1 error on the same images: score.key: {nearer}, {nearer / 10} %; "
            f"score.key: {near}, {near / 10} %."
        )
        assert "no closer: " in others and f"{farther / 10} %" in others and str(nearer) not in others
        centre = checked(interval(wrong, 1000), right, (25.6, 8.1))
        assert "published top-1 error" not in meaning(check_text([centre, net])).splitlines()[0]
        assert "see its centre crop first" in meaning(check_text([centre, net])) and closer in check_text([centre, net])


# ---------------------------------------------------------------------- nets that recognise colours

CROP, WIDTH, FC, CLASSES, EACH = 64, "1/8", 32, 40, 3
IMAGES = CLASSES * EACH
NEAR, FAR = 24, 10  # images with the label of a similar colour, and of one not among the five likeliest
STEEP = 0.005  # of a net's logits: at 0.02, posteriors of colours 102 levels away are all 0, and in no order
CLEAR = 8.0  # grey levels of distance between a label's colour and those that decide whether it is in the top five
CAFFE = ("BGR", 255, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
CAFFE_RGB = ("RGB", 255, (123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
TORCH = ("RGB", 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Convention = tuple[str, int, tuple[float, float, float], tuple[float, float, float]]
Colours = NDArray[np.float64]
NO_CLASS_ORDER = ("order of classes", "--class-map")


def palette(rng: np.random.Generator) -> Colours:
    """The classes' colours (CLASSES, 3), well apart; beside each, at 2n and 2n + 1, is the one with red for blue."""
    colours: list[NDArray[np.float64]] = []
    tries = 0
    while len(colours) < CLASSES:
        tries += 1
        if tries > 5000:
            colours, tries = [], 0
        colour = rng.uniform(25, 230, 3).round()
        far = all(np.linalg.norm(one - other) > 38 for one in (colour, colour[::-1]) for other in colours)
        if abs(colour[0] - colour[2]) > 60 and far:
            colours += [colour, colour[::-1]]
    return np.array(colours)


def mislabelled(rng: np.random.Generator, colours: Colours, near: int, far: int) -> tuple[list[int], list[int]]:
    """The images' colours and labels: `near` of them have a similar colour's label, `far` a very different one's.

    Two images have exchanged their labels each time, so that all classes stay as frequent as each other.
    """
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    sixth, fifth = np.sort(distances, 1)[:, 5:3:-1].T
    similar = (distances.argsort(1).argsort(1) < 3) & (distances < sixth[:, None] - CLEAR)
    other = (distances.argsort(1).argsort(1) > 9) & (distances > fifth[:, None] + CLEAR)
    true = rng.permutation(np.repeat(np.arange(CLASSES), EACH)).tolist()
    labels, free = list(true), set(range(IMAGES))
    for count, allowed in ((near, similar), (far, other)):
        pairs = [
            (i, j)
            for i in range(IMAGES)
            for j in range(i)
            if all(allowed[a, b] for a, b in ((true[i], true[j]), (true[j], true[i])))
            and true[i] not in (true[j], true[j] ^ 1)
        ]
        done = 0
        for i, j in (pairs[k] for k in rng.permutation(len(pairs))):
            if done < count and i in free and j in free:
                labels[i], labels[j] = true[j], true[i]
                free -= {i, j}
                done += 2
        if done < count:  # few of these colours are each other's neighbours
            return mislabelled(rng, palette_into(rng, colours), near, far)
    return true, labels


def palette_into(rng: np.random.Generator, colours: Colours) -> Colours:
    """Other colours in the same array."""
    colours[:] = palette(rng)
    return colours


def picture(rng: np.random.Generator, colour: NDArray[np.float64], height: int, width: int) -> bytes:
    """A JPEG of one colour with a little light and shade."""
    across, down = np.linspace(-2, 2, width)[None, :, None], np.linspace(-2, 2, height)[:, None, None]
    shade = rng.choice([-1, 1]) * across + rng.choice([-1, 1]) * down + rng.normal(0, 1, (height, width, 1))
    return jpeg(np.clip(colour + shade, 0, 255).round().astype(np.uint8), 95)


class World(NamedTuple):
    """A folder with everything prepared, and what its images show."""

    folder: Path
    colours: Colours
    wrong: dict[str, bool]  # by image: whether its label is not its colour's


def make_world(root: Path, rng: np.random.Generator, near: int, far: int, shapes: Sequence[tuple[int, int]]) -> World:
    """Validation images of those shapes in turn, prepared."""
    colours = palette(rng)
    true, labels = mislabelled(rng, colours, near, far)
    images, folder, wrong = root / "images", root / "work", {}
    for number, (colour, label) in enumerate(zip(true, labels, strict=True)):
        name = f"val/c{label:02d}/{number:03d}.JPEG"
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(picture(rng, colours[colour], *shapes[number % len(shapes)]))
        wrong[name] = colour != label
    folder.mkdir()
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values |= {"profile": "published", "weights": "published", "imports": {}, "datasets": {}}
    profile = values["profiles"]["published"]
    profile["data"] |= {"source": "imagefolder", "path": str(images)}
    profile["prepare"] |= {"processes": 1, "device": "cpu"}
    profile["net"] |= {"size_ratio": f"{CROP}/224", "width_ratio": WIDTH, "fc": FC}
    profile["score"] |= {"threads": 1, "device": "cpu"}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    outcome = program(folder, "prepare", "--direct")
    assert outcome.code == 0, outcome
    return World(folder, colours, wrong)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """Photographs of which a perfect net gets as many wrong as the published nets, and some more, also in squares."""
    rng = np.random.default_rng(run_seed())
    shapes = [(80, 100), (90, 70), (100, 64), (75, 120)]
    many = {"near": 40, "far": 20}
    return {
        "right": make_world(tmp_path_factory.mktemp("right"), rng, NEAR, FAR, shapes),
        "worse": make_world(
            tmp_path_factory.mktemp("worse"), rng, **many, shapes=[*[(96, 96)] * 2, (80, 80), (75, 120)]
        ),
        "squares": make_world(tmp_path_factory.mktemp("squares"), rng, **many, shapes=[(96, 96)]),
    }


class Desk:
    """A copy of a world to work in."""

    def __init__(self, world: World, folder: Path) -> None:
        self.colours, self.wrong, self.folder = world.colours, world.wrong, folder
        shutil.copytree(world.folder, folder)

    def run(self, *words: str) -> Outcome:
        """The program."""
        return program(self.folder, *words)

    def place(self, run: str, file: Path, *options: str) -> None:
        """Import a net."""
        outcome = self.run("weights", "import", run, str(file), *options, "--direct")
        assert outcome.code == 0, outcome

    def check(self, run: str, *options: str) -> Outcome:
        """What is said of it."""
        return self.run("weights", "check", run, *options, "--direct")


@pytest.fixture(autouse=True)
def of_the_published_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The few classes of these images stand for the published ones."""
    monkeypatch.setattr(stages.tools.check, "has_published_classes", lambda facts: True)


@pytest.fixture
def desk(worlds: dict[str, World], tmp_path: Path) -> Desk:
    """The world in which a right net scores as published."""
    return Desk(worlds["right"], tmp_path / "desk")


def recogniser(net: str, colours: Colours, convention: Convention, outputs: Sequence[int] | None = None) -> VGG:
    """A net that takes pictures by `convention` and says which colour is nearest; `outputs`: the class of each.

    Each channel's excess over the mean, and its lack, goes unchanged through every layer.
    """
    channels, top, mean, std = convention
    turn = 1 if channels == "RGB" else -1
    grey_mean, grey_std = (np.array(values)[::turn] * 255 / top for values in (mean, std))
    made = VGG(net, len(colours), CROP, 1 / 8, FC).eval()
    with torch.no_grad():
        for value in made.parameters():
            value.zero_()
        for name, layer in made.named_children():
            if isinstance(layer, torch.nn.Conv2d) and name not in ("conv1_1", "fc1", "fc3"):
                for i in range(6):
                    layer.weight[i, i, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
        for i in range(3):
            at = i if channels == "RGB" else 2 - i
            made.conv1_1.weight[i, at, 1, 1] = float(grey_std[i])
            made.conv1_1.weight[i + 3, at, 1, 1] = -float(grey_std[i])
        for i in range(6):
            made.fc1.weight[i, i] = 1 / made.fc1.kernel_size[0] ** 2
        seen = STEEP * (colours - grey_mean)[list(range(len(colours))) if outputs is None else list(outputs)]
        made.fc3.weight[:, :3, 0, 0] = torch.from_numpy(seen)
        made.fc3.weight[:, 3:6, 0, 0] = torch.from_numpy(-seen)
        made.fc3.bias.copy_(torch.from_numpy(-(seen**2).sum(1) / (2 * STEEP)))
    return made


def by_our_names(net: VGG, path: Path) -> Path:
    """A file that does not say what input its net takes."""
    torch.save(dict(net.state_dict()), path)
    return path


def by_torchvisions_names(net: VGG, path: Path) -> Path:
    """A file that is taken for torchvision's."""
    with torch.device("meta"):
        names = list({"A": vgg11, "D": vgg16}["A" if not hasattr(net, "conv1_2") else "D"]().state_dict())
    values = [value.flatten(1) if name.startswith("fc") and value.dim() > 1 else value
              for name, value in net.state_dict().items()]  # fmt: skip
    torch.save(dict(zip(names, values, strict=True)), path)
    return path


def options(convention: Convention) -> list[str]:
    """The options that say all of a net's input."""
    channels, top, mean, std = convention
    mean_text, std_text = (",".join(map(str, values)) for values in (mean, std))
    return ["--channels", channels, "--range", str(top), "--mean", mean_text, "--std", std_text]


def mending(text: str) -> list[str]:
    """The options of an import that a text names, behind its table."""
    (options,) = set(re.findall(r"((?:--(?:input|channels|range|mean|std) \S+ ?)+)", meaning(text)))
    return shlex.split(options)


def test_a_right_net_does_not_differ(desk: Desk) -> None:
    desk.place("D-384", by_our_names(recogniser("D", desk.colours, CAFFE), desk.folder / "net"), *options(CAFFE))
    outcome = desk.check("D-384")
    assert outcome.code == 0, outcome
    lines = [line for line in outcome.out.splitlines() if line.startswith("| D-384")]
    assert len(lines) == 2 and all(line.split("|")[-2].strip() == "? undecided" for line in lines)
    one, five = interval(NEAR + FAR, IMAGES), interval(FAR, IMAGES)
    for line in lines:
        assert f"{one.error:.1f} ({one.low:.1f} to {one.high:.1f})" in line
        assert f"{five.error:.1f} ({five.low:.1f} to {five.high:.1f})" in line
    assert meaning(outcome.out) == ""
    assert "The published figures are of ILSVRC-2012" in outcome.out  # these images are not those


def test_on_other_classes_the_errors_stand_alone_and_nothing_is_tried(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # these images have 40 classes
    desk.place("D-384", by_our_names(recogniser("D", desk.colours, CAFFE), desk.folder / "net"), *options(CAFFE_RGB))
    outcome = desk.check("D-384")
    assert outcome.code == 0, outcome
    assert "Not comparable" in outcome.out and "other settings" not in outcome.out
    assert "DIFFERS" not in outcome.out and "28.7" not in outcome.out and "--channels" not in outcome.out


def test_an_import_says_what_does_not_fit_and_what_to_do(desk: Desk) -> None:
    net = VGG("D", CLASSES + 3, CROP, 1 / 8, FC)
    words = ["weights", "import", "D-384", str(by_our_names(net, desk.folder / "vgg16-397923af.pth"))]
    outcome = desk.run(*words, *options(CAFFE), "--direct")
    assert outcome.code == 0, outcome
    assert f"{CLASSES} classes, but this net has {CLASSES + 3} outputs" in outcome.out
    assert outcome.out.index("--class-map FILE") < outcome.out.index("imports.D-384 is now")  # before it is converted
    assert "warning: the name vgg16-397923af.pth says that the SHA-256 begins with 397923af" in outcome.out
    outcome = desk.check("D-384")
    assert outcome.code == 1 and "--class-map" in outcome.error
    for kind, width, message in (
        ("E", 1 / 8, r"not a net D: import it as E-256 or E-384 or E-jitter"),
        ("D", 1 / 4, r"profile \w+ are narrower .* vgg-repro prepare --profile published --path FOLDER"),
    ):
        file = by_our_names(VGG(kind, CLASSES, CROP, width, FC), desk.folder / f"{kind} {width}")
        outcome = desk.run("weights", "import", "D-384", str(file), *options(CAFFE), "--direct")
        assert outcome.code == 1 and re.search(message, outcome.error), outcome


def test_torchvisions_net_is_compared_with_torchvisions_figures(desk: Desk) -> None:
    desk.place("A-256", by_torchvisions_names(recogniser("A", desk.colours, TORCH), desk.folder / "net"))
    outcome = desk.check("A-256")
    assert outcome.code == 0, outcome
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("| A-256"))
    assert "centre crop" in line and "31.0" in line and "11.4" in line and "torchvision" in outcome.out


@pytest.mark.parametrize(
    ("write", "own", "taken"),
    [
        pytest.param(by_our_names, CAFFE, options(CAFFE_RGB), id="channels reversed"),
        pytest.param(by_our_names, TORCH, options(CAFFE), id="torchvision's net imported as Caffe's"),
        pytest.param(by_torchvisions_names, CAFFE, (), id="Caffe's net that bears torchvision's names"),
    ],
)
def test_another_input_is_found_on_some_images_called_nothing_else_and_mended(
    write: Callable[..., Path], own: Any, taken: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stages.tools.check.TRIED == 500
    monkeypatch.setattr(stages.tools.check, "TRIED", 40)
    file = write(recogniser("D", desk.colours, own), desk.folder / "net")
    desk.place("D-384", file, *taken)
    outcome = desk.check("D-384")
    assert outcome.code == 1 and "DIFFERS" in outcome.out and "another input" in meaning(outcome.out), outcome
    others = (*NO_CLASS_ORDER, "recognises nothing", "than those tried", "no other usual input")
    assert [word for word in others if word in meaning(outcome.out)] == [], meaning(outcome.out)
    assert "on 40 images" in meaning(outcome.out) and re.search(rf"\| +{IMAGES} \|", outcome.out)
    assert mending(outcome.out)[:2] == ["--channels", own[0]]
    desk.place("D-384", file, *mending(outcome.out))
    again = desk.check("D-384")
    assert again.code == 0 and "DIFFERS" not in again.out, again


def permutation(rng: np.random.Generator) -> list[int]:
    """Another order of the classes, in which one stands where it did, as by chance; no two are just red for blue."""
    classes = np.arange(CLASSES)
    while True:
        order = rng.permutation(classes)
        if (order == classes).sum() == 1 and not (order == classes ^ 1).any():
            return order.tolist()


def test_permuted_outputs_are_called_so_and_a_class_map_mends_them(desk: Desk, rng: np.random.Generator) -> None:
    outputs = permutation(rng)
    file = by_our_names(recogniser("D", desk.colours, CAFFE, outputs), desk.folder / "net")
    desk.place("D-384", file, *options(CAFFE))
    outcome = desk.check("D-384")
    assert outcome.code == 1, outcome
    assert all(word in meaning(outcome.out) for word in NO_CLASS_ORDER) and "another input" not in outcome.out
    (desk.folder / "map.txt").write_text("".join(f"{output}\n" for output in outputs))
    desk.place("D-384", file, *options(CAFFE), "--class-map", str(desk.folder / "map.txt"))
    assert desk.check("D-384").code == 0


@pytest.mark.parametrize("kind", ["normal", "he"])
def test_random_weights_are_called_something_else(kind: str, desk: Desk, seed: int) -> None:
    net = VGG("D", CLASSES, CROP, 1 / 8, FC)
    randomise(net, kind, 0.01, None, seed)
    desk.place("D-384", by_our_names(net, desk.folder / "net"), *options(CAFFE))
    outcome = desk.check("D-384")
    assert outcome.code == 1 and meaning(outcome.out), outcome
    assert not any(word in meaning(outcome.out) for word in NO_CLASS_ORDER), meaning(outcome.out)


def test_images_that_were_squared_before_are_recognised(worlds: dict[str, World], tmp_path: Path) -> None:
    for name in ("squares", "worse"):
        desk = Desk(worlds[name], tmp_path / name)
        desk.place("D-384", by_our_names(recogniser("D", desk.colours, CAFFE), desk.folder / "net"), *options(CAFFE))
        outcome = desk.check("D-384")
        assert outcome.code == 1, outcome
        assert ("squares of one size" in meaning(outcome.out)) == (name == "squares")
        assert "another input" not in outcome.out and not any(word in outcome.out for word in NO_CLASS_ORDER)


def test_a_miss_tries_the_other_settings_that_its_protocol_depends_on(
    worlds: dict[str, World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone, and on all images that are checked."""
    monkeypatch.setattr(stages.tools.check, "TRIED", 40)
    desk = Desk(worlds["worse"], tmp_path / "desk")
    desk.place("D-384", by_our_names(recogniser("D", desk.colours, CAFFE), desk.folder / "net"), *options(CAFFE))
    used, scored = list[tuple[str, ...]](), stages.tools.check.posteriors_at

    def noted(params: Any, scorer: Any, images: Any, mode: str, *more: Any) -> Any:
        used.append((mode, scorer.mean, scorer.remainder, more[2] or params.active.score.resize, str(len(images))))
        return scored(params, scorer, images, mode, *more)

    monkeypatch.setattr(stages.tools.check, "posteriors_at", noted)
    outcome = desk.check("D-384")
    assert outcome.code == 1, outcome
    own, number = ("before_softmax", "ceil", "bilinear"), str(IMAGES)
    other = ("before_softmax", "ceil", "bicubic")
    dense = [own, ("after_softmax", *own[1:]), *[("before_softmax", r, "bilinear") for r in ("even", "floor")], other]
    wanted = {"dense": dense, "centre": [own, other]}
    for mode, settings in wanted.items():
        assert sorted(row[1:] for row in used if row[0] == mode and row[-1] == number) == sorted(
            (*setting, number) for setting in settings
        )
    told = {mode: meaning(outcome.out).split(f"D-384, {mode}: ", 1)[1] for mode in ("dense", "centre crop")}
    for words in ("mean: after_softmax", "remainder: even", "remainder: floor", "resize: bicubic"):
        assert f"score.{words}, " in told["dense"], outcome
    assert "score.resize: bicubic, " in told["centre crop"].split("D-384, dense")[0]


class Named:
    """Images of some labels, whose bytes are their numbers."""

    def __init__(self, labels: Sequence[int]) -> None:
        self.labels = np.array(labels)
        self.heights, self.widths = 2 * np.arange(len(labels)), 3 * np.arange(len(labels))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, image: int) -> Any:
        return np.array([image])


def test_the_first_images_are_taken_and_of_images_that_come_class_by_class_some_of_each(
    rng: np.random.Generator,
) -> None:
    count = int(rng.integers(20, IMAGES))
    mixed = Named([1, *rng.integers(0, CLASSES, IMAGES).tolist(), 0])
    some = stages.tools.check.ImageSubset(mixed, count)
    assert [int(some[i][0]) for i in range(len(some))] == list(range(count))
    for name in ("labels", "heights", "widths"):
        np.testing.assert_array_equal(getattr(some, name), getattr(mixed, name)[:count])
    sorted_ = Named(np.repeat(np.arange(CLASSES), EACH))
    spread = stages.tools.check.ImageSubset(sorted_, count)
    numbers = [int(spread[i][0]) for i in range(len(spread))]
    assert len(numbers) == len(set(numbers)) == count and numbers == sorted(numbers)
    np.testing.assert_array_equal(spread.labels, sorted_.labels[numbers])
    np.testing.assert_array_equal(spread.heights, sorted_.heights[numbers])
    per_class = np.bincount(spread.labels, minlength=CLASSES)
    assert per_class.max() - per_class.min() <= 2  # which fractions of a class's images may round to
    assert len(stages.tools.check.ImageSubset(sorted_, IMAGES + 7)) == IMAGES


def test_as_many_images_as_asked_for_are_looked_at(
    desk: Desk, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = by_our_names(recogniser("D", desk.colours, CAFFE), desk.folder / "net")
    desk.place("D-384", file, *options(CAFFE))
    monkeypatch.chdir(desk.folder)
    params = parse(Path("params.yaml").read_bytes(), Path("params.yaml"))
    ids = Shards(CLASSIFICATION.shards, "val").ids
    for count in (int(rng.integers(20, IMAGES)), IMAGES + 7):
        for net in stages.tools.check.main(params, ["D-384"], count):
            places = np.linspace(0, IMAGES - 1, min(count, IMAGES)).round().astype(int)  # a folder's come by class
            wrong = sum(desk.wrong[ids[place]] for place in places)
            assert (net.top1.wrong, net.top1.images, net.top5.images) == (wrong, *[min(count, IMAGES)] * 2)


def test_a_net_of_which_nothing_is_published_is_not_passed_over_in_silence(desk: Desk) -> None:
    desk.place("C-256", by_our_names(VGG("C", CLASSES, CROP, 1 / 8, FC), desk.folder / "c"), *options(CAFFE))
    outcome = desk.check("C-256")
    (line,) = outcome.error.splitlines()
    assert outcome.code == 1 and line.startswith("vgg-repro: ") and "C-256" in line and "unexpected" not in line
    desk.place("D-384", by_our_names(recogniser("D", desk.colours, CAFFE), desk.folder / "d"), *options(CAFFE))
    outcome = desk.run("weights", "check", "--direct")
    assert "C-256" in outcome.out + outcome.error, outcome


def test_a_wrong_use_ends_with_2_and_says_what_is_right(desk: Desk) -> None:
    outcome = desk.run("weights", "check", "--direct")
    assert outcome.code == 2 and "vgg-repro weights import" in outcome.error, outcome
    outcome = desk.check("D-384")
    assert outcome.code == 2 and "vgg-repro weights import D-384" in outcome.error, outcome
    assert desk.check("D-348").code == 2
    desk.place("D-384", by_our_names(recogniser("D", desk.colours, CAFFE), desk.folder / "net"), *options(CAFFE))
    for count in ("0", "-5", "many"):
        assert desk.check("D-384", "--images", count).code == 2
    values = yaml.safe_load((desk.folder / "params.yaml").read_text())
    values |= {"profile": "mini", "weights": "trained"}
    values["datasets"] = yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"]
    (desk.folder / "params.yaml").write_text(yaml.safe_dump(values))
    outcome = desk.check("D-384")
    assert outcome.code == 2 and "weights: published" in outcome.error, outcome


@pytest.mark.slow
def test_without_direct_dvc_makes_what_is_checked(desk: Desk) -> None:
    shutil.copy(ROOT / "dvc.yaml", desk.folder)
    clones.call(desk.folder, "dvc", "init", "--no-scm", "--quiet")
    file = by_our_names(recogniser("D", desk.colours, CAFFE), desk.folder / "net")
    clones.call(desk.folder, "vgg-repro", "weights", "import", "D-384", str(file), *options(CAFFE))
    (desk.folder / "weights/published/D-384.pt").unlink()
    assert "Not comparable" in clones.call(desk.folder, "vgg-repro", "weights", "check", "D-384")
    assert (desk.folder / "weights/published/D-384.pt").is_file()
    again = clones.call(desk.folder, "vgg-repro", "weights", "check")
    assert clones.executed(again) <= {"fingerprint"} and "Not comparable" in again
