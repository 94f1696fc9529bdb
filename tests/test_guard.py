"""What stands around each command: one sentence for everything, and output that cannot stop the work."""

import errno
import io
import os
import subprocess
import sys

import pytest

from aiqvit import bench, figures, tables
from aiqvit.bounds import Count
from aiqvit.guard import Parser, guarded, number
from aiqvit.interfaces import UserError
from aiqvit.report import __main__ as report


def run(command, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, timeout=120, **options)


def fails(error):
    def work():
        raise error

    return work


def test_wrong_input_is_one_line(capsys):
    assert guarded(fails(UserError("no such\nfile"))) == 2
    assert capsys.readouterr().err == "aiqvit: no such file\n"
    assert guarded(lambda: 7) == 7


def test_what_nobody_foresaw_is_one_sentence_with_a_log(tmp_path, capsys):
    for arguments in (["--out", str(tmp_path)], [f"--out={tmp_path}"], ["--out", str(tmp_path / "page.html")]):
        assert guarded(fails(KeyError("box_ap\nmore")), arguments=arguments) == 1
        text = capsys.readouterr().err
        assert text.startswith("aiqvit: stopped by an error that was not foreseen, KeyError: ")
        assert text.count("\n") == 1
        (log,) = tmp_path.glob("aiqvit-error-*.log")
        assert repr(str(log)) in text and "raise error" in log.read_text()
        log.unlink()


def test_a_log_that_cannot_go_to_the_results_goes_elsewhere(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert guarded(fails(RuntimeError()), arguments=["--out", str(tmp_path / "a" / "b")]) == 1
    assert str(tmp_path / "aiqvit-error-") in capsys.readouterr().err
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "nowhere"))
    assert guarded(fails(MemoryError())) == 1
    captured = capsys.readouterr().err
    assert "Traceback" in captured and "stopped by an error that was not foreseen, MemoryError" in captured


@pytest.mark.parametrize("command", [bench, tables, figures, report])
def test_it_stands_around_each_command(command, tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(command, "run", broken)
    assert command.main(["--out", str(tmp_path)]) == 1
    assert "ZeroDivisionError: by zero; the traceback is in" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_cannot_be_encoded_gets_a_likeness(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    assert guarded(lambda: print("71.2 ± 0.1 — 漢 \udcff") or 0) == 0
    text = raw.getvalue().decode(encoding)
    assert text.startswith("71.2 ") and text.rstrip().endswith("\\udcff")
    assert encoding != "ascii" or text == "71.2 +- 0.1 - ? \\udcff\n"


class Full(io.StringIO):
    """A log on a full disk, or a pipe that nobody reads."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, "no")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_the_work_goes_on_when_nobody_reads(number, monkeypatch):
    done = []

    def work():
        print("a line")
        print("an error", file=sys.stderr)
        done.append(1)
        return 0

    monkeypatch.setattr(sys, "stdout", Full(number))
    monkeypatch.setattr(sys, "stderr", Full(number))
    assert guarded(work) == 0 and done
    monkeypatch.setattr(sys, "stdout", None)  # closed before Python started
    monkeypatch.setattr(sys, "stderr", None)
    assert guarded(work) == 0 and len(done) == 2
    assert guarded(fails(UserError("x"))) == 2


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\x07b", "\u202eright", "\x9b2J", "a\x00b", "\u2066x", "\x7f"])
def test_nothing_that_is_shown_steers_the_terminal(text, capsys):
    def work():
        print(f"0 %\r1 %\t{text}")
        raise UserError(f"no {text}\nat all")

    assert guarded(work) == 2
    out, err = capsys.readouterr()
    assert out.startswith("0 %\r1 %\t") and err.startswith("aiqvit: no ") and err.endswith("at all\n")
    assert all(c.isprintable() for c in out.replace("\r", "").replace("\t", "").rstrip("\n") + err.rstrip("\n"))
    with pytest.raises(UserError):
        Parser(prog="x").parse_args([text])


def test_a_stream_that_closes_in_the_middle(monkeypatch):
    stream, done = io.StringIO(), []

    def work():
        print("a line")
        stream.close()
        print("another")
        done.append(sys.stdout.isatty())
        return 0

    monkeypatch.setattr(sys, "stdout", stream)
    assert guarded(work) == 0 and done == [False]


def test_a_closed_standard_stream_gives_its_number_to_no_file(tmp_path):
    code = ("import os; from aiqvit.io.streams import make_lasting; make_lasting(); "
            f"os._exit(open({str(tmp_path / 'record')!r}, 'w').fileno())")
    for end in (">&-", "2>&-", "<&- >&- 2>&-"):
        assert run(f"{sys.executable} -c \"{code}\" {end}").returncode > 2


def test_an_end_that_something_called_for_is_said(capsys):
    assert guarded(fails(SystemExit(3))) == 1
    assert "called for an end of the program with exit code 3" in capsys.readouterr().err
    assert guarded(fails(SystemExit(0))) == 0


def test_no_folder_for_temporary_files(monkeypatch, capsys):
    monkeypatch.setattr("tempfile.gettempdir", fails(FileNotFoundError("No usable temporary directory")))
    assert guarded(fails(ZeroDivisionError("x"))) == 1
    assert "stopped by an error that was not foreseen, ZeroDivisionError: x" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["| head -1", ">&-", ">/dev/full", ">&- 2>&-"])
def test_streams_that_are_closed(end):
    done = run(f"{sys.executable} -m aiqvit.bench --list {end}")
    assert done.returncode == 0 and done.stderr == ""


def test_mistyped_flags():
    parser = Parser(prog="x")
    parser.add_argument("--method")
    parser.add_argument("--limit", type=number(Count))
    for arguments, message in ((["--limit", "many"], "--limit many: expected a whole number"),
                               (["--methods", "x"], "did you mean --method?"), (["--method"], "expected one argument"),
                               (["x"], "unrecognized arguments: x")):
        with pytest.raises(UserError, match=message.replace("?", r"\?")):
            parser.parse_args(arguments)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "a/" * 2000, "é" * 200])
@pytest.mark.parametrize("flag", ["--weights", "--data", "--out", "--config", "--calib-data"])
def test_a_path_that_no_file_can_have(flag, name, capsys):
    from aiqvit.bench import main

    assert main([flag, name, "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert flag in err and "expected a path whose names have at most 255 bytes" in err and err.count("\n") == 1
