"""Signatures by OpenPGP: of RPMs and of repositories' metadata. The only module that knows gpg and rpmsign.

A signature holds the time at which it was made. Here that time is given, never read off the clock, so the same bytes
signed by the same key give the same signature (for keys whose signatures are deterministic: RSA and EdDSA are). It is
never before the key's own creation: such a signature would be refused by whoever checks it.

A passphrase comes from gpg's agent, or from a file that gpg itself reads. It is never an argument or a variable.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from boxsnake import child
from boxsnake.errors import IntegrityError, PolicyError, ResourceError, UsageError
from boxsnake.value import dataclass

_DEADLINE = 600.0
"""Seconds, within which a passphrase can be typed as well."""

# rpm expands macros in what it is given, and takes words apart; so it is given nothing but these fixed texts, and the
# script, which it runs in the folder that it is started in, has all that varies.
_SCRIPT = "sign.sh"
_MACROS = (
    "_gpg_name boxsnake",
    "__gpg /bin/sh",
    f"__gpg_sign_cmd /bin/sh sh ./{_SCRIPT} %{{__signature_filename}} %{{__plaintext_filename}}",
)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """A secret key that signs. `created` is the time before which it cannot have signed, in seconds since 1970."""

    fingerprint: str
    created: int
    home: Path | None = None
    """gpg's folder; None: the user's own."""
    passphrase_file: Path | None = None


def signer(key: str, *, home: Path | None = None, passphrase_file: Path | None = None) -> Signer:
    """The one usable secret key that `key` names: a fingerprint, a key id or a user id.

    Errors: ResourceError where gpg or the key is missing, UsageError where several keys fit, PolicyError for a key
    that is expired or revoked or cannot sign.
    """
    base = Signer(fingerprint="", created=0, home=home, passphrase_file=passphrase_file)
    command = [*_gpg(base), "--with-colons", "--list-secret-keys", "--", key]
    done = _run(command, f"key {key}")
    records = [line.split(":") for line in done.output.splitlines()]
    primaries = [record for record in records if record[0] == "sec"]
    if done.code != 0 or not primaries:
        step = "Import it (`gpg --import`), or name another key or, with --gpg-home, another folder of gpg's."
        raise ResourceError(f"key {key}", "gpg has no such secret key", step, key=key)
    if len(primaries) > 1:
        raise UsageError(f"key {key}", f"fits {len(primaries)} secret keys", "Name it by its fingerprint.", key=key)
    usable = list(_usable(records))
    if not usable:
        cause = "is expired, revoked or not for signing"
        raise PolicyError(f"key {key}", cause, "Name a key that may sign, or extend this one's life.", key=key)
    # The newest, as gpg itself would choose; a subkey before the primary key of the same second.
    created, fingerprint = max(reversed(usable), key=lambda found: found[0])
    return Signer(
        fingerprint=fingerprint,
        created=max(created, int(primaries[0][5])),
        home=home,
        passphrase_file=passphrase_file.absolute() if passphrase_file else None,
    )


def public_key(signer: Signer) -> bytes:
    """The public key in armour, as those who check the signatures import it."""
    with tempfile.TemporaryDirectory(prefix="boxsnake-key-") as folder:
        exported = Path(folder, "key.asc")
        command = [*_gpg(signer), "--armor", "--export-options", "export-minimal", "--output", exported]
        _checked([*command, "--export", signer.fingerprint], "the public key")
        return exported.read_bytes()


def sign_detached(signer: Signer, path: Path, signature: Path, *, time: int) -> None:
    """Write the armoured signature of a file beside it. Errors: ResourceError."""
    _checked([*_signing(signer, time), "--armor", "--output", signature, "--detach-sign", "--", path], path.name)


def check_detached(content: bytes, signature: bytes, key: Path) -> str:
    """The fingerprint of the key in a file that made a signature; no other key is trusted, the user's least of all.

    Errors: UsageError where the file holds no public key, IntegrityError where the signature is not of it.
    """
    with tempfile.TemporaryDirectory(prefix="boxsnake-check-") as folder:
        home = Path(folder)
        (home / "content").write_bytes(content)
        (home / "signature").write_bytes(signature)
        base = Signer(fingerprint="", created=0, home=home)
        done = _run([*_gpg(base), "--no-autostart", "--import", "--", key.absolute()], str(key))
        if done.code != 0:
            raise UsageError(str(key), "holds no public key", "Name a file with the sender's public key.")
        check = ["--no-autostart", "--trust-model", "always", "--status-fd", "1", "--verify"]
        done = _run([*_gpg(base), *check, home / "signature", home / "content"], "the signature")
        valid = [line.split() for line in done.output.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
        if done.code != 0 or not valid:
            step = "Ask the sender for the right key, or for the file again."
            raise IntegrityError("the signature", f"is not of the key in {key.name}", step)
        return valid[0][2]


def sign_clear(signer: Signer, path: Path, signed: Path, *, time: int) -> None:
    """Write a copy of a text with its signature in it. Errors: ResourceError."""
    _checked([*_signing(signer, time), "--output", signed, "--clear-sign", "--", path], path.name)


def sign_rpms(signer: Signer, paths: Sequence[Path], scratch: Path, *, time: int) -> None:
    """Sign packages in place; a signature that one has is replaced. `scratch` is a folder for a file of ours.

    Errors: ResourceError where rpmsign is missing or fails.
    """
    if not paths:
        return
    program = shutil.which("rpmsign")
    if program is None:
        raise missing("rpmsign", "rpm")
    words = [*_signing(signer, time), "--no-armor", "--output"]
    text = f'exec {shlex.join(str(word) for word in words)} "$1" --detach-sign -- "$2"\n'
    (scratch / _SCRIPT).write_text(text, encoding="utf-8")
    defines = [word for macro in _MACROS for word in ("--define", macro)]
    command: list[str | Path] = [program, *defines, "--addsign", *(path.absolute() for path in paths)]
    _checked(command, paths[0].name if len(paths) == 1 else f"{len(paths)} packages", folder=scratch)


def missing(program: str, package: str) -> ResourceError:
    """The error of a program that is not installed, and the Debian package that brings it."""
    step = f"Install it: apt-get install {package}"
    return ResourceError(program, "is not installed", step, tool=program, package=package)


def _usable(records: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
    """Creation time and fingerprint of each key that may sign, of gpg's colon listing (doc/DETAILS of GnuPG)."""
    for record, following in itertools.pairwise(records):
        is_key = record[0] in {"sec", "ssb"} and following[0] == "fpr"
        if is_key and record[1][:1] not in set("eridn") and "s" in record[11]:
            yield int(record[5]), following[9]


def _gpg(signer: Signer) -> list[str | Path]:
    program = shutil.which("gpg")
    if program is None:
        raise missing("gpg", "gnupg")
    home: list[str | Path] = ["--homedir", signer.home.absolute()] if signer.home else []
    # Without the user's options: a comment or another digest of theirs would change the bytes.
    return [program, "--no-options", "--batch", "--no-tty", "--quiet", *home]


def _signing(signer: Signer, time: int) -> list[str | Path]:
    passphrase: list[str | Path] = []
    if signer.passphrase_file is not None:
        passphrase = ["--pinentry-mode", "loopback", "--passphrase-file", signer.passphrase_file]
    faked = f"{max(time, signer.created)}!"
    options = ["--faked-system-time", faked, "--digest-algo", "SHA512", "--local-user", f"{signer.fingerprint}!"]
    return [*_gpg(signer), *passphrase, *options]


def _checked(command: Sequence[str | Path], thing: str, *, folder: Path | None = None) -> None:
    done = _run(command, thing, folder=folder)
    if done.code != 0:
        told = [line.strip() for line in done.output.splitlines() if line.strip() and "faked system time" not in line]
        cause = "; ".join(told[-4:]) or done.why(_DEADLINE)
        step = "See that gpg can sign with this key (its passphrase: gpg's agent, or --passphrase-file)."
        raise ResourceError(thing, f"it could not be signed: {cause}", step, status=done.code)


def _run(command: Sequence[str | Path], thing: str, *, folder: Path | None = None) -> child.Finished:
    argv = [str(word) for word in command]
    done = child.run(argv, cwd=folder or Path.cwd(), env=os.environ | {"LC_ALL": "C.UTF-8"}, deadline=_DEADLINE)
    if done.code is None:
        step = "Give the key's passphrase to gpg's agent beforehand, or by --passphrase-file."
        raise ResourceError(thing, f"gpg did not answer within {_DEADLINE:.0f} s", step)
    return done
