"""The content of params.yaml as typed values. dvc.yaml names the keys of `train` and `score` one by one."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.errors import Failure
from pipeline.experiment.other_sets import Aggregation, SetTable
from pipeline.experiment.run_names import Kind

NetName = Literal["A", "A-LRN", "B", "C", "D", "E", "shallow"]
RecipeName = Literal["scratch", "warm", "finetune", "jitter", "localise"]
InitName = Literal["normal", "glorot", "he"]
Device = Literal["auto", "cpu", "gpu"]
Decoder = Literal["auto", "dali", "pillow"]  # pipeline/system/decoders.py
Precision = Literal["float32", "tf32", "bfloat16"]
Origin = Literal["trained", "published"]  # of the scored weights
Figure = Literal["published", "frameworks", "trained"]  # kinds of weights, and of printed errors, for their rules
Split = Literal["train", "val"]
Alphabet = Literal["latin", "greek", "cyrillic"]
Located = Literal["table3", "table8"]
BOXED = ("characters", "digits", "ilsvrc2012")  # the sources with boxes; of ILSVRC they are archives of their own
NETS: tuple[str, ...] = get_args(NetName)
ROUNDING = ("threads", "device", "processes")  # keys of train and score that affect rounding only
RANDOM = "random-"  # an init of random-NET means that net's random weights
CROP = 224  # section 2.1, in the paper's pixels
SAVE_EVERY = 300.0  # seconds between checkpoints inside an epoch; there is one at the end of each epoch


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
Processes = Literal["auto"] | Few  # auto: one per GPU
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # half of a Philox key
PositiveFloat = Annotated[float, Field(gt=0)]
Proportion = Annotated[float, Field(ge=0, lt=1)]
PixelRange = Annotated[tuple[Positive, Positive], BeforeValidator(_tuple)]
Part = Annotated[float, Field(gt=0, le=1)]
Parts = Annotated[tuple[Part, Part], BeforeValidator(_tuple)]
Ratio = Annotated[Fraction, BeforeValidator(_fraction), Field(gt=0, le=1)]
Three = Annotated[tuple[float, float, float], BeforeValidator(_tuple)]


class Block(BaseModel):
    """A block of params.yaml without unknown keys, silent conversions or later changes."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class Run(Block):
    """A row of the grid: a net trained from given initial weights at one scale S or a range of scales."""

    net: NetName
    scale: Positive | PixelRange
    init: str
    recipe: RecipeName
    layers: Literal["all", "fc"] = "all"

    @property
    def scales(self) -> tuple[int, int]:
        """Return the smallest and the largest S, in the paper's pixels."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale, self.scale)


class Localiser(Block):
    """A row of `localisers`: a net that predicts boxes, trained from a run, which gives its net and S (appendix A)."""

    run: str
    boxes: Literal["one", "class"]  # one for all classes (SCR), or one per class (PCR)
    layers: Literal["all", "fc"] = "all"
    recipe: RecipeName

    def outputs(self, classes: int) -> int:
        """Return the number of outputs of the last FC layer: a box has four (appendix A.1)."""
        return 4 * (classes if self.boxes == "class" else 1)


class Windows(Block):
    """A row of `windows`: at which Q a localiser is applied densely, and the run whose class scores rate its boxes."""

    scores: str
    scales: Annotated[tuple[Positive, ...], BeforeValidator(_tuple), Field(min_length=1)]


class OtherSet(Block):
    """A row of `datasets`: a data set of appendix B, where it is, and how its images are described."""

    source: str  # a row of pipeline.datasets.readers.READERS
    path: str | None  # of its archives or its folder; None: it is drawn
    table: SetTable
    scales: Annotated[tuple[Positive, ...], BeforeValidator(_tuple), Field(min_length=1)]  # Q
    aggregate: Aggregation  # of the descriptors of all Q


class UnlabelledSet(Block):
    """A row of `test_sets`: where the images are whose labels only an evaluation server knows."""

    path: Annotated[str, Field(min_length=1)]  # of the archive or the folder, or of one above it


class Initialisation(Block):
    """Values of a profile's `net` that a run has instead of the profile's."""

    init: InitName
    std: PositiveFloat
    last_std: PositiveFloat | None
    input_scale: PositiveFloat


class ExtraWeights(Block):
    """A row of `extra.random`: random weights of a net with a seed, and perhaps an initialisation, of their own."""

    net: NetName
    seed: Seed
    initialisation: Initialisation | None = None  # None: the profile's


class ExtraRun(Run):
    """A row of `extra.runs`: a run with a seed, and perhaps an initialisation, of its own."""

    seed: Seed
    initialisation: Initialisation | None = None


class Extra(Block):
    """What the active profile adds to the grid (pipeline/experiment/extra_runs.py): weights, runs, scores by mode."""

    random: dict[str, ExtraWeights]
    runs: dict[str, ExtraRun]
    dense: dict[str, Kind]
    crops: dict[str, Kind]
    centre: dict[str, Kind]


class Import(Block):
    """A published net's file, and the facts that its format does not determine (vgg-repro weights import)."""

    file: Annotated[str, Field(min_length=1)]
    channels: Literal["RGB", "BGR"] | None = None
    range: Literal[1, 255] | None = None
    mean: Three | None = None  # in the order of the channels and in the range
    std: Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], BeforeValidator(_tuple)] | None = None
    class_map: str | None = None  # path of a file
    class_map_sha256: str | None = None


class DigitsParams(Block):
    """The drawing parameters of source `digits`; lengths are in the paper's pixels."""

    seed: Seed
    canvas: PixelRange
    digit: Parts
    spread: Proportion
    texture: Annotated[float, Field(ge=0)]


class CharactersParams(Block):
    """The drawing parameters of source `characters`; lengths are in the paper's pixels."""

    seed: Seed
    alphabets: Annotated[tuple[Alphabet, ...], BeforeValidator(_tuple), Field(min_length=1)]
    train_images: Positive  # per face and character
    val_images: Positive
    canvas: PixelRange
    size: Parts
    spread: Proportion
    rotation: Annotated[float, Field(ge=0, lt=180)]
    shear: Proportion
    texture: Annotated[float, Field(ge=0)]


class Data(Block):
    """The source of images."""

    source: str  # a row of pipeline.datasets.sources.SOURCES
    path: str | None
    limit: Positive | None
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.2  # for images without val/
    follow_links: bool = False  # links in a folder of images that lead out of it
    digits: DigitsParams | None = None  # for source digits
    characters: CharactersParams | None = None  # for source characters


class Prepare(Block):
    """The parameters that turn a source into shards."""

    rescale: Literal["train", "none"]
    quality: Annotated[int, Field(ge=1, le=100)]
    chroma: Literal["4:4:4", "4:2:2", "4:2:0"]
    upright: bool
    shared: Literal["drop", "keep"]
    max_aspect: Annotated[float, Field(ge=2)]
    shard_images: Positive
    max_unreadable: Annotated[float, Field(ge=0, le=1)]
    processes: Few | None
    device: Literal["cpu", "gpu"]  # not auto: a GPU decodes to other pixels
    colour_profiles: Literal["ignore", "convert"] | None = None  # None: as the source is usually read


class Net(Block):
    """The nets' size, initial weights and input."""

    size_ratio: Ratio
    width_ratio: Ratio
    fc: Positive
    dropout: Proportion
    init: InitName
    std: PositiveFloat
    last_std: PositiveFloat | None
    input_scale: PositiveFloat

    @property
    def papers_size(self) -> bool:
        """Return True if sizes in pixels and numbers of channels are the paper's."""
        return self.size_ratio == self.width_ratio == 1

    def pixels(self, paper: int) -> int:
        """Convert a length from the paper's pixels to this profile's whole pixels."""
        return round(paper * self.size_ratio)

    @property
    def crop(self) -> int:
        """Return the side of the training crop, in this profile's pixels."""
        return self.pixels(CROP)

    @property
    def vgg_size(self) -> tuple[int, float, int]:
        """Return the crop, the share of the channels and the FC layers' outputs, as `VGG` takes them."""
        return self.crop, float(self.width_ratio), self.fc

    @property
    def full_size(self) -> bool:
        """Return True if the nets have all of the paper's channels."""
        return self.width_ratio == 1


class Train(Block):
    """The parameters that all four kinds of training share (section 3.1)."""

    seed: Seed
    batch: Positive
    momentum: Proportion
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
        """Return the values that shape a run: all except ROUNDING."""
        return self.model_dump(mode="json", exclude=set(ROUNDING))


class Recipe(Block):
    """The parameters that differ between the kinds of training."""

    learning_rate: PositiveFloat
    epochs: Positive
    first_drop: Annotated[int, Field(ge=0)] = 0


class Score(Block):
    """The parameters of the evaluations in section 3.2."""

    mean: Literal["before_softmax", "after_softmax"]
    remainder: Literal["ceil", "even", "floor"]
    resize: Literal["bilinear", "bicubic"]
    batch: Positive
    precision: Precision
    threads: Few
    device: Device
    processes: Processes


class Localise(Block):
    """The choices of localisation that the paper leaves open (docs/paper.md)."""

    min_visible: Annotated[float, Field(ge=0, le=1)]  # share of a box that a training crop shows, or it has no weight
    above: bool  # a box is right above an overlap of 0.5 (the paper), not from it on (the development kit)
    excluded: str | None  # file that lists validation images which are not counted, by number or by name
    thresholds: Annotated[tuple[PositiveFloat, ...], BeforeValidator(_tuple), Field(min_length=1)]  # of merging
    tuning_images: Positive  # training images on which the threshold is chosen


class Transfer(Block):
    """The choices of appendix B that the paper leaves open (docs/paper.md)."""

    seed: Seed  # of the random splits and of the SVM
    activations: Literal["after_relu", "before_relu"]  # of the layer before the last one
    dtype: Literal["float32", "float16"]  # of the kept features
    normalise: Literal["once", "each"]  # after the aggregation over Q, or also each Q before it
    costs: Annotated[tuple[PositiveFloat, ...], BeforeValidator(_tuple), Field(min_length=1)]  # C, to be chosen from


class DrawnSets(Block):
    """The drawing parameters of the embedded data sets of appendix B; lengths are in the paper's pixels."""

    seed: Seed
    canvas: PixelRange
    rotation: Annotated[float, Field(ge=0, lt=180)]
    shear: Proportion
    texture: Annotated[float, Field(ge=0)]
    scenes: Positive  # images for training, as many for validation, twice as many for testing
    few_shot: Positive  # images per class
    boxed: Positive  # images for training, as many for validation


class InitialisationRuns(Block):
    """Section 3.1's comparison of initial weights: the nets, and the standard deviation of the normal weights."""

    nets: list[Literal["A", "B", "C", "D", "E"]]
    std: PositiveFloat
    input_scale: PositiveFloat


class Profile(Block):
    """A size of the whole experiment. Without `train` it only scores published nets."""

    data: Data
    prepare: Prepare
    net: Net
    train: Train | None = None
    recipes: dict[RecipeName, Recipe] = {}
    score: Score
    localise: Localise | None = None
    transfer: Transfer | None = None
    drawn: DrawnSets | None = None  # without it, the embedded data sets cannot be in `datasets`
    seeds: list[Seed] = []  # of the runs in `seed_runs`, the first is train.seed; empty: train.seed alone
    seed_runs: list[str] = []
    initialisation: InitialisationRuns | None = None

    @property
    def converts_colours(self) -> bool:
        """Return whether images with other colours than sRGB are converted: by default the user's own images."""
        default = "convert" if self.data.source == "imagefolder" else "ignore"
        return (self.prepare.colour_profiles or default) == "convert"

    @property
    def training(self) -> Train:
        """Return the block `train`. Raise Failure if this profile has none."""
        if self.train is None:
            raise Failure(
                "the active profile has no `train` section: it only evaluates published weights "
                "(docs/published-nets.md)"
            )
        return self.train

    @property
    def localises(self) -> bool:
        """Return True if localisers can be trained: the block `localise` is there, and the images have boxes."""
        return self.data.source in BOXED and self.train is not None and self.localise is not None

    @property
    def localising(self) -> Localise:
        """Return the block `localise`. Raise Failure if this profile has none."""
        if self.localise is None:
            raise Failure("the active profile has no `localise` section: copy that of profile paper in params.yaml")
        return self.localise

    @property
    def transferring(self) -> Transfer:
        """Return the block `transfer`. Raise Failure if this profile has none."""
        if self.transfer is None:
            raise Failure("the active profile has no `transfer` section: copy that of profile paper in params.yaml")
        return self.transfer

    @property
    def every_seed(self) -> list[int]:
        """Return the seeds, the first one first; an empty list if this profile does not train."""
        return self.seeds or ([self.train.seed] if self.train else [])

    @property
    def splits(self) -> tuple[Split, ...]:
        """Return the splits that the profile needs. Without training, the training images are not needed."""
        return ("val",) if self.train is None else ("train", "val")


class Method(Block):
    """The version number of each step of the method. It is raised when a code change changes results."""

    prepare: Positive
    published: Positive
    train: Positive
    score: Positive
    table: Positive
    localise: Positive
    transfer: Positive


class CellRule(Block):
    """How a measured error of one kind is judged against a printed one."""

    tolerance: PositiveFloat  # in points
    share: Part  # of images that the two nets decide differently


class Evidence(Block):
    """The parameters of the verdicts on claims and on single errors."""

    margin: PositiveFloat  # in points
    cells: Annotated[dict[Figure, CellRule], Field(min_length=len(get_args(Figure)))]  # a rule for each


class Params(Block):
    """The whole of params.yaml."""

    profile: str
    weights: Origin
    decoder: Decoder
    imports: dict[str, Import]
    method: Method
    runs: dict[str, Run]
    crops: list[str]
    centre: list[str]
    localisers: dict[str, Localiser]
    windows: dict[str, Windows]
    datasets: dict[str, OtherSet]
    test_sets: dict[str, UnlabelledSet]
    evidence: Evidence
    profiles: dict[str, Profile]
    extra: Extra
    located: Located  # the table of boxes that the claims need; table3, which they need anyway, if there can be none

    @property
    def active(self) -> Profile:
        """Return the active profile."""
        return self.profiles[self.profile]

    @property
    def needed_by_claims(self) -> Located:
        """Return the value of `located` that the active profile needs."""
        return "table8" if self.active.localises else "table3"

    @property
    def all_runs(self) -> dict[str, Run]:
        """Return the runs of the grid, and those that the active profile adds."""
        return {**self.runs, **self.extra.runs}

    @property
    def localises(self) -> bool:
        """Return True if localisers are trained: the active profile can, and its nets are trained here."""
        return self.active.localises and self.weights == "trained"

    @property
    def all_trained(self) -> dict[str, Run]:
        """Return everything that is trained: all runs, and the localisers as runs."""
        return {**self.all_runs, **{name: self.localiser_run(name) for name in self.localisers}}

    def localiser_run(self, name: str) -> Run:
        """Return the localiser `name` as a run: net and S of the run that it starts from."""
        row = self.localisers[name]
        begun = self.runs[row.run]
        return Run(net=begun.net, scale=begun.scale, init=row.run, recipe=row.recipe, layers=row.layers)

    def for_run(self, name: str) -> Params:
        """Return the parameters of the run `name`, which are its own if the profile adds it or it is a localiser.

        An added run has its row, seed and initial weights; a localiser is among the runs.
        """
        if name in self.localisers:
            runs = {**self.runs, name: self.localiser_run(name)}
            return self.model_copy(update={"runs": runs, "weights": "trained"})
        row = self.extra.runs.get(name)
        if row is None:
            return self
        return self._varied(row).model_copy(update={"runs": {**self.runs, name: row}, "weights": "trained"})

    def for_set(self, name: str) -> Params:
        """Return the parameters by which the data set `name` is prepared: all its images are kept as they are."""
        row = self.datasets.get(name)
        source, path = (row.source, row.path) if row else (name, self.test_sets[name].path)
        data = Data(source=source, path=path, limit=None)
        profile = self.active.model_copy(update={"data": data, "train": None, "recipes": {}})
        return self.model_copy(update={"profiles": {**self.profiles, self.profile: profile}})

    def for_random(self, name: str) -> tuple[Params, str]:
        """Return the parameters and the net of the random weights `name`: a net's own, or a row of `extra.random`."""
        row = self.extra.random.get(name)
        return (self, name) if row is None else (self._varied(row), row.net)

    def _varied(self, row: ExtraWeights | ExtraRun) -> Params:
        """Return the same parameters with the seed and the initial weights of `row` in the active profile."""
        profile = self.active
        train = profile.training.model_copy(update={"seed": row.seed})
        values = row.initialisation.model_dump() if row.initialisation else {}
        varied = profile.model_copy(update={"train": train, "net": profile.net.model_copy(update=values)})
        return self.model_copy(update={"profiles": {**self.profiles, self.profile: varied}})

    @property
    def largest_scale(self) -> int:
        """Return the largest S of the grid, in the paper's pixels."""
        return max(run.scales[1] for run in self.runs.values())
