"""Text files as editors leave them, and paths as people type them."""

import pytest

from aiqvit import bench, figures, tables
from aiqvit.bench import read
from aiqvit.harness.store.records import Store
from aiqvit.interfaces import UserError
from aiqvit.io.text import missing, read_text
from aiqvit.report import __main__ as report
from tests.report.make_records import record, write

FORMS = ("utf-8", "utf-8-sig", "utf-16")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_and_ends_of_lines(tmp_path, form, end):
    (tmp_path / "a").write_bytes(f"bits = 'é'{end}x = 1{end}".encode(form))
    assert read_text(tmp_path / "a") == "bits = 'é'\nx = 1\n"


def test_what_is_no_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\x81\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a")


@pytest.mark.parametrize("form", FORMS)
def test_configs_and_records_with_a_mark(tmp_path, form):
    (tmp_path / "sweep.toml").write_bytes("bits = '3/3'\r\nseeds = [0, 1]\r\n".encode(form))
    args = read(["--config", str(tmp_path / "sweep.toml")])
    assert (args.bits, args.seeds) == ("3/3", "0,1")
    folder = write(tmp_path / "r", made := record("minmax", "m", {"top1": 1.0}))
    path = Store(folder).path(made["id"])
    path.write_bytes(path.read_text().encode(form))
    assert Store(folder).read(made["id"])["metrics"]["top1"] == 1.0


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    args = bench.parser().parse_args(["--data", "~/d", "--weights=~/w", "--out", "~/o", "--config=~/c"])
    assert [args.data, args.weights, args.out, args.config] == [f"{tmp_path}/{name}" for name in "dwoc"]
    assert bench.parser().parse_args(["--data", "mini"]).data == "mini"
    for command in (tables, figures, report):
        args = command.parser().parse_args(["~/r", "--out", "~/o"])
        assert (args.results, args.out) == ([f"{tmp_path}/r"], f"{tmp_path}/o")
    (tmp_path / "c.toml").write_text("data = '~/d'\n")
    assert read(["--config", "~/c.toml"]).data == f"{tmp_path}/d"


def test_a_path_that_is_nearly_there(tmp_path):
    (tmp_path / "weights.pth").touch()
    assert missing("file", tmp_path / "weight.pth").endswith(f"did you mean {str(tmp_path / 'weights.pth')!r}?")
    assert missing("file", tmp_path / "a" / "b").endswith(f"the folder {str(tmp_path)!r} has no 'a'")
    assert missing("file", tmp_path / "zzz") .endswith(f"does not exist: the folder {str(tmp_path)!r} has no 'zzz'")
    with pytest.raises(UserError, match="did you mean"):
        read(["--config", str(tmp_path / "weight.pth")])
