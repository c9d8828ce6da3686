"""Reading requirements: one at a time, in requirements.txt and environment.yml files, and all that a manifest names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from boxsnake.errors import ManifestError
from boxsnake.manifest import Manifest
from boxsnake.requirement_files import collect
from boxsnake.requirements import CondaRequirement, IndexOptions, PipRequirement
from boxsnake.requirements.conda_requirement import check_match_spec, python_of, python_specifier
from boxsnake.requirements.environment import EnvironmentFile
from boxsnake.requirements.environment_yml import parse_environment_yml
from boxsnake.requirements.pip_requirement import checked_hash, pip_requirement
from boxsnake.requirements.requirements_txt import PipFile, parse_requirements_txt
from boxsnake.urls import redact, without_credentials

A = "a" * 64
B = "b" * 64
CANARY = "hunter2"


def files(**contents: str) -> Callable[[str], str]:
    """A reader of files by name, "__" for a slash and "_" for a dot."""
    known = {name.replace("__", "/").replace("_", "."): text for name, text in contents.items()}

    def read(path: str) -> str:
        if path not in known:
            raise FileNotFoundError(2, "No such file or directory")
        return known[path]

    return read


def txt(text: str, environ: Mapping[str, str] | None = None, /, **contents: str) -> PipFile:
    return parse_requirements_txt(text, "requirements.txt", files(**contents), environ=environ)


def yml(text: str, source: str = "environment.yml", **contents: str) -> EnvironmentFile:
    return parse_environment_yml(text, source, files(**contents))


def faults_of(read: Callable[[], Any]) -> list[tuple[str, int, str, str]]:
    with pytest.raises(ManifestError) as caught:
        read()
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.data)
    return [(fault.source, fault.line, fault.key, fault.message) for fault in caught.value.faults]


class TestPipRequirement:
    @pytest.mark.parametrize(
        ("line", "text", "name"),
        [
            ("Flask[b,A]>=3,<4; python_version<'3.12'", 'flask[a,b]<4,>=3; python_version < "3.12"', "flask"),
            ("zope.interface", "zope-interface", "zope-interface"),
            ("a @ https://h/a-1-py3-none-any.whl", "a @ https://h/a-1-py3-none-any.whl", "a"),
            ("a@https://h/x.zip ; os_name=='nt'", 'a @ https://h/x.zip ; os_name == "nt"', "a"),
            ("https://h/a_b-1-py3-none-any.whl", "a-b @ https://h/a_b-1-py3-none-any.whl", "a-b"),
            ("https://h/a-1.tar.gz ; os_name=='nt'", 'a @ https://h/a-1.tar.gz ; os_name == "nt"', "a"),
            ("https://h/main.zip", "https://h/main.zip", None),
            ("git+https://h/r@v1#egg=A_b[X]", "a-b[x] @ git+https://h/r@v1", "a-b"),
            ("a @ git+ssh://git@h/r@v1#subdirectory=x/y", "a @ git+ssh://git@h/r@v1#subdirectory=x/y", "a"),
            ("git+file:///srv/r", "git+file:///srv/r", None),
            (".", ".", None),
            ("./", ".", None),
            ("./a/../b[X, y] ; os_name=='nt'", './b[x,y] ; os_name == "nt"', None),
            ("a/b", "./a/b", None),
            ("../a", "../a", None),
            ("/srv/a", "/srv/a", None),
            ("file:///srv/a%20b", "/srv/a b", None),
            ("file:a", "./a", None),
            ("a @ ./vendor", "./vendor", "a"),
            ("a.zip", "./a.zip", None),
            ("dist/A_b-1-py3-none-any.whl", "./dist/A_b-1-py3-none-any.whl", "a-b"),
        ],
    )
    def test_text_and_name(self, line: str, text: str, name: str | None) -> None:
        requirement = pip_requirement(line, source="r:1")
        assert (requirement.text, requirement.name) == (text, name)
        assert pip_requirement(requirement.text, source="r:1").text == text

    def test_parts(self) -> None:
        requirement = pip_requirement("b[Y,x] @ https://u:p@h/b.zip#subdirectory=s ; os_name=='nt'", source="r:1")
        assert requirement.extras == ("x", "y")
        assert requirement.marker == 'os_name == "nt"'
        assert requirement.url == "https://u:p@h/b.zip#subdirectory=s"
        assert pip_requirement("./b", source="r:1").path == "./b"

    def test_paths_are_relative_to_the_folder_that_is_given(self) -> None:
        assert pip_requirement("../b", source="r:1", folder="sub").path == "./b"
        assert pip_requirement(".", source="r:1", folder="sub").path == "./sub"

    def test_hashes_of_fragment_and_option_are_kept(self) -> None:
        line = f"https://h/b.zip#sha256={A.upper()}&egg=b"
        requirement = pip_requirement(line, source="r:1", hashes=(f"sha256:{B}", f"sha256:{A}"))
        assert requirement.hashes == (f"sha256:{B}", f"sha256:{A}")
        assert "#" not in requirement.text

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("", "expected package name"),
            ("a b", "expected semicolon"),
            ("a >>3", "expected semicolon"),
            ("a==1.x", "expected comma"),
            ("a[", "expected matching RIGHT_BRACKET"),
            ("a; python", "expected"),
            ("./a ; nonsense", "expected"),
            ("a\x1b", "control characters"),
            ("svn+https://h/r", "is not supported"),
            ("a @ ftp://h/a", "is not supported"),
            ("https:///a.zip", "names no host"),
            ("https://[u:hunter2@h/a", "not a valid URL"),
            ("file://other/a", "names no other host"),
            ("~/a", "relative to the manifest"),
            ("./a#subdirectory=b", "name the folder itself"),
            ("https://h/a.zip#subdirectory=../b", "must stay inside"),
            ("./a.whl", "is no wheel's file name"),
            ("b @ https://h/a-1-py3-none-any.whl", "the archive is one of a"),
            ("https://h/a.zip#md5=0", "md5 is too weak"),
            ("https://h/a.zip#sha256=0", "64 hexadecimal digits"),
            ("https://h/a.zip#egg=a b", "expected"),
            ("a @ https://u:hunter2@h/x y", "expected"),
            ("C:\\a", "expected"),
        ],
    )
    def test_what_is_refused(self, line: str, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            pip_requirement(line, source="r:1")
        assert CANARY not in str(caught.value)

    @pytest.mark.parametrize("line", ["a @ https://u:hunter2@h/a.zip?q=hunter2", "git+https://hunter2@h/r#egg=a"])
    def test_credentials_are_used_and_not_shown(self, line: str) -> None:
        requirement = pip_requirement(line, source="r:1")
        assert CANARY in requirement.text
        assert CANARY not in requirement.shown + repr(requirement)

    def test_variables_are_used_and_not_shown(self) -> None:
        line = "a @ https://h/${TOKEN}/a.zip"
        requirement = pip_requirement(line, source="r:1", environ={"TOKEN": CANARY})
        assert requirement.url == "https://h/hunter2/a.zip"
        assert requirement.shown == line
        assert pip_requirement("${ALL}", source="r:1", environ={"ALL": "a==1"}).shown == "${ALL}"

    def test_a_variable_that_is_not_set_is_refused(self) -> None:
        with pytest.raises(ValueError, match="TOKEN is not set"):
            pip_requirement("a @ https://h/${TOKEN}", source="r:1")

    def test_a_variable_cannot_bring_another_line(self) -> None:
        with pytest.raises(ValueError, match="control characters"):
            pip_requirement("${A}", source="r:1", environ={"A": "a\n--index-url=https://evil"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("md5:0", "too weak"),
        ("sha1:0", "too weak"),
        ("", "is written as"),
        ("crc:0", "is written as"),
        ("sha256:xyz", "64 hexadecimal"),
        (f"sha512:{A}", "128 hexadecimal"),
    ],
)
def test_hashes_that_prove_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_hash(text)


class TestCondaRequirement:
    @pytest.mark.parametrize(
        "spec",
        [
            "numpy",
            "_libgcc_mutex",
            "numpy=2.1",
            "numpy==2.1",
            "numpy 2.1",
            "numpy >=2,<3",
            "numpy>=2 , <3",
            "numpy >= 2",
            "numpy 2.1|2.2",
            "numpy (>=2,<3)|>4",
            "numpy=2.1=py311_0",
            "numpy==2.1=py*",
            "numpy 2.* *_cpython",
            "numpy *",
            "numpy ~=2.1",
            "numpy !=2",
            "numpy 1!2.0",
            "conda-forge::numpy",
            "https://h:8080/c::numpy=2",
            "conda-forge/linux-64::numpy",
            "numpy[version='>=2,<3', build=\"py*\"]",
            "numpy >=2[sha256=00]",
        ],
    )
    def test_match_specs(self, spec: str) -> None:
        check_match_spec(spec)

    @pytest.mark.parametrize(
        "spec",
        [
            "",
            " ",
            "*",
            "py*",
            "a,b",
            "a>",
            "a>1,",
            "a=",
            "a 1 2 3",
            "a(>1",
            "a;b",
            "a[fast]",
            "a[x=1]",
            "a[version",
            "$(a)",
            "a >1; os_name == 'nt'",
            "https://h/a-1-0.conda",
            "::a",
            "a b|",
            "a\n>1 2 3",
            "-a",
        ],
    )
    def test_what_is_no_match_spec(self, spec: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            check_match_spec(spec)

    @pytest.mark.parametrize(
        ("spec", "found"),
        [
            ("numpy", None),
            ("python-dateutil", None),
            ("python", (None, True)),
            ("python=3.11", ("==3.11.*", True)),
            ("python 3.11.*", ("==3.11.*", True)),
            ("python==3.11.7", ("==3.11.7", True)),
            ("Python >=3.11,<3.13", ("<3.13,>=3.11", True)),
            ("python=3.11.7=h1_cpython", ("==3.11.7", False)),
            ("conda-forge::python=3.11", ("==3.11.*", False)),
            ("python 3.11|3.12", (None, False)),
            ("python[version='3.11']", (None, False)),
        ],
    )
    def test_python(self, spec: str, found: tuple[str | None, bool] | None) -> None:
        assert python_of(spec) == found

    @pytest.mark.parametrize(
        ("text", "specifier"),
        [
            ("3", "==3.*"), ("3.11", "==3.11.*"), ("3.11.*", "==3.11.*"), ("3.11*", "==3.11.*"), ("=3.11", "==3.11.*"),
            ("3.11.7", "==3.11.7"), ("==3.11.7", "==3.11.7"), (">=3.11, <3.14", "<3.14,>=3.11"), ("~=3.11", "~=3.11"),
            (">=3.11.*", ">=3.11"),
        ],
    )  # fmt: skip
    def test_python_versions(self, text: str, specifier: str) -> None:
        assert python_specifier(text) == specifier

    @pytest.mark.parametrize("text", ["", ",", "3.x", "three", ">=", "3.11|3.12", ">=3.11,", "3.11 3.12", "\n"])
    def test_what_is_no_python_version(self, text: str) -> None:
        with pytest.raises(ValueError, match="not a version specifier"):
            python_specifier(text)


class TestRequirementsTxt:
    def test_lines(self) -> None:
        text = (
            "\ufeff# a comment\n\nflask>=3   # why\n"
            "numpy==2 \\\n    --hash=sha256:" + A + " \\\n    --hash sha256:" + B + "\n"
            "a @ https://h/a.zip#egg=a\n\t-e ./lib[x]\n-e git+https://h/r#egg=r\nb;os_name=='nt' \\\n # end\nc"
        )
        found = txt(text).requirements
        assert [(requirement.text, requirement.source) for requirement in found] == [
            ("flask>=3", "requirements.txt:3"),
            ("numpy==2", "requirements.txt:4"),
            ("a @ https://h/a.zip", "requirements.txt:7"),
            ("./lib[x]", "requirements.txt:8"),
            ("r @ git+https://h/r", "requirements.txt:9"),
            ('b; os_name == "nt"', "requirements.txt:10"),
            ("c", "requirements.txt:12"),
        ]
        assert found[1].hashes == (f"sha256:{A}", f"sha256:{B}")

    def test_nested_files(self) -> None:
        found = txt(
            "-r sub/base.txt\n--requirement=sub/base.txt\n-csub/c.txt\nflask",
            sub__base_txt="-r ../more.txt\n-e .\nnumpy",
            more_txt="attrs",
            sub__c_txt="numpy<3\n-r d.txt",
            sub__d_txt="attrs<99",
        )
        assert [(found.text, found.source) for found in found.requirements] == [
            ("attrs", "more.txt:1"),
            (".", "sub/base.txt:2"),
            ("numpy", "sub/base.txt:3"),
            ("flask", "requirements.txt:4"),
        ]
        assert [found.text for found in found.constraints] == ["numpy<3", "attrs<99"]

    def test_index_options(self) -> None:
        found = txt(
            "-i https://u:${TOKEN}@h/simple\n--extra-index-url=https://h/${TOKEN}/x --pre\n-f ./wheels\n--no-index\n"
            "--find-links https://u:hunter2@h/wheels\n--no-binary A_b,:all:\n--only-binary=c\n"
            "--prefer-binary\n--use-feature=x",
            {"TOKEN": CANARY},
        ).index
        assert found == IndexOptions(
            index_url="https://u:hunter2@h/simple",
            extra_index_urls=("https://h/hunter2/x",),
            find_links=("wheels", "https://u:hunter2@h/wheels"),
            no_index=True,
            pre=True,
            no_binary=("a-b", ":all:"),
            only_binary=("c",),
            shown=(
                "--index-url https://h/simple",
                "--extra-index-url https://h/${TOKEN}/x",
                "--pre",
                "--find-links ./wheels",
                "--no-index",
                "--find-links https://h/wheels",
                "--no-binary A_b,:all:",
                "--only-binary c",
            ),
        )
        assert CANARY not in repr(found)

    def test_all_faults_of_all_files(self) -> None:
        found = faults_of(lambda: txt("a b\n-r x.txt\n-r none.txt\nc d", x_txt="\nflask\ne f"))
        assert [fault[:3] for fault in found] == [
            ("requirements.txt", 1, "a b"),
            ("requirements.txt", 3, "-r none.txt"),
            ("requirements.txt", 4, "c d"),
            ("x.txt", 3, "e f"),
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("--trusted-host h", "every server is verified"),
            ("--indx-url https://h", "is --index-url meant?"),
            ("--install-option=x", "unknown option --install-option"),
            ("-x", "unknown option -x"),
            ("-", "unknown option -"),
            ("--index-url", "needs a value"),
            ("-i ./folder", "an index is a"),
            ("-i 'https://h", "no closing quotation"),
            ("-i https://h/a\n-i https://h/b", "another --index-url"),
            ("--no-binary a/b", "neither ':all:' nor"),
            ("-r https://u:hunter2@h/r.txt", "keep a copy of it"),
            ("-r /etc/r.txt", "must be relative"),
            ("-r ~/r.txt", "must be relative"),
            ("-r ${NOPE}.txt", "NOPE is not set"),
            ("-r requirements.txt", "the file includes itself"),
            ("-r loop.txt", "includes itself: requirements.txt -> loop.txt -> requirements.txt"),
            ("-c c.txt", "a constraint has a name"),
            ("a --global-option=x", "only --hash is"),
            ("a --hash=md5:0", "md5 is too weak"),
            ("a --hash", "a hash is written as"),
            ("--require-hashes\na", "has no --hash"),
            ("-e", "unknown option -e"),
            ("a @ https://u:hunt'er2)hunter2@h/x y", "expected"),
            ("a\x00", "control characters"),
            ("\x1b[31m", "control characters"),
        ],
    )
    def test_what_is_refused(self, text: str, message: str) -> None:
        contents = {"loop_txt": "-r ./requirements.txt", "c_txt": "a[x]>1"}
        [(_, line, _, told)] = faults_of(lambda: txt(text, None, **contents))
        assert line
        assert message in told

    def test_constraints_may_bring_the_hashes_that_are_demanded(self) -> None:
        assert txt("--require-hashes\na==1\n-c c.txt", c_txt=f"a==1 --hash=sha256:{A}").constraints[0].hashes

    def test_a_long_chain_of_files_is_refused(self) -> None:
        chain = {f"r{number}_txt": f"-r r{number + 1}.txt" for number in range(200)}
        [(_, _, _, message)] = faults_of(lambda: txt("-r r0.txt", None, **chain))
        assert "more than 50 deep" in message

    @pytest.mark.parametrize("odd", ["\x00", "\\", "'", '"', "--", "[", "${", "#", "\u2028", "\ud800", "@", "://", ";"])
    def test_damaged_lines_are_a_manifest_error_or_sound(self, odd: str) -> None:
        line = f"-e a[b] @ https://u:p@h/a-1.zip#sha256={A} ; os_name == 'nt' --hash=sha256:{A}"
        for text in (line, "--index-url https://h/simple --pre", "numpy >=1,<2 # c"):
            for position in range(len(text) + 1):
                damaged = text[:position] + odd + text[position:]
                try:
                    txt(damaged)
                except ManifestError as error:
                    refused = error.faults
                    assert_messages(refused)


def assert_messages(faults: tuple[Any, ...]) -> None:
    assert faults
    assert all(fault.message for fault in faults)


class TestEnvironmentYml:
    def test_a_whole_file(self) -> None:
        found = yml(
            "name: demo\n"
            "channels: [conda-forge, nodefaults, defaults, 'https://u:p@h/c', conda-forge]\n"
            "dependencies:\n"
            "  - python=3.11\n"
            "  - conda-forge::numpy=2.1=py311_0\n"
            "  - 'openssl >=3'\n"
            "  - pip\n"
            "  - pip:\n"
            "    - flask >=3\n"
            "    - -r more.txt\n"
            "    - --extra-index-url https://h/simple\n"
            "variables: {B: yes, A: 1.50, C: 'x y'}\n"
            "prefix: /opt/conda/envs/demo\n",
            source="env/environment.yml",
            env__more_txt="-e .\nattrs",
        )
        assert (found.name, found.python) == ("demo", "==3.11.*")
        assert found.channels == ("conda-forge", "defaults", "https://u:p@h/c")
        assert found.conda == (
            CondaRequirement(spec="conda-forge::numpy=2.1=py311_0", source="env/environment.yml:5"),
            CondaRequirement(spec="openssl >=3", source="env/environment.yml:6"),
            CondaRequirement(spec="pip", source="env/environment.yml:7"),
        )
        assert [(found.text, found.source) for found in found.pip.requirements] == [
            ("flask>=3", "env/environment.yml:9"),
            ("./env", "env/more.txt:1"),
            ("attrs", "env/more.txt:2"),
        ]
        assert found.pip.index.extra_index_urls == ("https://h/simple",)
        assert found.environment == (("A", "1.50"), ("B", "yes"), ("C", "x y"))
        assert "u:p" not in repr(found)

    @pytest.mark.parametrize(
        ("text", "line", "key", "message"),
        [
            pytest.param("", 0, "", "must hold channels", id="empty"),
            pytest.param("- a", 1, "", "must hold channels", id="list"),
            pytest.param("a: b: c", 1, "", "not valid YAML: mapping values", id="syntax"),
            pytest.param("a: [1\nb: 2", 2, "", "not valid YAML", id="open list"),
            pytest.param("a: \x07", 0, "", "not valid YAML", id="control"),
            pytest.param("[" * 9000, 0, "", "nested too deeply", id="deep"),
            pytest.param("--- {}\n--- {}", 2, "", "single document", id="two documents"),
            pytest.param("a: *b", 1, "", "undefined alias", id="unknown alias"),
            pytest.param("name: a\nname: b", 2, "name", "given before", id="key twice"),
            pytest.param("name: 1", 1, "name", "must be text in quotes", id="number as name"),
            pytest.param("nam: a", 1, "nam", "is 'name' meant?", id="near key"),
            pytest.param("zzz: a", 1, "zzz", "known are name, channels", id="far key"),
            pytest.param("platforms: []", 1, "platforms", "[targets]", id="platforms"),
            pytest.param("1: a", 1, "", "must be text in quotes", id="number as key"),
            pytest.param("? [a]\n: b", 1, "", "must be text", id="list as key"),
            pytest.param("<<: {name: a}", 1, "", "must be text", id="merge"),
            pytest.param("channels: a", 1, "channels", "must be a list", id="channels"),
            pytest.param("channels: ['a b']", 1, "channels[0]", "name, URL or folder", id="channel"),
            pytest.param("dependencies: {a: 1}", 1, "dependencies", "must be a list", id="mapping"),
            pytest.param("dependencies:\n- 3.11", 2, "dependencies[0]", "in quotes", id="number"),
            pytest.param("dependencies:\n- a\n- [b]", 3, "dependencies[1]", "must be text", id="nested"),
            pytest.param("dependencies:\n- a;b", 2, "dependencies[0]", "has no marker", id="marker"),
            pytest.param('dependencies: ["a\\nb"]', 1, "dependencies[0]", r"character \n", id="newline"),
            pytest.param("dependencies:\n- sel(linux): a", 2, "dependencies[0].sel(linux)", "pip section", id="sel"),
            pytest.param("dependencies: [pip: a]", 1, "dependencies[0].pip", "must be a list", id="pip"),
            pytest.param("dependencies:\n- pip: []\n- pip: []", 3, "dependencies[1].pip", "one pip section", id="pips"),
            pytest.param("dependencies:\n- pip:\n  - a b", 3, "a b", "expected", id="pip requirement"),
            pytest.param("dependencies: [!!python/object/apply:os.system [x]]", 1, "dependencies[0]", "text", id="tag"),
            pytest.param("dependencies: &a [*a]", 1, "dependencies[0]", "must be text", id="alias of itself"),
            pytest.param("variables: [a]", 1, "variables", "must be a mapping", id="variables"),
            pytest.param("variables: {a b: c}", 1, "variables.a b", "name of an environment variable", id="variable"),
            pytest.param("variables: {a: [c]}", 1, "variables.a", "must be text", id="variable's value"),
            pytest.param('variables: {a: "\\0"}', 1, "variables.a", r"character \x00", id="NUL"),
            pytest.param(
                "dependencies: ['https://u:hunter2@h/c::a b c d']",
                1,
                "dependencies[0]",
                "is no build",
                id="credentials",
            ),
        ],
    )
    def test_a_fault_has_its_line_and_key(self, text: str, line: int, key: str, message: str) -> None:
        [(source, *place, told)] = faults_of(lambda: yml(text))
        assert (source, place) == ("environment.yml", [line, key])
        assert message in told

    def test_an_alias_bomb_is_refused_at_once(self) -> None:
        levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
        assert len(faults_of(lambda: yml(f"a0: &a0 x\n{levels}dependencies: *a29"))) == 39

    def test_truncated_files_are_a_manifest_error_or_sound(self) -> None:
        text = "name: 'a'\nchannels: [\"b\", c]\ndependencies:\n- &x python=3.11\n- *x\n- pip:\n  - 'd' # e\n"
        for cut in range(len(text)):
            try:
                yml(text[:cut])
            except ManifestError as error:
                assert_messages(error.faults)


class TestCollect:
    def manifest(self, **requires: Any) -> Manifest:
        app = {"name": "a", "version": "1", "source": ".", "extras": ["known"]}
        return Manifest.decoded({"app": app, "requires": requires})

    def test_the_manifest_comes_first_and_then_its_files(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        contents = {
            "requirements.txt": b"\xef\xbb\xbf-r sub/base.txt\r\nflask\r\n-e .[Known]\r\n",
            "sub/base.txt": b"attrs\n-c ../c.txt\n--pre\n",
            "c.txt": b"attrs<99\n",
            "sub/environment.yml": b"channels: [b, a]\ndependencies: [python>=3.11, zlib]\nvariables: {X: '1'}\n",
        }
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        found = collect(
            self.manifest(
                python="3.11.*",
                channels=["a"],
                conda=["openssl >=3", "python <3.13"],
                pip=["numpy", "./local"],
                files=["./requirements.txt", "sub/environment.yml"],
            ),
            tmp_path,
            environ={},
        )
        assert found.python == "<3.13,==3.11.*,>=3.11"
        assert found.channels == ("a", "b")
        assert [(found.spec, found.source) for found in found.conda] == [
            ("openssl >=3", "requires.conda[0]"),
            ("zlib", "sub/environment.yml:2"),
        ]
        assert [(found.text, found.source) for found in found.pip] == [
            ("numpy", "requires.pip[0]"),
            ("./local", "requires.pip[1]"),
            ("attrs", "sub/base.txt:1"),
            ("flask", "requirements.txt:2"),
        ]
        assert [found.text for found in found.constraints] == ["attrs<99"]
        assert found.index == IndexOptions(pre=True, shown=("--pre",))
        assert found.environment == (("X", "1"),)
        assert found.files == tuple(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in contents.items()))

    def test_nothing_but_what_is_asked_for(self, tmp_path: Path) -> None:
        found = collect(self.manifest(), tmp_path, environ={})
        assert (found.python, found.channels, found.pip, found.files) == (None, (), (), ())

    def test_faults_of_all_files_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("a b\n-e .[other]\n")
        (tmp_path / "b.yml").write_text("nam: x\n")
        (tmp_path / "c.txt").write_bytes("flask".encode("utf-16"))
        (tmp_path / "d.txt").write_bytes(b"a\n\xff")
        (tmp_path / "f.txt").mkdir()
        names = ["a.txt", "b.yml", "c.txt", "d.txt", "e.txt", "f.txt"]
        found = faults_of(lambda: collect(self.manifest(files=names), tmp_path, environ={}))
        assert [(source, line) for source, line, _, _ in found] == [
            ("a.txt", 1), ("b.yml", 1), ("c.txt", 0), ("d.txt", 0), ("e.txt", 0), ("f.txt", 0),
        ]  # fmt: skip
        told = {source: f"{key}: {message}" for source, _, key, message in found}
        assert told["c.txt"].startswith("requires.files[2]: is UTF-16")
        assert told["d.txt"] == "requires.files[3]: line 2 is not UTF-8 text"
        assert told["e.txt"] == "requires.files[4]: there is no such file"
        assert told["f.txt"] == "requires.files[5]: is not a file"

    def test_extras_of_the_application_itself_belong_to_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("\n-e .[other]\n")
        [(source, line, _, message)] = faults_of(lambda: collect(self.manifest(files=["a.txt"]), tmp_path, environ={}))
        assert (source, line, message) == ("a.txt", 2, "extras of the application itself belong in app.extras: other")

    def test_two_files_with_different_indexes_contradict_each_other(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("-i https://u:hunter2@h/a\n")
        (tmp_path / "b.txt").write_text("-i https://u:hunter2@h/b\n")
        [(source, _, key, _)] = faults_of(
            lambda: collect(self.manifest(files=["a.txt", "b.txt"]), tmp_path, environ={})
        )
        assert (source, key) == ("b.txt", "requires.files[1]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://u:p@h/x?token=1 there", "see https://h/x there"),
        ("'https://u:pa'ss)@h/x'", "'https://h/x'"),
        ("https://h/t/secret/channel", "https://h/channel"),
        ('bad "http://[u:p@h" one', 'bad "http://…" one'),
    ],
)
def test_free_text_is_shown_without_credentials(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_url_that_cannot_be_read_is_not_shown() -> None:
    assert without_credentials("https://[u:p@h/x") == "https://…"


def test_values_are_told_apart_by_what_they_are() -> None:
    one = PipRequirement(text="a", shown="a", name="a", source="r:1")
    assert one == pip_requirement("A", source="r:1")
