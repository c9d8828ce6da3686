"""Debian's CPython, turned back into upstream's layout, so that it works in any prefix as a conda package does.

Debian compiles an unpatched core, and changes where packages are looked for (`dist-packages`, `local/`). What is done:

- site.py, sysconfig.py, distutils and ensurepip are upstream's (from the pristine source archive); every other module
  stays Debian's, with its security fixes.
- The interpreter holds a frozen copy of Debian's site.py. Its name in the table of frozen modules is shortened by its
  first letter, so that `import site` finds no frozen module and reads the file.
- The build-time variables (_sysconfigdata) name the prefix, and no flag or folder of Debian's own build.
- Extension modules whose libraries no package of the channel brings are left out.
"""

from __future__ import annotations

import ast
import pprint
import re
import shutil
import struct
import tarfile
from pathlib import Path

from boxsnake import elf

DROPPED = ("EXTERNALLY-MANAGED", "_distutils_system_mod.py", "sitecustomize.py", "test", "tkinter", "turtle.py")
UPSTREAM = re.compile(
    r"Lib/(site\.py|sysconfig\.py|sysconfig/.*|distutils/.*|ensurepip/.*|lib2to3/.*|site-packages/README\.txt)"
)
TESTS_AND_EXAMPLES = re.compile(r"_(test|xxtest|ctypes_test)|xx(limited|subtype)|ossaudiodev")
FLAGS_OF_THE_BUILD = re.compile(r"^-(g|flto.*|specs=.*|f(file|debug|macro)-prefix-map=.*|ffat-lto-objects)$")
OF_GLIBC = frozenset({"libc.so.6", "libm.so.6", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"})
FROZEN_ENTRY_SIZES = (32, 24)  # struct _frozen with get_code (3.11, 3.12) and without


def mend(prefix: Path, version: str, source: Path, provided: frozenset[str]) -> None:
    """Mend an unpacked Debian CPython in a prefix. `version` is `3.11`; `source` is upstream's source archive.

    `provided` names the shared libraries (sonames) that an extension module may be linked against, glibc's apart.
    """
    library = prefix / "lib" / f"python{version}"
    for name in DROPPED:
        _remove(library / name)
    _take_upstream(source, library)
    _drop_extensions(library / "lib-dynload", provided)
    program = prefix / "bin" / f"python{version}"
    program.write_bytes(without_frozen(program.read_bytes(), "site"))
    _write_build_variables(library, prefix, version)
    (library / "site-packages").mkdir(exist_ok=True)
    for name in ("python", "python3"):
        link = prefix / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(program.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _take_upstream(source: Path, library: Path) -> None:
    """Put upstream's files in the place of Debian's. Other members of the archive are not unpacked at all."""
    for name in ("sysconfig.py", "sysconfig", "distutils", "ensurepip"):
        _remove(library / name)
    with tarfile.open(source) as archive:
        for member in archive:
            inside = member.name.partition("/")[2]
            if member.isfile() and UPSTREAM.fullmatch(inside) and "/tests/" not in inside:
                target = library / inside.removeprefix("Lib/")
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                target.write_bytes(content.read() if content else b"")


def _drop_extensions(folder: Path, provided: frozenset[str]) -> None:
    there = OF_GLIBC | provided
    for path in sorted(folder.glob("*.so")):
        module = elf.read(path)
        if module is None or TESTS_AND_EXAMPLES.match(path.name) or not there.issuperset(module.needed):
            path.unlink()


def without_frozen(image: bytes, module: str) -> bytes:
    """The interpreter without its frozen copy of a module: the module is then imported from its file."""
    program = elf.Elf(image)
    pointer = program.symbol("_PyImport_FrozenStdlib")
    if pointer is None or program.kind != elf.ET_EXEC:
        raise elf.ElfError("no table of frozen modules at a fixed address")
    table = program.offset_of(struct.unpack_from("<Q", image, program.offset_of(pointer))[0])
    for size in FROZEN_ENTRY_SIZES:
        place = _frozen_entry(program, table, size, module)
        if place is not None:
            changed = bytearray(image)
            (name,) = struct.unpack_from("<Q", image, place)
            struct.pack_into("<Q", changed, place, name + 1)
            return bytes(changed)
    raise elf.ElfError(f"no frozen module {module}")


def _frozen_entry(program: elf.Elf, table: int, size: int, module: str) -> int | None:
    """The place in the file of a module's entry, reading the table with this size of its entries."""
    place = table
    while True:
        (name,) = struct.unpack_from("<Q", program.image, place)
        if not name:
            return None
        try:
            text = program.text_at(program.offset_of(name))
        except elf.ElfError:
            return None  # not a table of entries of this size
        if text == module:
            return place
        place += size


def _write_build_variables(library: Path, prefix: Path, version: str) -> None:
    (debian,) = (path for path in library.glob("_sysconfigdata__*.py") if "__linux_" not in path.name)
    triplet = debian.stem.removeprefix("_sysconfigdata__")
    (assignment,) = (node for node in ast.parse(debian.read_text()).body if isinstance(node, ast.Assign))
    variables = {
        name: upstream_text(value, triplet, str(prefix)) if isinstance(value, str) else value
        for name, value in ast.literal_eval(assignment.value).items()
    }
    variables |= {
        "TZPATH": f"{prefix}/share/zoneinfo",
        "WHEEL_PKG_DIR": "",
        "Py_ENABLE_SHARED": 0,
        "BLDLIBRARY": "",
        "DTRACE": "",
    }
    for path in library.glob("_sysconfigdata__*.py"):
        path.unlink()
    text = pprint.pformat(variables, width=200)
    (library / f"_sysconfigdata__linux_{triplet}.py").write_text(
        f"# the variables of the build\nbuild_time_vars = {text}\n"
    )
    makefile = library / f"config-{version}-{triplet}" / "Makefile"
    if makefile.exists():
        makefile.write_text(upstream_text(makefile.read_text(), triplet, str(prefix)))
        for path in makefile.parent.iterdir():
            if path.suffix in {".a", ".o", ".so"}:
                path.unlink()


def upstream_text(text: str, triplet: str, prefix: str) -> str:
    """A build variable or Makefile as upstream's build in the prefix would have it.

    Debian's folders become the prefix', its triplet-named tools the plain ones, and flags of its own build go.
    """
    text = re.sub(rf"/usr/(lib|include)/{re.escape(triplet)}\b", rf"{prefix}/\1", text)
    text = re.sub(r"(?<![\w./])/usr(?=/(?:lib|include|share)\b|(?:/bin)?(?:[\s']|$))", prefix, text)
    text = re.sub(rf"\b{re.escape(triplet)}-(?=(?:gcc|g\+\+|ar|ranlib|ld|strip|readelf)\b)", "", text)
    lines = ([word for word in line.split(" ") if not FLAGS_OF_THE_BUILD.match(word)] for line in text.split("\n"))
    return "\n".join(" ".join(words) for words in lines)
