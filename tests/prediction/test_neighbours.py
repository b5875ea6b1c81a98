"""The nearest pictures and their votes, against NumPy on the whole matrix."""

import numpy as np
import pytest
import scipy.sparse
import scipy.special
from sklearn.neighbors import NearestNeighbors

from pipeline.prediction import neighbours

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("queries, pictures", [(1, 40), (33, 95), (97, 1000)])
def test_the_nearest_are_those_of_the_whole_matrix(count, queries, pictures, monkeypatch):
    monkeypatch.setattr(neighbours, "QUERIES", 32)  # several tiles, the last ones short
    monkeypatch.setattr(neighbours, "PICTURES", 90)
    asked, known = (neighbours.unit(RNG.normal(size=(n, 24)).astype(np.float32)) for n in (queries, pictures))
    products, positions = neighbours.nearest(asked, known, count)
    expected = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(known).kneighbors(asked)
    np.testing.assert_array_equal(positions, expected[1])
    np.testing.assert_allclose(products, 1 - expected[0], atol=1e-6)
    assert products.dtype == np.float32


def test_equal_ones_come_in_their_order(monkeypatch):
    monkeypatch.setattr(neighbours, "PICTURES", 8)
    known = np.eye(4, dtype=np.float32)[RNG.integers(0, 4, 50)]
    products, positions = neighbours.nearest(np.eye(4, dtype=np.float32), known, 20)
    whole = np.eye(4, dtype=np.float32) @ known.T
    np.testing.assert_array_equal(positions, np.argsort(-whole, axis=1, kind="stable")[:, :20])
    assert set(np.unique(products)) <= {0.0, 1.0}


def test_nothing_is_asked():
    products, positions = neighbours.nearest(np.zeros((0, 4), np.float32), np.eye(4, dtype=np.float32), 2)
    assert products.shape == positions.shape == (0, 2)


def test_features_of_length_one():
    found = neighbours.unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0]])


@pytest.mark.parametrize("exclusive", [True, False])
def test_votes_equal_the_formula(exclusive):
    classes, known = 5, 30
    labels = np.eye(classes)[RNG.integers(0, classes, known)] if exclusive else RNG.integers(0, 2, (known, classes))
    cosines = np.sort(RNG.uniform(-1, 1, (4, 6)).astype(np.float32))[:, ::-1]
    positions = np.stack([RNG.permutation(known)[:6] for _ in range(4)])
    allowed = np.ones((4, 6), bool)
    allowed[1, 0] = allowed[2, 3:] = False
    allowed[3] = False
    found = neighbours.vote(cosines, positions, scipy.sparse.csr_matrix(labels), allowed, exclusive)
    even = 1 / classes if exclusive else 0.5
    for row in range(3):
        kept = allowed[row]
        weights = scipy.special.softmax(cosines[row, kept].astype(np.float64) / 0.07)
        expected = 0.999 * (weights[:, None] * labels[positions[row, kept]]).sum(axis=0) + 0.001 * even
        np.testing.assert_allclose(found[row], expected, rtol=1e-6)
    np.testing.assert_allclose(found[3], even)
    if exclusive:
        np.testing.assert_allclose(found.sum(axis=1), 1)
