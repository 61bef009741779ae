from __future__ import annotations

from pathlib import Path

import pytest

from vc.errors import DataError
from vc.layouts import Clip, LeftOut, find_clips


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def clips(root: Path) -> dict[str, str]:
    """Text by name."""
    return {clip.name: clip.text for clip in find_clips(root) if isinstance(clip, Clip)}


def left_out(root: Path) -> dict[str, str]:
    return {
        other.file.name: other.reason for other in find_clips(root) if isinstance(other, LeftOut)
    }


def test_speaker_and_utterance_folders(tmp_path: Path) -> None:
    touch(tmp_path, "toy/ann/1.wav", "toy/ann/.hidden.wav", "toy/bob/1.flac", "toy/notes.txt")
    write(tmp_path / "toy" / "transcripts.tsv", 'speaker\tutterance\ttext\nann\t1\tA "word".\n')
    assert clips(tmp_path) == {"toy/ann/1": 'A "word".', "toy/bob/1": ""}
    assert set(clips(tmp_path / "toy")) == {"toy/ann/1", "toy/bob/1"}
    assert set(clips(tmp_path / "toy" / "ann")) == {"ann/unlabelled/1"}


def test_librispeech(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121123"
    touch(chapter, "84-121123-0000.flac", "84-121123-0001.flac")
    write(chapter / "84-121123.trans.txt", "84-121123-0000 GO ON\n84-121123-0001 STOP THERE\n")
    expected = {
        "dev-clean/84/84-121123-0000": "GO ON",
        "dev-clean/84/84-121123-0001": "STOP THERE",
    }
    assert clips(tmp_path / "LibriSpeech") == expected
    assert clips(tmp_path / "LibriSpeech" / "dev-clean") == expected


def test_libritts(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriTTS" / "train-clean-100" / "103" / "1240"
    touch(chapter, "103_1240_000000_000001.wav")
    write(chapter / "103_1240_000000_000001.normalized.txt", "Chapter one.\n")
    name = "train-clean-100/103/103_1240_000000_000001"
    assert clips(tmp_path / "LibriTTS") == {name: "Chapter one."}


def test_vctk_uses_one_microphone(tmp_path: Path) -> None:
    folder = "wav48_silence_trimmed/p225"
    touch(tmp_path / "VCTK", f"{folder}/p225_001_mic1.flac", f"{folder}/p225_001_mic2.flac")
    touch(tmp_path / "VCTK", f"{folder}/p225_002_mic2.flac")
    write(tmp_path / "VCTK" / "txt" / "p225" / "p225_001.txt", "Please call Stella.\n")
    for root in (tmp_path, tmp_path / "VCTK"):
        assert clips(root) == {
            "VCTK/p225/p225_001": "Please call Stella.",
            "VCTK/p225/p225_002": "",
        }
        assert "microphone" in left_out(root)["p225_001_mic2.flac"]


def test_cmu_arctic(tmp_path: Path) -> None:
    voice = tmp_path / "cmu_us_bdl_arctic"
    touch(voice, "wav/arctic_a0001.wav")
    write(voice / "etc" / "txt.done.data", '( arctic_a0001 "Author of the danger trail." )\n')
    for root in (tmp_path, voice):
        assert clips(root) == {"cmu_arctic/bdl/arctic_a0001": "Author of the danger trail."}


def test_common_voice_names_speakers_in_its_tables(tmp_path: Path) -> None:
    touch(tmp_path / "en" / "clips", "a.mp3", "b.mp3", "refused.mp3")
    client = "0123456789abcdef" * 8
    table = f"client_id\tpath\tsentence\n{client}\ta.mp3\tHello.\n{client}\tb.mp3\tYes?\n"
    write(tmp_path / "en" / "validated.tsv", table)
    assert clips(tmp_path) == {
        "en/0123456789abcdef/a": "Hello.",
        "en/0123456789abcdef/b": "Yes?",
    }
    assert set(left_out(tmp_path)) == {"refused.mp3"}


def test_corpora_side_by_side(tmp_path: Path) -> None:
    touch(
        tmp_path, "toy/ann/1.wav", "cmu_us_slt_arctic/wav/arctic_a0001.wav", "dev/84/1/84-1-0.flac"
    )
    assert set(clips(tmp_path)) == {"toy/ann/1", "cmu_arctic/slt/arctic_a0001", "dev/84/84-1-0"}


@pytest.mark.parametrize(("suffix", "comma"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_names_files_and_speakers(tmp_path: Path, suffix: str, comma: str) -> None:
    touch(tmp_path, "x/1.wav", "y/1.wav")
    rows = ["path,speaker,text", "x/1.wav,ann,one", "y/1.wav,ann,two", "z/1.wav,bob,"]
    table = tmp_path / f"mine{suffix}"
    for mark in ("", "\ufeff"):  # Excel's
        write(table, mark + "\n".join(rows).replace(",", comma))
        assert clips(table) == {"mine/ann/x-1": "one", "mine/ann/y-1": "two"}
    assert "line 4" in left_out(table)["1.wav"]
    write(table, "file,who\n1.wav,ann\n".replace(",", comma))
    with pytest.raises(DataError, match="path and speaker"):
        clips(table)
