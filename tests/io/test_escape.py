"""Text of others in each kind of output."""

import pytest

from aiqvit.io.escape import csv_cell, latex, line, markdown, terminal


@pytest.mark.parametrize("text, shown", [
    ("I&S-ViT <0.1 ± 2", "I&S-ViT <0.1 ± 2"), ("a\tb\r\nc", "a b c"), ("\x1b[2J", "\\x1b[2J"),
    ("\u202eabc", "\\u202eabc"),
    ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"), ("\ud800", "\\ud800"), ("\ufeffx", "\\ufeffx"), ("Méthode 漢", "Méthode 漢")],
    ids=ascii)
def test_a_line_moves_no_cursor(text, shown):
    assert line(text) == shown and "\n" not in line(text)


def test_a_terminal_gets_its_line_ends():
    assert terminal("a\r\n\tb\x1b") == "a\r\n\tb\\x1b"


@pytest.mark.parametrize("text, shown", [
    ("I&S-ViT <0.1 -1.33 (n=2)", "I&S-ViT <0.1 -1.33 (n=2)"), ("&lt;b&#62;", "&amp;lt;b&amp;#62;"),
    ("<script>", "&lt;script>"), ("</td>", "&lt;/td>"), ("<!--", "&lt;!--"), ("a | b", "a &#124; b"),
    ("a [x](http://y)", "a [x]&#40;http://y)"), ("![x][y]", "&#33;[x][y]"), ("[x]: http://y", "\\[x]: http://y"),
    ("# head", "\\# head"), ("- item", "\\- item"), ("12. item", "12\\. item"), (">quote", "\\>quote"),
    ("`a`", "&#96;a&#96;"), ("a\n| b", "a &#124; b")])
def test_markdown_stays_text(text, shown):
    assert markdown(text) == shown


@pytest.mark.parametrize("text, shown", [
    ("=1+1", "'=1+1"), ("@x", "'@x"), ("+x", "'+x"), ("-x", "'-x"), ("-1.5", "-1.5"), ("-", "-"), ("\t=x", "'=x"),
    (None, None), (-1.5, -1.5), ("4/4", "4/4"), ("a\nb", "a b")])
def test_a_cell_is_no_formula(text, shown):
    assert csv_cell(text) == shown


@pytest.mark.parametrize("text, shown", [
    ("\\input{/x}%", r"\textbackslash{}input\{/x\}\%"), ("$a_b^c$", r"\$a\_b\textasciicircum{}c\$"), ("-1.5", "$-$1.5"),
    ("[4pt]", "{}[4pt]"), ("*", "{}*"), ("a [x]", "a [x]"), ("<0.1|", "$<$0.1$|$"), ("漢", "?"), ("a\n\nb", "a b"),
    ("\x1b", r"\textbackslash{}x1b")])
def test_latex_stays_text(text, shown):
    assert latex(text) == shown
