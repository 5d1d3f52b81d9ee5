"""Configurations are read within bounds, and what cannot be read is named with its place and a remedy."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from broker.protocol import document
from broker.protocol.api import Finding
from broker.protocol.document import DocumentError, parse

HOSTILE = {
    "50 MB": "a: b\n" * 10_000_000,
    "brackets": "[" * 60_000,
    "brackets of a key": "a: " + "[" * 250_000,
    "nested keys": "[a: " * 60_000,
    "nested lists": "- " * 130_000,
    "nested sections": "".join(" " * depth + "a:\n" for depth in range(500)),
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
    "many values": "a: [" + "1," * 120_000 + "]",
    "many empty lists": "a: [" + "[]," * 80_000 + "]",
    "question marks": "[" + "? " * 100_000,
    "colons": ":" * 250_000,
    "backslashes": '"' + "\\" * 250_000,
    "anchors": "&a " * 80_000,
    "tags": "!a " * 80_000,
    "merge": "a: &x {b: 1}\nc: {<<: *x}\n",
}


def finding_of(text: str) -> Finding:
    with pytest.raises(DocumentError) as caught:
        parse(text)
    return caught.value.finding


def test_an_ordinary_configuration_is_read_with_its_types() -> None:
    text = "model: yolov8n.pt\ntrain:\n  epochs: 3\n  lr0: 0.01\n  cos_lr: true\n  device: [0, 1]\n  time:\n"
    assert parse(text) == {
        "model": "yolov8n.pt",
        "train": {"epochs": 3, "lr0": 0.01, "cos_lr": True, "device": [0, 1], "time": None},
    }


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_is_refused_within_a_second(text: str) -> None:
    began = time.process_time()
    finding = finding_of(text)
    assert time.process_time() - began < 1.0
    assert finding.message


def test_60_kb_of_brackets_do_not_take_the_process_down() -> None:
    program = "from broker.protocol.document import *\ntry: parse('[' * 60_000)\nexcept DocumentError: print('refused')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout.strip()) == (0, "refused")


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        ("train:\n\tepochs: 3", "line 2, column 1", "a tab", "spaces"),
        ("model: a\ntrain:\n  epochs:3\n  imgsz: 64\n", "line 4, column 8", "colon", "`epochs: 3`"),
        ('model: "yolov8n.pt\ntrain:\n  epochs: 3\n', "line 1, column 8", "quote", "close"),
        ("train:\n  device: [0, 1\n  epochs: 3\n", "line 2, column 11", "bracket [", "]"),
        ("a: {b: 1\nc: 2\n", "line 1, column 4", "brace {", "}"),
        ("train:\n   a: 1\n  b: 2\n", "line 3, column 3", "key", "indent"),
        ("a: b: c\n", "line 1, column 5", "second colon", "quote"),
        ("user: @me\n", "line 1, column 7", "cannot begin", "quote"),
        ("images: *.jpg\n", "line 1, column 10", "reference", '"*.jpg"'),
        ("a: ]\n", "line 1, column 4", "expected a value", "brackets"),
        ("a:\n  - 1\n  b: 2\n", "line 3, column 3", "expected `- `", ""),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1", "`a` stands here again, first on line 1", "one"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1", "second document", "---"),
        ("- a\n- b\n", "line 1, column 1", "a list", "colon"),
        ("model:yolov8n.pt\n", "line 1, column 1", "text", "colon"),
        ("a: !!python/object/apply:os.system [x]\n", "line 1, column 4", "tag", "leave it out"),
        ("a: 1\nb: \x1b[31m\n", "line 2, column 4", "U+001B", "remove"),
        ('a: "x\\0y"\n', "line 1, column 4", "NUL", "\\0"),
        ("[a]: 1\n", "line 1, column 1", "key must be text", "quote"),
        ("a: \ud800\n", "", "Unicode", "UTF-8"),
        ("", "", "empty", "model"),
        ("# nothing here\n", "", "empty", "model"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_a_remedy(text: str, where: str, message: str, hint: str) -> None:
    finding = finding_of(text)
    assert finding.where == where
    assert message in finding.message
    assert hint in finding.hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000),
        ("-1", -1),
        ("0x1f", 31),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("007", "007"),
        ("12:30", "12:30"),
        ("2025-01-31", "2025-01-31"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("20251120123456789012345", "20251120123456789012345"),
        ("yolov8n.pt", "yolov8n.pt"),
        ("'3'", "3"),
        ("[0, 1]", [0, 1]),
        ("{a: 1}", {"a": 1}),
        ("!!str 3", "3"),
        ("!!float 3", 3.0),
    ],
)
def test_a_value_is_what_a_person_means_by_it(text: str, value: Any) -> None:
    read = document.parse_value(text)
    assert read == value
    assert type(read) is type(value)


def test_a_tag_that_its_text_does_not_fit_is_refused() -> None:
    assert "!!int" in finding_of("a: !!int ten\n").message


def test_position_finds_a_key_and_an_item() -> None:
    text = "model: x\ntrain:\n  epochs: 3\n  imgsz: [64, 96]\n"
    assert document.position(text, "train.epochs") == "line 3, column 3"
    assert document.position(text, "train.imgsz.1") == "line 4, column 15"
    assert document.position(text, "train.lr0") == "line 2, column 1"
    assert document.position(text, "val") == ""
    assert document.position("a: [", "a") == ""


def test_findings_are_located_in_the_text() -> None:
    findings = [Finding(where="train.epochs", message="bad"), Finding(where="", message="worse")]
    located = document.located(findings, "train:\n  epochs: ten\n")
    assert [finding.where for finding in located] == ["train.epochs (line 2, column 3)", ""]


def test_what_was_set_beside_a_text_is_not_looked_for_in_it() -> None:
    findings = [Finding(where=where, message="m") for where in ("train.epochs", "train.imgsz.0", "train.data")]
    located = document.located(findings, "train:\n  data: x\n", {"train.epochs": None, "train.imgsz": [1]})
    assert [finding.where for finding in located] == [
        "train.epochs (--set)",
        "train.imgsz.0 (--set)",
        "train.data (line 2, column 3)",
    ]
    assert [finding.where for finding in document.located(findings[:1], None, ["train"])] == ["train.epochs (--set)"]


def test_assign_sets_dotted_paths_in_a_copy() -> None:
    before: dict[str, Any] = {"train": {"epochs": 3}, "val": None}
    after = document.assign(before, {"train.epochs": 5, "val.split": "test", "extras.gpu.id": 1})
    assert after == {"train": {"epochs": 5}, "val": {"split": "test"}, "extras": {"gpu": {"id": 1}}}
    assert before == {"train": {"epochs": 3}, "val": None}


@pytest.mark.parametrize(("path", "words"), [("train.epochs.x", "`train.epochs` is a whole number"), ("a..b", "key")])
def test_assign_refuses_a_path_through_a_value(path: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        document.assign({"train": {"epochs": 3}}, {path: 1})


def test_an_ordinary_file_takes_about_a_millisecond() -> None:
    text = (Path(__file__).parent / "legacy" / "production_config_train.basic.yaml").read_text(encoding="utf-8")
    best = min(_seconds(text) for _ in range(20))
    assert best < 0.005  # 0.2 ms where it was written; a slow machine may take longer


def _seconds(text: str) -> float:
    began = time.process_time()
    parse(text)
    return time.process_time() - began
