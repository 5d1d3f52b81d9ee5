"""What becomes of a submission before it is queued: read, completed, checked; and what is said about it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.admission.admission import Admission
from broker.admission.checks import default_name, unstartable
from broker.errors import BadInput
from broker.protocol.api import ErrorCode, SubmitRequest
from broker.protocol.job import CommandWork, JobSpec, Resources, TrainWork
from broker.protocol.states import Priority
from broker.settings import Settings

TRAIN = TrainWork(model="yolov8n.yaml", task="detect", args={"data": "coco8.yaml", "epochs": 3})
COMMAND = CommandWork(argv=["/bin/true"])

Make = Callable[..., Admission]


@pytest.fixture
async def admission() -> AsyncIterator[Make]:
    made: list[Admission] = []

    def make(**settings: Any) -> Admission:
        made.append(Admission(Settings.model_validate({"nodes": [{"name": "local"}, {"name": "big"}], **settings})))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def test_an_edit_says_only_what_changes(admission: Make) -> None:
    base = JobSpec(work=TRAIN, name="fruit", user="ana", trial_number=4)
    request = SubmitRequest(set={"train.epochs": 9, "resources.cpus": 2}, priority=Priority.LOW)
    edited = (await admission().read(request, base)).required()
    assert isinstance(edited.work, TrainWork)
    assert edited.work.args == {"data": "coco8.yaml", "epochs": 9}
    assert (edited.name, edited.user, edited.trial_number) == ("fruit", "ana", 4)
    assert (edited.priority, edited.resources.cpus) == (Priority.LOW, 2)


async def test_an_edit_by_a_configuration_keeps_what_none_can_say(admission: Make) -> None:
    base = JobSpec(work=TRAIN, name="fruit", user="ana", trial_number=4)
    edited = (await admission().read(SubmitRequest(config="argv: [/bin/true]"), base)).required()
    assert edited.work == COMMAND and edited.trial_number == 4


async def test_a_name_that_was_made_is_made_again_when_the_work_changes(admission: Make) -> None:
    base = (await admission().read(SubmitRequest(spec=JobSpec(work=TRAIN)))).required()
    assert base.name == "yolov8n coco8"
    edited = (await admission().read(SubmitRequest(set={"model": "yolov8s.yaml"}), base)).required()
    assert edited.name == "yolov8s coco8"


async def test_a_spec_is_checked_as_a_configuration_is(admission: Make) -> None:
    work = TrainWork(model="yolov8n.pt", args={"data": "coco8.yaml", "epochz": 3})
    refused = await admission().read(SubmitRequest(spec=JobSpec(work=work)))
    assert refused.spec is None
    assert [(f.where, f.hint) for f in refused.findings] == [("train.epochz", "did you mean `epochs`?")]
    work = TrainWork(model="https://example.org/model.pt", args={"data": "coco8.yaml"})
    assert (await admission().read(SubmitRequest(spec=JobSpec(work=work)))).spec is None


async def test_data_that_is_not_there_is_bad_data(admission: Make, tmp_path: Path) -> None:
    request = SubmitRequest(config="model: yolov8n.pt\ntrain: {data: data.yaml}\n", base_dir=str(tmp_path))
    refused = await admission().read(request)
    assert (refused.spec, refused.code) == (None, ErrorCode.BAD_DATA)
    with pytest.raises(BadInput, match=r"there is no .*data\.yaml"):
        refused.required()
    assert (await admission(preflight=False).read(request)).spec is not None


async def test_prefixes_are_mapped_to_where_they_are_here(admission: Make) -> None:
    request = SubmitRequest(config="model: yolov8n.pt\ntrain: {data: /datasets/fruit/data.yaml}\n")
    spec = (await admission(preflight=False, path_map={"/datasets": "/mnt"}).read(request)).required()
    assert isinstance(spec.work, TrainWork) and spec.work.args["data"] == "/mnt/fruit/data.yaml"
    assert spec.name == "yolov8n fruit"


async def test_paths_may_not_leave_the_allowed_folders_by_a_link_or_by_dots(admission: Make, tmp_path: Path) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "secret"
    allowed.mkdir()
    secret.mkdir()
    (secret / "images").mkdir()
    (secret / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    (allowed / "link").symlink_to(secret)
    (allowed / "sly.yaml").write_text(f"path: {secret}\ntrain: images\nval: images\nnames: [a]\n")
    gate = admission(allowed_roots=[allowed])
    for data in ("../secret/data.yaml", "link/data.yaml", str(secret / "data.yaml"), "sly.yaml"):
        config = f"model: yolov8n.pt\ntrain: {{data: {data}}}\n"
        refused = await gate.read(SubmitRequest(config=config, base_dir=str(allowed)))
        assert refused.spec is None
        assert any("outside the allowed folders" in finding.message for finding in refused.findings), data


async def test_who_asks_is_the_user_where_nobody_is_named(admission: Make) -> None:
    gate = admission()
    assert (await gate.read(SubmitRequest(spec=JobSpec(work=COMMAND)), by="ana")).required().user == "ana"
    assert (await gate.read(SubmitRequest(spec=JobSpec(work=COMMAND, user="bo")), by="ana")).required().user == "bo"


async def test_names_that_would_control_a_terminal_are_made_harmless(admission: Make) -> None:
    spec = (await admission().read(SubmitRequest(spec=JobSpec(work=COMMAND), name="a\x1b]0;b\x07c\u202e"))).required()
    assert spec.name.isprintable()


async def test_a_name_that_is_too_long_is_refused(admission: Make) -> None:
    refused = await admission().read(SubmitRequest(spec=JobSpec(work=COMMAND), name="x" * 201))
    assert [finding.where for finding in refused.findings] == ["name"]


async def test_a_program_that_appears_is_found_at_once(admission: Make, tmp_path: Path) -> None:
    program = tmp_path / "run"
    request = SubmitRequest(spec=JobSpec(work=CommandWork(argv=[str(program)])))
    gate = admission()
    assert (await gate.read(request)).spec is None
    program.write_text("#!/bin/sh\n")
    assert "not executable" in (await gate.read(request)).findings[0].message
    program.chmod(0o755)
    assert (await gate.read(request)).spec is not None


@pytest.mark.parametrize(
    ("program", "cwd", "path", "said"),
    [
        ("true", None, None, None),
        ("true", None, "/nowhere", "no program `true`"),
        ("./run", None, None, "relative path"),
        ("bin/true", "/", None, None),
        ("true", "/nowhere", None, "no folder"),
        ("/etc", None, None, "no file"),
    ],
)
def test_why_a_command_could_not_start(program: str, cwd: str | None, path: str | None, said: str | None) -> None:
    found = unstartable(program, cwd, path)
    assert (found is None) == (said is None)
    assert said is None or (found is not None and said in found.message)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/usr/bin/python", "prep.py"], "python prep.py"),
        (["a", "b", "c", "d", "e"], "a b c d"),
        (["sh", "-c", "x" * 100], "sh -c " + "x" * 53 + "…"),
    ],
)
def test_a_command_is_called_by_its_words(argv: list[str], name: str) -> None:
    assert default_name(JobSpec(work=CommandWork(argv=argv))) == name


async def test_warnings_go_with_the_job(admission: Make) -> None:
    config = "model: yolov8n.pt\nmlflow: {}\ntrain: {data: coco8.yaml}\n"
    admitted = await admission().read(SubmitRequest(config=config))
    assert admitted.required()
    assert len(admitted.warnings) == 1 and admitted.warnings[0].startswith("mlflow")


@pytest.mark.parametrize(
    ("line", "where", "said"),
    [
        ("{zone: lab, rack: 7, fast: yes}", "", ""),
        ("{zone: roof}", "resources.labels.zone", "no node has the label zone=roof: zone is lab (media)"),
        ("{zoen: lab}", "resources.labels.zoen", "no node has the label zoen=lab: did you mean `zone`?"),
        ("{zone: [lab]}", "resources.labels.zone", "given a list, expected text"),
        ("lab", "resources.labels", "given 'lab' (text), expected labels"),
    ],
)
async def test_labels_are_those_of_a_node(admission: Make, line: str, where: str, said: str) -> None:
    media = {"name": "media", "labels": {"zone": "lab", "rack": "7", "fast": "true"}}
    request = SubmitRequest(config=f"command: 'true'\nresources: {{labels: {line}}}\n")
    admitted = await admission(nodes=[media, {"name": "attic"}]).read(request)
    if not said:
        assert admitted.spec is not None and admitted.spec.resources.labels == media["labels"]
    else:
        [finding] = admitted.findings
        assert finding.where.partition(" ")[0] == where
        assert f"{finding.message}: {finding.hint}".startswith(said)


BOX = {"name": "box", "engine": "docker", "image": "wyolo-trainer"}
OPEN = BOX | {"name": "open", "images": ["ghcr.io/us/*", "wyolo-trainer:*"], "networks": ["bridge"]}


@pytest.mark.parametrize(
    ("nodes", "wanted", "said"),
    [
        ([BOX], {"image": "wyolo-trainer"}, None),
        ([BOX], {"image": "evil/miner"}, "asks for the image evil/miner, box allows wyolo-trainer"),
        ([BOX, OPEN], {"image": "ghcr.io/us/new:2"}, None),
        ([BOX, OPEN], {"image": "ghcr.io/us/new:2", "node": "box"}, "box allows wyolo-trainer"),
        ([BOX, OPEN], {"image": "wyolo-trainer:next"}, None),
        ([OPEN], {"image": "ghcr.io/usurper/new"}, "open allows"),
        ([BOX, OPEN], {"network": "bridge"}, None),
        ([BOX, OPEN], {"network": "host"}, "asks for the network host, box allows none; "),
        ([BOX], {"network": "none"}, None),
        ([{"name": "here"}], {"network": "bridge"}, None),
        ([{"name": "here"}], {"network": "none"}, "cannot keep it away"),
        ([{"name": "here"}], {"image": "wyolo-trainer"}, "here runs jobs without any"),
    ],
)
async def test_an_image_or_network_that_no_node_allows_is_refused_with_the_setting_that_would(
    admission: Make, nodes: list[dict[str, Any]], wanted: dict[str, str], said: str | None
) -> None:
    request = SubmitRequest(spec=JobSpec(work=COMMAND, resources=Resources.model_validate(wanted)))
    admitted = await admission(nodes=nodes).read(request)
    assert (admitted.spec is None) == (said is not None)
    if said is not None:
        [finding] = admitted.findings
        assert said in finding.message
        assert "wyolo.toml" in finding.hint
        assert finding.where == f"extras.{'image' if 'image' in wanted else 'network'}"


@pytest.mark.parametrize("line", ["image: --privileged", "image: 'a b'", "network: container:other", "image: [a]"])
async def test_an_image_or_network_is_a_name_and_nothing_else(admission: Make, line: str) -> None:
    config = f"command: 'true'\nextras: {{{line}}}\n"
    refused = await admission(nodes=[OPEN]).read(SubmitRequest(config=config))
    assert [finding.where.partition(" ")[0] for finding in refused.findings] == [f"extras.{line.partition(':')[0]}"]


async def test_the_program_of_an_image_is_not_looked_for_here(admission: Make) -> None:
    spec = JobSpec(work=CommandWork(argv=["/only/there"]), resources=Resources(image="ghcr.io/us/new"))
    assert (await admission(nodes=[OPEN]).read(SubmitRequest(spec=spec))).spec is not None
