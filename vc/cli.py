"""The command `vc`: the only module that prints, and where errors become one line and status 2."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import vc
from vc.errors import VCError

if TYPE_CHECKING:
    from vc.convert import Pitch
    from vc.corpus import PreparationReport

EXIT_SOME_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130
_DENOISE = "take background noise out of source and references first"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options) or 0
    except VCError as error:
        print(f"vc {options.command}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"vc {options.command}: interrupted; nothing half-written is left", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vc", description="Voice conversion on an ordinary CPU.")
    parser.add_argument("--version", action="version", version=f"vc {vc.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    convert = commands.add_parser("convert", help="say one clip's words in another's voice")
    convert.add_argument("source", type=Path, help="clip whose words are kept")
    convert.add_argument(
        "references",
        type=Path,
        nargs="+",
        metavar="reference",
        help="clips of the wanted voice, or a voice that `vc voice` kept (.voice)",
    )
    convert.add_argument("-o", "--output", type=Path, required=True, help="WAV, FLAC, Ogg, ...")
    convert.add_argument(
        "--pitch",
        type=_pitch,
        default="match",
        help="match the reference (default), keep the source's, or shift by semitones, e.g. +3",
    )
    convert.add_argument(
        "--strength",
        type=_share,
        default=1.0,
        help="from 0, the source's own voice, to 1, the reference's (default)",
    )
    convert.add_argument("--denoise", action="store_true", help=_DENOISE)
    convert.add_argument("--sample-rate", type=int, help="of the output in Hz; the source's own")
    convert.add_argument("--vocoder", choices=["neural", "griffin-lim"], default="neural")
    convert.add_argument(
        "--keep-partial", action="store_true", help="on Ctrl-C keep what was converted until then"
    )
    convert.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    _add_checkpoint(convert)
    convert.set_defaults(run=_convert)

    voice = commands.add_parser("voice", help="keep the voice of some clips in a small file")
    voice.add_argument(
        "references", type=Path, nargs="+", metavar="reference", help="clips of one speaker"
    )
    voice.add_argument("-o", "--output", type=Path, required=True, help="NAME.voice")
    voice.add_argument("--name", help="what to call the voice; the output's name by default")
    voice.add_argument("--denoise", action="store_true", help="take background noise out first")
    _add_checkpoint(voice)
    voice.set_defaults(run=_voice)

    adapt = commands.add_parser("adapt", help="tune a voice on minutes of one speaker's clips")
    adapt.add_argument("clips", type=Path, nargs="+", help="folders or files of one speaker")
    adapt.add_argument("-o", "--output", type=Path, required=True, help="NAME.voice")
    adapt.add_argument("--name", help="what to call the voice; the output's name by default")
    adapt.add_argument("--steps", type=int, default=300, help="of tuning (300)")
    adapt.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    _add_checkpoint(adapt)
    adapt.set_defaults(run=_adapt)

    invent = commands.add_parser("new-voice", help="invent a voice that belongs to nobody")
    invent.add_argument("--seed", type=int, default=0, help="another number, another voice")
    invent.add_argument(
        "--like", type=Path, nargs="+", metavar="REFERENCE", help="clips or a voice to resemble"
    )
    invent.add_argument("-o", "--output", type=Path, required=True, help="NAME.voice")
    invent.add_argument("--name", help="what to call the voice; the output's name by default")
    _add_checkpoint(invent)
    invent.set_defaults(run=_new_voice)

    denoise = commands.add_parser("denoise", help="take background noise out of a clip")
    denoise.add_argument("source", type=Path, help="the clip")
    denoise.add_argument("-o", "--output", type=Path, required=True, help="WAV, FLAC, Ogg, ...")
    _add_checkpoint(denoise)
    denoise.set_defaults(run=_denoise)

    _add_demo(commands)

    batch = commands.add_parser("batch", help="convert whole folders, on all cores or a cluster")
    add_batch_arguments(batch)

    info = commands.add_parser("info", help="describe the model, or an audio file")
    info.add_argument("clips", type=Path, nargs="*", help="audio files to describe")
    _add_checkpoint(info)
    info.set_defaults(run=_info)

    prepare = commands.add_parser("prepare", help="turn a corpus folder into cached features")
    prepare.add_argument(
        "corpus",
        type=Path,
        help="folder of speaker/utterance files, of LibriSpeech, LibriTTS, VCTK, CMU Arctic or "
        "Common Voice, or a CSV with the columns path and speaker",
    )
    prepare.add_argument("-o", "--output", type=Path, required=True, help="cache folder")
    prepare.add_argument("--exclude", type=Path, help="TSV of corpus, speaker to leave out")
    prepare.add_argument("--hold-out", type=Path, help="TSV of corpus, speaker for validation only")
    prepare.add_argument("--skip", action="append", default=[], help="corpus folder to pass over")
    prepare.add_argument(
        "--test-share", type=float, default=0.0, help="of the speakers, for a test part (0)"
    )
    prepare.add_argument("--workers", type=int, help="processes; all cores by default")
    prepare.set_defaults(run=_prepare)

    train = commands.add_parser("train", help="train the network that a recipe describes")
    train.add_argument(
        "recipe", type=Path, help="tiny, small, default, large or vocoder, or a TOML file"
    )
    speech = train.add_mutually_exclusive_group(required=True)
    speech.add_argument("--cache", type=Path, help="folder that `vc prepare` wrote")
    speech.add_argument("--corpus", type=Path, help="folder to prepare first, into OUTPUT/cache")
    train.add_argument("-o", "--output", type=Path, required=True, help="run folder; resumes")
    train.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    train.add_argument(
        "--minutes", type=float, help="plan to end in this time instead of the recipe's steps"
    )
    train.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
    train.set_defaults(run=_train)

    _add_evaluate(commands)

    probe = commands.add_parser("probe", help="how well the latents tell speaker and phone")
    probe.add_argument("--cache", type=Path, required=True, help="folder that `vc prepare` wrote")
    probe.add_argument("-o", "--output", type=Path, help="HTML report with plots")
    probe.add_argument("--speakers", type=int, default=100, help="how many (100)")
    probe.add_argument("--clips", type=int, default=8, help="of each speaker (8)")
    probe.add_argument("--phone-clips", type=int, default=200, help="English clips (200); 0: none")
    _add_checkpoint(probe)
    probe.set_defaults(run=_probe)
    return parser


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="score conversions of a table of pairs",
        description="Convert a table of pairs and score the results; or score another system's "
        "clips (--converted), the vocoder alone (--copy), or lay scores side by side (--compare).",
    )
    evaluate.add_argument("pairs", type=Path, nargs="?", help="TSV: set, source, reference, ...")
    evaluate.add_argument("--root", type=Path, help="folder its paths start from; the table's")
    evaluate.add_argument(
        "-o", "--output", type=Path, help="folder for clips, scores.json, report.html; resumes"
    )
    evaluate.add_argument("--report", type=Path, help="where else to write the HTML report")
    evaluate.add_argument(
        "--shown", type=int, default=9, help="pairs with players and pictures in the report (9)"
    )
    evaluate.add_argument("--name", default="", help="what to call the system in tables")
    evaluate.add_argument("--every", type=int, default=1, help="only each n-th pair, for a look")
    evaluate.add_argument("--workers", type=int, help="processes; all cores by default")
    instead = evaluate.add_mutually_exclusive_group()
    instead.add_argument(
        "--converted",
        type=Path,
        metavar="FOLDER",
        help="score its clips <set>--<source>--<reference>.wav instead of converting",
    )
    instead.add_argument(
        "--copy", action="store_true", help="score the vocoder's copies of the sources instead"
    )
    instead.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="SCORES",
        help="lay two or more scores.json side by side instead; differences are to the first",
    )
    _add_checkpoint(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser("demo", help="open the page in the browser")
    demo.add_argument("--host", default="127.0.0.1", help="this computer only, by default")
    demo.add_argument("--port", type=int, help="the first free one from 7860 by default")
    demo.add_argument("--user", help="ask for this name and a password")
    demo.add_argument("--password", help="or set the environment variable VC_DEMO_PASSWORD")
    demo.add_argument(
        "--keep-uploads",
        type=Path,
        metavar="FOLDER",
        help="keep what people upload and convert there; by default nothing stays",
    )
    demo.add_argument("--max-minutes", type=_above_zero, default=5.0, help="length of a clip")
    demo.add_argument("--max-mb", type=_above_zero, default=100.0, help="size of a file")
    demo.add_argument("--no-browser", action="store_true", help="only print the address")
    _add_checkpoint(demo)
    demo.set_defaults(run=_demo)


def add_batch_arguments(batch: argparse.ArgumentParser) -> None:
    """The arguments of `vc batch`."""
    batch.add_argument(
        "sources", type=Path, nargs="+", help="folders, clips, or manifests (CSV, JSON Lines)"
    )
    batch.add_argument(
        "--reference",
        type=Path,
        nargs="+",
        required=True,
        help="a clip or a folder of clips for each voice; several make a subfolder each",
    )
    batch.add_argument("-o", "--output", type=Path, required=True, help="folder; resumes")
    batch.add_argument("--pitch", type=_pitch, default="match", help="as in vc convert")
    batch.add_argument("--denoise", action="store_true", help=_DENOISE)
    batch.add_argument("--sample-rate", type=int, help="of the output in Hz; the source's own")
    batch.add_argument("--vocoder", choices=["neural", "griffin-lim"], default="neural")
    batch.add_argument(
        "--format", choices=["wav", "flac", "ogg", "opus", "mp3", "aiff"], help="the source's own"
    )
    batch.add_argument("--workers", type=int, help="processes; all cores by default")
    batch.add_argument("--retries", type=int, default=2, help="after a crash; 2 by default")
    batch.add_argument("--overwrite", action="store_true", help="replace files of other origin")
    batch.add_argument("--report", type=Path, help="CSV or JSON; in the output folder by default")
    batch.add_argument("--engine", choices=["local", "ray"], default="local")
    batch.add_argument("--address", help="of a Ray cluster; none starts one on this machine")
    batch.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    _add_checkpoint(batch)
    batch.set_defaults(run=_batch, command="batch")


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, help="model folder; the shipped one by default")


def _pitch(text: str) -> Pitch:
    if text in ("match", "keep"):
        return text  # type: ignore[return-value]
    try:
        semitones = float(text)
    except ValueError:
        semitones = float("nan")
    if not -36 <= semitones <= 36:
        raise argparse.ArgumentTypeError(f"{text!r}: use match, keep, or -36 to +36 semitones")
    return semitones


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: use a number from 0 to 1")
    return share


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: use a number above 0")
    return value


@contextmanager
def _progress_bar(what: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show the share done, 0 to 1, that is passed to what this yields."""
    from tqdm import tqdm

    with tqdm(total=100, desc=what, unit="%", disable=quiet, leave=False) as bar:

        def show(share: float) -> None:
            bar.update(round(100 * share) - bar.n)

        yield show


def _convert(options: argparse.Namespace) -> int:
    from vc.audio import check_writable
    from vc.blockwise import convert_file
    from vc.convert import load

    check_writable(options.output)
    with _progress_bar("converting", options.quiet) as show:
        converter = load(options.checkpoint, vocoder=options.vocoder)
        done = convert_file(
            converter,
            options.source,
            options.references,
            options.output,
            options.pitch,
            options.sample_rate,
            show,
            options.keep_partial,
            options.strength,
            options.denoise,
        )
    if done.is_partial:
        print(
            f"vc convert: interrupted; {options.output} holds the first {done.duration_s:.1f} s "
            f"of {done.source_s:.1f} s",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    if not options.quiet:
        print(f"{options.output}: {done.duration_s:.2f} s at {done.sample_rate} Hz")
    return 0


def _batch(options: argparse.Namespace) -> int:
    from vc.batch import REPORT, Settings, run_batch

    settings = Settings(
        options.pitch, options.sample_rate, options.vocoder, options.checkpoint, options.denoise
    )
    report = run_batch(
        options.sources,
        options.reference,
        options.output,
        settings,
        f".{options.format}" if options.format else None,
        options.workers,
        options.retries,
        options.overwrite,
        options.engine,
        options.address,
        options.quiet,
    )
    path = options.report or options.output / REPORT
    report.write(path)
    for outcome in report.outcomes:
        if outcome.status == "failed":
            print(f"failed: {outcome.reason}", file=sys.stderr)
    if not options.quiet:
        counts = ", ".join(
            f"{report.count(status)} {status}" for status in ("done", "skipped", "failed")
        )
        print(f"{options.output}: {counts}; report in {path}")
    if report.is_interrupted:
        print("vc batch: interrupted; run it again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if report.count("failed") else 0


def _voice(options: argparse.Namespace) -> None:
    from vc.convert import load
    from vc.voice import check_voice_name, save_voice

    check_voice_name(options.output)
    converter = load(options.checkpoint, vocoder="griffin-lim")  # a voice needs no vocoder
    name = options.name or options.output.stem
    voice = converter.voice(options.references, name, options.denoise)
    save_voice(options.output, voice, converter.model_sha256)
    print(f"{options.output}: the voice '{voice.name}'")


def _adapt(options: argparse.Namespace) -> None:
    from vc.adapt import MIN_TUNING_S, adapt_voice
    from vc.audio import find_audio
    from vc.convert import load
    from vc.voice import check_voice_name, save_voice

    check_voice_name(options.output)
    if options.steps < 1:
        raise VCError("--steps must be at least 1")
    files: list[Path] = []
    for place in options.clips:
        found = find_audio(place) if place.is_dir() else [place]
        if not found:
            raise VCError(f"{place}: no audio files in this folder; name another")
        files += found
    converter = load(options.checkpoint, vocoder="griffin-lim")  # a voice needs no vocoder
    with _progress_bar("listening and tuning", options.quiet) as show:
        name = options.name or options.output.stem
        result = adapt_voice(converter, files, name, options.steps, progress=show)
    save_voice(options.output, result.voice, converter.model_sha256)
    if options.quiet:
        return
    for other in result.left_out:
        print(f"left out: {other}", file=sys.stderr)
    print(f"{options.output}: the voice '{result.voice.name}'")
    heard = f"{result.clips} clips, {result.speech_s:.0f} s"
    if result.average_error_db is None or result.tuned_error_db is None:
        print(f"{heard}: too little to tune (5 clips, {MIN_TUNING_S:.0f} s); kept their average")
        return
    kept = "tuned" if result.is_tuned else "average"
    print(
        f"{heard}; held-out clips come back from other voices {result.average_error_db:.2f} dB off "
        f"with the average embedding, {result.tuned_error_db:.2f} dB with the tuned one; kept the "
        f"{kept} one"
    )


def _new_voice(options: argparse.Namespace) -> None:
    from vc.convert import load
    from vc.voice import check_voice_name, save_voice

    check_voice_name(options.output)
    converter = load(options.checkpoint, vocoder="griffin-lim")  # a voice needs no vocoder
    name = options.name or options.output.stem
    voice = converter.new_voice(options.seed, options.like, name)
    save_voice(options.output, voice, converter.model_sha256)
    print(f"{options.output}: the voice '{voice.name}'")


def _denoise(options: argparse.Namespace) -> None:
    from vc.audio import check_writable, write_audio
    from vc.convert import load

    check_writable(options.output)
    converter = load(options.checkpoint, vocoder="griffin-lim")  # nothing is synthesised
    cleaned = converter.denoise(options.source)
    write_audio(options.output, cleaned)
    print(f"{options.output}: {cleaned.duration_s:.2f} s at {cleaned.sample_rate} Hz")


def _demo(options: argparse.Namespace) -> None:
    from importlib import import_module
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise VCError("the demo needs Gradio; install it with: pip install 'vc[demo]'")
    # by name, since the package never depends on its demo
    server = import_module("demo.server")
    settings = server.DemoSettings(
        host=options.host,
        port=options.port,
        user=options.user,
        password=options.password,
        keep_uploads=options.keep_uploads,
        max_minutes=options.max_minutes,
        max_mb=options.max_mb,
        open_browser=not options.no_browser,
    )
    server.serve(options.checkpoint, settings, print)


def _info(options: argparse.Namespace) -> None:
    if options.clips:
        from vc.audio import active_level_db, read_audio

        for clip in options.clips:
            audio = read_audio(clip)
            level = active_level_db(audio.waveform, audio.sample_rate)
            duration, rate = audio.duration_s, audio.sample_rate
            print(f"{clip}: {duration:.2f} s, {rate} Hz, speech at {level:.1f} dBFS")
        return
    from vc.checkpoint import inspect_checkpoint
    from vc.convert import SHIPPED

    folder = options.checkpoint or SHIPPED
    print(f"vc {vc.__version__}\nmodel {folder}")
    for part in ("autoencoder", "vocoder"):
        if not (folder / part).is_dir() and part == "vocoder":
            print("\nvocoder: the one that ships with vc")
            continue
        info = inspect_checkpoint(folder / part)
        size = (info.folder / "model.safetensors").stat().st_size / 1e6
        print(f"\n{part}: {size:.1f} MB, {info.step} steps, sha256 {info.sha256[:12]}")
        for name, value in sorted(info.metrics.items()):
            print(f"  held-out {name}: {value:.3f}")
        for name, value in info.model.items():
            print(f"  {name} = {value}")
    rate = info.features.sample_rate
    print(f"\nfeatures: {rate} Hz, hop {info.features.hop_length}, {info.features.n_mels} mels")


def _prepare(options: argparse.Namespace) -> None:
    from vc.config import FeatureConfig
    from vc.corpus import prepare, read_speakers

    if not 0 <= options.test_share < 1:
        raise VCError("--test-share must be at least 0 and below 1")
    exclude, hold_out = (
        read_speakers(table) if table else frozenset()
        for table in (options.exclude, options.hold_out)
    )
    report = prepare(
        options.corpus,
        options.output,
        FeatureConfig(),
        exclude,
        hold_out,
        frozenset(options.skip),
        options.workers,
        options.test_share,
    )
    _tell_of_corpus(report, options.output)


def _tell_of_corpus(report: PreparationReport, cache: Path) -> None:
    from vc.corpus_report import format_summary, write_page

    page = cache / "report.html"
    write_page(report, page)
    for other in report.left_out:
        print(f"left out: {other}", file=sys.stderr)
    print(f"{format_summary(report)}\n{cache}: ready to train on; plots in {page}")


def _train(options: argparse.Namespace) -> None:
    from vc.training.loop import validations
    from vc.training.processes import joined
    from vc.training.run import find_recipe, pick_device, train

    recipe = find_recipe(options.recipe)
    cache, minutes = options.cache, options.minutes
    with joined(pick_device(options.device)) as processes:
        if options.corpus:
            from vc.config import FeatureConfig
            from vc.corpus import prepare

            started = time.monotonic()
            cache = options.output / "cache"
            if processes.is_first:
                _tell_of_corpus(prepare(options.corpus, cache, FeatureConfig()), cache)
            processes.wait()
            if minutes is not None:
                minutes -= (time.monotonic() - started) / 60
        metrics = train(
            recipe, cache, options.output, options.set, processes.device, print, minutes, processes
        )
    if not processes.is_first:
        return
    before = dict(validations(options.output)).get(0, {})
    print("on held-out speech, before training -> after:")
    for name, value in metrics.items():
        print(f"  {name}: {before.get(name, float('nan')):.4f} -> {value:.4f}")


def _evaluate(options: argparse.Namespace) -> None:
    from vc.evaluation.results import compare, format_results

    if options.compare:
        if options.pairs:
            raise VCError("--compare takes scores.json files only, without a table of pairs")
        print(compare(options.compare))
        return
    if options.pairs is None:
        raise VCError("name a table of pairs (TSV: set, source, reference, transcript)")
    if options.every < 1 or options.shown < 0:
        raise VCError("--every must be at least 1 and --shown must not be negative")
    root = options.root or options.pairs.parent
    if options.copy:
        from vc.evaluation.copy_synthesis import evaluate_copies

        print(
            evaluate_copies(
                options.pairs,
                root,
                options.checkpoint,
                options.output,
                every=options.every,
                workers=options.workers,
            )
        )
        return
    from vc.evaluation.run import evaluate

    results = evaluate(
        options.pairs,
        root,
        options.checkpoint,
        options.output,
        options.converted,
        every=options.every,
        workers=options.workers,
        report=options.report,
        shown=options.shown,
        name=options.name,
    )
    print(format_results(results))


def _probe(options: argparse.Namespace) -> None:
    from vc.evaluation.probe import format_report, probe

    report = probe(
        options.cache, options.checkpoint, options.speakers, options.clips, options.phone_clips
    )
    print(format_report(report.tasks))
    if options.output:
        from vc.evaluation.probe_report import write_probe_report

        write_probe_report(options.output, report)
