"""The competitions by name: a module each, which holds all that is known of it."""

from dataset_tools.competitions import (demo, folder, imet2019, inat2017, inat2018, inat2019, inat2021, table,
                                        turtle_recall)
from dataset_tools.table import Competition
from dataset_tools.table_asked import Asked
from pipeline.errors import UserError, unknown

_MODULES = (inat2017, inat2018, inat2019, inat2021, turtle_recall, imet2019, folder, table, demo)
COMPETITIONS = {module.COMPETITION.name: module.COMPETITION for module in _MODULES}


def find(name: str, asked: Asked = Asked()) -> Competition:
    """Raises UserError listing the known names, and for flags of a table where the competition is none."""
    if name not in COMPETITIONS:
        raise unknown("competition", name, COMPETITIONS)
    if name == table.COMPETITION.name:
        return table.competition(asked)
    if asked.flags:
        raise UserError(f"--{next(iter(asked.flags))} is for --competition={table.COMPETITION.name}, not {name}")
    return COMPETITIONS[name]
