"""The process that py-rattler-build runs in: it may crash, and takes nothing of ours with it then.

A request comes on standard input and the answer leaves by the file that it names, both JSON. The log goes to standard
output as it comes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

COMPRESSION = "conda:9"  # zstd's level: 19 takes ten times as long for a seventh less


class _Log:
    """What rattler-build reports, line by line."""

    def on_log(self, event: Any) -> None:
        print(event.message, flush=True)  # noqa: T201 - standard output is this process' log

    def on_build_step(self, event: Any) -> None:
        print(f"{event.step_name}: {event.message}", flush=True)  # noqa: T201

    def on_download_start(self, event: Any) -> None: ...
    def on_download_progress(self, event: Any) -> None: ...
    def on_download_complete(self, event: Any) -> None: ...


def build(request: dict[str, Any]) -> list[str]:
    """Builds one recipe; the paths of its packages."""
    from rattler_build import PlatformConfig, RenderConfig, Stage0Recipe, ToolConfiguration, VariantConfig

    variants = VariantConfig(request["variants"])
    for path in request["variant_files"]:
        variants = variants.merge(VariantConfig.from_file(path))
    results = Stage0Recipe.from_file(request["recipe"]).run_build(
        variant_config=variants,
        tool_config=ToolConfiguration(
            keep_build=True, compression_threads=os.cpu_count(), test_strategy="skip", channel_priority="strict"
        ),
        render_config=RenderConfig(platform=PlatformConfig(target_platform=request["platform"])),
        output_dir=request["output"],
        channels=[request["channel"]],
        no_build_id=True,
        no_include_recipe=True,
        package_format=COMPRESSION,
        progress_callback=_Log(),
    )
    return [str(package) for result in results for package in result.packages]


def index(request: dict[str, Any]) -> list[str]:
    """Indexes a channel's folder anew."""
    from rattler.index import index_fs

    asyncio.run(index_fs(Path(request["channel"]), write_zst=True, write_shards=False, force=True))
    return []


def main() -> None:
    """Answers one request."""
    request = json.load(sys.stdin)
    try:
        answer = {"build": build, "index": index}[request["verb"]](request)
        Path(request["answer"]).write_text(json.dumps(answer))
        status = 0
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs in the log, without our own frames
        print(f"{type(error).__name__}: {error}")  # noqa: T201
        status = 1
    # rattler's threads have been seen to crash a process that ends in the ordinary way, after the work was done
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
