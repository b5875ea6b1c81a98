"""Labels of many pictures as a sparse matrix."""

from typing import Sequence

import numpy as np
import scipy.sparse


def of(labels: Sequence[Sequence[int]], classes: int, exclusive: bool) -> scipy.sparse.csr_matrix:
    """float32 [pictures, classes], 1 at each label; at the first alone where one excludes the others.

    Args: labels: class indices of each picture, perhaps none.
    """
    lists = [sorted(set(one[:1] if exclusive else one)) for one in labels]
    ends = np.cumsum([0, *map(len, lists)])
    columns = np.concatenate([np.asarray(one, np.int64) for one in lists])
    return scipy.sparse.csr_matrix((np.ones(len(columns), np.float32), columns, ends), (len(lists), classes))
