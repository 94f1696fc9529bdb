"""Any text as a file name and in every output."""

import pytest

from aiqvit.io import escape
from aiqvit.io.names import LONGEST, file_name

HOSTILE = ("../../x", "/etc/passwd", "..", ".", "", ".hidden", "-rf", "a/b", "a\\b", "a\0b", "a\nb", "x" * 5000,
           "ä" * 300, "CON:", "\u202egpj.exe", "a\ud800", "~root", "$(id)", "%41")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_stays_in_its_folder(text, tmp_path):
    name = file_name(text)
    assert 0 < len(name.encode()) <= LONGEST and name.isascii()
    assert not name.startswith((".", "-")) and not set(name) & set("/\\\0\n:~$%")
    (tmp_path / name).touch()
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_names_are_readable_and_never_shared():
    assert file_name("table1-ours-imagenet-mini-quick") == "table1-ours-imagenet-mini-quick"
    assert file_name("steps=1,lowrank=off") == "steps=1,lowrank=off"
    assert len({file_name(text) for text in (*HOSTILE, "a_b", "a:b", "a b", "x" * 4999)}) == len(HOSTILE) + 4


def test_terminal():
    assert escape.terminal("é ± → \t\n\r") == "é ± → \t\n\r"
    assert escape.terminal("a\x1b]0;x\x07\x9b\u202e\u2028\x7f") == r"a\x1b]0;x\x07\x9b\u202e\u2028\x7f"
    assert escape.line("a\n\x1b[1Ab\r\u2028 c") == r"a \x1b[1Ab c"


@pytest.mark.parametrize(("text", "cell"), [
    ("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'=1"), ("-1.25", "-1.25"), ("-", "-"), ("AIQViT [rank=2]", "AIQViT [rank=2]"), (-1.5, -1.5)])
def test_csv(text, cell):
    assert escape.csv_cell(text) == cell


def test_markdown():
    assert escape.markdown("a\\| b\n| c") == "a\\&#124; b &#124; c"
    assert escape.markdown("<img src=x>[rank=2](javascript:x)![i](y) `c`") == (
        "&lt;img src=x>[rank=2]&#40;javascript:x)&#33;[i]&#40;y) &#96;c&#96;")
    assert escape.markdown("AIQViT [rank=2] deit_tiny") == "AIQViT [rank=2] deit_tiny"


def test_latex():
    said = escape.latex("a}\\immediate\\write18{id}\n%$x_1^2$ <b> -1.5 ±")
    assert said == (r"a\}\textbackslash{}immediate\textbackslash{}write18\{id\} \%\$x\_1\textasciicircum{}2\$ "
                    r"$<$b$>$ $-$1.5 $\pm$")
