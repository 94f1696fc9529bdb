"""A third-party package as pip would leave it in a folder: a module and the metadata that names its entry points."""

from pathlib import Path


def install(folder: Path, module: str, source: str, entry_points: dict[str, str]) -> None:
    """Write `module` and its `.dist-info` into a folder of the Python path."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[aiqvit.methods]", *lines, ""]))
