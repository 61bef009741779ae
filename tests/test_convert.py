from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import EXAMPLES, make_voice
from vc.audio import Audio, active_level_db, normalize_level, read_audio, resample, write_audio
from vc.config import FeatureConfig
from vc.convert import Converter, load
from vc.errors import AudioError, VCError
from vc.model.speaker_encoder import average_embeddings, split_embedding
from vc.pitch import estimate_f0, moved_f0, pitch_range
from vc.voice import Voice


def median_hz(audio: Audio) -> float:
    waveform = resample(audio.waveform, audio.sample_rate, 16_000)
    found = pitch_range(estimate_f0(waveform, FeatureConfig()))
    assert found is not None
    return float(np.exp(found.median))


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [0.5, 1.2345])
def test_result_has_exactly_the_sources_length_and_rate(
    tiny: Converter, high_voice: Audio, sample_rate: int, seconds: float
) -> None:
    source = Audio(make_voice(seconds=seconds, sample_rate=sample_rate), sample_rate)
    converted = tiny.convert(source, high_voice)
    assert converted.sample_rate == sample_rate
    assert len(converted.waveform) == len(source.waveform)
    assert np.isfinite(converted.waveform).all()


def test_samples_of_any_floating_type_are_taken_and_whole_numbers_refused(
    tiny: Converter, high_voice: Audio
) -> None:
    source = Audio(make_voice(seconds=1.0, sample_rate=48_000), 48_000)
    precise = Audio(source.waveform.astype(np.float64), 48_000)  # type: ignore[arg-type]
    converted = tiny.convert(precise, high_voice).waveform
    np.testing.assert_array_equal(converted, tiny.convert(source, high_voice).waveform)
    whole = Audio((32_767 * source.waveform).astype(np.int16), 48_000)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="int16; give floating-point numbers"):
        tiny.convert(whole, high_voice)


def test_another_rate_can_be_asked_for(
    tiny: Converter, low_voice: Audio, high_voice: Audio
) -> None:
    converted = tiny.convert(low_voice, high_voice, sample_rate=48_000)
    assert converted.sample_rate == 48_000
    assert len(converted.waveform) == 3 * len(low_voice.waveform)


def test_converting_twice_gives_the_same_samples(
    tiny: Converter, low_voice: Audio, high_voice: Audio
) -> None:
    first, second = (tiny.convert(low_voice, high_voice).waveform for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_result_is_as_loud_as_the_source_if_that_is_kept(
    tiny: Converter, low_voice: Audio, high_voice: Audio
) -> None:
    quiet = Audio(low_voice.waveform * np.float32(0.05), 16_000)
    level = active_level_db(*tiny.convert(quiet, high_voice, loudness="keep"))
    assert level == pytest.approx(active_level_db(*quiet), abs=0.2)


@pytest.mark.parametrize(("reference_db", "expected_db"), [(-25, -25), (-60, -30), (-5, -16)])
def test_result_is_as_loud_as_the_reference_within_reason(
    tiny: Converter, low_voice: Audio, high_voice: Audio, reference_db: float, expected_db: float
) -> None:
    reference = Audio(normalize_level(*high_voice, reference_db), high_voice.sample_rate)
    quiet = Audio(low_voice.waveform * np.float32(0.05), 16_000)
    level = active_level_db(*tiny.convert(quiet, reference, learn=False))
    assert level == pytest.approx(expected_db, abs=0.2)


def test_several_references_make_one_voice(
    tiny: Converter, low_voice: Audio, high_voice: Audio, tmp_path: Path
) -> None:
    path = tmp_path / "low.wav"
    write_audio(path, low_voice)
    both = tiny.voice([path, high_voice])
    low, high = tiny.voice(path), tiny.voice(high_voice)
    middle = average_embeddings(
        torch.stack([low.speaker_embedding, high.speaker_embedding]),
        torch.ones(2),
        tiny.autoencoder.config,
    )
    torch.testing.assert_close(both.speaker_embedding, middle, atol=0.05, rtol=0)
    assert low.pitch and high.pitch and both.pitch
    assert low.pitch.median < both.pitch.median < high.pitch.median
    assert isinstance(both, Voice)
    converted = tiny.convert(low_voice, both)  # a voice can be kept and used again
    assert len(converted.waveform) == len(low_voice.waveform)


def test_embedding_a_clip_gives_both_latents_and_the_pitch(
    tiny: Converter, high_voice: Audio, tmp_path: Path
) -> None:
    found = tiny.embed(high_voice)
    frames = len(high_voice.waveform) // tiny.features.hop_length + 1
    assert found.f0.shape == (frames,)
    assert np.median(found.f0[found.f0 > 0]) == pytest.approx(220, rel=0.15)
    assert found.content.shape == (-(-frames // 2), tiny.autoencoder.config.content_dim)
    assert found.frame_rate == pytest.approx(len(found.content) / high_voice.duration_s, rel=0.03)
    without_denoiser = Converter(tiny.autoencoder, None)
    voice = without_denoiser.voice(high_voice).speaker_embedding.numpy()
    assert float(voice[:128] @ found.speaker_embedding[:128]) > 0.99
    with pytest.raises(AudioError, match=r"nothing\.wav"):
        tiny.embed(tmp_path / "nothing.wav")


def test_silence_around_a_reference_does_not_change_the_voice(
    tiny: Converter, high_voice: Audio
) -> None:
    padded = Audio(np.pad(high_voice.waveform, (24_000, 32_000)), 16_000)
    ours, theirs = (tiny.voice(clip).speaker_embedding for clip in (high_voice, padded))
    assert torch.cosine_similarity(ours, theirs, dim=0).item() > 0.98


def test_level_of_the_reference_does_not_change_the_voice(
    tiny: Converter, high_voice: Audio
) -> None:
    quiet = Audio(high_voice.waveform * np.float32(0.02), 16_000)
    ours, theirs = (tiny.voice(clip).speaker_embedding for clip in (high_voice, quiet))
    assert torch.cosine_similarity(ours, theirs, dim=0).item() > 0.999


def test_pitch_matches_the_reference_keeps_or_shifts(
    shipped: Converter, low_voice: Audio, high_voice: Audio
) -> None:
    def semitones(audio: Audio, hertz: float) -> float:
        return 12 * np.log2(median_hz(audio) / hertz)

    low, high = median_hz(low_voice), median_hz(high_voice)
    assert abs(semitones(shipped.convert(low_voice, high_voice), high)) < 1
    assert abs(semitones(shipped.convert(low_voice, high_voice, pitch="keep"), low)) < 1
    assert abs(semitones(shipped.convert(low_voice, high_voice, pitch=4.0), low) - 4) < 1


def test_pitch_stays_where_models_have_heard_speech(
    tiny: Converter, low_voice: Audio, high_voice: Audio
) -> None:
    voice = tiny.voice(high_voice)
    spurious = np.array([100, 101, 99, 0, 590, 100], np.float32)  # one frame is tracked far off
    moved = moved_f0(spurious, voice.pitch, "match", tiny.features)
    assert moved[3] == 0
    assert 540 < moved.max() < tiny.features.f0_max
    far_up = tiny.convert(low_voice, high_voice, pitch=48.0)
    assert np.isfinite(far_up.waveform).all()


def test_progress_only_goes_forward_and_arrives(
    tiny: Converter, low_voice: Audio, high_voice: Audio
) -> None:
    shares: list[float] = []
    tiny.convert(low_voice, high_voice, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_unvoiced_source_is_converted_without_a_pitch(tiny: Converter, high_voice: Audio) -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.05
    converted = tiny.convert(Audio(noise, 16_000), high_voice)
    assert np.isfinite(converted.waveform).all()


def test_griffin_lim_converts_without_vocoder_weights(
    tiny_checkpoint: Path, low_voice: Audio, high_voice: Audio
) -> None:
    converter = load(tiny_checkpoint, vocoder="griffin-lim")
    assert converter.vocoder is None
    converted = converter.convert(low_voice, high_voice)
    assert len(converted.waveform) == len(low_voice.waveform)
    assert np.std(converted.waveform) > 1e-3


def test_bad_clips_are_named(tiny: Converter, low_voice: Audio, tmp_path: Path) -> None:
    silent, short = tmp_path / "silent.wav", tmp_path / "short.wav"
    write_audio(silent, Audio(np.zeros(16_000, np.float32), 16_000))
    write_audio(short, Audio(make_voice(seconds=0.3), 16_000))
    with pytest.raises(AudioError, match=r"source .*silent\.wav: is silent"):
        tiny.convert(silent, low_voice)
    with pytest.raises(AudioError, match=r"reference .*silent\.wav: is silent"):
        tiny.convert(low_voice, [low_voice, silent])
    with pytest.raises(AudioError, match=r"short\.wav: only 0\.30 s long; at least 0\.5 s"):
        tiny.convert(low_voice, short)
    with pytest.raises(VCError, match="no reference"):
        tiny.convert(low_voice, [])


def test_shipped_model_moves_the_example_towards_the_reference(shipped: Converter) -> None:
    source, reference = EXAMPLES / "source.flac", EXAMPLES / "reference.flac"
    converted = shipped.convert(source, reference)
    voices = [
        split_embedding(
            shipped.voice(clip).speaker_embedding[None], shipped.autoencoder.config
        ).identity[0]
        for clip in (converted, reference, source)
    ]
    assert voices[0] @ voices[1] > voices[0] @ voices[2] + 0.2
    assert abs(12 * np.log2(median_hz(converted) / median_hz(read_audio(reference)))) < 1


@pytest.mark.parametrize("offset", [0.01, 0.2])
def test_a_constant_offset_is_not_heard(tiny: Converter, high_voice: Audio, offset: float) -> None:
    voice = tiny.voice(high_voice, learn=False)  # by which rounding would count for more
    shifted = Audio(high_voice.waveform + np.float32(offset), high_voice.sample_rate)
    there, here = (tiny.convert(clip, voice).waveform for clip in (shifted, high_voice))
    assert active_level_db(there, 16_000) == pytest.approx(active_level_db(here, 16_000), abs=0.1)
    assert np.mean((there - here) ** 2) < 1e-4 * np.mean(here**2)  # but for rounding
    with pytest.raises(AudioError, match="silent"):
        tiny.voice(Audio(np.full(32_000, offset, np.float32), 16_000))
