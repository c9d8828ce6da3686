"""The seed of an image: as much of its Python as it takes to read the image where nobody else can.

A tar of the interpreter, the libraries that it is linked against, a part of its standard library, and the modules
that do the work (`unfold`). It is unpacked once for each cache, and removed again.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from boxsnake import elf
from boxsnake.archive import GzipSink, Member, file_member, write_tar
from boxsnake.entries import Tree
from boxsnake.errors import PackError

# Modules that nothing needs that only reads, writes, hashes and matches. The others are carried: which of them import
# each other differs from one Python to the next.
_NEEDLESS = re.compile(
    r"(_pydecimal|_pydatetime|_pyio|_pyrepl|aifc|antigravity|argparse|asyn.*|base64_|bdb|cProfile|calendar|cgi.*"
    r"|chunk|cmd|code|codeop|configparser|cookielib|crypt|csv|datetime|decimal|difflib|doctest|filecmp|fileinput|formatter"
    r"|fractions|ftplib|getopt|getpass|gettext|graphlib|imaplib|imghdr|imp|mailbox|mailcap|mimetypes|modulefinder|netrc"
    r"|nntplib|optparse|pdb|pickle.*|pipes|pkgutil|plistlib|poplib|pprint|profile|pstats|pty|py_compile|pyclbr|pydoc"
    r"|quopri|random|rlcompleter|runpy|sched|shelve|smtp.*|sndhdr|socket.*|ssl|statistics|subprocess|sunau|symtable"
    r"|tabnanny|tarfile|telnetlib|this|timeit|trace.*|tracemalloc|turtle|uu|uuid|wave|webbrowser|xdrlib|zipapp|zipfile)\.py"
)
_PACKAGES = re.compile(r"(collections|importlib|json|re|urllib|pathlib|string|_sysconfig)/[^/]+\.py")
_ENCODINGS = re.compile(r"encodings/(__init__|aliases|ascii|latin_1|utf_8)\.py")
_EXTENSIONS = re.compile(
    r"lib-dynload/(_bisect|_blake2|_heapq|_json|_md5|_opcode|_posixsubprocess|_sha[0-9]*|_struct|_typing"
    r"|array|binascii|fcntl|grp|math|select|unicodedata|zlib)\.[^/]+\.so"
)
_OURS = ("relocation.py", "userspace/squashfs.py", "userspace/unfold.py")


def seed(tree: Tree, epoch: int) -> bytes:
    """The seed of a tree's image, as a compressed tar. Errors: PackError where the tree has no such Python."""
    python = interpreter(tree)
    library = f"lib/{posixpath.basename(python)}"
    names = {entry.path for entry in tree.entries if entry.kind == "file"}
    taken = [name for name in sorted(names) if _is_taken(name, library)]
    found = {name: (tree.root / name).read_bytes() for name in taken}
    found["bin/python"] = (tree.root / python).read_bytes()
    found |= _libraries(tree, [content for content in found.values() if content.startswith(elf.MAGIC)])
    package = Path(__file__).parent.parent
    found |= {f"{library}/boxsnake/{name}": (package / name).read_bytes() for name in _OURS}
    found |= {f"{library}/boxsnake/__init__.py": b"", f"{library}/boxsnake/userspace/__init__.py": b""}
    out = io.BytesIO()
    with GzipSink(out) as sink:
        # The last of all: once it is there, so is the rest.
        write_tar([*_members(found), file_member("unfold", b"\n")], sink, epoch=epoch)
    return out.getvalue()


def interpreter(tree: Tree) -> str:
    """The path of the tree's interpreter, not that of a link to it. Errors: PackError where there is none."""
    links = {entry.path: entry.target for entry in tree.entries if entry.kind == "link"}
    path = "bin/python"
    while path in links:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path]))
    if not any(entry.path == path for entry in tree.entries):
        raise PackError("the environment", "has no bin/python", 'Require a Python: `python = "3.11.*"` in [requires].')
    return path


def _members(found: dict[str, bytes]) -> Iterator[Member]:
    for name, content in found.items():
        yield file_member(name, content, executable=name == "bin/python")


def _is_taken(name: str, library: str) -> bool:
    if not name.startswith(f"{library}/"):
        return False
    inner = name.removeprefix(f"{library}/")
    if "/" not in inner:
        return inner.endswith(".py") and not _NEEDLESS.fullmatch(inner) and not inner.startswith("_sysconfigdata")
    return any(pattern.fullmatch(inner) for pattern in (_PACKAGES, _ENCODINGS, _EXTENSIONS))


def _libraries(tree: Tree, programs: list[bytes]) -> dict[str, bytes]:
    """The tree's libraries that the programs need, and those that these need, by their paths."""
    found: dict[str, bytes] = {}
    waiting = list(programs)
    while waiting:
        for name in elf.Elf(waiting.pop()).needed:
            path = f"lib/{name}"
            if path not in found and (tree.root / path).is_file():
                found[path] = (tree.root / path).read_bytes()
                waiting.append(found[path])
    return found
