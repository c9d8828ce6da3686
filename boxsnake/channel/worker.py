"""The process that py-rattler-build and py-rattler's indexer run in: if they crash, they take nothing of ours along.

It reads one request (JSON) from the file that it is started with. What is said goes to the request's log, the paths of
what was made to its answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

FAST = "conda:1"  # the package is compressed again when it is finished


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class _Log:
    """What rattler-build reports, line by line."""

    def on_log(self, event: Any) -> None:
        _say(event.message)

    def on_build_step(self, event: Any) -> None:
        _say(f"{event.step_name}: {event.message}")

    def on_download_start(self, event: Any) -> None: ...
    def on_download_progress(self, event: Any) -> None: ...
    def on_download_complete(self, event: Any) -> None: ...


def build(request: dict[str, Any]) -> list[str]:
    """Build one recipe; the paths of its packages."""
    from rattler_build import PlatformConfig, RenderConfig, Stage0Recipe, ToolConfiguration, VariantConfig

    variants = VariantConfig(request["variants"])
    for path in request["variant_files"]:
        variants = variants.merge(VariantConfig.from_file(path))
    results = Stage0Recipe.from_file(request["recipe"]).run_build(
        variant_config=variants,
        tool_config=ToolConfiguration(
            keep_build=True,
            compression_threads=len(os.sched_getaffinity(0)),
            test_strategy="skip",
            channel_priority="strict",
        ),
        render_config=RenderConfig(platform=PlatformConfig(target_platform=request["platform"])),
        output_dir=request["output"],
        channels=[request["channel"]],
        no_build_id=True,
        no_include_recipe=True,
        package_format=FAST,
        progress_callback=_Log(),
    )
    return [str(package) for result in results for package in result.packages]


def index(request: dict[str, Any]) -> list[str]:
    """Index a channel's folder anew: its index keeps the digests of files that were replaced, unless it is forced."""
    from rattler.index import index_fs

    asyncio.run(index_fs(Path(request["channel"]), write_zst=True, write_shards=False, force=True))
    return []


def main() -> None:
    """Answer one request."""
    request = json.loads(Path(sys.argv[1]).read_text())
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        answer = {"build": build, "index": index}[request["verb"]](request)
        Path(request["answer"]).write_text(json.dumps(answer))
        status = 0
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs in the log, without our own frames
        _say(f"{type(error).__name__}: {error}")
        status = 1
    # rattler's threads have been seen to crash a process that ends in the ordinary way, after the work was done
    os._exit(status)


if __name__ == "__main__":
    main()
