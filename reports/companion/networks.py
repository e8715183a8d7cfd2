"""Section 2 of the paper: the networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.datasets.sources.ilsvrc.reference import CLASSES
from pipeline.experiment.paper_facts import FC
from pipeline.experiment.paper_tables import printed
from pipeline.experiment.params import CROP
from pipeline.results.illustrations import ReceptiveFields
from pipeline.results.net_sizes import ONE, STACKED, MapSize, Stack, built, map_sizes, parameter_counts, stacks
from pipeline.results.profile_results import Results
from reports.charts import Chart
from reports.companion.parts import (
    chart,
    differences,
    differs,
    name_of,
    question,
    section,
    table_links,
    unillustrated,
    word,
)
from reports.page import Block, Code, Heading, Inline, Paragraph, Table, Text, left, right
from reports.phrases import NONE
from vgg.nets import NETS, VGG, blocks, weight_layers

SIZES = ("image size", "width", "hidden fully connected layers", "classes", "input scale")
TABLED = [net for net in NETS if net != "shallow"]  # the networks of Table 1


def architecture(results: Results) -> Iterator[Block]:
    """Yield section 2.1."""
    yield from section(
        "2.1 Architecture",
        f"A network receives an RGB crop of {CROP} x {CROP} pixels. The only preprocessing is that the mean colour of "
        "the training images is subtracted. Nearly all convolutions are 3x3, the smallest size that has a centre and a "
        "neighbour on each side. They move by one pixel and pad the border, so they do not shrink the map. Only five "
        "max-poolings do, each by half. Two hidden fully connected layers follow, then one with an output per class, "
        "then a softmax. Every hidden layer has a ReLU.",
        (
            "Each network is one string of layers in ",
            Code("vgg/nets.py"),
            ", and the module is built from this string. The fully connected layers are stored as convolutions. For a "
            "crop that is the same computation. For a larger image the same weights give a whole map of class scores, "
            "which section 3.2 uses.",
        ),
        _sizes(results),
    )
    yield from differences(results, SIZES)
    yield Paragraph(
        f"A crop on its way through network {STACKED}: the map that leaves each part, as height x width x channels. A "
        "block ends with a pooling."
    )
    yield _way(results)
    yield question(
        "Where in the network are the maps large, and where are there many channels? Which part needs most of the "
        "memory, and which has most of the weights?"
    )


def _sizes(results: Results) -> Text:
    if differs(results, SIZES):
        return ("The layers are the paper's. Their sizes in ", *name_of(results), " are not:")
    return ("There is none: the layers of ", *name_of(results), " are the paper's, and so are their sizes.")


def own_net(results: Results, net: str) -> VGG | None:
    """Return a net as this profile builds it; None if its sizes are the paper's, or if they are not known."""
    if not results.settings or not results.facts:
        return None
    size, classes = results.settings.net, len(results.facts["classes"])
    same = size.size_ratio == size.width_ratio == 1 and (size.fc, classes) == (FC, CLASSES)
    return None if same else built(net, classes, size)


def _way(results: Results) -> Table:
    """Return the maps of a crop, in the paper and, if they differ, here."""
    columns = [list(map_sizes(built(STACKED, CLASSES)))]
    own = own_net(results, STACKED)
    if own and results.settings:
        columns.append(list(map_sizes(own, results.settings.net.crop)))
    rows = tuple((_part(sizes[0].part), *(_size(size) for size in sizes)) for sizes in zip(*columns, strict=True))
    return Table((*left("part"), *right("the paper", "here")[: len(columns)]), rows, ordered=True)


def _part(part: str) -> str:
    """Return a part with the convolutions of its block."""
    if not part.startswith("block"):
        return f"{part}, fully connected" if part.startswith("fc") else part
    layers = blocks(STACKED)[int(part.split()[1]) - 1]
    return f"{part}, {len(layers)} layers"


def _size(size: MapSize) -> str:
    return f"{size.side} x {size.side} x {size.channels:,}"


def configurations(results: Results) -> Iterator[Block]:
    """Yield section 2.2."""
    layers = [weight_layers(net) for net in TABLED]
    widths = [layer.channels for block in blocks("A") for layer in block]
    millions = {row["net"]: row["parameters_millions"] for row in printed("table2")}
    counts = {net: parameter_counts(built(net, CLASSES)) for net in NETS}
    deep = counts[STACKED]
    yield from section(
        "2.2 Configurations",
        f"Table 1 lists {word(len(TABLED))} networks with {min(layers)} to {max(layers)} layers that have weights. All "
        f"have the same plan: five blocks, the first of {widths[0]} channels, then twice as many after each pooling, "
        f"up to {widths[-1]}. Only the number of layers in a block grows from A to E. A-LRN is A with LRN. C and D are "
        "equally deep, but C's third layers are 1x1. Table 2 counts the parameters (weights and biases). Depth costs "
        f"few of them: {millions['A']} million in A, {millions['E']} million in E.",
        (
            "Both tables are computed from the networks as built: ",
            *table_links(results, "table1", "table2"),
            f". {_agreement(millions, {net: count.total for net, count in counts.items()})} The reason why depth is "
            f"cheap is in the last column: in {STACKED}, {_share(deep.fully_connected, deep.total)} of the parameters "
            "are in the three fully connected layers.",
        ),
        ("Table 2 here has one network more, the shallow one of section 4.1.", *_smaller(results)),
    )
    yield _parameters(results)


def _agreement(printed_millions: dict[str, str], counts: dict[str, int]) -> str:
    equal = sum(round(counts[net] / 1e6) == float(millions) for net, millions in printed_millions.items())
    which = f"all {word(equal)}" if equal == len(printed_millions) else f"{equal} of the {len(printed_millions)}"
    return f"Rounded to millions, {which} counts equal the printed ones."


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def _smaller(results: Results) -> tuple[Inline, ...]:
    own = [parameter_counts(net).total for net in (own_net(results, name) for name in TABLED) if net]
    if not own:
        return ()
    return (f" The networks of this profile have {min(own):,} to {max(own):,} parameters.",)


def _parameters(results: Results) -> Table:
    """Return the number of weights and biases of each net, at full size and here."""
    millions = {row["net"]: row["parameters_millions"] for row in printed("table2")}
    smaller = own_net(results, STACKED) is not None
    rows = []
    for net in NETS:
        full, own = parameter_counts(built(net, CLASSES)), own_net(results, net)
        sizes = [full] + ([parameter_counts(own)] if own else [])
        counted = [f"{size.total:,}" for size in sizes]
        shares = " / ".join(_share(size.fully_connected, size.total) for size in sizes)
        rows.append((net, str(weight_layers(net)), millions.get(net, NONE), *counted, shares))
    columns = ["weight layers", "Table 2, millions", "counted, full size", *["counted, here"] * smaller]
    shares = "in fully connected layers" + ": full size / here" * smaller
    return Table((*left("network"), *right(*columns, shares)), tuple(rows))


def discussion(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    """Yield section 2.3."""
    three, one = 3 * 3 * 3, ONE * ONE
    full, own = list(stacks(built(STACKED, CLASSES))), own_net(results, STACKED)
    small, large = full[0], full[-1]
    yield from section(
        "2.3 Discussion",
        f"Why small filters? Three 3x3 layers on top of each other see {ONE} x {ONE} pixels, as a single {ONE}x{ONE} "
        "layer does. But they have three ReLUs instead of one, so they can tell more apart, and they have fewer "
        f"weights. With C channels before and after, three 3x3 layers have {three} C² weights and one {ONE}x{ONE} "
        f"layer has {one} C², which is {_more(one, three)} more. The 1x1 layers of C add a ReLU and see no further.",
        "The paper argues; here both parts of the argument are measured. The weights are counted in the network as "
        "built. The receptive field is measured by the gradient: an input pixel belongs to it if one output unit "
        "changes when that pixel does.",
        f"The {_more(one, three)} are right for a block that receives as many channels as it returns, such as block "
        f"{large.block}. Where a block doubles the channels, the first of its 3x3 layers has fewer inputs. There, a "
        f"single {ONE}x{ONE} layer in place of the three would cost only {_more(small.one, small.three)} more.",
    )
    yield Paragraph(f"Weights of the blocks of three 3x3 layers in {STACKED}, and of one {ONE}x{ONE} layer instead:")
    yield _stacks(full, list(stacks(own)) if own else [])
    yield from _fields(results, charts)
    yield question(
        "Two 3x3 layers see as much as one 5x5 layer. How much of the weights do they save? Section 4.1 tests this "
        "pair."
    )


def _more(more: int, less: int) -> str:
    return f"{100 * (more / less - 1):.0f} %"


def _stacks(full: list[Stack], own: list[Stack]) -> Table:
    rows = []
    for place, stack in enumerate(full):
        here = [f"{own[place].three:,} / {own[place].one:,}"] if own else []
        channels = f"{stack.inward} to {stack.outward}"
        rows.append((str(stack.block), channels, f"{stack.three:,}", f"{stack.one:,}", *here,
                     _more(stack.one, stack.three)))  # fmt: skip
    columns = ["channels", "three 3x3", f"one {ONE}x{ONE}", *["here, both"] * bool(own), "more"]
    return Table((*left("block"), *right(*columns)), tuple(rows), ordered=True)


def _fields(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    """Yield the measured receptive fields of the stacks and of the nets, or the command that measures them."""
    yield Heading(3, "What one output sees")
    fields = results.illustrations.fields if results.illustrations else ReceptiveFields()
    if not fields.nets:
        yield Paragraph(unillustrated("The receptive fields"))
        return
    yield from chart(charts, "receptive")
    sides = {field.net: field.side for field in fields.nets}
    yield Paragraph(_sight(results, sides))
    nets = left("network", "last convolution"), right("weight layers", "sees, pixels")
    rows = ((field.net, field.layer, str(weight_layers(field.net)), f"{field.side} x {field.side}")
            for field in fields.nets)  # fmt: skip
    yield Table((*nets[0], *nets[1]), tuple(rows), ordered=True)


def _sight(results: Results, sides: Mapping[str, int]) -> str:
    """Return what the fields of whole nets tell."""
    own = results.settings.net.crop if results.settings else CROP
    small = ""
    if own <= min(sides.values()):
        small = (
            f" This profile has the same filters, but crops of {own} pixels. So in every network a unit in the middle "
            "sees the whole crop."
        )
    return (
        f"The poolings multiply what each later layer adds. A unit of the last convolution sees {sides['A']} pixels in "
        f"A, {sides[STACKED]} in {STACKED} and {sides['E']} in E, while a crop of the paper has {CROP}. C sees as far "
        f"as B, {sides['B']} pixels, because its 1x1 layers add nothing. So does the shallow network of section "
        f"4.1.{small}"
    )
