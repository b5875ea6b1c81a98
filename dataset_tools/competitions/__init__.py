"""The competitions by name: a module each, which holds all that is known of it."""

from dataset_tools.competitions import demo, folder, imet2019, inat2017, inat2018, inat2019, inat2021, turtle_recall
from dataset_tools.table import Competition
from pipeline.errors import unknown

_MODULES = (inat2017, inat2018, inat2019, inat2021, turtle_recall, imet2019, folder, demo)
COMPETITIONS = {module.COMPETITION.name: module.COMPETITION for module in _MODULES}


def find(name: str) -> Competition:
    """Raises UserError listing the known names."""
    if name not in COMPETITIONS:
        raise unknown("competition", name, COMPETITIONS)
    return COMPETITIONS[name]
