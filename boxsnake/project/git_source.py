"""Git repositories as sources: which commit a branch or tag is, and that commit's files. Knows the git program."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from boxsnake import child
from boxsnake.errors import NetworkError, UnsolvableError
from boxsnake.pattern import pattern

_COMMIT = pattern(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DEADLINE = 900.0
_PERSONAL = ("SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO")
# No hooks and templates of the user's run while somebody else's files are laid out, and no terminal is asked.
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "init.templateDir": "",
    "core.autocrlf": "false",
    "advice.detachedHead": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
}


def is_commit(ref: str) -> bool:
    """Whether a reference is a whole commit, which never means anything else."""
    return bool(_COMMIT.fullmatch(ref))


def commit_of(url: str, ref: str | None, *, scratch: Path, shown: str, credentials: str | None = None) -> str:
    """The commit that a tag or branch of a repository is now; without a reference, its default branch.

    Raises UnsolvableError where the repository has no such reference, NetworkError where it cannot be asked.
    """
    if ref is not None and is_commit(ref):
        return ref
    wanted = [f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}"] if ref else ["HEAD"]
    done = _git(["ls-remote", "--", url, *wanted], scratch, url, credentials)
    if done.code != 0:
        raise _unreachable(shown, done)
    found = {name: commit for commit, _, name in (line.partition("\t") for line in done.output.splitlines())}
    commit = next((found[name] for name in wanted if is_commit(found.get(name, ""))), None)
    if commit is None:
        raise UnsolvableError(
            shown,
            f"the repository has no tag or branch {ref!r}" if ref else "the repository is empty",
            "Name a tag, a branch or a whole commit after '@'.",
            ref=ref,
        )
    return commit


def check_out(url: str, commit: str, out: Path, *, scratch: Path, shown: str, credentials: str | None = None) -> None:
    """Lay out a commit's files in `out`, with the history that tools take a version from.

    Raises UnsolvableError where the repository has no such commit, NetworkError where it cannot be asked.
    """
    # Files of other commits are not needed; servers that cannot leave them out send them.
    done = _git(["clone", "-q", "--no-checkout", "--filter=blob:none", "--", url, str(out)], scratch, url, credentials)
    if done.code != 0:
        raise _unreachable(shown, done)
    inside = ["-C", str(out)]
    if _git([*inside, "cat-file", "-e", f"{commit}^{{commit}}"], scratch, url, credentials).code != 0:
        # A commit that no branch leads to any more can still be had by its name.
        _git([*inside, "fetch", "-q", "origin", commit], scratch, url, credentials)
    done = _git([*inside, "checkout", "-q", "--detach", commit, "--"], scratch, url, credentials)
    if done.code != 0:
        raise UnsolvableError(
            shown, f"the repository has no commit {commit}\n{done.last_lines}", "Lock again.", commit=commit
        )
    if (out / ".gitmodules").is_file():
        done = _git([*inside, "submodule", "update", "-q", "--init", "--recursive"], scratch, url, credentials)
        if done.code != 0:
            raise _unreachable(f"{shown} (its submodules)", done)


def history(folder: Path, scratch: Path) -> str | None:
    """What tools make a version of: the commit, its tags and the nearest one, whether files differ."""
    if not (folder / ".git").exists():
        return None
    inside = ["-C", str(folder)]
    nearest = _git([*inside, "describe", "--tags", "--long", "--always", "--dirty"], scratch, "", None)
    here = _git([*inside, "tag", "--points-at", "HEAD"], scratch, "", None)
    return nearest.output + here.output if nearest.code == here.code == 0 else None


def clean_commit(folder: Path, scratch: Path, *, without: Path) -> str:
    """The commit that a folder's files are just those of; "" where they differ from it, or are in no repository.

    What lies in `without`, and what the repository ignores, does not count.
    """
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return ""
    paths = ["."]
    if without.is_relative_to(folder) and without != folder:
        paths.append(f":(exclude){without.relative_to(folder)}")
    settings = ["-c", "core.fsmonitor=false", "-C", str(folder)]
    done = _git([*settings, "status", "--porcelain=v2", "--branch", "--", *paths], scratch, "", None)
    lines = done.output.splitlines() if done.code == 0 else []
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "")
    return commit if is_commit(commit) and all(line.startswith("# ") for line in lines) else ""


def add_history(folder: Path, copy: Path, scratch: Path) -> bool:
    """Give a copy of a work tree the history of the original, without writing into that; False where it fails."""
    clone = scratch / "history"
    if _git(["clone", "-q", "--no-checkout", "--shared", "--", str(folder), str(clone)], scratch, "", None).code != 0:
        return False
    (clone / ".git").rename(copy / ".git")
    return _git(["-C", str(copy), "reset", "-q"], scratch, "", None).code == 0


def _git(arguments: list[str], scratch: Path, url: str, credentials: str | None) -> child.Finished:
    settings = dict(_SETTINGS)
    if credentials is not None and url.startswith(("http://", "https://")):
        # As a setting in the environment: on the command line every user of this machine could read it.
        parts = urlsplit(url)
        place = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
        token = base64.b64encode(credentials.encode()).decode()
        settings[f"http.{place}/.extraHeader"] = f"Authorization: Basic {token}"
    added = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_ALLOW_PROTOCOL": "https:http:ssh:file:git"}
    added["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (name, value) in enumerate(settings.items()):
        added |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    added |= {name: os.environ[name] for name in _PERSONAL if name in os.environ}
    # The user's own home: keys, credential helpers and mirrors are configured there.
    added |= {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
    env = child.environment(scratch, **added)
    env.pop("XDG_CONFIG_HOME")
    return child.run([child.found("git", "git"), *arguments], cwd=scratch, env=env, deadline=_DEADLINE)


def _unreachable(shown: str, done: child.Finished) -> NetworkError:
    return NetworkError(
        shown,
        f"git {done.why(_DEADLINE)}\n{done.last_lines}",
        "Check the URL and your access to it, then run it again.",
        output=done.last_lines,
    )
