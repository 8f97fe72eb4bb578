"""Facts of the kernel and of machine managers: processes, containers, units and Slurm steps; what a workload could make up earns nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.identity.attestors import Attested
from vouchgate.identity.catalog import attest, match
from vouchgate.identity.cgroup_paths import looks_contained, slurm_step
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration, Selector

ID, OTHER = "4f" * 32, "5e" * 32
POD = "eb0a5a6b-4d21-4a3e-9a1c-0c7c1c3b2f10"
SLICE = POD.replace("-", "_")
STATIC = "f0" * 16
JOB = {
    "node": "gpu02", "job_id": 42, "job_state": ["RUNNING"], "job_uid": 1000, "job_user": "alice", "job_account": "proj", "job_partition": "gpu",
    "job_qos": "normal", "job_cluster": "hpc", "job_nodes": "gpu[01-03,07],login1", "job_restarts": 0, "job_started_at": 1_800_000_000_000,
}  # fmt: skip
STEP = "/system.slice/slurmstepd.scope/job_42/step_0/user/task_3"


def told(name: str, facts: dict) -> dict[str, str] | str:
    answer = attest(name, facts)
    if isinstance(answer, Denied):
        assert answer.remedy and answer.reason == answer.reason.rstrip(".")
        return answer.code
    assert answer.replay_key == "" and answer.expires_at == 0
    return {one.type: one.value for one in answer.selectors}


def container(*lines: str) -> dict[str, str] | str:
    return told("container", {"cgroups": lines, "uid": 0})


def v1(path: str) -> tuple[str, ...]:
    return tuple(f"{n}:{name}:{path}" for n, name in ((12, "memory"), (5, "cpu,cpuacct"), (2, "name=systemd")))


@pytest.mark.parametrize(
    ("path", "runtime", "pod"),
    [
        (f"/docker/{ID}", "docker", ""), (f"/system.slice/docker-{ID}.scope", "docker", ""), (f"/system.slice/nerdctl-{ID}.scope", "nerdctl", ""),
        (f"/machine.slice/libpod-{ID}.scope", "podman", ""), (f"/machine.slice/libpod-{ID}.scope/container", "podman", ""),
        (f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope/container", "podman", ""), (f"/libpod_parent/libpod-{ID}", "podman", ""),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice/cri-containerd-{ID}.scope", "containerd", POD),
        (f"/kubepods.slice/kubepods-pod{SLICE}.slice/cri-containerd-{ID}.scope", "containerd", POD),
        (f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICE}.slice/crio-{ID}.scope/container", "cri-o", POD),
        (f"/kubepods.slice/kubepods-pod{STATIC}.slice/crio-{ID}.scope", "cri-o", STATIC),
        (f"/kubepods.slice/kubepods-pod{SLICE}.slice/docker-{ID}.scope", "docker", POD),
        (f"/kubepods/burstable/pod{POD}/{ID}", "", POD), (f"/kubepods/pod{POD}/{ID}", "", POD), (f"/kubepods/besteffort/pod{POD}/crio-{ID}", "cri-o", POD),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{SLICE}.slice:cri-containerd:{ID}", "containerd", POD),
    ],
)  # fmt: skip
def test_a_container_is_told_by_its_whole_path(path, runtime, pod):
    wanted = {"container:id": ID} | ({"container:pod": pod} if pod else {}) | ({"container:runtime": runtime} if runtime else {})
    assert container(f"0::{path}") == wanted
    assert container(*v1(path)) == container(*v1(path), "0::/") == wanted


@pytest.mark.parametrize(
    "path",
    [
        "/", "/user.slice/user-1000.slice/session-1.scope", "/system.slice/sshd.service", f"/docker/{ID}/docker/{OTHER}", f"/docker/{ID}/x",
        f"/system.slice/docker-{ID}.scope/system.slice/x.service", f"/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope",
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", f"/user.slice/docker/{ID}", f"/x/docker/{ID}",
        f"/docker/{ID[:-1]}", f"/docker/{ID}0", f"/docker/{ID.upper()}", f"/docker/{ID[:-1]}g", f"/docker//{ID}", f"/docker/{ID}/",
        f"/system.slice/docker-{ID}.scope ", f"/machine.slice/libpod-{ID}.scope/container/x", f"/machine.slice/libpod-conmon-{ID}.scope",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-besteffort-pod{SLICE}.slice/cri-containerd-{ID}.scope",
        f"/kubepods.slice/kubepods-burstable-pod{SLICE}.slice/cri-containerd-{ID}.scope", f"/kubepods.slice/kubepods-pod{SLICE}.slice",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-pod{SLICE}.slice/cri-containerd-{ID}.scope", f"/kubepods/pod{POD}/{ID}/x",
        f"/kubepods/pod{POD}0/{ID}", f"/kubepods/guaranteed/pod{POD}/{ID}", f"/kubepods.slice/kubepods-pod{SLICE}.slice/crio-conmon-{ID}.scope",
        f"/default/{ID}", f"/garden/{ID}", f"/docker/{ID}:x", f"/lxc.payload.{ID}",
    ],
)  # fmt: skip
def test_what_a_user_or_a_container_could_make_up_is_no_container(path):
    assert container(f"0::{path}") in ({}, "cgroup-unreadable")


@pytest.mark.parametrize(
    "lines",
    [
        (f"0::/../../docker/{ID}",), (f"0::/docker/{ID} (deleted)",), (f"0::/docker/{ID}/../{OTHER}",), (f"0::/docker/./{ID}",),
        (f"0::/docker/{ID}\x7f",), (f"0::/docker/{ID}\t",), ("0::/..",), (f"0::/docker/é{ID}",),
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_believed_refuses_the_process(lines):
    assert container(*lines) == "cgroup-unreadable"


def test_groups_that_disagree_refuse_the_process():
    assert container(f"3:memory:/docker/{ID}", f"2:cpu:/docker/{OTHER}") == "container-mixed"
    assert container(f"3:memory:/docker/{ID}", "2:cpu:/user.slice") == "container-mixed"
    assert container(f"3:memory:/docker/{ID}", f"0::/system.slice/docker-{OTHER}.scope") == "container-mixed"


@pytest.mark.parametrize(
    "lines", [[], ["x"], ["0::"], ["0::docker"], ["::/x"], ["0:/x"], ["0::/x\n0::/y"], ["0::/x"] * 65, ["999999::/"], ["0::/" + "x" * 4097]]
)
def test_lines_that_the_kernel_does_not_write_are_a_broken_world(lines):
    for name in ("container", "systemd-unit"):
        with pytest.raises(InvalidInput):
            attest(name, {"cgroups": lines})


@given(st.text(st.sampled_from("/docker0123456789abcdefkubepods.-_slicescope:"), max_size=120))
def test_no_path_that_is_not_whole_names_a_container(path):
    assert container(f"0::/{path}") in ({}, "cgroup-unreadable")


def unit(*lines: str) -> dict[str, str] | str:
    return told("systemd-unit", {"cgroups": lines, "uid": 0})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/system.slice/sshd.service", {"unit": "sshd.service", "slice": "system.slice"}),
        ("/system.slice/model.service/workers/1", {"unit": "model.service", "slice": "system.slice"}),
        ("/system.slice/system-serving.slice/serving@bert.service", {"unit": "serving@bert.service", "slice": "system-serving.slice", "template": "serving@.service", "instance": "bert"}),
        ("/system.slice/a@b-c.service", {"unit": "a@b-c.service", "slice": "system.slice", "template": "a@.service", "instance": "b/c"}),
        ("/system.slice/a@b\\x2dc.service", {"unit": "a@b\\x2dc.service", "slice": "system.slice", "template": "a@.service", "instance": "b-c"}),
        ("/system.slice/a@b\\x61.service", {"unit": "a@b\\x61.service", "slice": "system.slice", "template": "a@.service"}),
        ("/system.slice/a@.service", {"unit": "a@.service", "slice": "system.slice", "template": "a@.service"}),
        ("/system.slice/a\\x2db.service", {"unit": "a\\x2db.service", "slice": "system.slice"}),
        ("/system.slice/_cpu.service", {"unit": "cpu.service", "slice": "system.slice"}), ("/system.slice/__x.service", {"unit": "_x.service", "slice": "system.slice"}),
        ("/init.scope", {"unit": "init.scope", "slice": "-.slice"}), ("/ml.slice/ml-train.slice/run-u7.scope", {"unit": "run-u7.scope", "slice": "ml-train.slice"}),
        ("/user.slice/user-1000.slice/session-4.scope", {"unit": "session-4.scope", "slice": "user-1000.slice"}),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service", {"user": "1000", "user_unit": "1000/app-x.service"}),
        ("/user.slice/user-1000.slice/user@1000.service/sshd.service", {"user": "1000", "user_unit": "1000/sshd.service"}),
        ("/user.slice/user-1000.slice/user@1000.service", {"user": "1000"}),
        ("/user.slice/user-1000.slice/user@1000.service/system.slice/sshd.service", {"user": "1000", "user_unit": "1000/sshd.service"}),
    ],
)  # fmt: skip
def test_a_unit_is_told_by_its_place(path, said):
    wanted = {f"systemd:{name}": value for name, value in said.items()}
    assert unit(f"0::{path}") == wanted
    assert unit("5:cpu:/elsewhere", f"1:name=systemd:{path}", "0::/") == wanted


@pytest.mark.parametrize(
    "path",
    [
        "/", "/system.slice", "/system.slice/x", "/system.slice/ml-train.slice/x.service", "/ml-train.slice/x.service", "/a.slice/b.slice/x.service",
        "/system.slice/.service", "/system.slice/x.target", "/system.slice/x.service.", "/../x.service", "/system.slice//sshd.service",
        "/system.slice/sshd.service (deleted)", "/-.slice/x.service", "/user-1000.slice/x.service", "/system.slice/a@b@c d.service",
        "/system.slice/" + "x" * 250 + ".service",
    ],
)  # fmt: skip
def test_what_systemd_did_not_nest_is_no_unit(path):
    assert unit(f"0::{path}") == {}


def test_without_systemds_own_hierarchy_there_is_no_unit():
    assert unit("5:cpu:/system.slice/sshd.service", "0::/system.slice/sshd.service") == {}
    assert unit("5:name=systemd:/system.slice/a.service", "4:name=systemd:/system.slice/b.service") == {}


def slurm(path: str = STEP, /, *, uid: int = 1000, started_at: int = 1_800_000_001_000, **changes) -> dict[str, str] | str:
    facts = {"uid": uid, "cgroups": [f"0::{path}"], "started_at": started_at} | JOB | changes
    return told("slurm", {name: value for name, value in facts.items() if value is not None})


def test_a_step_is_joined_with_what_the_controller_says():
    assert slurm(job_array=40, job_array_task=2, job_het=41, job_het_offset=1, job_restarts=3) == {
        "slurm:job": "42", "slurm:uid": "1000", "slurm:user": "alice", "slurm:account": "proj", "slurm:partition": "gpu", "slurm:qos": "normal",
        "slurm:cluster": "hpc", "slurm:restart": "3", "slurm:array_job": "40", "slurm:array_task": "2", "slurm:het_job": "41",
        "slurm:het_offset": "1", "slurm:node": "gpu02", "slurm:step": "0", "slurm:rank": "3",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "step", "rank"),
    [
        ("/system.slice/slurmstepd.scope/job_42/step_batch/user/task_0", "batch", "0"), ("/system.slice/node1_slurmstepd.scope/job_42/step_7/user/task_12", "7", "12"),
        ("/system.slice/slurmstepd.scope/job_42/step_extern/user/task_special", "extern", "special"), ("/slurm/uid_1000/job_42/step_0/task_1", "0", "1"),
        ("/slurm_node1/uid_1000/job_42/step_batch", "batch", None), ("/slurm/uid_1000/job_42/step_interactive", "interactive", None),
    ],
)  # fmt: skip
def test_version_one_and_two_of_cgroups_name_the_step(path, step, rank):
    found = slurm(path)
    assert (found["slurm:job"], found["slurm:step"], found.get("slurm:rank")) == ("42", step, rank)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/system.slice/slurmd.service", "/system.slice/slurmstepd.scope/system", "/system.slice/slurmstepd.scope/job_42/step_0/slurm",
        "/system.slice/slurmstepd.scope/job_42/step_0/user", "/system.slice/slurmstepd.scope/job_42/step_0/user/task_0/mine",
        "/user.slice/user-1000.slice/user@1000.service/slurm/uid_1000/job_42/step_0/task_0", "/x/slurm/uid_1000/job_42/step_0",
        "/system.slice/slurmstepd.scope/job_042/step_0/user/task_0", "/system.slice/slurmstepd.scope/job_0/step_0/user/task_0",
        "/system.slice/slurmstepd.scope/job_42/step_x/user/task_0", "/slurm/uid_01000/job_42/step_0", "/slurm/uid_1000/job_42",
        "/system.slice/slurmstepd.scope/job_42/step_0/user/task_-1", "/slurm/job_42/step_0",
    ],
)  # fmt: skip
def test_what_slurmstepd_did_not_make_is_no_step(path):
    assert slurm_step([f"0::{path}"]) is None or isinstance(slurm_step([f"0::{path}"]), Denied)
    assert slurm(path) in ({}, "slurm-mixed")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"job_id": None}, "slurm-unknown-job"), ({"job_id": 43}, "slurm-unknown-job"), ({"job_uid": None}, "slurm-unknown-job"), ({"node": None}, "slurm-unknown-job"),
        ({"job_nodes": None}, "slurm-unknown-job"), ({"job_restarts": None}, "slurm-unknown-job"), ({"slurm_unread": "it is down"}, "slurm-unavailable"),
        ({"job_state": ["COMPLETING"]}, "slurm-not-running"), ({"job_state": ["RUNNING", "COMPLETING"]}, "slurm-not-running"), ({"job_state": []}, "slurm-not-running"),
        ({"job_state": ["PENDING"]}, "slurm-not-running"), ({"job_state": ["REQUEUED"]}, "slurm-not-running"), ({"job_state": ["running"]}, "slurm-not-running"),
        ({"uid": 0}, "slurm-other-user"), ({"uid": 1001}, "slurm-other-user"), ({"job_uid": 0}, "slurm-other-user"), ({"real_uid": 0}, "slurm-other-user"),
        ({"node": "gpu04"}, "slurm-other-node"), ({"node": "gpu2"}, "slurm-other-node"), ({"node": "gpu"}, "slurm-other-node"), ({"job_nodes": "gpu[01-"}, "slurm-other-node"),
        ({"job_nodes": "gpu02 "}, "slurm-other-node"), ({"job_nodes": ""}, "slurm-other-node"), ({"node": ""}, "slurm-other-node"), ({"job_nodes": "[0-9][0-9][0-9][0-9][0-9]"}, "slurm-other-node"),
        ({"started_at": 1_799_999_900_000}, "slurm-earlier-run"), ({"job_started_at": 1_800_000_100_000}, "slurm-earlier-run"),
    ],
)  # fmt: skip
def test_a_job_that_does_not_fit_the_process_refuses_it(changes, code):
    assert slurm(**changes) == code


def test_version_one_says_the_user_too():
    assert slurm("/slurm/uid_1001/job_42/step_0/task_1") == "slurm-other-user"


def test_groups_of_two_steps_refuse_the_process():
    lines = ["3:memory:/slurm/uid_1000/job_42/step_0/task_0", "2:cpu:/slurm/uid_1000/job_43/step_0/task_0"]
    assert slurm_step(lines).code == "slurm-mixed"
    assert slurm_step(["3:memory:/slurm/uid_1000/job_42/step_0/task_0", "2:cpu:/slurm/uid_1000/job_42/step_0/task_1"]).code == "slurm-mixed"
    assert slurm_step(["3:memory:/slurm/uid_1000/job_42/step_0/task_0", "2:cpu:/slurm/uid_1000/job_42/step_0/mine"]).code == "slurm-mixed"
    assert (
        slurm_step(
            [
                "3:memory:/slurm/uid_1000/job_42/step_0/task_0",
                "2:freezer:/slurm/uid_1000/job_42/step_0",
                "1:cpu:/system.slice/slurmd.service",
            ]
        ).task
        == "0"
    )


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("gpu01", ["gpu01"]), ("a1,b2", ["a1", "b2"]), ("n[1-3]", ["n1", "n2", "n3"]), ("n[08-10]", ["n08", "n09", "n10"]), ("r[1-2]n[1-2]", ["r1n1", "r2n2"]),
        ("n[1,3]-ib", ["n1-ib", "n3-ib"]), ("n[1-2],m[5,7]", ["n2", "m7"]), ("n[1-99999999]", ["n1", "n65000"]),
    ],
)  # fmt: skip
def test_a_host_list_names_its_nodes(nodes, names):
    assert all(isinstance(slurm(job_nodes=nodes, node=name), dict) for name in names)
    assert slurm(job_nodes=nodes, node="n0") == "slurm-other-node"


def process(**changes) -> dict[str, str] | str:
    return told("unix-process", {"uid": 1000, "gid": 100} | changes)


def test_a_process_of_two_users_speaks_for_neither():
    assert process(real_uid=0) == process(real_gid=0) == "two-users"
    assert process(real_uid=1000, real_gid=100) == {"unix:uid": "1000", "unix:gid": "100"}
    assert process(unread="it is a kernel thread") == "process-unread"
    assert told("unix-process", {"unread": "gone"}) == "process-unread"


def test_supplementary_groups_and_the_group_of_the_process_are_facts():
    answer = attest("unix-process", {"uid": 1, "gid": 1, "groups": ["5", "7"], "cgroup": "/system.slice/x.service"})
    assert {(one.type, one.value) for one in answer.selectors} >= {
        ("unix:supplementary_gid", "5"), ("unix:supplementary_gid", "7"), ("unix:cgroup", "/system.slice/x.service"),
    }  # fmt: skip
    assert all("unix:cgroup" not in process(cgroup=path) for path in ("/", "/../x", "/x (deleted)", ""))


def registered(*selectors: tuple[str, str]) -> list[Registration]:
    wanted = tuple(Selector(type=type, value=value) for type, value in selectors)
    return [Registration(principal="spiffe://test.local/service/prod/a", trust_domain="test.local", selectors=wanted, created_at=0)]


def test_an_image_that_says_user_1000_does_not_take_that_users_identity():
    inside = attest("unix-process", {"uid": 1000, "gid": 100, "exe_sha256": "ab", "exe_path": "/usr/bin/x", "contained": True})
    assert isinstance(inside, Attested) and not any(one.type.startswith("unix:") for one in inside.selectors)
    for wanted in (
        [("unix:uid", "1000")],
        [("container:uid", "1000")],
        [("container:sha256", "ab")],
        [("container:uid", "1000"), ("container:sha256", "ab")],
    ):
        assert isinstance(match(inside.selectors, registered(*wanted), 1), Denied)
    both = [*inside.selectors, *attest("container", {"cgroups": [f"0::/docker/{ID}"]}).selectors]
    assert isinstance(match(both, registered(("container:id", ID), ("container:uid", "1000")), 1), Registration)
    assert isinstance(match(both, registered(("container:runtime", "docker"), ("container:uid", "1000")), 1), Denied)


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{ID}", f"/system.slice/docker-{ID}.scope", f"/docker/{ID}/docker/{OTHER}", f"/kubepods/burstable/pod{POD}/{ID}",
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", "/lxc.payload.web/init.scope",
        f"/system.slice/containerd.service/kubepods-pod{SLICE}.slice:cri-containerd:{ID}", f"/kubelet.slice/kubelet-kubepods.slice/x/crio-{ID}.scope",
    ],
)  # fmt: skip
def test_a_group_named_like_a_containers_is_seen_wherever_it_is(path):
    assert looks_contained([f"0::{path}"]) and looks_contained(["3:cpu:/x", f"0::{path}"])


def test_a_unit_named_like_a_runtime_is_no_container():
    for path in (
        "/system.slice/docker.service",
        "/system.slice/containerd.service",
        "/system.slice/docker-proxy.service",
        "/user.slice/docker.slice/x.scope",
        STEP,
        "/",
    ):
        assert not looks_contained([f"0::{path}"])


def test_a_program_alone_earns_nothing_because_anybody_can_run_it():
    ran = attest("unix-process", {"uid": 1001, "gid": 1, "exe_sha256": "ab", "exe_path": "/usr/bin/x"}).selectors
    for wanted in ([("unix:sha256", "ab")], [("unix:path", "/usr/bin/x")], [("unix:sha256", "ab"), ("unix:path", "/usr/bin/x")]):
        assert isinstance(match(ran, registered(*wanted), 1), Denied)
    assert isinstance(match(ran, registered(("unix:sha256", "ab"), ("unix:uid", "1001")), 1), Registration)
