from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for role in ("source", "reference"):
        shutil.copy(ROOT / "vc" / "examples" / f"{role}.flac", tmp_path / f"{role}.flac")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "converted.wav").stat().st_size > 10_000


def test_commands_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_length_of_the_numpy_example_is_as_told() -> None:
    folder = ROOT / "recipes" / "onnx"
    example = (folder / "convert.py").read_text(encoding="utf-8")
    code = re.sub(r'""".*?"""', "", example, flags=re.DOTALL)
    lines = len(re.findall(r"^(?!import |from )\s*\S", code, flags=re.MULTILINE))
    for text in (README, (folder / "README.md").read_text(encoding="utf-8")):
        (told,) = re.findall(r"in some (\d+) lines of NumPy", text)
        assert abs(int(told) - lines) <= 5


def test_files_that_the_readme_points_to_exist() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
