"""Writing an image: an environment as squashfs, with what places it and what starts it. Knows mksquashfs."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from boxsnake import child
from boxsnake.disk import disk_faults
from boxsnake.entries import Tree
from boxsnake.errors import PackError
from boxsnake.plan import Plan, expected
from boxsnake.userspace.seed import interpreter, seed
from boxsnake.userspace.unfold import PATCHES, SUPPORT, TREE, UNPLACED

_DEADLINE = 1800.0
_BLOCK = 4096
_PACKAGE = "squashfs-tools"


def version(scratch: Path) -> str:
    """What mksquashfs says of its version. Errors: ResourceError where it is not installed."""
    program = child.found("mksquashfs", _PACKAGE)
    done = child.run([program, "-version"], cwd=scratch, env=child.environment(scratch), deadline=60.0)
    return done.output.splitlines()[0] if done.output else ""


def write_image(plan: Plan, tree: Tree, out: Path, scratch: Path, *, level: int) -> None:
    """Write the executable image of a relocatable tree; `scratch` is an empty folder. Errors: PackError."""
    extra = scratch / "extra"
    with ThreadPoolExecutor(1) as beside:
        # mksquashfs reads for a while before all processors have work.
        grain = beside.submit(seed, tree, plan.epoch)
        links = _lay_out(plan, tree, extra)
        image = scratch / "image"
        _squash(tree, extra, links, image, scratch, epoch=plan.epoch, level=level)
        _assemble(plan, tree, grain.result(), image, out)


def _lay_out(plan: Plan, tree: Tree, extra: Path) -> tuple[str, ...]:
    """Write what the image has beside the tree; the paths in the tree that become links to what is placed."""
    entries = {entry.path: entry for entry in tree.entries}
    patches = []
    for patch in tree.patches:
        packed = extra / UNPLACED / patch.path
        with disk_faults(packed):
            packed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree.root / patch.path, packed)
        entry = entries[patch.path]
        patches.append({"path": patch.path, "kind": patch.kind, "mode": entry.mode, "sha256": entry.sha256})
    there = expected(plan, conda=True).distributions
    texts = {
        "AppRun": _apprun(plan).encode(),
        PATCHES: _json({"placeholder": tree.prefix, "patches": patches}),
        f"{SUPPORT}/box.json": _json({"distributions": there}),
        f"{SUPPORT}/selfcheck.py": Path(__file__).with_name("selfcheck.py").read_bytes(),
    }
    for name, content in texts.items():
        with disk_faults(extra):
            (extra / name).parent.mkdir(parents=True, exist_ok=True)
            (extra / name).write_bytes(content)
    with disk_faults(extra):
        for path in extra.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.name == "AppRun" else 0o644)
    # Python takes the place of its file for its prefix, wherever links to it may lie: this one must be in the image.
    kept = interpreter(tree)
    return tuple(patch.path for patch in tree.patches if patch.path != kept)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def _squash(
    tree: Tree, extra: Path, links: tuple[str, ...], image: Path, scratch: Path, *, epoch: int, level: int
) -> None:
    if tree.root.name != TREE:
        raise PackError(str(tree.root), f"is not named {TREE}", "Report this.")
    excluded, defined = scratch / "excluded", scratch / "defined"
    with disk_faults(scratch):
        excluded.write_text("".join(f"{tree.root / path}\n" for path in links), encoding="utf-8")
        defined.write_text("".join(_link_line(path) for path in links), encoding="utf-8")
    sources = [str(tree.root), str(extra / "AppRun"), str(extra / SUPPORT)]
    options = ["-no-xattrs", "-all-root", "-root-mode", "755", "-no-exports", "-no-progress", "-quiet", "-noappend"]
    options += ["-mkfs-time", str(epoch), "-all-time", str(epoch), "-b", "131072"]
    options += ["-comp", "gzip", "-Xcompression-level", str(level), "-ef", str(excluded), "-pf", str(defined)]
    program = child.found("mksquashfs", _PACKAGE)
    argv = [program, *sources, str(image), *options]
    done = child.run(argv, cwd=scratch, env=child.environment(scratch), deadline=_DEADLINE)
    if done.code != 0 or not image.exists():
        shown = done.last_lines.replace(str(scratch), "…").replace(str(tree.root), "…")
        step = "Version 4.5 or newer is needed; if it is no matter of that, report it."
        raise PackError("mksquashfs", f"{done.why(_DEADLINE)}\n{shown}", step, output=shown)


def _link_line(path: str) -> str:
    """A line for mksquashfs that defines a link out of the image, to what lies beside it."""
    name = re.sub(r'([\\"\s])', r"\\\1", f"{TREE}/{path}")
    return f"{name} s 777 0 0 {'../' * (path.count('/') + 2)}placed/{path}\n"


def _apprun(plan: Plan) -> str:
    application = plan.application
    variables = [
        f'[ "${{{name}+set}}" ] || export {name}={shlex.quote(value)}\n' for name, value in application.environment
    ]
    commands = [f'{shlex.quote(name)}) set -- {shlex.join(words)} "$@" ;;\n' for name, words in application.commands]
    return _filled(
        "apprun.sh",
        {
            "'@NAME@'": shlex.quote(application.name),
            "@ENVIRONMENT@\n": "".join(variables),
            "@COMMANDS@": "".join(commands),
            "@COMMAND@": shlex.join(application.command or ("python",)),
        },
    )


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found.group()], text)


def _assemble(plan: Plan, tree: Tree, grain: bytes, image: Path, out: Path) -> None:
    """The script, the seed and the image behind each other, each from a block of its own on."""
    blank = _stub(plan, tree, {"SEED_AT": 0, "SEED_SIZE": 0, "IMAGE_AT": 0, "SIZE": 0}, digest="0" * 64)
    seed_at = _blocks(len(blank) + 100)
    image_at = seed_at + _blocks(len(grain))
    size = image_at + image.stat().st_size
    padded = grain + bytes(image_at - seed_at - len(grain))
    digest = hashlib.sha256(padded)
    with disk_faults(out), image.open("rb") as source, out.open("x+b") as target:
        target.seek(seed_at)
        target.write(padded)
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            target.write(chunk)
        places = {"SEED_AT": seed_at, "SEED_SIZE": len(grain), "IMAGE_AT": image_at, "SIZE": size}
        target.seek(0)
        target.write(_stub(plan, tree, places, digest=digest.hexdigest()))
    out.chmod(0o755)


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _stub(plan: Plan, tree: Tree, places: Mapping[str, Any], *, digest: str) -> bytes:
    application, target = plan.application, plan.target
    values = {
        "NAME": application.name,
        "VERSION": application.version,
        "MACHINE": target.machine,
        "LOADER": target.loader,
        "GLIBC": target.glibc or "",
        "LONGEST": len(tree.prefix.encode()),
        "DIGEST": digest,
        **places,
    }
    quoted = {f"'@{name}@'": shlex.quote(str(value)) for name, value in values.items()}
    return _filled("stub.sh", {**quoted, "@TITLE@": f"{application.name} {application.version}"}).encode()
