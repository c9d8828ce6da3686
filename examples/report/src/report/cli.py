"""The command line."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from report import read, sample, summary


def main() -> None:
    """Print the summary of a file, or of the sample that comes with the program."""
    parser = argparse.ArgumentParser(prog="report", description="Sums up a table of sales.")
    parser.add_argument("--version", action="version", version=f"report {version('report')}")
    parser.add_argument("file", nargs="?", type=Path, help="a CSV file (default: the sample that comes along)")
    parser.add_argument("--by", default="region", help="the column to group by (default: %(default)s)")
    arguments = parser.parse_args()
    sales = sample() if arguments.file is None else read(arguments.file)
    if arguments.by not in sales.columns:
        sys.exit(f"report: there is no column {arguments.by!r}; there are {', '.join(sales.columns)}")
    sys.stdout.write(summary(sales, arguments.by).to_string(float_format="%.2f") + "\n")
