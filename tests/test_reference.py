from __future__ import annotations

import pytest

from boxsnake.reference import Reference, is_registry, parse

DIGEST = f"sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("", "a", "", "")),
        ("a:1", ("", "a", "1", "")),
        ("team/a:1", ("", "team/a", "1", "")),
        ("localhost/a:1", ("localhost", "a", "1", "")),
        ("r.example/team/a", ("r.example", "team/a", "", "")),
        ("r:5000/a:1.0_x-Y", ("r:5000", "a", "1.0_x-Y", "")),
        ("[::1]:5000/a", ("[::1]:5000", "a", "", "")),
        (f"r.example/a__b/c-d:1@{DIGEST}", ("r.example", "a__b/c-d", "1", DIGEST)),
        (f"a@{DIGEST}", ("", "a", "", DIGEST)),
    ],
)
def test_a_reference_has_parts_and_is_written_as_it_was(text: str, parts: tuple[str, str, str, str]) -> None:
    reference = parse(text)
    assert (reference.registry, reference.repository, reference.tag, reference.digest) == parts
    assert str(reference) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "repository's name"),
        ("Hello:1", "repository's name"),
        ("a..b", "repository's name"),
        ("a/", "repository's name"),
        ("a b:1", "repository's name"),
        (f"{'a' * 256}:1", "repository's name"),
        ("a:", "is no tag"),
        ("a:-1", "is no tag"),
        (f"a:{'1' * 129}", "is no tag"),
        ("a@sha256:00", "is no digest"),
        ("a@md5:00", "is no digest"),
        ("r.example:x/a:1", "is no registry's host"),
        ("-r.example/a:1", "is no registry's host"),
        ("user:word@r.example/a", "is no digest"),
        ("https://r.example/a", "is no registry's host"),
        ("r.example/a:1\n", "is no tag"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_what_a_reference_means() -> None:
    assert parse("a").version == "latest"
    assert parse("a:1").version == "1"
    assert parse("a:1").pinned(DIGEST).version == DIGEST
    assert str(parse("a:1").at("r.example")) == "r.example/a:1"
    assert parse("r.example/a:1").at("other.example") == Reference(registry="r.example", repository="a", tag="1")
    assert is_registry("r.example:5000")
    assert not is_registry("https://r.example")
