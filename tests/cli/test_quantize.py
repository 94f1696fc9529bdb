"""`aiqvit quantize` and `aiqvit evaluate`, as typed."""

import json
import os
import re

import pytest

from aiqvit.cli import quantize, quantizing
from aiqvit.cli.main import main
from aiqvit.harness.run import runner

MINI = ("quantize", "--data", "mini", "--model", "mini_vit", "--preset", "smoke", "--threads", "1")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_is_saved_and_measured_again_without_being_quantized(here, capsys):
    assert main([*MINI, "--method", "minmax", "--bits", "4/8", "--save", "q.safetensors", "--check", "40"]) == 0
    made = capsys.readouterr().out
    assert "MinMax, 4/8 bits" in made and "4 bit uniform per channel" in made and "coverage 100.00%" in made
    assert "q.safetensors: 0.48 MB, 0.171 of the 2.79 MB" in made
    assert re.search(r"40 samples, full precision: top1 \d", made)
    value = re.search(r"40 samples, quantized: (top1 \S+, top5 \S+)", made)[1]
    assert main(["evaluate", "--load", "q.safetensors", "--data", "mini", "--limit", "40"]) == 0
    again = capsys.readouterr().out
    assert f"imagenet-mini: {value} (40 samples)" in again and "MinMax, 4/8 bits" in again
    assert [path.name for path in here.iterdir()] == ["q.safetensors"]  # nothing unfinished is left


def test_one_run_has_all_cores_unless_they_are_counted():
    typed = ["--method", "minmax", "--model", "mini_vit", "--save", "q.safetensors"]
    for more, threads in (([], os.cpu_count()), (["--threads", "1"], 1)):
        assert quantizing._request(quantize.parser().parse_args([*typed, *more])).threads_on("cpu") == threads


def test_an_interrupted_command_goes_on_from_the_last_unit(capsys, monkeypatch, here):
    arguments = [*MINI, "--method", "aiqvit[rotate=on]", "--save", "q.safetensors"]
    finished, real = [], runner.Job

    def job(**fields):
        made = real(**fields)
        save = made.checkpoint.save

        def counted(unit, state):
            save(unit, state)
            finished.append(unit)
            if len(finished) == 3:
                raise KeyboardInterrupt

        made.checkpoint.save = counted
        return made

    monkeypatch.setattr(runner, "Job", job)
    assert main(arguments) == 130
    assert "goes on from there" in capsys.readouterr().err and not (here / "q.safetensors").exists()
    assert main(arguments) == 0
    assert "taken over from a run that was killed: 3 of its units" in capsys.readouterr().err
    resumed = (here / "q.safetensors").read_bytes()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main([*arguments[:-1], "whole.safetensors"]) == 0
    assert (here / "whole.safetensors").read_bytes() == resumed


@pytest.mark.parametrize(("arguments", "said"), [
    ((), "nothing to write: give --save FILE, --onnx FILE or both"),
    (("--save", "."), "it is a folder"),
    (("--save", "q", "--onnx", "./q"), "--save and --onnx are both './q'"),
    (("--save", "file/q"), "cannot write 'file/q'"),
    (("--save", "q", "--method", "all"), "expected one of each"),
    (("--save", "q", "--method", "fp32"), "a method that quantizes"),
    (("--save", "q", "--bits", "4/4,8/8"), "expected one of each"),
    (("--save", "q", "--method", "nope"), "unknown method 'nope'"),
    (("--save", "q", "--set", "nope=1"), "unknown setting 'nope'"),
    (("--save", "q", "--preset", "nope"), "preset 'nope'"),
    (("--save", "q", "--model", "mini_vot"), "did you mean 'mini_vit'?"),
    (("--save", "q", "--target", "tensorrt"), "--target"),
    (("--save", "q", "--check", "-1"), "--check -1: expected"),
])
def test_wrong_input_is_one_sentence_and_nothing_is_left(arguments, said, capsys, here):
    (here / "file").touch()
    assert main([*MINI, *arguments]) == 2
    output = capsys.readouterr()
    assert said in output.err and output.err.count("\n") == 1 and "Traceback" not in output.err
    assert [path.name for path in here.iterdir()] == ["file"]


def test_a_method_that_cannot_fails_in_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(runner, "_cover", lambda *_: (_ for _ in ()).throw(RuntimeError("12 % would stay")))
    assert main([*MINI, "--method", "minmax", "--save", "q"]) == 2
    assert "MinMax: 12 % would stay" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (("--load", "none.safetensors"), "none.safetensors"),
    ((), "--load"),
])
def test_evaluate_refuses_in_one_sentence(arguments, said, capsys):
    assert main(["evaluate", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_commands_are_listed_and_unknown_ones_refused(capsys):
    assert main(["--help"]) == 0
    assert "quantize" in capsys.readouterr().out
    assert main(["quantise"]) == 2
    assert "did you mean 'quantize'?" in capsys.readouterr().err
    assert main(["bench", "--list"]) == 0 and "aiqvit" in capsys.readouterr().out


def test_bench_keeps_models_that_evaluate_to_what_their_records_say(capsys, here, monkeypatch):
    executed, real = [], runner.run
    monkeypatch.setattr(runner, "run", lambda item, *rest: executed.append(item.label) or real(item, *rest))
    arguments = ["bench", "--data", "mini", "--model", "mini_vit", "--method", "minmax", "--bits", "4/8",
                 "--limit", "40", "--threads", "1", "--out", "out"]
    assert main(arguments) == 0
    assert executed == ["Full precision", "MinMax"] and not (here / "out" / "models").exists()
    assert main([*arguments, "--keep-models"]) == 0
    assert executed == ["Full precision", "MinMax", "MinMax"]  # a record without its model is not enough
    (model,) = (here / "out" / "models").iterdir()
    record = json.loads((here / "out" / "runs" / f"{model.stem}.json").read_text())
    capsys.readouterr()
    assert main(["evaluate", "--load", str(model), "--data", "mini", "--limit", "40"]) == 0
    assert f"top1 {record['metrics']['top1']:.2f}, top5 {record['metrics']['top5']:.2f}" in capsys.readouterr().out
    assert main(["evaluate", "--load", str(model), "--data", "mini", "--task", "modelnet40"]) == 2
    assert "is one of the task imagenet" in capsys.readouterr().err
    assert main([*arguments, "--keep-models"]) == 0 and len(executed) == 3
