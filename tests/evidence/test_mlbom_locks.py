"""Lock files: what binds an archive by hash, and what does not; and whether a publisher is the one that was named."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.evidence.bom.gaps import Attested
from vouchgate.evidence.bom.locks import GITHUB, GITLAB, GOOGLE, fits, identity_of, read_lock
from vouchgate.vocabulary.errors import InvalidInput

A, B = "aa" * 32, "bb" * 32
PYLOCK = f"""lock-version = "1.0"
created-by = "test"
[[packages]]
name = "Some_Name"
version = "1.0"
wheels = [{{name = "some_name-1.0-py3-none-any.whl", url = "https://h/x.whl", hashes = {{sha256 = "{A}"}}}}]
sdist = {{url = "https://h/some_name-1.0.tar.gz?x=1", hashes = {{sha256 = "{B}", md5 = "00"}}}}
attestation-identities = [{{kind = "GitHub", repository = "o/n", workflow = "r.yml"}}]
[[packages]]
name = "weak"
version = "1"
archive = {{url = "https://h/weak.zip", hashes = {{md5 = "00"}}}}
[[packages]]
name = "nothing"
directory = {{path = "."}}
"""
UV = f"""version = 1
[[package]]
name = "a"
version = "1.0.0"
sdist = {{ url = "https://h/a-1.0.0.tar.gz", hash = "sha256:{B}", size = 1 }}
wheels = [{{ url = "https://h/p/a-1.0.0-py3-none-any.whl", hash = "sha256:{A}" }}]
"""
POETRY = f"""[[package]]
name = "a"
version = "1.0.0"
files = [{{file = "a-1.0.0-py3-none-any.whl", hash = "sha256:{A}"}}, {{file = "a-1.0.0.tar.gz", hash = "md5:{B}"}}]
"""


def lock(text):
    return read_lock(text.encode())


def test_pylock():
    found, notes = lock(PYLOCK)
    (one,) = found
    assert (one.name, one.version) == ("some-name", "1.0")
    assert one.archives == (("some_name-1.0-py3-none-any.whl", A), ("some_name-1.0.tar.gz", B))
    assert one.identities == ({"kind": "GitHub", "repository": "o/n", "workflow": "r.yml"},)
    assert notes == ("weak has no hash", "nothing has no hash")


@pytest.mark.parametrize(("text", "count"), [(UV, 2), (POETRY, 1)])
def test_uv_and_poetry(text, count):
    (one,), _ = lock(text)
    assert (one.name, one.version) == ("a", "1.0.0") and len(one.archives) == count
    assert ("a-1.0.0-py3-none-any.whl", A) in one.archives


def test_requirements_with_hashes():
    found, notes = lock(
        f"# comment\n--index-url https://h/simple\na==1.0 \\\n    --hash=sha256:{A} \\\n    --hash sha256:{B}  # why\n"
        f"b[x]==2 ; python_version > '3' --hash=sha256:{A}\nc==1\nd>=1 --hash=sha256:{A}\ne==1.* --hash=sha256:{A}\nf==1 --hash=md5:00\n"
        f"g==1,!=2 --hash=sha256:{A}\nh==1 --hash=sha256:{A.upper()}\n"
    )
    assert [(one.name, one.version, len(one.archives)) for one in found] == [("a", "1.0", 2), ("b", "2", 1)]
    assert [note.split("`")[1] for note in notes] == ["c==1", "d>=1", "e==1.*", "f==1", "g==1,!=2", "h==1"]


@pytest.mark.parametrize(
    "text", ["", "a==1\n", "[tool]\nx = 1\n", "package = 5\n", "[[package]]\nname = 5\n", "\x00", "a==1 --hash='sha256:"]
)
def test_what_locks_nothing_is_no_lock_file(text):
    with pytest.raises(InvalidInput):
        lock(text)


@given(st.text(max_size=200))
def test_any_text_is_a_lock_or_refused(text):
    with contextlib.suppress(InvalidInput):
        assert all(one.archives for one in lock(text)[0])


def signer(**changes):
    said = {
        "identity": "https://github.com/o/n/.github/workflows/r.yml@refs/tags/v1",
        "issuer": GITHUB,
        "repository": "https://github.com/o/n",
    }
    return Attested(filename="x", sha256=A, **(said | changes))


NAMED = {"kind": "GitHub", "repository": "o/n", "workflow": "r.yml"}


def test_the_named_publisher():
    assert fits(signer(), NAMED) and fits(signer(), {"kind": "GitHub", "repository": "O/N"})
    assert fits(signer(), identity_of("https://github.com/o/n"))
    assert fits(signer(identity="me@x.org", issuer=GOOGLE, repository=""), {"kind": "Google", "email": "me@x.org"})
    gitlab = signer(identity="https://gitlab.com/g/s/n//ci.yml@refs/heads/main", issuer=GITLAB, repository="https://gitlab.com/g/s/n")
    assert fits(gitlab, {"kind": "GitLab", "repository": "g/s/n", "workflow_filepath": "ci.yml"})
    assert fits(gitlab, identity_of("https://gitlab.com/g/s/n/"))


@pytest.mark.parametrize(
    ("who", "named"),
    [
        (signer(issuer="https://evil"), NAMED),
        (signer(issuer=GITLAB), NAMED),
        (signer(repository="https://github.com/o/n2"), NAMED),
        (signer(repository="https://github.com/o/n.evil.org"), NAMED),
        (signer(repository=""), NAMED),
        (signer(identity="https://github.com/o/n/.github/workflows/other.yml@refs/tags/v1"), NAMED),
        (signer(identity="https://github.com/o/n/.github/workflows/r.yml2@refs/tags/v1"), NAMED),
        (signer(identity="https://github.com/evil/n/.github/workflows/r.yml@refs/tags/v1"), NAMED),
        (signer(), {"kind": "GitHub"}),
        (signer(), {"kind": "GitHub", "repository": ""}),
        (signer(), {"repository": "o/n"}),
        (signer(), {"kind": "Google", "email": "me@x.org"}),
        (signer(identity="", issuer=GOOGLE), {"kind": "Google", "email": ""}),
        (signer(), {"kind": "ActiveState", "repository": "o/n"}),
        (signer(), {}),
    ],
)
def test_any_other_publisher(who, named):
    assert not fits(who, named)


@pytest.mark.parametrize(
    "text", ["", "o/n", "https://github.com/o", "http://github.com/o/n", "https://github.com.evil/o/n", "https://example.org/o/n"]
)
def test_only_repositories_are_named(text):
    with pytest.raises(InvalidInput):
        identity_of(text)
