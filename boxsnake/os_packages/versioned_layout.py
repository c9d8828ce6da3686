"""Where an application's versions lie on a machine, side by side, with one link to the version that is in use.

    <prefix root>/<name>/1.2.0-1/            a version: the environment, as it was staged
    <prefix root>/<name>/1.3.0-1/            another
    <prefix root>/<name>/current             -> 1.3.0-1, switched by one rename
    <prefix root>/<name>/bin/<name>-ctl      shows and checks the versions, and goes back to an earlier one
    <prefix root>/<name>/install/state       how the last installation ended
    <prefix root>/<name>/install/kept        which versions stay though no package owns them any longer
    <prefix root>/<name>/install/1.3.0-1/    what installing and checking that version takes
    /usr/bin/<command>                       -> <prefix root>/<name>/current/bin/<command>

A version that is installed or removed touches nothing of the others.
"""

from __future__ import annotations

import posixpath

from boxsnake.value import dataclass

COMMANDS = "/usr/bin"
"""The folder in which an application's commands are found."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The paths of one version; `version` is its folder's name, as the package manager tells versions apart."""

    name: str
    version: str
    prefix_root: str = "/opt"

    @property
    def root(self) -> str:
        """Everything of the application, all versions."""
        return f"{self.prefix_root}/{self.name}"

    @property
    def prefix(self) -> str:
        """The version's environment."""
        return f"{self.root}/{self.version}"

    @property
    def current(self) -> str:
        """The link to the version that is in use."""
        return f"{self.root}/current"

    @property
    def state(self) -> str:
        """The file that says how the last installation ended."""
        return f"{self.root}/install/state"

    @property
    def kept(self) -> str:
        """The list of versions that stay for going back."""
        return f"{self.root}/install/kept"

    @property
    def labels(self) -> str:
        """Where there are packages of their own for environments: a mark for each version that is installed."""
        return f"{self.root}/install/labels"

    @property
    def control(self) -> tuple[str, str]:
        """The path of the program for operators, and the text of the link there.

        The program is part of each version; versions that lie side by side share the link.
        """
        return f"{self.root}/bin/{self.name}-ctl", "../install/ctl"

    @property
    def current_control(self) -> str:
        """The link to the program that came with the version installed last."""
        return f"{self.root}/install/ctl"

    @property
    def support(self) -> str:
        """What installing this version takes, and is not part of its environment."""
        return f"{self.root}/install/{self.version}"

    @property
    def unfinished(self) -> str:
        """What `current` leads to while there is no version that can be used: commands which say so."""
        return f"{self.support}/unfinished"

    def command(self, name: str) -> tuple[str, str]:
        """A command's path and the text of the link there."""
        path = f"{COMMANDS}/{name}"
        return path, posixpath.relpath(f"{self.current}/bin/{name}", COMMANDS)
