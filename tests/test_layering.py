"""Imports go one way: from what uses to what is used, never back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vc"
LAYERS = [  # a module may import modules of lower layers, and of its own
    {"vc", "vc.errors"},
    {"vc.config", "vc.safe_write", "vc.json_text"},
    {"vc.audio"},
    {"vc.features", "vc.pitch", "vc.on_disk", "vc.layouts"},
    {"vc.model"},
    {"vc.vocoder"},
    {"vc.checkpoint", "vc.losses", "vc.clip_check", "vc.denoise", "vc.exportable"},
    {"vc.corpus", "vc.corpus_report"},
    {"vc.voice", "vc.voice_prior", "vc.learn_voice", "vc.sight", "vc.anomaly"},
    {"vc.convert", "vc.blockwise", "vc.batch", "vc.adapt", "vc.streaming"},
    {"vc.embedding", "vc.voice_map"},
    {"vc.unit_tables", "vc.unit_tree", "vc.units", "vc.compress"},
    {"vc.training", "vc.evaluation", "vc.export"},
    {"vc.cli", "vc.__main__"},
]


def rank(module: str) -> int:
    for number, layer in enumerate(LAYERS):
        if module in layer or ".".join(module.split(".")[:2]) in layer - {"vc"}:
            return number
    raise AssertionError(f"{module} has no layer: give it one in tests/test_layering.py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_module_imports_upwards(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return  # names the public objects, and imports them only when asked
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    own = ".".join(parts).removesuffix(".__init__")
    for module in imports(path):
        assert module.split(".")[0] not in ("demo", "recipes", "tests")
        if module.split(".")[0] == "vc":
            assert rank(module) <= rank(own), f"{own} imports {module}"


def test_judges_are_no_part_of_the_product() -> None:
    judges = {
        "resemblyzer",
        "pocketsphinx",
        "speechmos",
        "pesq",
        "pystoi",
        "parselmouth",
        "pyworld",
    }
    for path in PACKAGE.rglob("*.py"):
        if "evaluation" not in path.parts:
            assert not judges & {m.split(".")[0] for m in imports(path)}, path
