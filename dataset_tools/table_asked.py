"""What a person says of a table of his own: which file it is, what its columns are, how much of it becomes val."""

import dataclasses
from typing import Any, Optional, Sequence

COMPETITION = "table"


@dataclasses.dataclass(frozen=True)
class Asked:
    """--table, --columns and --val_share; None or empty where a flag is not given."""

    table: Optional[str] = None
    columns: Sequence[str] = ()          # ours:theirs
    val_share: Optional[float] = None

    @property
    def flags(self) -> dict[str, Any]:
        """The flags that are given, as JSON values: what shards remember of them."""
        given = {"table": self.table, "columns": list(self.columns) or None, "val_share": self.val_share}
        return {name: value for name, value in given.items() if value is not None}
