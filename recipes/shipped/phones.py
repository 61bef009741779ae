"""Write `phones.jsonl` into a prepared cache: weak phone labels for the transcribed clips.

espeak-ng (Debian: `apt install espeak-ng`) turns each transcript into IPA by its language's rules.
Stress, length and tone are dropped and diphthongs split, so that all languages share one small
alphabet. The labels supervise the content encoder by CTC while training; nothing of espeak-ng is
needed or shipped afterwards.

    python recipes/shipped/phones.py CACHE --languages CORPORA_FOLDER [--only en]
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from vc.corpus import Utterance, read_manifest
from vc.safe_write import write_text

VOICES = {  # Common Voice code -> espeak-ng voice, where they differ
    "zhcn": "cmn", "zhtw": "cmn", "zhhk": "yue", "svse": "sv", "fynl": "", "gaie": "ga",
    "pain": "pa", "asin": "as", "rmsursilv": "", "rmvallader": "", "nnno": "nb", "en": "en-us",
    "fr": "fr-fr", "ja": "", "th": "",
}  # fmt: skip
DEFAULT_LANGUAGE = {"rhasspy_kerstin": "de"}  # every other corpus without a note is English
MIN_SYMBOL_COUNT = 200  # rarer symbols are dropped from the alphabet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--languages", type=Path, required=True, help="folder with speakers.tsv")
    parser.add_argument("--only", help="leave out clips in any other language (a code such as en)")
    arguments = parser.parse_args()
    languages = speaker_languages(arguments.languages)
    known = espeak_voices()
    jobs = []
    for utterance in read_manifest(arguments.cache):
        default = DEFAULT_LANGUAGE.get(utterance.corpus, "en")
        language = languages.get(utterance.speaker, default)
        voice = VOICES.get(language, language)
        wanted = arguments.only in (None, language)
        if wanted and utterance.text and (voice in known or voice == "en-us"):
            jobs.append((utterance, voice))
    with ThreadPoolExecutor(4) as pool:
        spoken = list(tqdm(pool.map(lambda job: transcribe(*job), jobs), total=len(jobs)))
    counts = Counter(symbol for symbols in spoken for symbol in symbols)
    alphabet = {symbol for symbol, count in counts.items() if count >= MIN_SYMBOL_COUNT}
    rows = [
        {"name": utterance.name, "phones": [s for s in symbols if s in alphabet]}
        for (utterance, _), symbols in zip(jobs, spoken, strict=True)
    ]
    target = arguments.cache / "phones.jsonl"
    write_text(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{target}: {len(rows)} clips, {len(alphabet)} symbols: {' '.join(sorted(alphabet))}")


def espeak_voices() -> set[str]:
    """Language codes that the installed espeak-ng speaks."""
    listing = subprocess.run(["espeak-ng", "--voices"], capture_output=True, text=True, check=True)
    return {line.split()[1] for line in listing.stdout.splitlines()[1:]}


def speaker_languages(corpora: Path) -> dict[str, str]:
    """Language of each Common Voice speaker, from the first word of its note."""
    languages = {}
    for table in corpora.glob("commonvoice*/speakers.tsv"):
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                code = (row["note"] or "").split(";")[0].strip().replace("-", "").lower()
                languages[f"{table.parent.name}/{row['speaker']}"] = code
    return languages


def transcribe(utterance: Utterance, voice: str) -> list[str]:
    """IPA symbols of an utterance's text."""
    text = re.sub(r"[^\w\s'’-]", " ", utterance.text)
    text = text.lower() if text.isupper() else text  # capitals would be spelled out
    spoken = subprocess.run(
        ["espeak-ng", "-q", "--ipa", "-v", voice, "--", text], capture_output=True, text=True
    ).stdout
    spoken = re.sub(r"\(\w+(-\w+)*\)", "", spoken)  # marks of a switched language
    decomposed = unicodedata.normalize("NFD", spoken)
    return [s for s in decomposed if unicodedata.category(s) == "Ll" or s == "ʔ" or s in "ǀǁǃ"]


if __name__ == "__main__":
    main()
