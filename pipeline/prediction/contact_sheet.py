"""A contact sheet: pictures with their boxes drawn on them, to be looked at."""

import io
import math
import os
from typing import Any, Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline import files
from pipeline.records import boxes as boxes_of, dataset as datasets, input as inputs

_COLUMNS = 5
_PICTURE = 220        # px, the longer side of a picture
_LINE = 16            # px, height of a line of text, of which a picture has two
_MARGIN = 6           # px
_COLOURS = {True: "#2ca02c", False: "#d62728", None: "#1f77b4"}  # right, wrong, not known


def write(path: str, data_dir: str, boxes: boxes_of.Boxes, split: Optional[str], count: int) -> None:
    """Draws the first `count` pictures of a split with their boxes and what the coarse model took them for, as a PNG.

    Of several splits (None: all that have boxes) it takes val, else test: a model knows the pictures of train by heart.
    """
    data = datasets.load(data_dir)
    splits = split.split("+") if split else list(boxes.splits)
    shown = next((one for one in ("val", "test") if one in splits), splits[0])
    cells = [_cell(data, boxes, example) for example in inputs.examples(data.part(shown)).take(count)]
    content = io.BytesIO()
    _sheet(cells).save(content, "PNG")
    folder = os.path.dirname(path)
    if folder:
        files.make_dirs(folder)
    files.write_whole(path, content.getvalue())
    print(f"contact sheet of {len(cells)} pictures of {shown}: {path}")


def _cell(data: datasets.Dataset, boxes: boxes_of.Boxes, example: dict[str, Any]) -> Image.Image:
    box = boxes.table.set_index("row").loc[int(example["row"])]
    names = {one.source_id: one.name for one in data.manifest.classes}
    label = int(example["label"])
    truth = data.class_ids[label] if label >= 0 else None
    colour = _COLOURS[None if truth is None else truth == box["class"]]
    cell = Image.new("RGB", (_PICTURE, _PICTURE + 2 * _LINE), "white")
    cell.paste(_with_box(example["encoded"].numpy(), box[boxes_of.SIDES].to_numpy(float), colour))
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(_LINE - 4)
    draw.text((0, _PICTURE), f"{names[box['class']]} {box['score']:.2f}", colour, font)
    draw.text((0, _PICTURE + _LINE), f"label {names[truth]}" if truth else str(box["id"]), "black", font)
    return cell


def _with_box(encoded: bytes, sides: np.ndarray, colour: str) -> Image.Image:
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    picture.thumbnail((_PICTURE, _PICTURE))
    corners = sides * np.tile([picture.width - 1, picture.height - 1], 2)
    ImageDraw.Draw(picture).rectangle(corners.tolist(), outline=colour, width=3)
    return picture


def _sheet(cells: list[Image.Image]) -> Image.Image:
    width, height = (side + _MARGIN for side in cells[0].size)
    sheet = Image.new("RGB", (_COLUMNS * width + _MARGIN, math.ceil(len(cells) / _COLUMNS) * height + _MARGIN), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, (_MARGIN + index % _COLUMNS * width, _MARGIN + index // _COLUMNS * height))
    return sheet
