"""Copies of a stand-in for ILSVRC-2012 as people have them: Kaggle's, Hugging Face's, WebDataset's, renamed trees."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.ilsvrc_files import (
    DEVKIT,
    IlsvrcImage,
    Member,
    StandIn,
    member,
    pack,
    zipped,
)

CLS_LOC = "ILSVRC/Data/CLS-LOC"
Copy = Callable[[StandIn, Path], Path]


def put(path: Path, data: bytes | str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def wnid(made: StandIn, image: IlsvrcImage) -> str:
    """The image's class."""
    return made.wnids[image.label]


def shuffled(made: StandIn, split: str) -> list[IlsvrcImage]:
    """A split's images in no order, as shards have them."""
    images = made.images[split]
    return [images[i] for i in made.random.permutation(len(images))]


def dealt(images: Sequence[IlsvrcImage], shards: int) -> list[list[IlsvrcImage]]:
    """The images in so many shards."""
    return [list(images[first::shards]) for first in range(shards)]


# Kaggle


def kaggle_files(made: StandIn) -> dict[str, bytes]:
    """Everything in Kaggle's download by its path, without the development kit."""
    files = {}
    for split, images in made.images.items():
        for image in images:
            folder = f"train/{wnid(made, image)}" if split == "train" else "val"
            files[f"{CLS_LOC}/{folder}/{image.id}.JPEG"] = image.data
            if image.annotation:
                xml = image.annotation.xml(folder, wnid(made, image))
                files[f"ILSVRC/Annotations/CLS-LOC/{folder}/{image.id}.xml"] = xml
    files[f"{CLS_LOC}/test/ILSVRC2012_test_00000001.JPEG"] = made.val[0].data
    files["ILSVRC/ImageSets/CLS-LOC/val.txt"] = b"ILSVRC2012_val_00000001 1\n"
    files["LOC_synset_mapping.txt"] = "".join(f"{one} {made.words[one]}\n" for one in made.wnids).encode()
    for split, images in made.images.items():
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["ImageId", "PredictionString"])
        listed = [image for image in images if image.annotation or split == "val"]
        table.writerows([image.id, solution(made, image)] for image in listed)
        files.update({f"LOC_{split}_solution.csv": text.getvalue().encode()} if listed else {})
    return files


def solution(made: StandIn, image: IlsvrcImage) -> str:
    """An image's objects in a LOC_*_solution.csv; its class alone if it has none."""
    boxes = image.annotation.boxes if image.annotation else ()
    return "".join(f"{wnid(made, image)} {' '.join(map(str, box))} " for box in boxes) or wnid(made, image)


def without_annotations(made: StandIn) -> dict[str, bytes]:
    """The same without the annotations, whose boxes the lists have too."""
    return {name: data for name, data in kaggle_files(made).items() if "Annotations" not in name}


def kaggle_tree(made: StandIn, root: Path) -> Path:
    """Kaggle's download, unpacked."""
    return unpacked(kaggle_files(made), root)


def kaggle_listed_tree(made: StandIn, root: Path) -> Path:
    """The same without the annotations."""
    return unpacked(without_annotations(made), root)


def unpacked(files: Mapping[str, bytes], root: Path) -> Path:
    """Files at their paths."""
    for name, data in files.items():
        put(root / name, data)
    return root


def kaggle_images(made: StandIn, root: Path) -> Path:
    """The same, by the path of the images."""
    return kaggle_tree(made, root) / CLS_LOC


def kaggle_zip(made: StandIn, root: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Kaggle's download as it is."""
    return zip_of(kaggle_files(made), root, method)


def kaggle_stored_zip(made: StandIn, root: Path) -> Path:
    """The same, without compression."""
    return kaggle_zip(made, root, zipfile.ZIP_STORED)


def kaggle_listed_zip(made: StandIn, root: Path) -> Path:
    """The same, without the annotations."""
    return zip_of(without_annotations(made), root)


def zip_of(files: Mapping[str, bytes], root: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of Kaggle's name."""
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "imagenet-object-localization-challenge.zip", "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return root


def kaggle_tar(made: StandIn, root: Path, order: Sequence[str] = ("Annotations", "Data", "ImageSets")) -> Path:
    """Kaggle's older download: one tar.gz of all images in this `order` of folders, and the lists, packed, beside it.

    The training images' list is an own download that few have.
    """
    files = kaggle_files(made)
    inside = [member(name, data) for part in order for name, data in files.items() if f"/{part}/" in name]
    put(root / "imagenet_object_localization_patched2019.tar.gz", zipped(pack(inside, made.format)))
    return packed_lists(files, root, ["LOC_val_solution.csv", "LOC_synset_mapping.txt"])


def kaggle_late_tar(made: StandIn, root: Path) -> Path:
    """The same with the annotations behind the images, and no list that has boxes."""
    files = kaggle_files(made)
    made.archives(root, [DEVKIT])
    kaggle_tar(made, root, ["Data", "Annotations", "ImageSets"])
    (root / "LOC_val_solution.csv.zip").unlink()
    return packed_lists(files, root, ["LOC_synset_mapping.txt"])


def kaggle_listed_tar(made: StandIn, root: Path) -> Path:
    """The same without annotations, and with all lists beside it."""
    kaggle_tar(made, root, ["Data", "ImageSets"])
    return packed_lists(kaggle_files(made), root, ["LOC_train_solution.csv"])


def kaggle_whole_tar(made: StandIn, root: Path, lists_first: bool = True) -> Path:
    """All of Kaggle's files without the annotations in one tar.gz."""
    files = sorted(without_annotations(made).items(), key=lambda item: item[0].startswith("LOC") != lists_first)
    put(root / "imagenet.tar.gz", zipped(pack([member(*item) for item in files], made.format)))
    return root


def packed_lists(files: Mapping[str, bytes], root: Path, names: Sequence[str]) -> Path:
    """Lists as Kaggle packs single files."""
    for name in names:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(name, files[name])
        put(root / f"{name}.zip", buffer.getvalue())
    return root


# Hugging Face


def hugging_name(made: StandIn, image: IlsvrcImage) -> str:
    """An image's name there."""
    return f"{image.id}_{wnid(made, image)}.JPEG"


def hugging_tars(made: StandIn, root: Path, packed: bool = True) -> Path:
    """train_images_N.tar.gz and val_images.tar.gz."""
    ending, pack_it = (".tar.gz", zipped) if packed else (".tar", bytes)
    shards = dealt(shuffled(made, "train"), 3)
    for number, images in enumerate(shards):
        members = [member(hugging_name(made, image), image.data) for image in images]
        put(root / f"data/train_images_{number}{ending}", pack_it(pack(members, made.format)))
    members = [member(hugging_name(made, image), image.data) for image in shuffled(made, "val")]
    put(root / f"data/val_images{ending}", pack_it(pack(members, made.format)))
    put(root / "classes.py", "IMAGENET2012_CLASSES = {}\n")
    put(root / "README.md", "a data card\n")
    return root


def hugging_plain_tars(made: StandIn, root: Path) -> Path:
    """The same, unpacked from gzip."""
    return hugging_tars(made, root, packed=False)


def hugging_folders(made: StandIn, root: Path) -> Path:
    """What people unpack them to: class folders, names with the class behind."""
    for split, images in made.images.items():
        for image in images:
            put(root / split / wnid(made, image) / hugging_name(made, image), image.data)
    return root


def parquet_file(rows: list[dict[str, object]], features: list[str] | None = None, group: int = 5) -> bytes:
    """A parquet file of rows, with the names of its classes' numbers where it says them."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(rows)
    if features is not None:
        info = {"info": {"features": {"label": {"names": features, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, row_group_size=group)
    return buffer.getvalue()


def hugging_parquet(made: StandIn, root: Path) -> Path:
    """data/train-00000-of-00003.parquet and so on."""
    for split, name, shards in (("train", "train", 3), ("val", "validation", 2)):
        for number, images in enumerate(dealt(shuffled(made, split), shards)):
            rows: list[dict[str, object]] = [
                {"image": {"bytes": image.data, "path": hugging_name(made, image)}, "label": image.label}
                for image in images
            ]
            words = [made.words[one] for one in made.wnids]
            put(root / f"data/{name}-{number:05d}-of-{shards:05d}.parquet", parquet_file(rows, words))
    rows = [{"image": {"bytes": made.val[0].data, "path": "ILSVRC2012_test_00000001.JPEG"}, "label": -1}]
    put(root / "data/test-00000-of-00001.parquet", parquet_file(rows))
    return root


# WebDataset


def web_members(made: StandIn, image: IlsvrcImage, beside: str, key: str | None = None) -> list[Member]:
    """A sample: the image, and its class beside it."""
    key = image.id if key is None else key
    members = [member(f"{key}.jpg", image.data)]
    if "cls" in beside:
        members.insert(0, member(f"{key}.cls", str(image.label).encode()))
    if "json" in beside:
        fields = {"filename": f"{wnid(made, image)}/{image.id}.JPEG", "label": image.label, "height": 1, "width": 1}
        members.append(member(f"{key}.json", json.dumps(fields).encode()))
    return members


def web_tars(made: StandIn, root: Path, beside: str = "cls json", keys: bool = True) -> Path:
    """imagenet1k-train-0000.tar and so on, as timm's."""
    for split, name, shards in (("train", "train", 3), ("val", "validation", 2)):
        for number, images in enumerate(dealt(shuffled(made, split), shards)):
            members = [
                one
                for place, image in enumerate(images)
                for one in web_members(made, image, beside, None if keys else f"{number:04d}{place:06d}")
            ]
            put(root / f"imagenet1k-{name}-{number:04d}.tar", pack(members, made.format))
    put(root / "_info.json", "{}")
    return root


def web_cls(made: StandIn, root: Path) -> Path:
    """With the class's number only."""
    return web_tars(made, root, "cls")


def web_json_keys(made: StandIn, root: Path) -> Path:
    """With keys that are numbers, and the file's name in the json."""
    return web_tars(made, root, "cls json", keys=False)


# Other trees


def class_tars(made: StandIn, root: Path) -> Path:
    """The outer archive unpacked, those of the classes not."""
    for one in made.wnids:
        put(root / "train" / f"{one}.tar", pack(made.class_members(one), made.format))
    put(root / "val/ILSVRC2012_img_val.tar", pack(made.val_members(), made.format))
    made.archives(root, [DEVKIT])
    return root


def val_below(made: StandIn, root: Path) -> Path:
    """The validation images in a folder of their own name below val/."""
    made.tree(root, "flat", "folder")
    images = [path for path in (root / "val").iterdir() if path.is_file()]
    for path in images:
        put(root / "val/ILSVRC2012_img_val" / path.name, path.read_bytes())
        path.unlink()
    return root


def packed_tree(made: StandIn, root: Path) -> Path:
    """A tree that somebody packed: imagenet.tar.gz with train/ and val/."""
    members = [
        member(f"imagenet/{split}/{wnid(made, image)}/{image.id}.JPEG", image.data)
        for split in made.images
        for image in shuffled(made, split)
    ]
    put(root / "imagenet.tar.gz", zipped(pack(members, made.format)))
    return root


def renamed(made: StandIn, root: Path) -> Path:
    """Odd folders, endings and prefixes; the published names are still in the names."""
    for split, images in made.images.items():
        for number, image in enumerate(images):
            folder = f"{wnid(made, image)}-{made.words[wnid(made, image)].split(',')[0]}"
            name = (f"{image.id}.jpg", f"{number:07d}_{image.id}.jpeg", f"{image.id}-copy.JPEG")[number % 3]
            put(root / "ImageNet-1k" / split.replace("val", "validation") / folder / "images" / name, image.data)
    return root


COPIES: dict[str, Copy] = {
    "Kaggle's tree": kaggle_tree,
    "Kaggle's tree, below": kaggle_images,
    "Kaggle's zip": kaggle_zip,
    "Kaggle's zip, stored": kaggle_stored_zip,
    "Kaggle's tree, lists": kaggle_listed_tree,
    "Kaggle's zip, lists": kaggle_listed_zip,
    "Kaggle's tar.gz": kaggle_tar,
    "Kaggle's tar.gz, late": kaggle_late_tar,
    "Kaggle's tar.gz, lists": kaggle_listed_tar,
    "Kaggle's tar.gz, whole": kaggle_whole_tar,
    "Hugging Face's tar.gz": hugging_tars,
    "Hugging Face's tars, gunzipped": hugging_plain_tars,
    "Hugging Face's folders": hugging_folders,
    "Hugging Face's parquet": hugging_parquet,
    "WebDataset, timm's": web_tars,
    "WebDataset, cls": web_cls,
    "WebDataset, keys made up": web_json_keys,
    "tars of classes": class_tars,
    "val below": val_below,
    "a packed tree": packed_tree,
    "renamed": renamed,
}
WITH_ANNOTATIONS = ("Kaggle's tree", "Kaggle's tree, below", "Kaggle's zip", "Kaggle's zip, stored", "Kaggle's tar.gz",
                    "Kaggle's tar.gz, late", "val below")  # fmt: skip
WITH_LISTS = tuple(name for name in COPIES if name.endswith((", lists", ", whole")))  # of boxes, which have no sizes
