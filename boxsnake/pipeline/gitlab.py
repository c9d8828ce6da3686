"""A pipeline of GitLab's: `.gitlab-ci.yml`."""

from __future__ import annotations

import re
from typing import Any

from boxsnake.pipeline.steps import CACHE, Pipeline, Step


def gitlab(pipeline: Pipeline) -> dict[str, Any]:
    """The document. Jobs hand their boxes on as artifacts; a branch's store begins as the published one's."""
    steps = [pipeline.check, pipeline.build, pipeline.boot]
    if pipeline.publish.commands:
        steps.append(pipeline.publish)
    return {
        "stages": [step.name for step in steps],
        "variables": {
            "BOXSNAKE_CACHE_DIR": f"$CI_PROJECT_DIR/{CACHE}",
            "DOCKER_HOST": "tcp://docker:2375",
            "DOCKER_TLS_CERTDIR": "",
        },
        "default": {
            "image": pipeline.image,
            "before_script": list(pipeline.setup),
            "interruptible": True,
        },
        ".boxes": {
            "cache": {
                "key": "boxsnake-$CI_COMMIT_REF_SLUG",
                "fallback_keys": [f"boxsnake-{_slug(pipeline.branch)}"],
                "paths": [CACHE],
                "when": "always",
            },
        },
        **{step.name: _job(step, pipeline) for step in steps},
    }


def _slug(branch: str) -> str:
    """A branch's name as CI_COMMIT_REF_SLUG has it."""
    return re.sub("[^a-z0-9]", "-", branch.lower())[:63].strip("-")


def _job(step: Step, pipeline: Pipeline) -> dict[str, Any]:
    job: dict[str, Any] = {"extends": ".boxes", "stage": step.name, "script": list(step.commands)}
    output = pipeline.output
    if step.name == "build":
        job["artifacts"] = {"paths": [f"{output}/"], "expire_in": "1 week"}
    if step.name == "boot":
        job["services"] = [{"name": "docker:dind", "alias": "docker"}]
        job["artifacts"] = {
            "paths": [f"{output}/boot.json", f"{output}/boot.html"],
            "reports": {"junit": f"{output}/boot.xml"},
            "when": "always",
        }
    if step.name == "publish":
        # It takes the boxes of the job that has built them, once that which boots them is done.
        job["needs"] = ["build", {"job": "boot", "artifacts": False}]
        job["rules"] = [{"if": "$CI_COMMIT_TAG"}, {"if": f'$CI_COMMIT_BRANCH == "{pipeline.branch}"'}]
        job["interruptible"] = False
        job["resource_group"] = "publish"
    return job
