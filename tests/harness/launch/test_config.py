"""A config file means what the same flags mean, and nothing in it is passed over."""

from pathlib import Path

import pytest

from aiqvit.bench import read
from aiqvit.interfaces import UserError


@pytest.fixture
def typed(tmp_path: Path):
    def call(text: str, *more: str):
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        arguments = vars(read(["--config", str(path), *more]))
        del arguments["config"]
        return arguments

    return call


def same_as(*flags: str) -> dict:
    arguments = vars(read(flags))
    del arguments["config"]
    return arguments


def test_keys_are_flags(typed):
    text = '''
method = ["minmax", "aiqvit[rank=60,curriculum=off]"]
bits = "3/3,4/4"
seeds = [0, 1]
batch-size = 8
dry_run = true
force = false
[set]
steps = 100
ranks = [2, 4]
curriculum = false
'''
    assert typed(text) == same_as(
        "--method", "minmax,aiqvit[rank=60,curriculum=off]", "--bits", "3/3,4/4", "--seeds", "0,1", "--batch-size", "8",
        "--dry-run", "--set", "steps=100", "--set", "ranks=2,4", "--set", "curriculum=off")
    assert typed('set = ["a=1", "b=2"]')["set"] == ["a=1", "b=2"]


def test_what_is_typed_wins(typed):
    found = typed('bits = "3/3"\ncalib = 8\nset = {steps = 1}', "--bits", "6/6", "--set", "steps=2")
    assert found["bits"] == "6/6" and found["calib"] == 8
    assert found["set"] == ["steps=1", "steps=2"]  # the later one counts


@pytest.mark.parametrize(("text", "message"), [
    ('methods = "all"', "key in .*sweep.toml': 'methods': did you mean 'method'"),
    ('config = "other.toml"', "'config'"),
    ("force = 1", "force in .*: expected true or false"),
    ('calib = "many"', "--calib many: expected a whole number"),
    ("bits = {a = 1}", "bits in .*: expected a text, a number or a list"),
    ("bits = ", "is not TOML: "),
    ("seeds = " + "[" * 5000, "nested too deeply|is not TOML"),
    ("a = " + "{b=" * 5000, "nested too deeply|is not TOML"),
    ("limit = " + "9" * 5000, "is not TOML"), ("limit = " + "9" * 4000, "limit in .*: expected a text"),
    ("limit = 0x" + "F" * 5000, "limit in .*: expected a text"),
    ("set = {steps = 0b" + "1" * 20000 + "}", "set in .*: exp"),
    ("limit = 1979-05-27", "limit in .*: expected a text"), ("limit = 07:32:00", "expected a text"),
    ("limit = inf", "--limit inf: expected"), ("limit = nan", "--limit nan: expected"),
    ("limit = 8.0", "--limit 8.0: expected"),
    ("limit = [[1]]", "limit in .*: expected a text"), ("limit = []", "--limit : expected"),
    ('data = "a\\u001b[31m"', r"data in .*: 'a\\x1b\[31m' has a character"), ('data = "a\\u0000"', "has a character"),
    ('"lim\\u001b[31mit" = 1', r"'lim\\x1b\[31mit'"),
], ids=lambda value: value[:30])
def test_wrong_files_are_refused(typed, text, message):
    with pytest.raises(UserError, match=message):
        typed(text)


def test_no_file():
    with pytest.raises(UserError, match="'missing.toml' does not exist"):
        read(["--config", "missing.toml"])
