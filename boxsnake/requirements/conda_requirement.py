"""One conda requirement as text: whether it is a MatchSpec, and what it asks of Python's version."""

from __future__ import annotations

import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet

_SPEC = re.compile(
    r"(?:(?P<channel>\S+?)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)"
    r"(?P<rest>(?:[\s<>=!~][^\[\]]*)?)(?:\[(?P<keys>[^\[\]]*)\])?"
)
_KEYS = frozenset(
    {"arch", "build", "build_number", "channel", "features", "file_name", "fn", "license", "license_family", "md5"}
    | {"platform", "sha256", "subdir", "timestamp", "track_features", "url", "version"}
)
_KEY = re.compile(r"""\s*(\w+)\s*=\s*(?:"[^"]*"|'[^']*'|[^"',\s]+)\s*""")
_NAME_VERSION_BUILD = re.compile(r"=([^=\s]+)=(\S+)")
_ATOM = re.compile(r"(?:[<>=!]=|~=|[<>=])?[A-Za-z0-9_.!+*-]+|\^\S+\$")
_BUILD = re.compile(r"[A-Za-z0-9_.*+-]+|\^\S+\$")
_GLOB = re.compile(r"=?(\d+(?:\.\d+)*)(?:\.?\*)?")


def check_match_spec(spec: str) -> None:
    """Refuse text that cannot be a MatchSpec: "name", "name >=1,<2", "name=1.2=build", "channel::name[key=value]".

    It is a check of form, as CEP 29 gives it; the solver has the last word. Errors: ValueError.
    """
    if ";" in spec:
        raise ValueError("a conda requirement has no marker; use [targets] for what differs by platform")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^:]*$", spec):
        raise ValueError("the URL of a package is not a MatchSpec; name the package, and its channel in `channels`")
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise ValueError("not a MatchSpec, such as 'numpy', 'numpy >=1.26,<3' or 'conda-forge::numpy=2.1'")
    _check_keys(match["keys"])
    version, build = _version_and_build(match["rest"])
    _check_version(version)
    if build is not None and not _BUILD.fullmatch(build):
        raise ValueError(f"{build!r} is no build string")


def python_specifier(text: str) -> str:
    """A Python version as people, PEP 440 or conda write it ("3.11", "=3.11", "3.11.*", ">=3.11,<3.13"), as PEP 440.

    A version of one or two parts without an operator means its whole series. Errors: ValueError.
    """
    try:
        return str(SpecifierSet(",".join(_pep_440(part.strip()) for part in text.split(","))))
    except InvalidSpecifier:
        raise ValueError("not a version specifier, such as '3.11.*' or '>=3.11,<3.14'") from None


def python_of(spec: str) -> tuple[str | None, bool] | None:
    """What a MatchSpec asks of Python's version as a PEP 440 specifier set, and whether that says all that it asks.

    None where it is about another package. The specifier is None where there is none, or none that PEP 440 can say.
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None or match["name"].lower() != "python":
        return None
    version, build = _version_and_build(match["rest"])
    whole = not match["channel"] and not match["keys"] and not build
    if not version:
        return None, whole
    try:
        return python_specifier(version), whole
    except ValueError:
        return None, False


def _pep_440(part: str) -> str:
    if not part:
        raise InvalidSpecifier(part)
    series = _GLOB.fullmatch(part)
    if series is None:
        # conda allows ">=3.11.*", whose ".*" says nothing.
        return re.sub(r"^([<>]=?\s*[\d.]+)\.\*$", r"\1", part)
    whole_series = part.endswith("*") or series[1].count(".") < 2
    return f"=={series[1]}.*" if whole_series else f"=={series[1]}"


def _check_keys(keys: str | None) -> None:
    for key in re.split(r""",(?=(?:[^"']|"[^"]*"|'[^']*')*$)""", keys) if keys is not None else ():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError("brackets hold key=value pairs in a MatchSpec; extras such as '[fast]' belong to pip")
        if match[1] not in _KEYS:
            raise ValueError(f"{match[1]!r} is no key of a MatchSpec")


def _version_and_build(rest: str) -> tuple[str, str | None]:
    rest = rest.strip()
    both = _NAME_VERSION_BUILD.fullmatch(rest)
    if both is not None:
        return f"=={both[1]}", both[2]
    # Blanks around operators, commas and bars belong to the version.
    joined = re.sub(r"\s*([,|])\s*", r"\1", re.sub(r"([<>=!~(])\s+", r"\1", rest))
    version, _, build = joined.partition(" ")
    if not build and (twice := re.fullmatch(r"(==?[^=\s]+)=([^=\s]+)", version)):
        return twice[1], twice[2]
    return version, build.strip() or None


def _check_version(version: str) -> None:
    if not version:
        return
    if version.count("(") != version.count(")"):
        raise ValueError(f"{version!r} has a parenthesis without its other half")
    for atom in re.split(r"[,|]", version.replace("(", "").replace(")", "")):
        if not _ATOM.fullmatch(atom):
            raise ValueError(f"{atom or version!r} is no version constraint")
