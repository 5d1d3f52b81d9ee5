"""What becomes of a submission before it is queued: read, completed, checked; and what is said about it."""

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from broker import preflight
from broker.admission.admission import Admission
from broker.admission.checks import default_name, unstartable
from broker.errors import BadInput
from broker.placement import Room
from broker.protocol.api import ErrorCode, SubmitRequest
from broker.protocol.job import CommandWork, JobSpec, Resources, TrainWork
from broker.protocol.states import Priority
from broker.settings import Settings
from wyolo_tui.shapes import make

TRAIN = TrainWork(model="yolov8n.yaml", task="detect", args={"data": "coco8.yaml", "epochs": 3})
COMMAND = CommandWork(argv=["/bin/true"])

Make = Callable[..., Admission]


@pytest.fixture(autouse=True)
def nothing_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "SLOW_S", float("inf"))  # a busy machine is not a slow disk


@pytest.fixture
async def admission() -> AsyncIterator[Make]:
    made: list[Admission] = []

    def make(rooms: Sequence[Room] = (), **settings: Any) -> Admission:
        nodes = [{"name": "local"}, {"name": "big"}]
        made.append(Admission(Settings.model_validate({"nodes": nodes, **settings}), lambda: rooms))
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


def swap(inside: Path, outside: Path) -> None:
    """What was inside lies outside, and a link leads there."""
    outside.parent.mkdir(parents=True, exist_ok=True)
    inside.rename(outside)
    inside.symlink_to(outside)


LEAVES: dict[str, Callable[[Path, Path], object]] = {
    "an image": lambda data, secret: swap(data / "images/train/0001.jpg", secret / "a.jpg"),
    "a label": lambda data, secret: swap(data / "labels/val/0001.txt", secret / "a.txt"),
    "a folder of labels": lambda data, secret: swap(data / "labels/train", secret / "labels"),
    "a folder in a folder": lambda data, secret: (
        shutil.copytree(data / "images/train", secret / "more"),
        (data / "images/train/more").symlink_to(secret / "more"),
    ),
    "the data.yaml": lambda data, secret: swap(data / "data.yaml", secret / "data.yaml"),
    "the images": lambda data, secret: swap(data / "images", secret / "images"),
    "a list of links": lambda data, secret: (
        swap(data / "images/val/0001.jpg", secret / "a.jpg"),
        (data / "list.txt").write_text("./images/val/0001.jpg\n"),
        (data / "data.yaml").write_text("train: images/train\nval: list.txt\nnames: [a, b, c]\n"),
    ),
    "a list of others": lambda data, secret: (
        shutil.copytree(data / "images/val", secret / "images"),
        (data / "list.txt").write_text(f"{secret}/images/0000.jpg\n"),
        (data / "data.yaml").write_text("train: list.txt\nval: images/val\nnames: [a, b, c]\n"),
    ),
    "test images": lambda data, secret: (
        shutil.copytree(data / "images/val", secret / "images"),
        (data / "data.yaml").write_text(
            f"train: images/train\nval: images/val\nnames: [a, b, c]\ntest: {secret}/images\n"
        ),
    ),
}


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
@pytest.mark.parametrize("checked", [True, False], ids=["checked", "unchecked"])
async def test_nothing_of_a_data_set_may_lie_outside_the_allowed_folders(
    admission: Make, tmp_path: Path, leave: Callable[[Path, Path], object], checked: bool
) -> None:
    data, secret = tmp_path / "allowed" / "data", tmp_path / "secret"
    secret.mkdir()
    make(data, "detect", images=3, val=3, size=32)
    gate = admission(allowed_roots=[tmp_path / "allowed"], preflight=checked)
    request = SubmitRequest(config=f"model: yolov8n.yaml\ntrain: {{data: {data}}}\n")
    assert (await gate.read(request)).spec is not None
    leave(data, secret)
    config = f"model: yolov8n.yaml\ntrain: {{data: {data}}}\nval: {{split: test}}\n"
    refused = await gate.read(SubmitRequest(config=config) if "test:" in (data / "data.yaml").read_text() else request)
    assert refused.spec is None
    assert any("outside the allowed folders" in finding.message for finding in refused.findings)
    assert all("allowed_roots" in finding.hint for finding in refused.findings if "outside" in finding.message)


@pytest.mark.parametrize("place", ["train", "val", "val/disc", "train/disc/0000.jpg"])
@pytest.mark.parametrize("checked", [True, False], ids=["checked", "unchecked"])
async def test_classes_may_not_be_links_to_outside_the_allowed_folders(
    admission: Make, tmp_path: Path, place: str, checked: bool
) -> None:
    data = tmp_path / "allowed" / "data"
    make(data, "classify", images=3, val=3, size=32)
    gate = admission(allowed_roots=[tmp_path / "allowed"], preflight=checked)
    request = SubmitRequest(config=f"model: yolov8n-cls.yaml\ntrain: {{data: {data}}}\n")
    assert (await gate.read(request)).spec is not None
    swap(data / place, tmp_path / "secret" / "thing")
    refused = await gate.read(request)
    assert refused.spec is None
    assert any("outside the allowed folders" in finding.message for finding in refused.findings)


async def test_links_within_the_allowed_folders_are_followed(admission: Make, tmp_path: Path) -> None:
    data, shared = tmp_path / "allowed" / "data", tmp_path / "allowed" / "shared"
    make(data, "detect", images=3, val=3, size=32)
    swap(data / "images" / "train" / "0000.jpg", shared / "0000.jpg")
    swap(data / "labels" / "val" / "0000.txt", shared / "0000.txt")
    request = SubmitRequest(config=f"model: yolov8n.yaml\ntrain: {{data: {data}}}\n")
    assert (await admission(allowed_roots=[tmp_path / "allowed"]).read(request)).findings == []


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
        ("/" + "a" * 300, None, None, "cannot be looked at: File name too long"),
        ("./" + "a" * 300, "/", None, "cannot be looked at: File name too long"),
        ("a" * 300, None, None, "no program"),
        ("true", "/" + "a" * 300, None, "cannot be looked at: File name too long"),
    ],
)
def test_why_a_command_could_not_start(program: str, cwd: str | None, path: str | None, said: str | None) -> None:
    found = unstartable(program, cwd, path)
    assert (found is None) == (said is None)
    assert said is None or (found is not None and said in found.message)


@pytest.mark.parametrize(
    ("work", "where"),
    [
        ({"argv": ["true", "a\0b"]}, "argv.1"),
        ({"argv": ["true"], "cwd": "/tmp\0"}, "cwd"),
        ({"argv": ["true"], "env": {"A=B": "1"}}, "env.A=B"),
        ({"argv": ["true"], "env": {"": "1"}}, "env."),
        ({"argv": ["true"], "env": {"A": "\0"}}, "env.A"),
    ],
)
async def test_what_no_program_can_be_handed_is_refused(admission: Make, work: dict[str, Any], where: str) -> None:
    admitted = await admission().read(SubmitRequest(spec=JobSpec(work=CommandWork.model_validate(work))))
    assert [finding.where for finding in admitted.findings] == [where]


async def test_paths_that_cannot_be_followed_are_refused_and_named(admission: Make, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for data in ("/" + "a" * 300, str(tmp_path / "circle"), str(tmp_path / "circle" / "data.yaml")):
        config = f"model: yolov8n.pt\ntrain: {{data: {data}}}\n"
        refused = await admission(allowed_roots=[tmp_path]).read(SubmitRequest(config=config))
        assert refused.spec is None
        assert [finding.where for finding in refused.findings] == ["train.data"]


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


HERE = Room("local", slots=1, cpus=2, memory_mib=8000)
BIG = Room("big", slots=1, cpus=4, memory_mib=8000, gpus=["GPU-a"])
AWAY = Room("big", slots=1, cpus=1024, memory_mib=1 << 40, closed="cannot be reached", known=False)
NO_GPU = "asks for GPU 0, and no node has a GPU"


@pytest.mark.parametrize(
    ("lines", "rooms", "level", "said"),
    [
        ("resources: {cpus: 100}", [HERE], "warning", "no node can run it: needs 100 cores, local has 2"),
        ("resources: {memory: 900TB}", [HERE], "warning", "no node can run it: needs 943718400 MiB of memory"),
        ("resources: {cpus: 100}", [HERE, AWAY], "", ""),
        ("resources: {cpus: 100}", [], "", ""),
        ("resources: {cpus: 4}", [HERE, BIG], "", ""),
        ("  device: 0", [HERE], "error", NO_GPU),
        ("  device: 0", [HERE, AWAY], "", ""),
        ("  device: 0", [HERE, BIG], "", ""),
        ("  device: 7", [HERE, BIG], "warning", "needs GPU 7, big has 1"),
        ("resources: {gpus: [0]}", [HERE], "error", NO_GPU),
        ("resources: {gpus: 1}", [HERE], "warning", "asks for a GPU, and no node has a GPU: runs on the CPU"),
        ("resources: {gpus: 0}", [HERE], "", ""),
        ("extras: {gpu: {id: 0, limit: 0.5}}", [HERE], "warning", f"{NO_GPU}: runs on the CPU"),
        ("extras: {gpu: {id: 0}, force_gpu: true}", [HERE], "error", NO_GPU),
        ("extras: {force_gpu: true}", [HERE], "warning", "no node can run it: needs a GPU, local has none"),
    ],
)
async def test_what_no_node_has_is_said_at_once(
    admission: Make, lines: str, rooms: list[Room], level: str, said: str
) -> None:
    config = f"model: yolov8n.yaml\ntrain:\n  data: coco8.yaml\n{lines}\n"
    admitted = await admission(rooms=rooms).read(SubmitRequest(config=config))
    assert (admitted.spec is None) == (level == "error")
    assert [finding.level for finding in admitted.findings] == [level] * bool(level)
    assert said in "".join(finding.message for finding in admitted.findings)


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "legacy").iterdir()), ids=lambda path: path.name)
async def test_an_older_file_is_queued_where_no_node_has_a_gpu_and_says_so(admission: Make, path: Path) -> None:
    text = path.read_text()
    admitted = await admission(rooms=[HERE], preflight=False).read(SubmitRequest(config=text))
    spec = admitted.required()
    assert any("runs on the CPU" in warning for warning in admitted.warnings) == (spec.resources.gpu is not None)
