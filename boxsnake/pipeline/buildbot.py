"""A configuration of Buildbot's: `master.cfg`, which is Python."""

from __future__ import annotations

from boxsnake.pipeline.steps import CACHE, Pipeline, Step

_TEMPLATE = '''\
# {about}
"""Checks the lock of {application}, builds its boxes, boots and publishes them.

The worker runs as root on a machine of Debian's family with a container engine. Its password is in the environment.
"""

import os

from buildbot.plugins import changes, schedulers, steps, util, worker

REPOSITORY = {repository!r}
BRANCH = {branch!r}
# The store lies beside what is checked out, and stays there from build to build.
ENVIRONMENT = {{"BOXSNAKE_CACHE_DIR": util.Interpolate("%(prop:builddir)s/{cache}")}}


def is_published(step):
    return step.getProperty("branch") in (BRANCH, None, "")


factory = util.BuildFactory()
factory.addStep(steps.Git(repourl=REPOSITORY, mode="full", method="clean"))
{added}
factory.addStep(
    steps.DirectoryUpload(workersrc={output!r}, masterdest=util.Interpolate("boxes/%(prop:buildnumber)s"))
)
{published}
c = BuildmasterConfig = {{
    "title": {application!r},
    "buildbotURL": os.environ.get("BUILDBOT_URL", "http://localhost:8010/"),
    "db": {{"db_url": "sqlite:///state.sqlite"}},
    "protocols": {{"pb": {{"port": 9989}}}},
    "workers": [worker.Worker("boxes", os.environ["BUILDBOT_WORKER_PASSWORD"])],
    "change_source": [changes.GitPoller(repourl=REPOSITORY, branches=[BRANCH], pollInterval=60)],
    "schedulers": [
        schedulers.SingleBranchScheduler(
            name="pushed", change_filter=util.ChangeFilter(branch=BRANCH), builderNames=["boxes"]
        ),
        schedulers.ForceScheduler(name="force", builderNames=["boxes"]),
    ],
    "builders": [util.BuilderConfig(name="boxes", workernames=["boxes"], factory=factory)],
    "buildbotNetUsageData": None,
}}
'''
_STEP = """\
factory.addStep(
    steps.ShellCommand(
        name={title!r},
        command=["sh", "-euc", {script!r}],
        env=ENVIRONMENT,
        haltOnFailure=True,
        timeout=3600,{condition}
    )
)"""


def buildbot(pipeline: Pipeline, *, about: str) -> str:
    """The text."""
    setup = Step(name="setup", title="Install boxsnake", commands=pipeline.setup)
    added = [_step(step) for step in (setup, pipeline.check, pipeline.build, pipeline.boot)]
    publish = pipeline.publish
    return _TEMPLATE.format(
        about=about,
        application=pipeline.application,
        repository=pipeline.repository,
        branch=pipeline.branch,
        cache=CACHE,
        output=pipeline.output,
        added="\n".join(added),
        published=_step(publish, condition="\n        doStepIf=is_published,") + "\n" if publish.commands else "",
    )


def _step(step: Step, *, condition: str = "") -> str:
    return _STEP.format(title=step.title, script="\n".join(step.commands), condition=condition)
