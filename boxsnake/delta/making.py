"""Making a delta, and applying it. Both use the disk beside what they write, twice the size of what is unfolded."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from boxsnake.beside import beside
from boxsnake.delta.header import Header, Whole, read_header, seal, write_header
from boxsnake.delta.pieces import DifferenceError, read_difference, write_difference
from boxsnake.delta.streams import BrokenStreamError, Stream, fold, unfold, unfold_again, versions
from boxsnake.disk import disk_faults, publish_file
from boxsnake.errors import IntegrityError, ResourceError, UsageError
from boxsnake.plain_text import shortened
from boxsnake.progress import track
from boxsnake.value import dataclass

_EXECUTABLE = 0o111


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A delta that was made: its bytes, and whether it works on what is unfolded, or on the files as they are."""

    size: int
    unfolded: bool


def make_delta(old: Path, new: Path, out: Path) -> Delta:
    """Write what makes `new` out of `old`, and prove that it does.

    Where what is unfolded does not come out again, the files are taken as they are. Errors: ResourceError.
    """
    wholes = _whole(old), _whole(new)
    with beside(out) as folder, disk_faults(out):
        for is_unfolded in (True, False):
            made = folder / out.name
            header = _write(old, new, wholes, made, folder, unfolds=is_unfolded)
            if _comes_out(old, made, header, folder):
                publish_file(made, out)
                return Delta(size=out.stat().st_size, unfolded=bool(header.old_streams or header.new_streams))
    raise ResourceError(str(new), "changed while its delta was made", "Make it again while nothing writes it.")


def apply_delta(old: Path, delta: Path, out: Path | None = None) -> Path:
    """Write the new file, and tell where: `out`, or under its own name beside the delta.

    Errors: UsageError for what is no delta, and where another file has that name; IntegrityError for another old file
    and a damaged delta; ResourceError.
    """
    with _open(delta) as stream:
        header = read_header(delta, stream)
        place = out or delta.with_name(header.new.name)
        _check_old(old, header)
        if place.exists() and out is None:
            if _digest(place) == header.new.sha256:
                return place
            raise UsageError(str(place), "is there already, and another file", "Move it away, or name another by -o.")
        with beside(place) as folder:
            made = folder / place.name
            _apply(old, stream, header, made, folder)
            if _digest(made) != header.new.sha256:
                raise _not_the_same(delta, header)
            with disk_faults(place):
                made.chmod(made.stat().st_mode | (_EXECUTABLE if header.new.executable else 0))
            publish_file(made, place)
    return place


def described(delta: Path) -> Header:
    """What a delta says of itself. Errors: UsageError, IntegrityError, ResourceError."""
    with _open(delta) as stream:
        return read_header(delta, stream)


def _write(old: Path, new: Path, wholes: tuple[Whole, Whole], out: Path, folder: Path, *, unfolds: bool) -> Header:
    forms = folder / "old", folder / "new"
    new_streams = _unfold(new, forms[1], proves=True) if unfolds else []
    # Of the old file nothing must be made again; but where nothing is in the new one, it is as well as it is.
    old_streams = _unfold(old, forms[0], proves=False) if new_streams else []
    for path, form, streams in ((old, forms[0], old_streams), (new, forms[1], new_streams)):
        if not streams:
            form.unlink(missing_ok=True)
            form.symlink_to(path.absolute())
    encoders = sorted({stream.encoder for stream in new_streams})
    header = Header(
        old=wholes[0],
        new=wholes[1],
        unfolded=(forms[0].stat().st_size, _digest(forms[0]), forms[1].stat().st_size),
        old_streams=[(gap, stream.encoder.startswith("zstd")) for gap, stream in _with_gaps(old_streams, packed=True)],
        new_streams=[(gap, stream.plain, encoders.index(stream.encoder)) for gap, stream in _with_gaps(new_streams)],
        encoders=encoders,
        libraries=versions() if encoders else {},
    )
    with track("comparing", header.unfolded[2]) as advance, out.open("w+b") as made:
        write_header(header, made)
        with forms[0].open("rb") as before, forms[1].open("rb") as after:
            write_difference(before, after, made, advance)
        seal(made)
    for form in forms:
        form.unlink()
    return header


def _with_gaps(streams: Sequence[Stream], *, packed: bool = False) -> Iterator[tuple[int, Stream]]:
    """Each stream with the bytes between it and the beginning (with `packed`) or the end of the one before it."""
    done = 0
    for stream in streams:
        yield stream.at - done, stream
        done = stream.at if packed else stream.at + stream.packed


def _unfold(path: Path, form: Path, *, proves: bool) -> list[Stream]:
    if not path.stat().st_size:  # nothing cannot be mapped
        return []
    with _mapped(path) as data, form.open("w+b") as out, track(f"unfolding {path.name}", len(data)) as advance:
        return unfold(data, out, advance, proves=proves)


def _comes_out(old: Path, made: Path, header: Header, folder: Path) -> bool:
    """Whether the new file really does."""
    again = folder / "again"
    with made.open("rb") as stream:
        read_header(made, stream)
        try:
            _apply(old, stream, header, again, folder)
        except (IntegrityError, ResourceError):
            return False
        is_same = _digest(again) == header.new.sha256
    again.unlink()
    return is_same


def _apply(old: Path, stream: BinaryIO, header: Header, out: Path, folder: Path) -> None:
    """Write the new file to `out`; whether it is the right one is for the caller to see."""
    before, after = folder / "before", folder / "after"
    with disk_faults(out):
        try:
            form = _old_form(old, header, before)
            with (
                form.open("rb") as source,
                after.open("w+b") as unfolded,
                track("applying", header.unfolded[2]) as advance,
            ):
                for piece in read_difference(source, header.unfolded[2], stream, advance):
                    unfolded.write(piece)
                unfolded.seek(0)
                with out.open("wb") as made:
                    streams = [(gap, plain, header.encoders[number]) for gap, plain, number in header.new_streams]
                    fold(unfolded, streams, made)
        except (BrokenStreamError, ValueError, IndexError, *DifferenceError) as error:
            step = "Make the delta again by this version of boxsnake, or take the whole file."
            raise IntegrityError(header.new.name, f"does not come out of the delta: {error}", step) from error
        finally:
            before.unlink(missing_ok=True)
            after.unlink(missing_ok=True)


def _old_form(old: Path, header: Header, form: Path) -> Path:
    """The old file's unfolded form. Errors: BrokenStreamError."""
    if not header.old_streams:
        return old
    places, done = [], 0
    for gap, is_zstd in header.old_streams:
        done += gap
        places.append((done, is_zstd))
    with _mapped(old) as data, form.open("w+b") as out:
        unfold_again(data, places, out)
    if _digest(form) != header.unfolded[1]:
        raise BrokenStreamError("the old file unfolds to something else")
    return form


def _check_old(old: Path, header: Header) -> None:
    found = _whole(old)
    if found.sha256 != header.old.sha256:
        cause = (
            f"is not the file that the delta starts from: that is {shortened(header.old.name, 200)}, {header.old.size} "
            f"bytes, sha256 {header.old.sha256}; this has {found.size} bytes, sha256 {found.sha256}"
        )
        step = "Name that file, or take the whole new one."
        raise IntegrityError(str(old), cause, step, expected=header.old.sha256, found=found.sha256)


def _not_the_same(delta: Path, header: Header) -> ResourceError:
    here = versions()
    others = [f"{name} {version} (here: {here.get(name)})" for name, version in header.libraries.items()]
    cause = f"what it makes is not {header.new.name}; it was made with {', '.join(others) or 'no compressor'}"
    step = "Take the whole file, or a boxsnake with those versions."
    return ResourceError(str(delta), cause, step, libraries=dict(header.libraries))


def _whole(path: Path) -> Whole:
    with _open(path) as stream:
        status = os.fstat(stream.fileno())
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Whole(name=path.name, size=status.st_size, sha256=digest, executable=bool(status.st_mode & _EXECUTABLE))


def _digest(path: Path) -> str:
    return _whole(path).sha256


@contextmanager
def _open(path: Path) -> Iterator[BufferedReader]:
    """A file of the user's. Errors: ResourceError where it is none, or cannot be read."""
    with disk_faults(path):
        if path.is_dir():
            raise UsageError(str(path), "is a folder", "Name a file: of a folder, a tar.")
        stream = path.open("rb")
    with stream:
        yield stream


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
    with data:
        yield data
