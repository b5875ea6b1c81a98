"""Which of the files that people keep are pictures: by their endings, and where these don't tell, by what is in them."""

import functools
import posixpath
from typing import Iterable

from PIL import Image

from dataset_tools import files
from pipeline.pictures.bad import BadImage, parsing

# What systems leave in every folder.
_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_SYSTEM_HIDDEN = (".ds_store", ".directory", ".picasa.ini", ".nomedia", ".localized")
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
# Formats that Pillow opens by name and reads no pixel of without a program of somebody else's, or that hold films.
_STUBS = ("BUFR", "GRIB", "HDF5", "MPEG")
# Pictures that Pillow does not read: they were meant to be some, so they are set aside one by one and not passed over.
_UNREADABLE = (".heic", ".heif", ".hif", ".jxl", ".jxr", ".jls", ".svg", ".xcf", ".cr2", ".cr3", ".nef", ".arw", ".dng",
               ".orf", ".rw2", ".raf", ".pef", ".srw")
# Not worth being opened, and there may be one beside each picture.
_OTHERS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".pdf", ".log",
           ".ini", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".npy", ".npz", ".mat", ".pkl", ".pt", ".h5",
           ".hdf", ".parquet", ".tfrecord", ".record", ".db", ".sqlite", ".py", ".ipynb", ".sh", ".xls", ".xlsx", ".doc",
           ".docx", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wav", ".mp3", ".xmp", ".aae", ".lnk", ".url",
           ".tmp", ".part", ".crdownload", ".lock")
# Files without an ending that are no pictures; any other is taken for one until it is opened.
_WITHOUT_ENDING = ("license", "licence", "readme", "copying", "notice", "authors", "changelog", "makefile", "version",
                   "manifest", "md5sums", "sha1sums", "sha256sums", "checksums")


@functools.lru_cache(maxsize=None)
def endings() -> frozenset[str]:
    """Those of pictures, in lower case with their dots."""
    Image.init()
    read = {ending for ending, kind in Image.EXTENSION.items() if kind in Image.OPEN and kind not in _STUBS}
    return frozenset(read.union(_UNREADABLE))


def ending_of(path: str) -> str:
    """In lower case, with its dot; '' where there is none."""
    return posixpath.splitext(posixpath.basename(path))[1].lower()


def is_system(path: str) -> bool:
    """Whether a system left it there without being asked."""
    *folders, name = path.split("/")
    return (name.lower() in _SYSTEM + _SYSTEM_HIDDEN or name.startswith("._") or name in _SYSTEM_FOLDERS
            or not set(folders).isdisjoint(_SYSTEM_FOLDERS))


def may_be_picture(path: str) -> bool:
    """By its name alone: a picture's ending, none, or one that tells nothing."""
    ending = ending_of(path)
    if not ending:
        return posixpath.basename(path).lower() not in _WITHOUT_ENDING
    return ending not in _OTHERS


def is_picture(folder: str, path: str) -> bool:
    """Whether a file that `may_be_picture` is one: a file of another ending is opened."""
    return ending_of(path) in endings() or not ending_of(path) or _opens(files.join(folder, path))


def _opens(path: str) -> bool:
    try:
        with files.os_errors(path), files.open_file(path) as file, parsing(path):
            Image.open(file)
    except (BadImage, OSError, ValueError):  # ValueError: a NUL in the name
        return False
    return True


def names_of_ids(data_dir: str, folder: str, ending: str) -> dict[str, str]:
    """The pictures of a folder by their names without ending; of several of one id that of this ending, or the first."""
    path = files.join(data_dir, folder)
    found: dict[str, str] = {}
    for name in files.list_names(path) if files.is_folder(path) else []:  # sorted
        if ending_of(name) in endings() and not name.startswith("."):
            stem = name[:-len(ending_of(name))]
            if name == stem + ending:
                found[stem] = name
            found.setdefault(stem, name)
    return found


def by_ending(paths: Iterable[str]) -> str:
    """'.txt 12, .csv 1': how many of each."""
    counts: dict[str, int] = {}
    for path in paths:
        ending = ending_of(path) or "without ending"
        counts[ending] = counts.get(ending, 0) + 1
    return ", ".join(f"{ending} {count}" for ending, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
