"""`vc encode`, `decode`, `compress` and `decompress`: speech as text, and in few bits."""

from __future__ import annotations

import argparse
from pathlib import Path

from vc.cli.arguments import Commands, add_checkpoint, check_apart, pitch, write_clip

_SETTINGS = ("low", "medium", "high")  # of vc.compress.STAGES, which is too heavy for --help


def add_encode(commands: Commands) -> None:
    """Describe `vc encode`."""
    encode = commands.add_parser("encode", help="write a clip as text: units and pitch")
    encode.add_argument("clip", type=Path, help="at most five minutes")
    encode.add_argument("--units", action="store_true", help="as units, the only kind of text yet")
    encode.add_argument("-o", "--output", type=Path, help="NAME.units; printed by default")
    encode.add_argument("--flat", action="store_true", help="leave the melody out")
    encode.add_argument("--tree", action="store_true", help="frequent pieces in brackets")
    add_checkpoint(encode)
    encode.set_defaults(run=_encode)


def _encode(options: argparse.Namespace) -> None:
    from vc.convert import load
    from vc.safe_write import check_output
    from vc.units import SUFFIX, encode_units, format_units, load_unit_model, save_units

    if options.output:
        check_output(options.output, [SUFFIX])
        check_apart(options.output, [options.clip])
    converter = load(options.checkpoint, vocoder="griffin-lim")  # nothing is synthesised
    model = load_unit_model(converter)
    units = encode_units(converter, options.clip, options.flat, model)
    text = format_units(units, model, options.tree)
    if options.output is None:
        print(text, end="")
        return
    save_units(options.output, text)
    print(f"{options.output}: {len(units.runs)} units")


def add_decode(commands: Commands) -> None:
    """Describe `vc decode`."""
    decode = commands.add_parser("decode", help="speak what `vc encode` wrote, in any voice")
    decode.add_argument("units", type=Path, help="NAME.units")
    _add_voice(decode, required=True)
    decode.add_argument("-o", "--output", type=Path, required=True, help="WAV, FLAC, Ogg, ...")
    decode.add_argument("--pitch", type=pitch, default="match", help="as in vc convert")
    add_checkpoint(decode)
    decode.set_defaults(run=_decode)


def _decode(options: argparse.Namespace) -> None:
    from vc.audio import check_writable
    from vc.convert import COMMENT, load
    from vc.units import decode_units, load_unit_model, load_units

    check_writable(options.output)
    check_apart(options.output, options.voice)
    converter = load(options.checkpoint)
    model = load_unit_model(converter)
    units = load_units(options.units, model)
    spoken = decode_units(converter, units, options.voice, options.pitch, model)
    write_clip(options.output, spoken, COMMENT)


def add_compress(commands: Commands) -> None:
    """Describe `vc compress`."""
    compress = commands.add_parser("compress", help="keep a clip in some hundred bits a second")
    compress.add_argument("clip", type=Path, help="at most five minutes")
    compress.add_argument("-o", "--output", type=Path, required=True, help="NAME.vcz")
    compress.add_argument("--setting", choices=_SETTINGS, default="low", help="how many bits (low)")
    add_checkpoint(compress)
    compress.set_defaults(run=_compress)


def _compress(options: argparse.Namespace) -> None:
    from vc.compress import SUFFIX, compress, save_compressed
    from vc.convert import load
    from vc.safe_write import check_output

    check_output(options.output, [SUFFIX])
    check_apart(options.output, [options.clip])
    converter = load(options.checkpoint, vocoder="griffin-lim")  # nothing is synthesised
    done = compress(converter, options.clip, options.setting)
    save_compressed(options.output, done.data)
    print(
        f"{options.output}: {len(done.data)} bytes for {done.duration_s:.2f} s; frames at "
        f"{done.frame_bits_per_second:.0f} b/s, voice {done.voice_bits} bits, "
        f"whole file {done.file_bits_per_second:.0f} b/s"
    )


def add_decompress(commands: Commands) -> None:
    """Describe `vc decompress`."""
    decompress = commands.add_parser("decompress", help="speak what `vc compress` wrote")
    decompress.add_argument("file", type=Path, help="NAME.vcz")
    decompress.add_argument("-o", "--output", type=Path, required=True, help="WAV, FLAC, Ogg, ...")
    _add_voice(decompress, required=False)
    add_checkpoint(decompress)
    decompress.set_defaults(run=_decompress)


def _decompress(options: argparse.Namespace) -> None:
    from vc.audio import check_writable
    from vc.compress import decompress, load_compressed
    from vc.convert import COMMENT, load

    check_writable(options.output)
    check_apart(options.output, options.voice or [])
    data = load_compressed(options.file)
    converter = load(options.checkpoint)
    spoken = decompress(converter, data, options.voice, str(options.file))
    write_clip(options.output, spoken, COMMENT)


def _add_voice(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--voice",
        type=Path,
        nargs="+",
        required=required,
        metavar="REFERENCE",
        help="clips of the wanted voice, or a .voice file"
        + ("" if required else "; the clip's own voice by default"),
    )
