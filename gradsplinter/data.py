"""Data sets of the field by name: digits, iris, MNIST and Fashion-MNIST, from wherever they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradsplinter import data_files
from gradsplinter.checks import check_bool, check_path
from gradsplinter.wording import missing_extra

FOLDER_VARIABLE = "GRADSPLINTER_DATA"
"""The environment variable with the folder where `load` looks."""
DEBIAN = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Where Debian's package dataset-fashion-mnist has its files."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples with their classes."""

    x: Tensor
    """float32 `[N, h]`; images row by row, from 0 (background) to 1."""
    y: Tensor
    """int64 `[N]`: the class of each example."""
    classes: tuple[str, ...]
    """Their names."""
    image_shape: tuple[int, int] | None
    """Height and width, where examples are images."""
    source: str
    """Where it was found."""

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        sizes = (
            f"{self.x.shape[1]} inputs"
            if self.image_shape is None
            else "x".join(map(str, self.image_shape))
        )
        return f"Dataset({len(self):,} examples of {sizes}, {len(self.classes)} classes, from {self.source})"


@dataclass(frozen=True)
class _Published:
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    archives: Mapping[str, str]
    """By file: checksum of its .gz at the mirrors, as pooch takes it."""
    contents: Mapping[str, str]
    """By file: SHA-256 of what is in it, since some have compressed it anew."""


PUBLISHED = {
    "mnist": _Published(
        tuple("0123456789"),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion-mnist": _Published(
        (
            "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
            "bag", "ankle boot",
        ),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        {
            "train-images-idx3-ubyte": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte": "md5:25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte": "md5:bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte": "md5:bb300cfdad3c16e7a12a480ee83cd310",
        },
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
}  # fmt: skip
SCIKIT_LEARN = ("digits", "iris")


def load(
    name: str,
    part: str = "train",
    *,
    folder: str | Path | None = None,
    download: bool = True,
) -> Dataset:
    """A data set by name.

    MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017) are looked for in `folder`; without it
    in the folder that the environment variable GRADSPLINTER_DATA names, then where Debian's package
    dataset-fashion-mnist has its files, and then they are downloaded by pooch, once, into its cache. What
    comes from the last two is checked to be what was published. Digits (8x8; Alpaydin and Kaynak 1998)
    and iris (Fisher 1936) come with scikit-learn.

    Args:
        name: "mnist", "fashion-mnist", "digits" or "iris".
        part: "train", "test" or "all", which is train and then test. Digits and iris have no parts of
            their own: here every fifth example of each class is in "test".
        folder: of MNIST or Fashion-MNIST. In it, or in a folder of it that is called `name`, are the
            files as published (train-images-idx3-ubyte and so on, with .gz or without), or `name`.npz with
            x_train (uint8 `[N, 28, 28]`), y_train (integers `[N]`) and, for the test part, x_test and
            y_test.
        download: False to use what is there only.

    Raises:
        ValueError: an unknown name or part; a file that is damaged, or that holds something else.
        FileNotFoundError: there is no such data; says how to provide it.
        ImportError: scikit-learn is missing.

    Examples:
        >>> iris = load("iris")
        >>> iris
        Dataset(120 examples of 4 inputs, 3 classes, from scikit-learn)
        >>> iris.x.shape, iris.classes
        (torch.Size([120, 4]), ('setosa', 'versicolor', 'virginica'))
    """
    names = (*PUBLISHED, *SCIKIT_LEARN)
    if name not in names:
        raise ValueError(f"name must be one of {', '.join(names)}, got {name!r}")
    if part not in ("train", "test", "all"):
        raise ValueError(f"part must be train, test or all, got {part!r}")
    check_bool(download, "download")
    if name in SCIKIT_LEARN:
        if folder is not None:
            raise ValueError(f"folder must not be given for {name}, which scikit-learn has")
        return _from_scikit_learn(name, part)
    parts = ("train", "test") if part == "all" else (part,)
    looked = []
    for place, published in _places(name, folder):
        found = _in_folder(place, name, parts, published)
        if found is not None:
            return found
        looked.append(str(place))
    trouble = "Nothing was downloaded"
    if folder is None and download:
        try:
            return _downloaded(name, parts)
        except (ImportError, OSError) as error:
            trouble = str(error)
    files = ", ".join(f"{file}.gz" for part in parts for file in data_files.IDX_FILES[part])
    raise FileNotFoundError(
        f"{name} must be provided, in a folder that the environment variable {FOLDER_VARIABLE} names "
        f"(in Python also `folder`): {files}; or {name}.npz. Looked in: {', '.join(looked) or 'no folder'}. {trouble}."
    )


def _places(name: str, folder: str | Path | None) -> Iterator[tuple[Path, bool]]:
    """Folders to look in, and whether they must hold what was published."""
    given = folder if folder is not None else os.environ.get(FOLDER_VARIABLE)
    if given:
        root = check_path(given, "folder")
        yield root / name, False
        yield root, False
    if folder is None and name in DEBIAN:
        yield DEBIAN[name], True


def _in_folder(folder: Path, name: str, parts: tuple[str, ...], published: bool) -> Dataset | None:
    about = PUBLISHED[name]
    pairs = []
    for part in parts:
        pair = data_files.find(folder, name, part, about.contents if published else None)
        if pair is None:
            return None
        pairs.append(pair)
    images, labels = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return Dataset(
        torch.from_numpy(images).flatten(1).float().div_(255),
        torch.from_numpy(labels).long(),
        about.classes,
        (data_files.SIDE, data_files.SIDE),
        str(folder),
    )


def _downloaded(name: str, parts: tuple[str, ...]) -> Dataset:
    """Files that were downloaded before are not downloaded again."""
    try:
        import pooch  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            f"Nothing was downloaded: {missing_extra('a download', 'data', error)}"
        ) from error

    about, folder = PUBLISHED[name], Path(pooch.os_cache("gradsplinter")) / name
    for file in [file for part in parts for file in data_files.IDX_FILES[part]]:
        failures = []
        for mirror in about.mirrors:
            try:
                pooch.retrieve(
                    f"{mirror}{file}.gz", about.archives[file], f"{file}.gz", folder,
                    progressbar=True,
                )  # fmt: skip
                break
            except (OSError, ValueError) as error:  # no connection; another checksum
                failures.append(f"{mirror}{file}.gz: {error}")
        else:
            raise OSError(f"Downloads failed: {'; '.join(failures)}")
    found = _in_folder(folder, name, parts, True)
    assert found is not None
    return found


def _from_scikit_learn(name: str, part: str) -> Dataset:
    try:
        from sklearn import datasets  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(missing_extra(f"the data set {name}", "data", error)) from error

    bunch = datasets.load_digits() if name == "digits" else datasets.load_iris()
    y = torch.tensor(bunch.target, dtype=torch.int64)
    x = torch.tensor(bunch.data, dtype=torch.float32)
    image_shape = None
    if name == "digits":
        x, image_shape = x / 16, (8, 8)
    held_out = torch.zeros(len(y), dtype=torch.bool)
    for label in range(len(bunch.target_names)):
        held_out[(y == label).nonzero().squeeze(1)[4::5]] = True
    train, test = (~held_out).nonzero().squeeze(1), held_out.nonzero().squeeze(1)
    rows = {"train": train, "test": test, "all": torch.cat([train, test])}[part]
    classes = tuple(str(target) for target in bunch.target_names)
    return Dataset(x[rows], y[rows], classes, image_shape, "scikit-learn")
