"""A workflow of GitHub's: `.github/workflows/boxes.yml`."""

from __future__ import annotations

from typing import Any

from boxsnake.pipeline.steps import CACHE, Pipeline, Step


def github(pipeline: Pipeline) -> dict[str, Any]:
    """The document. One job makes and boots the boxes, another publishes these very ones."""
    output = pipeline.output
    cache = {
        "path": CACHE,
        "key": f"boxsnake-${{{{ hashFiles('{pipeline.lock}') }}}}-${{{{ github.run_id }}}}",
        "restore-keys": f"boxsnake-${{{{ hashFiles('{pipeline.lock}') }}}}-\nboxsnake-\n",
    }
    common = [
        {"uses": "actions/checkout@v4"},
        {"uses": "actions/cache@v4", "with": cache},
        {"name": "Install boxsnake", "run": "\n".join(pipeline.setup) + "\n"},
    ]
    boxes = {
        **_machine(pipeline),
        "steps": [
            *common,
            *(_run(step) for step in (pipeline.check, pipeline.build, pipeline.boot)),
            {
                "uses": "actions/upload-artifact@v4",
                "if": "always()",
                "with": {"name": "boxes", "path": output, "if-no-files-found": "ignore"},
            },
        ],
    }
    publish = {
        **_machine(pipeline),
        "needs": "boxes",
        "if": f"github.ref == 'refs/heads/{pipeline.branch}' || startsWith(github.ref, 'refs/tags/')",
        "concurrency": "publish-boxes",
        "steps": [
            *common,
            {"uses": "actions/download-artifact@v4", "with": {"name": "boxes", "path": output}},
            _run(pipeline.publish),
        ],
    }
    return {
        "name": "boxes",
        "on": {"push": {"branches": ["**"], "tags": ["**"]}, "pull_request": {}},
        "permissions": {"contents": "read"},
        "env": {"BOXSNAKE_CACHE_DIR": f"${{{{ github.workspace }}}}/{CACHE}"},
        "jobs": {"boxes": boxes, **({"publish": publish} if pipeline.publish.commands else {})},
    }


def _machine(pipeline: Pipeline) -> dict[str, Any]:
    # The engine's socket is in such a container anyway; making host systems takes its root.
    container = {"image": pipeline.image, "options": "--privileged"}
    return {"runs-on": "ubuntu-latest", "container": container, "defaults": {"run": {"shell": "bash"}}}


def _run(step: Step) -> dict[str, Any]:
    return {"name": step.title, "run": "\n".join(step.commands) + "\n"}
