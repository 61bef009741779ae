"""How long conversion takes, stage by stage, beside what others' networks take on this machine.

    python benchmarks/speed.py [--threads 2] [--seconds 10] [--lengths 10 60 600]

Prints the real-time factor (seconds of work a second of audio; the median of several warm runs) of
every stage and of the whole; of Griffin-Lim; of HuBERT-Base and WavLM-Large front ends with a
HiFi-GAN V1 vocoder; how time and peak memory grow with the length, and time with the number of
references and of clips in a batch; a stream on one thread; and how long `vc --help` and a whole
`vc convert` take.
The others have their published sizes and random weights: time does not depend on weights. They
lack an F0 track, a speaker encoder and anything else around their networks, so the ratios are
lower bounds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models import hubert_base, wavlm_large

import vc
from vc.audio import Audio, normalize_level, read_audio, resample, write_audio
from vc.blockwise import convert_file
from vc.convert import Converter
from vc.denoise import clean_waveform
from vc.model.autoencoder import Latent
from vc.pitch import estimate_f0, interpolate_log_f0
from vc.streaming.stream import stream_clip
from vc.vocoder.griffin_lim import griffin_lim

EXAMPLES = Path(vc.__file__).parent / "examples"
FILE_RATE = 44_100  # of the clip that is converted, so that resampling counts
RUNS = 5


class HiFiGAN(nn.Module):
    """The V1 generator of Kong et al. 2020 (arXiv:2010.05646), for timing only.

    512 channels, four upsampling layers, each followed by the mean of three residual blocks of
    kernel sizes 3, 7 and 11 with dilations 1, 3 and 5. Upsampling is by 10, 8, 2 and 2, as for
    features every 20 ms at 16 kHz (kNN-VC, Baas et al. 2023, arXiv:2305.18975).

    Args:
        inputs: size of a feature vector.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        channels = 512
        self.before = nn.Conv1d(inputs, channels, 7, padding=3)
        self.upsampling, self.residual = nn.ModuleList(), nn.ModuleList()
        for rate in (10, 8, 2, 2):
            self.upsampling.append(
                nn.ConvTranspose1d(channels, channels // 2, 2 * rate, rate, padding=rate // 2)
            )
            channels //= 2
            self.residual.append(
                nn.ModuleList(
                    nn.ModuleList(
                        nn.Conv1d(channels, channels, k, dilation=d, padding=d * (k // 2))
                        for dilation in (1, 3, 5)
                        for d in (dilation, 1)
                    )
                    for k in (3, 7, 11)
                )
            )
        self.after = nn.Conv1d(channels, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(batch, inputs, frames)` -> waveform `(batch, frames * 320)`."""
        x = self.before(features)
        for upsample, blocks in zip(self.upsampling, self.residual, strict=True):
            x = upsample(functional.leaky_relu(x, 0.1))
            x = torch.stack([self._residual(x, block) for block in blocks]).mean(dim=0)  # type: ignore[arg-type]
        return torch.tanh(self.after(functional.leaky_relu(x)))[:, 0]

    def _residual(self, x: Tensor, convolutions: nn.ModuleList) -> Tensor:
        for wide, plain in zip(convolutions[::2], convolutions[1::2], strict=True):
            x = x + plain(functional.leaky_relu(wide(functional.leaky_relu(x, 0.1)), 0.1))
        return x


def median_seconds(function: Callable[[], object], runs: int = RUNS) -> float:
    """Median time of a call that was made once before."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def speech(seconds: float, sample_rate: int) -> Audio:
    """The shipped example, repeated to a length."""
    audio = read_audio(EXAMPLES / "source.flac")
    waveform = np.resize(audio.waveform, round(seconds * audio.sample_rate))
    return Audio(resample(waveform, audio.sample_rate, sample_rate), sample_rate)


def time_ours(seconds: float, folder: Path) -> dict[str, float]:
    """Seconds of each stage and of the whole."""
    converter = vc.load()
    features, model = converter.features, converter.autoencoder
    path, output = folder / "clip.wav", folder / "out.wav"
    write_audio(path, speech(seconds, FILE_RATE))
    original = read_audio(path)
    waveform = normalize_level(
        resample(original.waveform, FILE_RATE, features.sample_rate),
        features.sample_rate,
        features.level_db,
    )
    samples = torch.from_numpy(waveform)[None]
    f0 = estimate_f0(waveform, features)
    log_f0 = torch.from_numpy(interpolate_log_f0(f0))[None]
    voiced = torch.from_numpy((f0 > 0).astype(np.float32))[None]
    log_mel = converter.log_mel(samples)
    latent = Latent(model.encode_content(log_mel), model.encode_speaker(log_mel))
    decoded = model.decode(latent, log_f0, voiced)
    voice = converter.voice(EXAMPLES / "reference.flac")
    wanted, details = voice.speaker_embedding[None], converter.details(voice)
    asked = model.rehearse(latent.content, wanted, log_f0, voiced)
    source = model.listen_to_source(log_mel, log_f0)
    stages: dict[str, Callable[[], object]] = {
        "read": lambda: read_audio(path),
        "resample, both ways": lambda: resample(
            resample(original.waveform, FILE_RATE, features.sample_rate),
            features.sample_rate,
            FILE_RATE,
        ),
        "denoiser": lambda: clean_waveform(converter.need_denoiser(), waveform),
        "F0": lambda: estimate_f0(waveform, features),
        "log-mel": lambda: converter.log_mel(samples),
        "content encoder": lambda: model.encode_content(log_mel),
        "rehearsal": lambda: model.rehearse(latent.content, wanted, log_f0, voiced),
        "source's own voice": lambda: model.listen_to_source(log_mel, log_f0),
        "decoder, residual, details": lambda: model.say(
            latent.content, asked, log_f0, voiced, details, source
        ),
        "of these, the decoder once": lambda: model.decode(latent, log_f0, voiced),
        "vocoder": lambda: converter.synthesize(decoded, log_f0, voiced),
        "temporal envelope": lambda: converter.follow(waveform, waveform),
        "write": lambda: write_audio(output, original),
        "networks: log-mel to waveform": lambda: converter.synthesize(
            model.decode(Latent(model.encode_content(log_mel), latent[1]), log_f0, voiced),
            log_f0,
            voiced,
        ),
        "whole, file to file, voice known": lambda: convert_file(converter, path, voice, output),
        "speaker encoder, of a reference": lambda: model.encode_speaker(log_mel),
        "Griffin-Lim, in the vocoder's place": lambda: griffin_lim(decoded, features),
    }
    return {name: median_seconds(function) for name, function in stages.items()}


def time_others(seconds: float) -> dict[str, float]:
    """Seconds of the networks of converters with a self-supervised front end."""
    waveform = torch.from_numpy(speech(seconds, 16_000).waveform)[None]
    result = {}
    for name, build, size, layers in (
        ("HuBERT-Base, 12 layers", hubert_base, 768, None),
        ("WavLM-Large, 6 layers as in kNN-VC", wavlm_large, 1024, 6),
        ("WavLM-Large, 24 layers", wavlm_large, 1024, None),
    ):
        front_end, vocoder = build().eval(), HiFiGAN(size).eval()

        def run(front_end: nn.Module = front_end, vocoder: nn.Module = vocoder, n=layers) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001
            features = front_end.extract_features(waveform, num_layers=n)[0][-1]
            return vocoder(features.transpose(1, 2))  # (B, T, C) -> (B, C, T)

        result[f"{name}, + HiFi-GAN V1"] = median_seconds(run, runs=2)
    return result


def time_growth(seconds: float) -> dict[str, float]:
    """Seconds to listen to several references, and of the networks for each clip of a batch."""
    converter = vc.load()
    clip = speech(seconds, converter.features.sample_rate)
    result = {}
    for count in (1, 5, 20):
        listen = partial(converter.voice, [clip] * count, learn=False)
        result[f"listen to {count} references"] = median_seconds(listen)
    for count in (1, 5):

        def learn(clips: Sequence[Audio] = (clip,) * count) -> None:
            converter.forget_voices()
            converter.voice(clips)

        result[f"learn {count} references"] = median_seconds(learn, runs=2)
    for count in (1, 4, 16):
        batch = torch.from_numpy(clip.waveform).repeat(count, 1)
        spent = median_seconds(partial(run_networks, converter, converter.log_mel(batch)))
        result[f"networks, each of {count} clips at once"] = spent / count
    return result


def run_networks(converter: Converter, log_mel: Tensor) -> Tensor:
    """Log-mels `(batch, n_mels, frames)` to waveforms, at a constant pitch."""
    latent = converter.autoencoder.encode(log_mel)
    log_f0, voiced = torch.full_like(log_mel[:, 0], 5.0), torch.ones_like(log_mel[:, 0])
    decoded = converter.autoencoder.decode(latent, log_f0, voiced)
    assert converter.vocoder is not None
    noise = torch.randn(len(log_mel), log_mel.shape[-1] * converter.features.hop_length)
    return converter.vocoder(decoded, log_f0, voiced, noise, decoded=True)


def time_stream(seconds: float) -> tuple[float, float]:
    """Seconds of a stream at 48 kHz on one thread, and how late it is."""
    stream = vc.Stream(vc.load(), EXAMPLES / "reference.flac", sample_rate=48_000)
    clip = speech(seconds, stream.sample_rate)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = median_seconds(lambda: stream_clip(stream, clip), runs=2)
    torch.set_num_threads(threads)
    return spent, stream.latency_s


def one_length(seconds: float) -> None:
    """Convert a clip of a length, in a process of its own; print seconds and peak memory in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        part = speech(10.0, 16_000).waveform
        import soundfile

        with soundfile.SoundFile(folder / "clip.wav", "w", 16_000, 1) as file:
            for _ in range(round(seconds / 10)):
                file.write(part)
        converter = vc.load()
        voice = converter.voice(EXAMPLES / "reference.flac")
        start = time.perf_counter()
        convert_file(converter, folder / "clip.wav", voice, folder / "out.wav")
        elapsed = time.perf_counter() - start
    print(elapsed, peak_memory_mb())


def peak_memory_mb() -> float:
    """Largest resident set of this process so far."""
    if sys.platform == "linux":  # where ru_maxrss counts the parent's, too
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return float(status.split("VmHWM:")[1].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--lengths", type=float, nargs="*", default=[10, 60, 120, 600])
    parser.add_argument("--only-length", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only_length:
        one_length(options.only_length)
        return
    print(f"{options.threads} threads, clip of {options.seconds:g} s at {FILE_RATE} Hz, warm\n")
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        ours = time_ours(options.seconds, Path(folder))
        others = time_others(options.seconds)
        growth = time_growth(options.seconds)
    print(f"{'':40s} real-time factor")
    for name, spent in (ours | others).items():
        print(f"{name:40s} {spent / options.seconds:16.4f}")
    networks = ours["networks: log-mel to waveform"]
    whole = ours["whole, file to file, voice known"]
    print(f"\n{'how many times our':40s} networks    whole")
    for name, spent in others.items():
        print(f"{name:40s} {spent / networks:8.1f} {spent / whole:8.1f}")
    print(
        f"\n{'length, s':>10s} {'time, s':>10s} {'real-time factor':>18s} {'peak memory, MB':>17s}"
    )
    for length in options.lengths:
        command = [sys.executable, __file__, "--only-length", str(length)]
        command += ["--threads", str(options.threads)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        elapsed, memory = (float(number) for number in answer.split())
        print(f"{length:10g} {elapsed:10.2f} {elapsed / length:18.4f} {memory:17.0f}")
    print()
    for name, spent in growth.items():
        print(f"{name:40s} {spent:10.3f} s")
    streaming, late = time_stream(options.seconds)
    print(
        f"{'stream at 48 kHz, one thread':40s} real-time factor {streaming / options.seconds:.3f}, "
        f"{1000 * late:.0f} ms late"
    )
    with tempfile.TemporaryDirectory() as folder:
        clips = [str(EXAMPLES / "source.flac"), str(EXAMPLES / "reference.flac")]
        for name, arguments in (
            ("vc --help", ["--help"]),
            ("vc convert, the 6 s example", ["convert", *clips, "-o", f"{folder}/out.wav"]),
        ):
            command = [sys.executable, "-m", "vc", *arguments]
            run = partial(subprocess.run, command, check=True, capture_output=True)
            spent = median_seconds(run)
            print(f"{name:40s} {spent:10.2f} s")


if __name__ == "__main__":
    main()
