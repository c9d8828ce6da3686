"""One recipe on its way to packages: a copy of it with its sources beside it, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from boxsnake import child
from boxsnake.channel import process
from boxsnake.channel.fetched import Fetched
from boxsnake.channel.platforms import PLATFORMS
from boxsnake.channel.recipes import RECIPE, VARIANTS, Recipe
from boxsnake.channel.repack import DEBIAN, DEBIAN_SOURCE, SOURCES, WHEELS
from boxsnake.channel.sources import SourceSet
from boxsnake.channel.versions import build_number, upstream_version
from boxsnake.value import dataclass

UNPACKING = 600.0  # seconds for one Debian package


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a build needs to know: the recipe, an empty folder, the channel for its build environment, the caches."""

    recipe: Recipe
    place: Path
    channel: Path
    cache: Path
    platform: str

    @property
    def thing(self) -> str:
        """What errors are about."""
        return f"recipe {self.recipe.name}"

    @property
    def log(self) -> Path:
        """The log of the build, which stays."""
        return self.cache / "logs" / f"{self.recipe.name}.log"

    def build(self, fetched: SourceSet | None) -> list[Path]:
        """Build the recipe with its sources; its packages, unfinished. Errors: PackError, ResourceError."""
        if self.recipe.classic:
            return self._build_classic()
        copy = self.place / "recipe"
        shutil.copytree(self.recipe.folder, copy)
        if fetched:
            self._unpack(fetched, copy / SOURCES)
        request = {
            "recipe": str(copy / RECIPE),
            "variants": {key: [value] for key, value in _variants(fetched, self.platform).items()},
            "variant_files": [str(copy / VARIANTS)] if (copy / VARIANTS).is_file() else [],
            "platform": self.platform,
            "output": str(self.place / "output"),
            "channel": self.channel.as_uri(),
        }
        programs = self.place / "bin"
        programs.mkdir()
        _write_repack(programs / "repack")
        path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return process.ask(
            "build", request, thing=self.thing, place=self.place, cache=self.cache, log=self.log, path=path
        )

    def _build_classic(self) -> list[Path]:
        """Build a classic recipe by conda-build."""
        output = self.place / "output"
        command = ["conda-build", "--no-anaconda-upload", "--override-channels", "--channel", self.channel.as_uri()]
        command += ["--output-folder", str(output), str(self.recipe.folder)]
        done = child.run(command, cwd=self.place, env=os.environ, deadline=process.DEADLINE)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text(done.output)
        if done.code != 0:
            raise process.failed(self.thing, f"conda-build {done.why(process.DEADLINE)}", self.log)
        return sorted(path for pattern in ("*/*.conda", "*/*.tar.bz2") for path in output.glob(pattern))

    def _unpack(self, fetched: SourceSet, root: Path) -> None:
        """Lay the sources out as `repack` wants them: Debian packages unpacked, archives and wheels whole."""
        folders = {"debian-source": root / DEBIAN_SOURCE, "pip": root / WHEELS}
        for each in fetched.fetched:
            path = fetched.path(each)
            if each.kind == "debian":
                target = root / DEBIAN / each.name
                target.mkdir(parents=True)
                self._unpack_deb(path, target)
            else:
                folders[each.kind].mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folders[each.kind] / each.file)

    def _unpack_deb(self, path: Path, target: Path) -> None:
        program = child.found("dpkg-deb", "dpkg")
        done = child.run(
            [program, "--extract", str(path), str(target)], cwd=self.place, env=os.environ, deadline=UNPACKING
        )
        if done.code != 0:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_text(done.output)
            raise process.failed(self.thing, f"unpacking {path.name} {done.why(UNPACKING)}", self.log)


def _variants(fetched: SourceSet | None, platform: str) -> dict[str, str]:
    """What a recipe may say of its sources: version and build number of the first, the folder of Debian's libraries."""
    if not fetched or not fetched.fetched:
        return {}
    first: Fetched = fetched.fetched[0]
    if first.kind == "pip":
        return {"upstream_version": first.version, "upstream_build": "0"}
    return {
        "upstream_version": upstream_version(first.version),
        "upstream_build": str(build_number(first.version)),
        "debian_triplet": PLATFORMS[platform].triplet,
    }


def _write_repack(path: Path) -> None:
    """The command `repack` for scripts, which find no Python of ours in their environment."""
    root = Path(__file__).resolve().parents[2]
    call = "import sys; from boxsnake.channel.repack import main; main(sys.argv[1:])"
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH="{root}" PYTHONDONTWRITEBYTECODE=1 exec "{sys.executable}" -c "{call}" "$@"\n'
    )
    path.chmod(0o755)
