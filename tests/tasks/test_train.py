"""What is wrong on the command line of training is said in one line before anything is read."""

import pytest
import torch
from aiqvit.tasks import train
from aiqvit.tasks.point_files import parse
from aiqvit.tasks.texts import read_list

COMMAND = ["--task", "modelnet40", "--data", "mini"]


@pytest.mark.parametrize(("flags", "message"), [
    (["--rate", "-1"], "--rate -1: expected a number above 0"), (["--rate", "nan"], "--rate nan: expected"),
    (["--rate", "fast"], "--rate fast: expected a number"),
    (["--widths", "a,b"], "--widths a,b: expected 1 to 16 of: a whole number from 1"),
    (["--widths", "0"], "--widths 0: expected 1 to 16 of: a whole number from 1"),
    (["--device", "gpu"], "--device gpu: expected cpu"),
    (["--device", "cuda:77"], "this machine has"), (["--seed", str(10**30)], "expected a whole number from 0"),
    (["--seed", "-1"], "expected a whole number from 0"),
    (["--epochs", "0"], "--epochs 0: expected a whole number from 1"),
    (["--threads", "99999"], "--threads 99999: expected"), (["--out", "/proc/x"], "--out /proc/x: this folder cannot"),
    (["--data", "/nowhere/x"], "'/nowhere/x' does not exist"), (["--task", "imagenet"], "--task: invalid choice"),
    (["--epoch"], "expected one argument"), (["--speed", "1"], "did you mean --seed?"),
])
def test_wrong_flags(flags, message, capsys):
    assert train.main([*COMMAND, *flags]) == 2
    text = capsys.readouterr().err
    assert text.startswith("aiqvit.tasks.train: ") and message in text and text.count("\n") == 1


def test_a_damaged_checkpoint_is_not_continued(tmp_path, capsys):
    for content in (b"damaged", None):
        if content is None:
            torch.save([1], tmp_path / "last.pt")
        else:
            (tmp_path / "last.pt").write_bytes(content)
        assert train.main([*COMMAND, "--out", str(tmp_path), "--threads", "1"]) == 2
        assert "last.pt" in (text := capsys.readouterr().err) and text.count("\n") == 1


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16"])
def test_lists_and_shapes_with_a_byte_order_mark(tmp_path, form):
    (tmp_path / "list.txt").write_bytes("airplane_0001\r\nsofa_0002\r\n".encode(form))
    assert read_list(tmp_path / "list.txt", "shapes") == ["airplane_0001", "sofa_0002"]
    (tmp_path / "shape.txt").write_bytes("1,2,3\r\n4,5,6\r\n".encode(form))
    assert parse(tmp_path / "shape.txt", (3,)).tolist() == [[1, 2, 3], [4, 5, 6]]
