"""Bundles: everything that a site without a network gets, as one tar with one README, and their verification.

<name>-<version>.bundle/
    README.md                 what is here, and what to do with it
    verify.sh                 is it whole, and signed by whom it should be?
    boxes/                    the artifacts, those of other targets than the default in folders of their names
    sbom/                     what is in each of them
    docs/, keys/              what the sender adds
    boxsnake.lock             what they were made from
    SHA256SUMS                every other file
    SHA256SUMS.asc            its signature, where there is one, and signing-key.asc
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from boxsnake.archive import file_member, write_tar
from boxsnake.disk import disk_faults, resource_error
from boxsnake.errors import IntegrityError, UsageError
from boxsnake.publish.signing import Signer, check_detached, public_key, sign_detached
from boxsnake.value import dataclass

SUMS, SIGNATURE, KEY = "SHA256SUMS", "SHA256SUMS.asc", "signing-key.asc"
_UNLISTED = {SUMS, SIGNATURE, KEY}
_EXECUTABLE = ("verify.sh",)
_CHUNK = 1 << 20
_LONGEST_TEXT = 16_000_000  # bytes of sums and signature

_HOW = {
    "deb": "apt install ./boxes/{file}",
    "image": "docker load --input boxes/{file}",
    "pex": "./boxes/{file}",
    "rpm": "dnf install ./boxes/{file}",
    "wheelhouse": "tar -xf boxes/{file} && sh {folder}/install.sh /opt/{name}",
}
# Of boxes that are several files in one tar.
_IN_TAR = {
    "deb": "tar -xf boxes/{file} && apt install ./{folder}/*.deb",
    "pex": "tar -xf boxes/{file} && {folder}/__main__.py",
    "rpm": "tar -xf boxes/{file} && dnf install ./{folder}/*.rpm",
}
_README = """\
# {name} {version}

{summary}

    sh verify.sh                       # is everything here, unharmed?
{signed}
## Boxes

{boxes}

What is in each of them is told by the file of its name in sbom/, as CycloneDX.{docs}
"""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One box of a bundle. `name` is its path below `boxes`, `summary` what its format is."""

    name: str
    path: Path
    format: str
    summary: str
    sbom: bytes


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What goes into a bundle. `extras` are the sender's own files by their paths in it."""

    name: str
    version: str
    summary: str
    artifacts: tuple[Artifact, ...]
    lock: Path
    extras: Mapping[str, Path]

    @property
    def folder(self) -> str:
        """The folder that everything in it lies in; the tar is called so too."""
        return f"{self.name}-{self.version}.bundle"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A bundle that is whole. `signed_by` is the key's fingerprint, None where no signature was checked."""

    folder: str
    files: int
    signed: bool
    signed_by: str | None


def write_bundle(bundle: Bundle, out: Path, scratch: Path, *, epoch: int, signer: Signer | None) -> None:
    """Write the tar to `out`, a new file. Same bundle and key, same bytes. Errors: ResourceError."""
    files = _files(bundle, is_signed=signer is not None)
    text = _sums(files)
    files[SUMS] = text
    if signer is not None:
        sums, signature = scratch / SUMS, scratch / SIGNATURE
        sums.write_bytes(text)
        sign_detached(signer, sums, signature, time=epoch)
        files |= {SIGNATURE: signature.read_bytes(), KEY: public_key(signer)}
    members = [
        file_member(f"{bundle.folder}/{name}", source, executable=name in _EXECUTABLE or name.endswith(".pex"))
        for name, source in files.items()
    ]
    with disk_faults(out), out.open("xb") as stream:
        write_tar(members, stream, epoch=epoch)


def verify_bundle(path: Path, *, key: Path | None = None) -> Verified:
    """Read a bundle through, and compare every file. With `key`, a public key, its signature must be of that key.

    Errors: UsageError where the file is no bundle, IntegrityError where it is not whole or not signed so.
    """
    texts: dict[str, bytes] = {}
    found: dict[str, str] = {}
    folder = ""
    try:
        with tarfile.open(path, "r:") as archive:
            for member, name in _members(archive, path):
                folder = folder or member.name.partition("/")[0]
                if name in found or not (member.isfile() and member.name == f"{folder}/{name}"):
                    raise _damaged(path, f"{member.name} is none of its files, or is there twice")
                found[name], texts[name] = _read(archive, member, keep=name in _UNLISTED)
    except FileNotFoundError:
        raise UsageError(str(path), "there is no such file", "Name a bundle's tar.") from None
    except tarfile.TarError as error:
        raise _damaged(path, f"it cannot be read to its end ({error})") from None
    except OSError as error:
        raise resource_error(error, path) from error
    if SUMS not in texts:
        raise UsageError(str(path), f"is no bundle: it has no {SUMS}", "Name a tar that `boxsnake bundle` has made.")
    _compare(path, texts[SUMS], found)
    signed_by = None
    if key is not None:
        if SIGNATURE not in texts:
            raise IntegrityError(path.name, "is not signed", "Ask its sender for a bundle that is.")
        signed_by = check_detached(texts[SUMS], texts[SIGNATURE], key)
    return Verified(folder=folder, files=len(found), signed=SIGNATURE in texts, signed_by=signed_by)


def _members(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """The files of the tar, and their paths below its one folder."""
    for member in archive:
        if member.isdir():
            continue
        name = member.name.partition("/")[2]
        if not name or ".." in name.split("/") or name.startswith("/"):
            raise _damaged(path, f"it has a file {member.name!r}, which leads out of it")
        yield member, name


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, *, keep: bool) -> tuple[str, bytes]:
    digest, kept, left = hashlib.sha256(), b"", member.size
    stream = archive.extractfile(member)
    while stream is not None and left:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            raise tarfile.ReadError("unexpected end of data")
        left -= len(chunk)
        digest.update(chunk)
        kept += chunk if keep and len(kept) < _LONGEST_TEXT else b""
    return digest.hexdigest(), kept


def _compare(path: Path, sums: bytes, found: Mapping[str, str]) -> None:
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in sums.decode().splitlines())}
    rest = {name: digest for name, digest in found.items() if name not in _UNLISTED}
    wrong = [f"{name} is missing" for name in sorted(listed.keys() - rest.keys())]
    wrong += [f"{name} is not of it" for name in sorted(rest.keys() - listed.keys())]
    wrong += [f"{name} has changed" for name in sorted(listed.keys() & rest.keys()) if listed[name] != rest[name]]
    if wrong:
        raise _damaged(path, ", ".join(wrong))


def _damaged(path: Path, cause: str) -> IntegrityError:
    return IntegrityError(path.name, f"is damaged: {cause}", "Copy it again from where it was made.")


def _files(bundle: Bundle, *, is_signed: bool) -> dict[str, bytes | Path]:
    files: dict[str, bytes | Path] = {f"boxes/{one.name}": one.path for one in bundle.artifacts}
    files |= {f"sbom/{one.name}.cdx.json": one.sbom for one in bundle.artifacts}
    files |= bundle.extras
    files["boxsnake.lock"] = bundle.lock
    files["verify.sh"] = Path(__file__).with_name("bundle_verify.sh").read_bytes()
    files["README.md"] = _readme(bundle, is_signed=is_signed).encode()
    return files


def _sums(files: Mapping[str, bytes | Path]) -> bytes:
    return "".join(f"{_digest(source)}  {name}\n" for name, source in sorted(files.items())).encode()


def _digest(source: bytes | Path) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with disk_faults(source), source.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _readme(bundle: Bundle, *, is_signed: bool) -> str:
    signed = "    sh verify.sh KEY.asc               # and signed by this key, which you have from elsewhere?\n"
    return _README.format(
        name=bundle.name,
        version=bundle.version,
        summary=bundle.summary,
        signed=signed if is_signed else "",
        boxes="\n\n".join(_described(one, bundle) for one in bundle.artifacts),
        docs=_listed("Documents", "docs/", bundle.extras) + _listed("Keys", "keys/", bundle.extras),
    )


def _described(artifact: Artifact, bundle: Bundle) -> str:
    lines = f"- `boxes/{artifact.name}`: {artifact.summary}"
    if artifact.format not in _HOW:
        return lines
    folder = artifact.name.rpartition("/")[2].removesuffix(".tar")
    how = _IN_TAR.get(artifact.format) if artifact.name.endswith(".tar") else None
    how = (how or _HOW[artifact.format]).format(file=artifact.name, folder=folder, name=bundle.name)
    return f"{lines}\n\n      {how}"


def _listed(title: str, prefix: str, names: Iterable[str]) -> str:
    found = [name for name in sorted(names) if name.startswith(prefix)]
    return "".join([f"\n\n## {title}\n", *(f"\n- `{name}`" for name in found)]) if found else ""


def extras(docs: Sequence[Path], keys: Sequence[Path]) -> dict[str, Path]:
    """The sender's own files by their paths in the bundle; a folder stands for all files below it.

    Errors: UsageError where one is not there, or two would have one path.
    """
    found: dict[str, Path] = {}
    for prefix, given in (("docs", docs), ("keys", keys)):
        for path in given:
            # The name that a file has in the folder given, or its own.
            above = path.parent if path.is_file() else path
            for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
                name = f"{prefix}/{file.relative_to(above).as_posix()}"
                if name in found:
                    raise UsageError(str(file), f"{found[name]} is {name} already", "Give them different names.")
                found[name] = file
            if not path.exists():
                raise UsageError(str(path), "there is no such file or folder", "Name one that is there.")
    return found
