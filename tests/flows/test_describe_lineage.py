"""What a control plane holds about a model and behind it: asked once each, to the end, within bounds; and asked again."""

import json
from contextlib import closing

import msgspec
import pytest
from bom_world import model as write_model

from vouchgate.evidence.bom.document import File, Model, Scan, Weights, write_bom
from vouchgate.evidence.bom.read import read_bom
from vouchgate.flows import describe_lineage
from vouchgate.flows.describe_lineage import MAX_ANSWER, MAX_CONTENTS, compare_lineage, lineage, with_lineage
from vouchgate.vocabulary.answers import VouchState
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable

WHOLE = f"sha256-tree:{'aa' * 32}"


def digest(number):
    return f"sha256:{number:064x}"


def state(number, predicate="scan", about=WHOLE, **more):
    said = {
        "id": f"{number:064x}", "predicate": predicate, "subject": f"vg://acme.example/artifact/{about}", "state": "holds", "outcome": "pass",
        "tier": "verified", "issuer_role": "scanner", "issuer_key": "9c" * 32, "tool": "t 1", "issued_at": 1000, "expires_at": 2000,
    }  # fmt: skip
    return VouchState(**(said | more))


class World:
    """A control plane by its answers."""

    def __init__(self, **answers):
        self.answers = {WHOLE: (state(1), state(2, "train", inputs=(digest(7),), run="r"))} | answers
        self.asked = []

    def __call__(self, name):
        self.asked.append(name)
        return self.answers.get(name, ())


def described(world, *, folder=True):
    files = (File(path="w.safetensors", size=1, sha256="bb" * 32), File(path="README.md", size=1, sha256="cc" * 32))
    made = Model(
        name="m", digest=WHOLE, manifest=f"sha256-manifest:{'bb' * 32}", folder=folder, files=files if folder else files[:1],
        weights=(Weights(path="w.safetensors", format="safetensors"),), scan=Scan(outcome="clean", format="f"),
    )  # fmt: skip
    return with_lineage(made, world)


def document(world):
    return read_bom(write_bom(described(world), None, spec="1.6", timestamp="2026-01-31T12:00:00.000Z", version="1"))


def test_the_model_its_weights_and_what_it_was_made_from_are_asked_about_once_each():
    world = World(**{digest(7): (state(3, "import", digest(7), inputs=(digest(8), digest(7))),), digest(8): (state(4, about=digest(8)),)})
    found = described(world)
    assert world.asked == [WHOLE, f"sha256:{'bb' * 32}", digest(7), digest(8)]
    assert [(one.predicate, one.about) for one in found.vouches] == [
        ("scan", WHOLE), ("train", WHOLE), ("import", digest(7)), ("scan", digest(8)),
    ]  # fmt: skip
    assert found.asked and found.vouches[1].run == "r"


def test_a_lineage_in_a_circle_ends():
    world = World(**{digest(7): (state(3, "import", digest(7), inputs=(WHOLE,)),)})
    assert len(lineage(world, [WHOLE])) == 3


def test_a_lineage_beyond_the_bound_is_none():
    def endless(name):
        number = int(name[-64:], 16)
        return (state(number + 1, "import", name, inputs=(digest(number + 1),)),)

    with pytest.raises(LimitExceeded, match=str(MAX_CONTENTS)):
        lineage(endless, [digest(1)])
    many = tuple(state(number) for number in range(MAX_ANSWER))
    with pytest.raises(LimitExceeded, match="or more"):
        lineage(World(**{WHOLE: many}), [WHOLE])


def test_an_input_that_is_no_digest_ends_it():
    with pytest.raises(InvalidInput):
        lineage(World(**{WHOLE: (state(1, inputs=("../x",)),)}), [WHOLE])


def test_no_answer_is_no_document():
    def gone(_):
        raise Unavailable("the control plane is not running", remedy="start it")

    with pytest.raises(Unavailable):
        described(gone)


@pytest.mark.parametrize(
    ("said", "standing"),
    [("holds", "held"), ("expiring", "held"), ("expired", "open"), ("inconclusive", "open"), ("unverified", "open"), ("failed", "against"), ("revoked", "against")],
)  # fmt: skip
def test_what_a_state_counts_as(said, standing):
    (one,) = lineage(World(**{WHOLE: (state(1, state=said, detail="why\nso"),)}), [WHOLE])
    assert one.standing == standing and one.told == ("" if standing == "held" else "why?so")


def test_a_vouch_that_is_absent_is_none():
    assert lineage(World(**{WHOLE: (state(0, id="", state="absent"),)}), [WHOLE]) == ()


def test_asked_again_the_same_is_no_difference_and_what_fell_is_one():
    world = World(**{digest(7): (state(3, about=digest(7)),)})
    bom = document(world)
    assert bom.faults == () and compare_lineage(bom, world) == []
    world.answers[WHOLE] = (state(1, state="expired"), state(2, "train", inputs=(digest(7),), run="r"), state(9, "validate"))
    assert compare_lineage(bom, world) == []
    world.answers[digest(7)] = (state(3, about=digest(7), state="revoked", detail="revoked: poisoned"),)
    (one,) = compare_lineage(bom, world)
    assert (one.kind, one.what, one.told) == ("changed", "vouch", "revoked: poisoned") and one.name.startswith("scan ")


def test_what_is_gone_new_against_it_undone_or_told_otherwise_is_a_difference():
    fallen = state(3, about=digest(7), state="revoked", detail="d")
    world = World(**{digest(7): (fallen,)})
    bom = document(world)

    def differs(*states):
        return [(one.kind, one.told) for one in compare_lineage(bom, World(**{WHOLE: world.answers[WHOLE], digest(7): states}))]

    assert differs(fallen) == []
    assert differs() == [("missing", "the control plane has no such vouch")]
    assert differs(fallen, state(5, "validate", digest(7), state="failed", outcome="fail", detail="worse")) == [("added", "worse")]
    assert differs(msgspec.structs.replace(fallen, state="holds")) == [("changed", "it stood against the content, and no longer does")]
    assert "does not" in differs(msgspec.structs.replace(fallen, issuer_key="00" * 32))[0][1]


def test_a_real_model_of_the_scanner(tmp_path):
    from vouchgate import wiring
    from vouchgate.flows.describe_artifact import Scanner, describe
    from vouchgate.ports.artifact_files import Place

    with closing(wiring.warm_scanner()) as reader, closing(Place(str(write_model(tmp_path / "m")))) as place:
        made = describe(place, Scanner(reader, wiring.folder_file))
    world = World(**{made.digest: (state(1, about=made.digest),)})
    raw = write_bom(with_lineage(made, world), None, spec="1.7", timestamp="2026-01-31T12:00:00.000Z", version="1")
    assert read_bom(raw).faults == () and len(read_bom(raw).vouches) == 1
    assert json.loads(raw)["declarations"]["claims"][0]["target"] == "model"
    assert describe_lineage.lineage(world, [made.digest]) == read_bom(raw).vouches
