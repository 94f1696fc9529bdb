"""A dry run fetches nothing; what a run would fetch is counted."""

import socket

import pytest
from aiqvit.tasks import weights

from aiqvit.bench import main
from aiqvit.interfaces import NotHere, UserError


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """Every connection fails the test, and the hub's cache is empty."""
    asked = []

    def connect(*address):
        asked.append(address)
        raise OSError("no network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return asked


def test_a_dry_run_says_what_a_run_would_fetch(imagenet, tmp_path, no_network, capsys):
    command = ["--data", str(imagenet), "--model", "deit_tiny,vit_tiny", "--method", "fp32,minmax", "--bits", "4/4,3/3",
               "--seeds", "0,1", "--threads", "1", "--out", str(tmp_path / "out")]
    assert main([*command, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "5 runs of deit_tiny: its weights are not here yet, a run fetches them" in out
    assert "5 runs of vit_tiny" in out and "10 runs" in out.splitlines()[-1]
    assert no_network == [] and not (tmp_path / "out").exists()
    assert main(command) == 2
    assert no_network and "the hub cannot be reached: give --weights FILE" in capsys.readouterr().err


def test_an_offline_task_asks_nobody(no_network):
    with pytest.raises(NotHere, match="no pretrained weights for 'some/model' here"):
        weights.hub_file("some/model@1234", offline=True)
    assert no_network == []
    with pytest.raises(UserError, match="cannot be reached"):
        weights.hub_file("some/model")


def test_a_revision_is_what_is_fetched(monkeypatch, tmp_path):
    found = []

    def fetch(repository, filename, revision):
        found.append((repository, filename, revision))
        return str(tmp_path / "x")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights, "_answers", lambda _: True)
    assert weights.hub_file("some/model@1234", "a.bin") == tmp_path / "x" == weights.hub_file("some/model", "a.bin")
    assert found == [("some/model", "a.bin", "1234"), ("some/model", "a.bin", None)]
