"""What installers leave in a tree about the machine and the moment, taken out or written anew.

conda-meta and RECORD are databases that other tools read, so they are not dropped but written canonically: as a pure
function of the package and of the files that it has in the tree.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from boxsnake.conda_url import published
from boxsnake.entries import Entry
from boxsnake.ingest.conda_scripts import ACTIVATION_SCRIPT, LINK_SCRIPT
from boxsnake.lock import CondaPackage
from boxsnake.stage.owners import Owners

CONDA_META = "conda-meta"

# What a record keeps of what the installer wrote. Left out: when it was made and linked, from where on this machine,
# and what the user had asked for.
_KEPT_OF_RECORD = (
    "arch", "build", "build_number", "constrains", "depends", "features", "license", "license_family", "md5", "name",
    "noarch", "platform", "purls", "python_site_packages_path", "sha256", "size", "subdir", "track_features", "version",
)  # fmt: skip
_KEPT_OF_PATH = ("_path", "file_mode", "no_link", "path_type", "prefix_placeholder", "sha256", "size_in_bytes")

HISTORY = f"{CONDA_META}/history"
"""What conda's tools know an environment by; empty, as nothing has happened to it yet."""

# Of the tree's root: no package's, and of no use in a box; the history tells when and by what it was installed.
_LEFTOVERS = ("CACHEDIR.TAG", HISTORY)
# Of a dist-info: where it was installed from, and that somebody asked for it.
_PRIVATE = frozenset({"REQUESTED", "direct_url.json"})


def read_records(root: Path) -> list[dict[str, Any]]:
    """The records in conda-meta as the installer wrote them, in the order of their names."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / CONDA_META).glob("*.json"))]
    return sorted(found, key=lambda record: str(record["name"]))


def scripts_not_run(paths: Iterable[str]) -> str:
    """What the user should know of a conda package with these paths: that of its scripts none is run. Else ""."""
    kinds = {"link scripts": LINK_SCRIPT, "activation scripts": ACTIVATION_SCRIPT}
    ordered = sorted(paths)
    found = {kind: [path for path in ordered if pattern.fullmatch(path)] for kind, pattern in kinds.items()}
    return "; ".join(f"its {kind} are not run ({', '.join(names)})" for kind, names in found.items() if names)


def record_path(record: Mapping[str, Any]) -> str:
    """Where a record lies below the prefix."""
    return f"{CONDA_META}/{record['name']}-{record['version']}-{record['build']}.json"


def remove_leftovers(root: Path, owners: Owners, site_packages: str) -> None:
    """Remove what tells of the installation, and byte-code that packages ship.

    Every time-stamped `.pyc` is stale once all files have one time; which ones are not need not be found out, as all
    are compiled anew. A `.pyc` without its source is the module itself, and stays.
    """
    for path in _LEFTOVERS:
        (root / path).unlink(missing_ok=True)
    for path in [*owners]:
        is_cached = is_cached_code(path)
        if is_cached or _is_private(path, site_packages) or _is_code_beside_source(path, owners):
            (root / path).unlink(missing_ok=True)
            (owners.drop if is_cached else owners.leave_out)(path)


def _is_private(path: str, site_packages: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name in _PRIVATE and folder.endswith(".dist-info") and posixpath.dirname(folder) == site_packages


def is_cached_code(path: str) -> bool:
    """Whether it is byte-code that is there to save time: that of packages is replaced, whatever it holds."""
    return path.endswith((".pyc", ".pyo")) and path.rsplit("/", 2)[-2:][0] == "__pycache__"


def _is_code_beside_source(path: str, owners: Owners) -> bool:
    # Of the same package: what becomes of a file must not depend on what else is there.
    source = path[:-1]
    return path.endswith((".pyc", ".pyo")) and source in owners and {*owners.of(path)} <= {*owners.of(source)}


def is_record(path: str, site_packages: str) -> bool:
    """Whether it is the RECORD of a distribution in site-packages; not of one vendored in another."""
    return path.endswith(".dist-info/RECORD") and posixpath.dirname(posixpath.dirname(path)) == site_packages


def record_file(path: str, entries: Iterable[Entry]) -> bytes:
    """A RECORD (PyPA's specification "Recording installed projects") at `path` that lists these entries, sorted.

    Byte-code and RECORD itself are listed without hash, as the specification allows.
    """
    base = posixpath.dirname(posixpath.dirname(path))
    rows = [(_from(base, path), "", "")]
    for entry in entries:
        name = _from(base, entry.path)
        if entry.path.endswith(".pyc") or entry.kind != "file":
            rows.append((name, "", ""))
        elif entry.path != path:
            digest = base64.urlsafe_b64encode(bytes.fromhex(entry.sha256)).rstrip(b"=").decode()
            rows.append((name, f"sha256={digest}", str(entry.size)))
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(sorted(rows))
    return text.getvalue().encode()


def _from(base: str, path: str) -> str:
    """A path below the prefix as it is read from a folder there."""
    # Nearly all are below it, and the library's function asks for the working folder each time.
    below = f"{base}/"
    return path.removeprefix(below) if path.startswith(below) else posixpath.relpath(f"/{path}", f"/{base}")


def listed(record: str, path: str) -> set[str]:
    """The paths (below the prefix) that the text of a RECORD at `path` lists."""
    base = posixpath.dirname(posixpath.dirname(path))
    return {posixpath.normpath(posixpath.join(base, row[0])) for row in csv.reader(io.StringIO(record)) if row}


def conda_record(record: Mapping[str, Any], package: CondaPackage, entries: Iterable[Entry]) -> bytes:
    """A conda-meta record that tells of these entries and of nothing but the package."""
    url, channel = published(package)
    own = {entry.path: entry for entry in entries}
    known = {path["_path"]: path for path in record["paths_data"]["paths"]}
    document = {key: record[key] for key in _KEPT_OF_RECORD if record.get(key) is not None} | {
        "channel": channel,
        "files": sorted(own),
        "fn": package.file_name,
        "paths_data": {"paths": [_path_of(own[path], known.get(path)) for path in sorted(own)], "paths_version": 1},
        "url": url,
    }
    return json.dumps(document, sort_keys=True, indent=2).encode() + b"\n"


def _path_of(entry: Entry, known: Mapping[str, Any] | None) -> dict[str, Any]:
    if known is None:
        return {"_path": entry.path, "path_type": "pyc_file", "sha256": entry.sha256, "size_in_bytes": entry.size}
    kept = {key: known[key] for key in _KEPT_OF_PATH if known.get(key) is not None}
    if entry.kind == "file":
        kept["size_in_bytes"] = entry.size
        if is_entry_point(known):
            kept["sha256"] = entry.sha256
        elif entry.sha256 != known.get("sha256"):
            kept["sha256_in_prefix"] = entry.sha256
    return kept


def is_entry_point(path: Mapping[str, Any]) -> bool:
    """Whether a record's path is a program that the installer has written."""
    return path.get("path_type") == "unix_python_entry_point"
