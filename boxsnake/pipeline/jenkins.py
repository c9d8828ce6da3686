"""A declarative pipeline of Jenkins': `Jenkinsfile`."""

from __future__ import annotations

from collections.abc import Sequence

from boxsnake.pipeline.steps import CACHE, Pipeline, Step

_TEMPLATE = """\
pipeline {{
    agent {{
        docker {{
            image {image}
            args '--user root --privileged --volume /var/run/docker.sock:/var/run/docker.sock'
        }}
    }}
    options {{
        disableConcurrentBuilds()
    }}
    environment {{
        BOXSNAKE_CACHE_DIR = "${{env.WORKSPACE}}/{cache}"
    }}
    stages {{
{stages}
    }}
    post {{
        always {{
            junit testResults: {report}, allowEmptyResults: true
            archiveArtifacts artifacts: {boxes}, allowEmptyArchive: true
        }}
    }}
}}
"""
_STAGE = """\
        stage({title}) {{
{when}            steps {{
                sh {script}
            }}
        }}"""


def jenkins(pipeline: Pipeline) -> str:
    """The text. The store lies in the workspace, which Jenkins keeps from one build to the next."""
    setup = Step(name="setup", title="Install boxsnake", commands=pipeline.setup)
    stages = [_stage(step) for step in (setup, pipeline.check, pipeline.build, pipeline.boot)]
    if pipeline.publish.commands:
        conditions = f"anyOf {{ branch {_quoted(pipeline.branch)}; buildingTag() }}"
        stages.append(_stage(pipeline.publish, when=conditions))
    return _TEMPLATE.format(
        image=_quoted(pipeline.image),
        cache=CACHE,
        stages="\n".join(stages),
        report=_quoted(f"{pipeline.output}/boot.xml"),
        boxes=_quoted(f"{pipeline.output}/**"),
    )


def _stage(step: Step, *, when: str = "") -> str:
    condition = f"            when {{ {when} }}\n" if when else ""
    return _STAGE.format(title=_quoted(step.title), when=condition, script=_script(step.commands))


def _script(commands: Sequence[str]) -> str:
    """Lines of a shell that ends with the first that fails, as a Groovy string that replaces nothing."""
    lines = "\n".join(f"                    {_escaped(line)}" for line in ("set -eu", *commands))
    return f"'''\n{lines}\n                '''.stripIndent()"


def _quoted(text: str) -> str:
    return f"'{_escaped(text)}'"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
