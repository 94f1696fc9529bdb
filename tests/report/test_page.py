"""The HTML report: complete, self-contained, escaped, and its tables sort in a browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from aiqvit.report.__main__ import main
from tests.report.make_records import record, write

EVIL = '<script>alert("x")</script>&<b>'
LOG = [{"unit": "blocks.0", "loss_before": 1.0, "loss_after": 0.5, "kept": True, "b1": [0.0], "b2": [0.5]}]


class Page(HTMLParser):
    """Keeps tags with their attributes, and the text of sortable cells."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def page(tmp_path):
    folder = write(
        tmp_path / "r", record("fp32", "m", {"top1": 80.0}), record("aiqvit", "m", {"top1": 70.0}, log=LOG),
        record("repqvit", "m", {"top1": 9.5}), record("minmax", "m", {"top1": 60.0}, variant=EVIL),
        record("qdrop", "m", {}, status="failed"), record("aiqvit", "m", {"top1": 99.0}, limit=10))
    out = tmp_path / "deep" / "report.html"
    assert main([str(folder), "--out", str(out), "--title", EVIL]) == 0
    return out


def test_it_needs_nothing_from_outside(page):
    text = page.read_text(encoding="utf-8")
    tags = Page(text).tags
    links = [a[key] for _, a in tags for key in ("src", "href", "srcset", "action") if key in a]
    assert links and all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in tags}
    assert "@import" not in text and "url(" not in text


def test_everything_is_there_and_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert [tag for tag, _ in Page(text).tags].count("script") == 1 and "&lt;script&gt;" in text
    for part in ("LIMITED to 10 samples", "Traceback &lt;...&gt;", "dynamic focusing quantizer", "post_softmax",
                 "abcdef0123456789", "loss_before", "6 runs, 1 failed", "reconstructed from the paper"):
        assert part in text, part
    assert text.count("<section>") == 2  # limited runs are never in one table with full ones


def test_it_is_the_same_every_time(page):
    before = page.read_bytes()
    assert main([str(page.parents[1] / "r"), "--out", str(page), "--title", EVIL]) == 0
    assert page.read_bytes() == before


def test_it_opens_and_sorts_in_a_browser(page, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        pytest.skip("no Chromium")
    click = """<script>
    document.querySelectorAll("table.sortable")[0].tHead.rows[0].cells[3].querySelector("button").click();
    document.title = [...document.querySelectorAll("table.sortable")[0].tBodies[0].rows].map(
      row => row.cells[3].textContent).join(" ") + " images " + [...document.images].map(i => i.naturalWidth > 0);
    </script></body>"""
    clicked = tmp_path / "clicked.html"
    text = page.read_text(encoding="utf-8")
    clicked.write_text(text.replace("</body>", click), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000",
               f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", clicked.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    title = re.search(r"<title>(.*?)</title>", shown)[1]
    values, images = title.split(" images ")
    assert values.split() == ["9.50", "60.00", "70.00", "80.00", "failed"]
    assert set(images.split(",")) == {"true"}


def test_wrong_input_is_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
