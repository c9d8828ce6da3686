"""Sums up a table of sales by one of its columns."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd


def sample() -> pd.DataFrame:
    """The sales that come with the package."""
    with (files("report") / "data" / "sales.csv").open("rb") as stream:
        return pd.read_csv(stream)


def read(path: Path) -> pd.DataFrame:
    """A table of sales with the columns `day`, `amount` and those to group by."""
    return pd.read_csv(path)


def summary(sales: pd.DataFrame, by: str) -> pd.DataFrame:
    """Number, sum, median and daily trend of the amounts, for each value of the column `by`."""
    days = pd.to_datetime(sales["day"])
    table = sales.assign(number=(days - days.min()).dt.days)
    rows = {key: _row(group) for key, group in table.groupby(by, sort=True)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def _row(group: pd.DataFrame) -> dict[str, float]:
    amounts = group["amount"].to_numpy()
    trend = float(np.polyfit(group["number"], amounts, 1)[0]) if len(amounts) > 1 else 0.0
    return {
        "sales": len(amounts),
        "total": float(amounts.sum()),
        "median": float(np.median(amounts)),
        "trend/day": trend,
    }
