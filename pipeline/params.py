"""params.yaml as typed values: read, checked, and explained when something in it is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.errors import Failure, UsageError
from pipeline.paths import PARAMS

NetName = Literal["A", "A-LRN", "B", "C", "D", "E", "shallow"]
RecipeName = Literal["scratch", "warm", "finetune", "jitter"]
Device = Literal["auto", "cpu", "gpu"]
Precision = Literal["float32", "tf32", "bfloat16"]
Origin = Literal["trained", "published"]  # of the weights that are scored
Split = Literal["train", "val"]
NETS: tuple[str, ...] = get_args(NetName)
ROUNDING = ("threads", "device", "processes")  # of train and score: they change results by rounding alone
RANDOM = "random-"  # an init of random-NET is that net's random weights
CROP = 224  # section 2.1, paper's pixels


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _fraction(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return value
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError):
        return value


Positive = Annotated[int, Field(gt=0, lt=2**31)]
Few = Annotated[int, Field(gt=0, le=4096)]  # threads or processes
Processes = Literal["auto"] | Few  # auto: one a GPU
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # half of a Philox key
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Pixels = Annotated[tuple[Positive, Positive], BeforeValidator(_tuple)]
Part = Annotated[float, Field(gt=0, le=1)]
Parts = Annotated[tuple[Part, Part], BeforeValidator(_tuple)]
Ratio = Annotated[Fraction, BeforeValidator(_fraction), Field(gt=0, le=1)]
Three = Annotated[tuple[float, float, float], BeforeValidator(_tuple)]


class Block(BaseModel):
    """A block of params.yaml: no unknown key, no silent conversion, no change afterwards."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class Run(Block):
    """One row of the grid: a net trained at one scale S, or a range of them, from some initial weights."""

    net: NetName
    scale: Positive | Pixels
    init: str
    recipe: RecipeName
    layers: Literal["all", "fc"] = "all"

    @property
    def scales(self) -> tuple[int, int]:
        """The smallest and the largest S, paper's pixels."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale, self.scale)


class Import(Block):
    """A published net's file, and what is said of it that its kind does not say (vgg-repro weights import)."""

    file: Annotated[str, Field(min_length=1)]
    channels: Literal["RGB", "BGR"] | None = None
    range: Literal[1, 255] | None = None
    mean: Three | None = None  # in the order of the channels and in the range
    deviation: Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], BeforeValidator(_tuple)] | None = None
    class_map: str | None = None  # a file
    class_map_sha256: str | None = None


class Digits(Block):
    """How the digits of source `digits` are drawn; lengths in the paper's pixels."""

    seed: Seed
    canvas: Pixels
    digit: Parts
    spread: Share
    texture: Annotated[float, Field(ge=0)]


class Data(Block):
    """The source of images."""

    source: str  # a row of pipeline.sources.SOURCES
    path: str | None
    limit: Positive | None
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.2  # for images without val/
    digits: Digits | None = None  # for source digits


class Prepare(Block):
    """How a source becomes shards."""

    rescale: Literal["train", "none"]
    quality: Annotated[int, Field(ge=1, le=100)]
    chroma: Literal["4:4:4", "4:2:2", "4:2:0"]
    upright: bool
    shared: Literal["drop", "keep"]
    max_aspect: Annotated[float, Field(ge=2)]
    shard_images: Positive
    max_unreadable: Annotated[float, Field(ge=0, le=1)]
    processes: Few | None
    device: Device


class Net(Block):
    """The nets' size, initial weights and input."""

    size_ratio: Ratio
    width_ratio: Ratio
    fc: Positive
    dropout: Share
    init: Literal["normal", "glorot", "he"]
    std: PositiveFloat
    last_std: PositiveFloat | None
    input_scale: PositiveFloat

    def pixels(self, paper: int) -> int:
        """A length in the paper's pixels, in this profile's whole pixels."""
        return round(paper * self.size_ratio)

    @property
    def crop(self) -> int:
        """The side of the training crop in this profile's pixels."""
        return self.pixels(CROP)


class Train(Block):
    """What all four kinds of training share (section 3.1)."""

    seed: Seed
    batch: Positive
    momentum: Share
    weight_decay: Annotated[float, Field(ge=0)]
    drops: Annotated[int, Field(ge=0)]
    patience: Positive
    tail: Annotated[int, Field(ge=0)]
    colour: Literal["eigenvalues", "roots", "none"]
    precision: Precision
    threads: Few
    device: Device
    processes: Processes

    @property
    def shaping(self) -> dict[str, Any]:
        """What of it shapes a run: all but ROUNDING."""
        return self.model_dump(mode="json", exclude=set(ROUNDING))


class Recipe(Block):
    """What differs between the kinds of training."""

    learning_rate: PositiveFloat
    epochs: Positive
    first_drop: Annotated[int, Field(ge=0)] = 0


class Score(Block):
    """How the evaluations of section 3.2 are computed."""

    mean: Literal["before_softmax", "after_softmax"]
    batch: Positive
    precision: Precision
    threads: Few
    device: Device
    processes: Processes


class Profile(Block):
    """One size of the whole experiment; without `train` it scores published nets alone."""

    data: Data
    prepare: Prepare
    net: Net
    train: Train | None = None
    recipes: dict[RecipeName, Recipe] = {}
    score: Score

    @property
    def training(self) -> Train:
        """The block `train`. Failure if this profile trains nothing."""
        if self.train is None:
            raise Failure("the profile in force trains nothing, it scores published nets: see docs/published-nets.md")
        return self.train

    @property
    def splits(self) -> tuple[Split, ...]:
        """The images that it needs: nobody trains, nobody needs training images."""
        return ("val",) if self.train is None else ("train", "val")


class Method(Block):
    """A number for each step of the method, raised when a change of its code changes results."""

    prepare: Positive
    published: Positive
    train: Positive
    score: Positive
    table: Positive


class Params(Block):
    """All of params.yaml."""

    profile: str
    weights: Origin
    imports: dict[str, Import]
    method: Method
    runs: dict[str, Run]
    crops: list[str]
    centre: list[str]
    profiles: dict[str, Profile]

    @property
    def chosen(self) -> Profile:
        """The profile in force."""
        return self.profiles[self.profile]

    @property
    def largest_scale(self) -> int:
        """The largest S of the grid, paper's pixels."""
        return max(run.scales[1] for run in self.runs.values())


def load(path: Path = PARAMS) -> Params:
    """Read and check `path`; UsageError says what is wrong in it, where, and what would be right."""
    try:
        return parse(path.read_bytes(), path)
    except FileNotFoundError:
        raise UsageError(f"there is no {path} here: run this in the root of the repository") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


@lru_cache(8)  # by the text: where it stands, and when it was read, makes no difference
def parse(text: bytes, path: Path) -> Params:
    """Check what stands in `path`, or is to stand there; UsageError as for `load`."""
    try:
        values = yaml.safe_load(text.decode())
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError: no UTF-8, or a date of no calendar
        raise UsageError(f"{path} is not YAML: {error}") from None
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise UsageError("\n".join(f"{path}: {line}" for line in _explain(error))) from None
    if problems := list(_contradictions(params)):
        raise UsageError("\n".join(f"{path}: {problem}" for problem in problems))
    return params


def nearest(word: str, words: Sequence[str]) -> str:
    """What `word` may have meant: the nearest of `words`, and all of them."""
    folded = {known.lower(): known for known in words}
    close = difflib.get_close_matches(word.lower(), folded, 1, 0.5)
    hint = f"Did you mean {folded[close[0]]}? " if close else ""
    return f"{hint}There are {', '.join(words)}"


def _explain(error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        keys = [str(part) for part in one["loc"] if not _is_branch(str(part))]
        place = ".".join(keys) or "the file"
        if one["type"] == "extra_forbidden":
            yield f"{place} is no key here. {nearest(keys[-1], _siblings(keys[:-1]))}"
        elif one["type"] == "missing":
            yield f"{place} is missing"
        elif one["type"] == "float_type" and isinstance(one["input"], str):
            yield f"{place} is the text {one['input']!r}, not a number; write 0.01, not 1e-2"
        else:
            yield f"{place} is {one['input']!r:.60}: {one['msg']}"


def _is_branch(part: str) -> bool:
    """Whether pydantic put `part` into a place to name the branch of a union or a validator."""
    return part in ("int", "[key]") or "[" in part


BLOCKS: dict[str, type[Block]] = {
    "method": Method, "runs": Run, "imports": Import, "data": Data, "digits": Digits, "prepare": Prepare, "net": Net,
    "train": Train, "recipes": Recipe, "score": Score, "profiles": Profile,
}  # fmt: skip


def _siblings(place: Sequence[str]) -> list[str]:
    """The right keys of the block at `place`."""
    for key in reversed(place):
        if key in BLOCKS:
            return list(BLOCKS[key].model_fields)
    return list(Params.model_fields)


def _contradictions(params: Params) -> Iterator[str]:
    """What is well formed and cannot be done all the same."""
    if params.profile not in params.profiles:
        yield f"profile is {params.profile}. {nearest(params.profile, list(params.profiles))}"
        return
    if params.chosen.train is None and params.weights == "trained":
        yield (
            f"weights is trained, and profile {params.profile} trains nothing: write weights: published beside "
            f"profile: {params.profile}, or another profile"
        )
    for name in params.imports:
        if name not in params.runs:
            yield f"imports names {name}, which is no run. {nearest(name, list(params.runs))}"
    for name in params.runs:
        yield from _bad_run(params, name)
    for mode in ("crops", "centre"):
        for name in getattr(params, mode):
            if name not in params.runs:
                yield f"{mode} names {name}, which is no run. {nearest(name, list(params.runs))}"
    for name, profile in params.profiles.items():
        yield from _bad_profile(name, profile)


def _bad_run(params: Params, name: str) -> Iterator[str]:
    run = params.runs[name]
    low, high = run.scales
    if any(character in name for character in "@/${} ") or name.startswith(RANDOM):
        yield f"runs.{name}: a run's name has no @, /, $, brace or space and does not begin with {RANDOM}"
    if low > high:
        yield f"runs.{name}.scale is [{low}, {high}]: the smaller comes first"
    if low - 32 * (low == high) < CROP:
        yield f"runs.{name}.scale is {low}: its images would be smaller than the crop of {CROP} in training or testing"
    if params.chosen.train is not None and run.recipe not in params.chosen.recipes:
        yield f"runs.{name}.recipe is {run.recipe}: profile {params.profile} has {', '.join(params.chosen.recipes)}"
    if run.init.startswith(RANDOM):
        if run.init != RANDOM + run.net:
            yield f"runs.{name}.init is {run.init}: a net {run.net} begins from {RANDOM}{run.net} or from a run"
    elif run.init not in params.runs:
        yield f"runs.{name}.init is {run.init}, which is no run. {nearest(run.init, list(params.runs))}"
    elif params.runs[run.init].net not in (run.net, "A") or (
        params.runs[run.init].net != run.net and run.net not in ("B", "C", "D", "E")
    ):
        yield f"runs.{name}.init is {run.init}: net {run.net} cannot begin from a net {params.runs[run.init].net}"
    elif name in _ancestors(params, name):
        yield f"runs.{name}.init leads back to {name} itself"


def _ancestors(params: Params, name: str) -> list[str]:
    """The runs that `name` begins from, the nearest first; one that comes again is named twice and ends the list."""
    found: list[str] = []
    at: str = params.runs[name].init
    while at in params.runs and at not in found:
        found.append(at)
        at = params.runs[at].init
    return found


def _bad_profile(name: str, profile: Profile) -> Iterator[str]:
    if profile.net.crop < 32:
        yield f"profiles.{name}.net.size_ratio is {profile.net.size_ratio}: a crop of {profile.net.crop} is below 32"
    if (profile.train is None) != (not profile.recipes):
        yield f"profiles.{name} has one of train and recipes: a profile that trains has both, another neither"
    for key in ("canvas", "digit") if profile.data.digits else ():
        low, high = getattr(profile.data.digits, key)
        if low > high:
            yield f"profiles.{name}.data.digits.{key} is [{low}, {high}]: the smaller comes first"
