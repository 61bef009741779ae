"""The tab of text and bytes: clips as units and as small files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.settings import DemoSettings
from demo.studio import Studio
from tests.conftest import EXAMPLES
from vc.audio import read_audio
from vc.convert import Converter
from vc.errors import VCError

SOURCE, REFERENCE = str(EXAMPLES / "source.flac"), str(EXAMPLES / "reference.flac")


@pytest.fixture
def studio(shipped: Converter, tmp_path: Path) -> Studio:
    return Studio(shipped, DemoSettings(), tmp_path)


def test_a_clip_becomes_text_that_can_be_edited_and_said(studio: Studio) -> None:
    text = studio.write_units("visit", SOURCE)
    whole = read_audio(studio.speak_units("visit", text, [REFERENCE]))
    head, last_line = text.rstrip("\n").rsplit("\n", 1)
    shorter = read_audio(studio.speak_units("visit", head, [REFERENCE]))
    assert whole.duration_s == pytest.approx(read_audio(SOURCE).duration_s, abs=0.2)
    assert 0.5 < shorter.duration_s < whole.duration_s and ":" in last_line


def test_a_clip_becomes_a_small_file_and_speech_again(studio: Studio) -> None:
    path, told = studio.compress("visit", SOURCE, "low")
    assert f"{Path(path).stat().st_size} bytes" in told
    assert Path(path).stat().st_size < Path(SOURCE).stat().st_size / 50
    for references in (None, [REFERENCE]):
        said = read_audio(studio.decompress("visit", path, references))
        assert said.duration_s == pytest.approx(read_audio(SOURCE).duration_s, abs=0.01)


def test_what_cannot_be_used_is_refused_in_a_sentence(studio: Studio, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.vcz"
    wrong.write_bytes(b"not ours")
    for call in (
        lambda: studio.write_units("visit", None),
        lambda: studio.speak_units("visit", "vc units 1\nhello", [REFERENCE]),
        lambda: studio.speak_units("visit", studio.write_units("visit", SOURCE), None),
        lambda: studio.compress("visit", None, "low"),
        lambda: studio.decompress("visit", None, None),
        lambda: studio.decompress("visit", str(wrong), None),
    ):
        with pytest.raises(VCError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_results_go_with_the_visit(studio: Studio) -> None:
    path, _ = studio.compress("visit", SOURCE, "low")
    said = studio.decompress("visit", path, None)
    studio.visits.end("visit")
    assert not Path(path).exists() and not Path(said).exists()
