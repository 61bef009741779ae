from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import EXAMPLES
from vc.cli import main
from vc.config import FeatureConfig
from vc.corpus import prepare
from vc.errors import DataError
from vc.evaluation.alignment import AlignedPhone, Aligner, phones_at
from vc.evaluation.probe import _ask, _split, probe
from vc.evaluation.score import load_clip

TEXT = (
    "The old lighthouse keeper walked down to the harbour, to watch the boats come home "
    "before the storm."
)


def test_alignment_finds_the_phones_of_a_sentence_in_order() -> None:
    waveform = load_clip(EXAMPLES / "source.flac")
    samples = np.round(waveform * 32767).astype(np.int16)
    aligner = Aligner()
    phones = aligner.align(samples, TEXT.replace("harbour", "harbor"))
    symbols = [phone.symbol for phone in phones]
    assert symbols[2:6] == ["OW", "L", "D", "L"]  # (th)e old l(ighthouse)
    assert symbols[-4:] == ["S", "T", "AO", "R"] or symbols[-4:] == ["T", "AO", "R", "M"]
    starts = [phone.start for phone in phones]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert phones[-1].end <= len(waveform) / 16_000
    assert aligner.align(samples, "words like zzyzxq are unknown") == []
    assert phones == aligner.align(samples, TEXT.replace("harbour", "harbor"))


def test_phones_at_times() -> None:
    phones = [AlignedPhone("AH", 0.1, 0.2), AlignedPhone("S", 0.2, 0.3)]
    assert phones_at(phones, np.array([0.05, 0.15, 0.25, 0.35])) == ["", "AH", "S", ""]


def test_a_probe_reads_what_is_there_and_no_more() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(400)
    angle = labels * torch.pi / 2
    known = torch.stack([angle.cos(), angle.sin()], 1)
    parity = (labels % 2).float()  # of the labels, hidden in the product of two coins
    coin = torch.randint(2, (1600,), generator=generator).float() * 2 - 1
    inputs = {
        "known": known + 0.1 * torch.randn(1600, 2, generator=generator),
        "nothing": torch.randn(1600, 2, generator=generator),
        "product": torch.stack([coin, coin * (parity * 2 - 1)], 1),
    }
    number = torch.arange(1600) // 4 % 4
    task = _ask("class", inputs, labels, _split(number, 4), 1600)
    assert task.entropy == pytest.approx(2.0)
    assert task.chance == pytest.approx(0.25)
    for kind in ("linear", "non-linear"):
        assert task.readings["known"][kind].accuracy > 0.99
        assert task.readings["known"][kind].bits == pytest.approx(2.0, abs=0.1)
        assert task.readings["nothing"][kind].accuracy == pytest.approx(0.25, abs=0.06)
        assert task.readings["nothing"][kind].bits < 0.02
    assert task.readings["product"]["linear"].bits < 0.05
    assert task.readings["product"]["non-linear"].bits == pytest.approx(1.0, abs=0.1)


def test_probe_command(
    corpus: Path, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    prepare(corpus, cache, FeatureConfig(), workers=1)
    report = tmp_path / "probe.html"
    arguments = ["--cache", str(cache), "--checkpoint", str(tiny_checkpoint), "--clips", "3"]
    assert main(["probe", *arguments, "-o", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "speaker: 7 classes, 21 clips" in printed  # one of eight is a validation speaker
    assert "phone" not in printed  # the toy corpus has no transcripts
    assert report.read_text().count("<svg") == 4
    with pytest.raises(DataError, match="too few speakers"):
        probe(cache, tiny_checkpoint, clips_each=4)
    with pytest.raises(DataError, match="at least 3"):
        probe(cache, tiny_checkpoint, clips_each=2)
