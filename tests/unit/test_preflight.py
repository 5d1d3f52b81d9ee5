"""A data set that cannot be trained on is refused at submission, with the file and the line."""

import os
import shutil
from pathlib import Path

import pytest

from broker import preflight
from broker.dataset.description import own_datasets
from broker.preflight import check
from broker.protocol.api import DataSummary, Finding
from broker.protocol.job import Task, TrainWork
from trainer import dataset, environment
from trainer.failures import TrainingError
from wyolo_tui.shapes import make

ONE_BOX = "0 0.5 0.5 0.2 0.2\n"


@pytest.fixture
def fruit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good data set to detect: 6 images to train on, 3 to validate on, 3 classes. Its folder."""
    monkeypatch.setattr(preflight, "SLOW_S", float("inf"))  # a busy machine is not a slow disk
    make(tmp_path / "fruit", "detect", images=6, val=3, size=32)
    return tmp_path / "fruit"


def ask(data: Path, task: Task = "detect", images_to_open: int = 100, **args: object) -> list[Finding]:
    return summary_and_findings(data, task, images_to_open, **args)[1]


def summary_and_findings(
    data: Path, task: Task = "detect", images_to_open: int = 100, **args: object
) -> tuple[DataSummary | None, list[Finding]]:
    return check(TrainWork(model="yolov8n.yaml", task=task, args={"data": str(data), **args}), images_to_open)


def errors(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.where, finding.message) for finding in findings if finding.level == "error"]


def warnings(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.where, finding.message) for finding in findings if finding.level == "warning"]


def describe(folder: Path, text: str) -> Path:
    path = folder / "data.yaml"
    path.write_text(text)
    return path


def label(folder: Path, text: str, name: str = "0002", split: str = "train") -> None:
    (folder / "labels" / split / f"{name}.txt").write_text(text)


def test_a_good_data_set_is_summed_up(fruit: Path) -> None:
    for split in ("train", "val"):
        for path in (fruit / "labels" / split).iterdir():
            path.write_text(ONE_BOX + "2 0.1 0.1 0.1 0.1\n")
    summary, findings = summary_and_findings(fruit / "data.yaml")
    assert errors(findings) == []
    assert summary is not None
    assert (summary.train_images, summary.val_images, summary.checked_images) == (6, 3, 9)
    assert (summary.classes, summary.names) == (3, ["disc", "square", "triangle"])
    assert summary.instances == [9, 0, 9]
    assert warnings(findings) == [("data.yaml: names", "no label names class 1 (`square`)")]


def test_the_folder_of_a_data_yaml_may_be_named_too(fruit: Path) -> None:
    assert ask(fruit) == []


def test_a_missing_data_set_is_refused_with_the_setting_that_maps_paths(tmp_path: Path) -> None:
    (finding,) = ask(tmp_path / "none.yaml")
    assert (finding.level, finding.where) == ("error", "train.data")
    assert str(tmp_path / "none.yaml") in finding.message
    assert "path_map" in finding.hint


def test_names_that_ultralytics_fetches_are_not_checked() -> None:
    assert summary_and_findings(Path("coco8.yaml")) == (None, [])


@pytest.mark.parametrize(
    ("rows", "where", "message"),
    [
        (ONE_BOX + "7 0.5 0.5 0.1 0.1\n", ":2", "class 7, but names has 3"),
        ("-1 0.5 0.5 0.1 0.1\n", ":1", "class -1 is not a whole number from 0"),
        ("0.5 0.5 0.5 0.1 0.1\n", ":1", "class 0.5 is not a whole number from 0"),
        ("\n\n0 0.5 1.5 0.1 0.1\n", ":3", "1.5 is outside 0 to 1"),
        ("0 0.5 -0.2 0.1 0.1\n", ":1", "-0.2 is outside 0 to 1"),
        ("0 nan 0.5 0.1 0.1\n", ":1", "nan is outside 0 to 1"),
        ("0 inf 0.5 0.1 0.1\n", ":1", "inf is outside 0 to 1"),
        ("0 0.5 x 0.1 0.1\n", ":1", "`x` is not a number"),
        ("0 0.5 0.5\n", ":1", "3 values, expected 5 values: class, x, y, width, height"),
        (ONE_BOX + "0 0.1 0.1 0.2 0.1 0.2 0.2\n", "", "has rows of boxes and rows of outlines"),
    ],
)
def test_a_bad_row_is_named_with_its_line(fruit: Path, rows: str, where: str, message: str) -> None:
    label(fruit, rows)
    assert errors(ask(fruit / "data.yaml")) == [(f"labels/train/0002.txt{where}", message)]


@pytest.mark.parametrize(
    ("task", "good", "bad", "expected"),
    [
        ("segment", "0 0.1 0.1 0.2 0.1 0.2 0.2\n", ONE_BOX, "5 values, expected a class and at least 3 points"),
        ("segment", "0 0.1 0.1 0.2 0.1 0.2 0.2\n", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.5\n", "8 values, expected"),
        ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n", ONE_BOX, "5 values, expected 9 values: class and 4 corners"),
        (
            "pose",
            "0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.2 0.2 2 0.3 0.3 0\n",
            ONE_BOX,
            "5 values, expected 14 values: class, box and 3 keypoints of 3",
        ),
    ],
)
def test_each_task_has_its_own_rows(tmp_path: Path, task: Task, good: str, bad: str, expected: str) -> None:
    data = make(tmp_path, task, images=6, val=3, size=32)
    label(tmp_path, good)
    assert errors(ask(data, task)) == []
    label(tmp_path, bad)
    ((where, message),) = errors(ask(data, task))
    assert where == "labels/train/0002.txt:1"
    assert expected in message


def test_a_pose_data_set_must_say_how_many_keypoints(tmp_path: Path) -> None:
    data = make(tmp_path, "pose", images=3, val=3, size=32)
    data.write_text("train: images/train\nval: images/val\nnames: [a, b, c]\n")
    assert errors(ask(data, "pose")) == [("data.yaml: kpt_shape", "missing, and a pose model needs it")]


def test_outlines_may_be_used_to_detect(tmp_path: Path) -> None:
    assert errors(ask(make(tmp_path, "segment", images=3, val=3, size=32), "detect")) == []


def test_keypoints_may_not_be_used_to_detect(tmp_path: Path) -> None:
    """Ultralytics takes such a row for an outline: of 14 values it makes nothing, of 11 a wrong box."""
    data = make(tmp_path, "pose", images=3, val=3, size=32)
    assert {message[:20] for _, message in errors(ask(data, "detect"))} == {"14 values, expected "}


def test_single_cls_takes_every_class_as_one(fruit: Path) -> None:
    label(fruit, "7 0.5 0.5 0.1 0.1\n")
    summary, findings = summary_and_findings(fruit / "data.yaml", single_cls=True)
    assert errors(findings) == []
    assert summary is not None
    assert summary.instances[1:] == [0, 0]


def test_many_errors_of_a_kind_are_counted(tmp_path: Path) -> None:
    data = make(tmp_path, "detect", images=30, val=3, size=32)
    for number in range(27):
        label(tmp_path, "9 0.5 0.5 0.1 0.1\n", f"{number:04d}")
    found = errors(ask(data))
    assert len(found) == 21
    assert found[-1] == ("", "and 7 more: class out of range")


def test_images_that_do_not_decode_are_refused(fruit: Path) -> None:
    images = fruit / "images" / "train"
    (images / "0001.jpg").write_bytes(b"no image at all")
    whole = (images / "0002.jpg").read_bytes()
    (images / "0002.jpg").write_bytes(whole[:-40])
    found = dict(errors(ask(fruit / "data.yaml")))
    assert set(found) == {"images/train/0001.jpg", "images/train/0002.jpg"}
    assert "not an image" in found["images/train/0001.jpg"]
    assert "does not decode" in found["images/train/0002.jpg"]


def test_only_so_many_images_are_opened_and_it_says_how_many(fruit: Path) -> None:
    summary, _ = summary_and_findings(fruit / "data.yaml", images_to_open=4)
    assert summary is not None
    assert summary.checked_images == 4
    for path in (fruit / "images" / "train").iterdir():
        path.write_bytes(b"")
    assert errors(ask(fruit / "data.yaml", images_to_open=0)) == []


def test_images_without_labels_are_background_and_labels_without_images_are_named(fruit: Path) -> None:
    label(fruit, "")
    (fruit / "labels" / "train" / "0003.txt").unlink()
    label(fruit, ONE_BOX, "stray")
    found = warnings(ask(fruit / "data.yaml"))
    assert ("labels/train/stray.txt", "there is no image for these labels") in found
    assert ("images/train", "2 of 6 images have no labels: they are background") in found


def test_a_split_without_any_label_is_refused(fruit: Path) -> None:
    shutil.rmtree(fruit / "labels" / "val")
    assert errors(ask(fruit / "data.yaml")) == [("labels/val", "no label file for any of the 3 images to validate on")]


def test_no_images_are_refused(fruit: Path) -> None:
    shutil.rmtree(fruit / "images" / "train")
    (fruit / "images" / "train").mkdir()
    assert errors(ask(fruit / "data.yaml")) == [("images/train", "holds no images to train on")]


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("train: images/train\nnames: [a]\n", "data.yaml: val", "missing"),
        ("train: images/x\nval: images/val\nnames: [a, b, c]\n", "data.yaml: train", "there is no"),
        ("path: nowhere\ntrain: x\nval: y\nnames: [a]\n", "data.yaml: path", "there is no folder"),
        ("path: https://x.org\ntrain: x\nval: y\nnames: [a]\n", "data.yaml: path", "must be a folder"),
        ("train: images/train\nval: images/val\n", "data.yaml: names", "missing"),
        ("train: images/train\nval: images/val\nnames: {0: a, 2: b}\n", "data.yaml: names", "numbered from 0"),
        ("train: images/train\nval: images/val\nnames: [a, b, c]\nnc: 2\n", "data.yaml: nc", "is 2, but names has 3"),
        ("train: images/train\nval: images/val\nnc: many\n", "data.yaml: nc", "number of classes"),
        ("train: 3\nval: images/val\nnames: [a, b, c]\n", "data.yaml: train", "must be a folder"),
        ("train: images/train\nval: [\nnames: [a]\n", "data.yaml: line 2, column 6", "bracket"),
        ("train: a\ntrain: b\n", "data.yaml: line 2, column 1", "stands here again"),
        ("a: &x 1\nb: *x\n", "data.yaml: line 1, column 4", "anchors"),
    ],
)
def test_a_bad_data_yaml_is_named_with_its_key(fruit: Path, text: str, where: str, message: str) -> None:
    found = errors(ask(describe(fruit, text)))
    assert where in [place for place, _ in found]
    assert message in next(words for place, words in found if place == where)


def test_download_in_a_data_yaml_is_not_run(fruit: Path) -> None:
    text = (fruit / "data.yaml").read_text() + f"download: |\n  open({str(fruit / 'canary')!r}, 'w')\n"
    assert warnings(ask(describe(fruit, text))) == [("data.yaml", "`download` is not run")]
    assert not (fruit / "canary").exists()


def test_nc_alone_and_names_by_number_are_enough(fruit: Path) -> None:
    head = "train: images/train\nval: images/val\n"
    summary, findings = summary_and_findings(describe(fruit, head + "nc: 3\n"))
    assert findings == []
    assert summary is not None
    assert summary.names == ["class_0", "class_1", "class_2"]
    summary, _ = summary_and_findings(describe(fruit, head + "names: {1: b, 0: a, 2: c}\n"))
    assert summary is not None
    assert summary.names == ["a", "b", "c"]


def test_paths_follow_ultralytics_rules(fruit: Path) -> None:
    (fruit / "list.txt").write_text("./images/train/0000.jpg\n" + str(fruit / "images" / "train" / "0001.jpg") + "\n")
    nested = fruit / "meta"
    nested.mkdir()
    names = "names: [a, b, c]\n"
    for text in (
        "path: ..\ntrain: images/train\nval: images/val\n",
        "path: ..\ntrain: [images/train, images/val]\nvalidation: images/val\n",
        "path: ..\ntrain: ../images/train\nval: ../images/val\n",
    ):
        assert errors(ask(describe(nested, text + names))) == []
    summary, findings = summary_and_findings(describe(fruit, "train: list.txt\nval: images/val\n" + names))
    assert errors(findings) == []
    assert summary is not None
    assert summary.train_images == 2


def test_train_and_val_alike_are_worth_a_warning(fruit: Path) -> None:
    found = warnings(ask(describe(fruit, "train: images/train\nval: images/train\nnames: [a, b, c]\n")))
    assert ("data.yaml", "train and val are the same images") in found


def test_a_pipe_or_a_loop_of_links_does_not_stop_the_check(fruit: Path) -> None:
    os.mkfifo(fruit / "images" / "train" / "pipe.jpg")
    os.mkfifo(fruit / "labels" / "train" / "0000.pipe.txt")
    (fruit / "images" / "train" / "round").symlink_to(fruit / "images")
    assert errors(ask(fruit / "data.yaml")) == []


def test_a_good_classification_folder_is_summed_up(tmp_path: Path) -> None:
    summary, findings = summary_and_findings(make(tmp_path, "classify", images=6, val=3, size=32), "classify")
    assert findings == []
    assert summary is not None
    assert (summary.train_images, summary.val_images, summary.classes) == (6, 3, 3)
    assert summary.instances == [3, 3, 3]


def test_a_classification_folder_with_mistakes_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "classify", images=6, val=3, size=32)
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "val" / "other").mkdir()
    shutil.copy(tmp_path / "val" / "disc" / "0000.jpg", tmp_path / "val" / "other" / "0000.jpg")
    (tmp_path / "val" / "disc" / "0000.jpg").write_bytes(b"broken")
    found = errors(ask(tmp_path, "classify"))
    assert ("train/empty", "no images") in found
    assert ("val/other", "is no class of `train`") in found
    assert ("val/disc/0000.jpg", "does not decode: not an image of a known format") in found
    shutil.rmtree(tmp_path / "train")
    assert [message for _, message in errors(ask(tmp_path, "classify"))] == ["has no folder `train`"]


def test_a_classification_data_set_is_no_yaml(fruit: Path) -> None:
    ((_, message),) = errors(ask(fruit / "data.yaml", "classify"))
    assert message == "is not a folder"


def model_findings(data: Path, model: str) -> list[Finding]:
    return check(TrainWork(model=model, task="detect", args={"data": str(data)}), 0)[1]


def test_a_missing_or_empty_model_file_is_refused(fruit: Path, tmp_path: Path) -> None:
    (finding,) = model_findings(fruit / "data.yaml", str(tmp_path / "yolov8q.pt"))
    assert finding.where == "model"
    assert "yolov8" in finding.hint
    (tmp_path / "empty.pt").touch()
    (finding,) = model_findings(fruit / "data.yaml", str(tmp_path / "empty.pt"))
    assert "is empty" in finding.message


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", True),
        (b"P", True),
        (b"\x80", True),
        (b"\x80\xff\x8a\x0a", True),
        (b"PK\x03\x04\0\0\x08\x08", False),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", False),  # the magic number of torch before 1.6
    ],
)
def test_a_file_that_holds_no_weights_is_refused(fruit: Path, tmp_path: Path, head: bytes, refused: bool) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(head)
    work = TrainWork(model="yolov8n.yaml", task="detect", args={"data": "coco8.yaml", "pretrained": str(path)})
    found = errors([*model_findings(fruit / "data.yaml", str(path)), *check(work, 0)[1]])
    assert [where for where, _ in found] == ["model", "train.pretrained"] * refused
    assert all("holds no weights" in message for _, message in found)


@pytest.mark.parametrize(
    ("activation", "refused"),
    [
        ("nn.ReLU()", False),
        ("torch.nn.SiLU(inplace=True)", False),
        ("__import__('os').system('touch canary')", True),
        ("nn.ReLU() if open('canary', 'w') else 0", True),
    ],
)
def test_code_in_a_models_activation_is_refused(fruit: Path, tmp_path: Path, activation: str, refused: bool) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(f'activation: "{activation}"\nbackbone: []\nhead: []\n')
    found = errors(model_findings(fruit / "data.yaml", str(path)))
    assert bool(found) == refused


def test_who_repairs_an_error_is_believed_at_once(fruit: Path) -> None:
    label(fruit, "7 0.5 0.5 0.1 0.1\n")
    assert errors(ask(fruit / "data.yaml"))
    label(fruit, ONE_BOX)
    assert errors(ask(fruit / "data.yaml")) == []


def test_a_change_is_noticed_and_no_change_is_not_read_again(fruit: Path) -> None:
    first, _ = summary_and_findings(fruit / "data.yaml")
    again, _ = summary_and_findings(fruit / "data.yaml")
    assert again is first
    label(fruit, ONE_BOX * 3 + "1 0.2 0.2 0.1 0.1\n", "0004")
    changed, _ = summary_and_findings(fruit / "data.yaml")
    assert changed is not first
    preflight.forget(fruit / "data.yaml")
    assert summary_and_findings(fruit / "data.yaml")[0] is not changed


def test_a_slow_look_is_not_repeated_at_once(fruit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "SLOW_S", 0.0)
    monkeypatch.setattr(preflight, "TRUSTED", 1e6)
    first, _ = summary_and_findings(fruit / "data.yaml")
    (fruit / "images" / "train" / "0000.jpg").unlink()
    assert summary_and_findings(fruit / "data.yaml")[0] is first


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "KEPT", 2)
    sets = [make(tmp_path / str(number), "detect", images=2, val=2, size=32) for number in range(3)]
    first = [summary_and_findings(path)[0] for path in sets]
    assert summary_and_findings(sets[2])[0] is first[2]
    assert summary_and_findings(sets[0])[0] is not first[0]


def test_ten_thousand_labels_are_all_read(tmp_path: Path) -> None:
    data = make(tmp_path, "detect", images=3, val=3, size=32)
    image = tmp_path / "images" / "train" / "0000.jpg"
    label(tmp_path, ONE_BOX * 8, "0000")
    text = tmp_path / "labels" / "train" / "0000.txt"
    for number in range(10_000):
        (image.parent / f"more{number}.jpg").hardlink_to(image)
        (text.parent / f"more{number}.txt").hardlink_to(text)
    summary, _ = summary_and_findings(data, images_to_open=500)
    assert summary is not None
    assert summary.train_images == 10_003


def val_findings(trained_on: Path, **val: object) -> list[Finding]:
    return check(TrainWork(model="yolov8n.yaml", task="detect", args={"data": str(trained_on)}, val=val), 100)[1]


def test_a_last_validation_on_test_images_that_are_not_there_is_refused_before_the_training(fruit: Path) -> None:
    assert val_findings(fruit / "data.yaml", split="val") == []
    [(where, message)] = errors(val_findings(fruit / "data.yaml", split="test"))
    assert (where, message[:7]) == ("data.yaml: test", "missing")
    text = (fruit / "data.yaml").read_text()
    describe(fruit, f"{text}test: images/elsewhere\n")
    assert errors(val_findings(fruit / "data.yaml")) == []
    [(where, message)] = errors(val_findings(fruit / "data.yaml", split="test"))
    assert where == "data.yaml: test" and "images/elsewhere" in message
    describe(fruit, f"{text}test: images/test\n")
    for kind in ("images", "labels"):
        shutil.copytree(fruit / kind / "val", fruit / kind / "test")
    assert errors(val_findings(fruit / "data.yaml", split="test")) == []
    label(fruit, "7 0.5 0.5 0.1 0.1\n", "0000", "test")
    assert errors(val_findings(fruit / "data.yaml", split="test")) == [
        ("labels/test/0000.txt:1", "class 7, but names has 3")
    ]


def test_another_data_set_to_validate_on_is_checked_too(fruit: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", "detect", images=3, val=3, size=32)
    assert val_findings(fruit / "data.yaml", data=str(other)) == []
    label(other.parent, "7 0.5 0.5 0.1 0.1\n", "0000", "val")
    label(other.parent, "8 0.5 0.5 0.1 0.1\n", "0000", "train")  # on which nothing is validated
    found = val_findings(fruit / "data.yaml", data=str(other))
    assert errors(found) == [("val.data: labels/val/0000.txt:1", "class 7, but names has 3")]
    [(where, message)] = errors(val_findings(fruit / "data.yaml", data=str(tmp_path / "none.yaml")))
    assert (where, message) == ("val.data", f"there is no {tmp_path / 'none.yaml'}")
    [(where, _)] = errors(val_findings(fruit / "data.yaml", data=str(other), split="test"))
    assert where == "val.data: data.yaml: test"


def test_of_several_yaml_files_the_one_is_read_that_the_trainer_takes(fruit: Path) -> None:
    (fruit / "data.yaml").rename(fruit / "fruit.yaml")
    (fruit / "extra.yaml").write_text("note: none of ours\n")
    described = dataset.prepare(str(fruit), "detect", fruit.parent, fruit.parent, offline=True)
    assert (ask(fruit), described.count("train")) == ([], 6)
    (fruit / "fruit.yaml").rename(fruit / "data.yaml")
    (fruit / "fruit.yaml").write_text("train: images/val\nval: images/val\nnames: [a, b, c]\n")
    described = dataset.prepare(str(fruit), "detect", fruit.parent, fruit.parent, offline=True)
    assert (ask(fruit), described.count("train")) == ([], 6)
    for name in ("data", "fruit"):
        (fruit / f"{name}.yaml").rename(fruit / f"more-{name}.yaml")
    [(_, message)] = errors(ask(fruit))
    assert "3 .yaml files" in message and "none is called data.yaml" in message
    with pytest.raises(TrainingError, match=r"3 yaml files and none is called data\.yaml"):
        dataset.prepare(str(fruit), "detect", fruit.parent, fruit.parent, offline=True)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("path: fruit\ntrain: images/train\nval: images/val\n", True),
        ("path: ./fruit/images\ntrain: train\nval:\nvalidation: val\n", True),
        ("path: ~/fruit\ntrain: images/train\nval: images/val\n", True),
        ("path: /gone\ntrain: {fruit}/images/train\nval: {fruit}/images/val\n", True),
        ("path: /gone\ntrain: {fruit}/images/train\nval: images/val\n", False),
        ("path: /gone\ntrain: {fruit}/images/train\nval: /gone/val\n", False),
        ("path: nobody\ntrain: images/train\nval: images/val\n", False),
        ("path: ~nobody-at-all/fruit\ntrain: images/train\nval: images/val\n", False),
    ],
)
def test_what_the_trainer_would_take_is_taken_and_nothing_else(
    fruit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, taken: bool
) -> None:
    monkeypatch.setenv("HOME", str(fruit.parent))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    described = describe(elsewhere, text.format(fruit=fruit) + "names: [a, b, c]\n")
    work = TrainWork(model="yolov8n.yaml", task="detect", args={"data": str(described)})
    assert (not errors(check(work, 0, datasets=fruit.parent)[1])) == taken
    if taken:
        assert dataset.prepare(str(described), "detect", tmp_path, fruit.parent, offline=True).count("val") == 3
    else:
        with pytest.raises(TrainingError):
            dataset.prepare(str(described), "detect", tmp_path, fruit.parent, offline=True)


def test_a_container_has_none_of_your_data_sets(fruit: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    described = describe(
        tmp_path / "elsewhere", "path: fruit\ntrain: images/train\nval: images/val\nnames: [a, b, c]\n"
    )
    assert [where for where, _ in errors(ask(described))] == ["data.yaml: path"]


@pytest.mark.parametrize("said", [None, "{", "[]", "{}", '{"datasets_dir": ""}', '{"datasets_dir": "/data/sets"}'])
def test_broker_and_trainer_look_in_one_folder_of_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    if said is not None:
        (tmp_path / "Ultralytics").mkdir()
        (tmp_path / "Ultralytics" / "settings.json").write_text(said)
    assert own_datasets() == environment.folders(None).datasets
