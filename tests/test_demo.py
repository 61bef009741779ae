"""The demo through its API: what it converts, what it refuses, what it keeps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError, ValidationError

from demo.compare import compare_panel
from demo.convert_tab import CONSENT
from demo.figures import look
from demo.known_voices import load_known_voices
from demo.page import build_page
from demo.private_paths import ALIAS
from demo.server import demo_folder
from demo.settings import DemoSettings
from demo.studio import Studio
from demo.visits import FORGOTTEN_AFTER_S, Visits, safe_name
from demo.voice_choices import MATCH
from tests.conftest import EXAMPLES, make_voice
from tests.demo_server import Served, serving
from vc.audio import Audio, Waveform, read_audio, write_audio
from vc.convert import Converter, load, voice_key
from vc.errors import VCError
from vc.voice import load_voice, save_voice

SOURCE, REFERENCE = EXAMPLES / "source.flac", EXAMPLES / "reference.flac"


@pytest.fixture(scope="module")
def served(tiny: Converter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = DemoSettings(max_minutes=0.5, max_mb=2)
    with serving(tiny, tmp_path_factory.mktemp("demo"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    client = Client(served.url, verbose=False)
    yield client
    client.close()


@pytest.fixture
def studio(tiny: Converter, tmp_path: Path) -> Studio:
    return Studio(tiny, DemoSettings(), tmp_path)


def convert(
    client: Client,
    source: Path | None = SOURCE,
    references: tuple[Path, ...] = (REFERENCE,),
    consent: bool = True,
    strength: float = 100,
    denoise: bool = False,
) -> str:
    return client.predict(
        handle_file(source) if source else None,
        [handle_file(path) for path in references],
        "Match the reference",
        0,
        strength,
        denoise,
        consent,
        api_name="/convert",
    )


def refused(client: Client, **arguments: object) -> str:
    with pytest.raises(AppError) as caught:
        convert(client, **arguments)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "/tmp" not in message and "Traceback" not in message
    return message


def test_a_conversion_has_the_sources_length_and_says_that_it_is_synthetic(client: Client) -> None:
    result = convert(client, references=(REFERENCE, REFERENCE))
    converted, source = read_audio(result), read_audio(SOURCE)
    assert converted.sample_rate == source.sample_rate
    assert len(converted.waveform) == len(source.waveform)
    assert np.std(converted.waveform) > 0.01
    with soundfile.SoundFile(result) as file:
        assert "Converted speech" in file.comment


def test_without_consent_nothing_is_converted(client: Client) -> None:
    assert "confirm" in refused(client, consent=False)
    assert "Record or upload a source" in refused(client, source=None)
    assert "at least one clip" in refused(client, references=())


WITHOUT_CONSENT: dict[str, tuple[object, ...]] = {
    "/convert": (None, None, MATCH, 0, 100, False, False),
    "/convert_batch": (None, None, MATCH, 0, 100, False, False),
    "/make_voice": (None, "Ann", False, 50, 50, 50, 50),
    "/speak_units": ("", None, False),
    "/decompress": (None, None, False),
    "/live_start": (None, None, MATCH, False, False, 16_000),
}


@pytest.mark.parametrize("endpoint", WITHOUT_CONSENT)
def test_no_endpoint_speaks_in_a_voice_without_consent(client: Client, endpoint: str) -> None:
    with pytest.raises(AppError, match="confirm"):
        client.predict(*WITHOUT_CONSENT[endpoint], api_name=endpoint)


def test_every_endpoint_that_asks_for_consent_is_tried_without(client: Client) -> None:
    described = client.view_api(return_format="dict")
    assert described is not None
    asking = {
        name
        for name, endpoint in described["named_endpoints"].items()
        if CONSENT in {parameter["label"] for parameter in endpoint["parameters"]}
    }
    assert asking == WITHOUT_CONSENT.keys() - {"/live_start"}  # which is not documented


def test_clips_beyond_the_limits_are_refused_in_plain_words(client: Client, tmp_path: Path) -> None:
    text, bomb, packed = tmp_path / "text.wav", tmp_path / "bomb.flac", tmp_path / "bomb.wav"
    text.write_text("not audio at all")
    soundfile.write(bomb, np.zeros(3600 * 8_000, np.int16), 8_000)  # an hour in few bytes
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    slow = tmp_path / "slow.wav"
    soundfile.write(slow, np.ones(40, np.float32), 2)  # 2 Hz: resampled it would fill the memory
    assert "text.wav: not audio" in refused(client, source=text)
    assert "bomb.wav: not audio" in refused(client, source=packed)
    assert "bomb.flac: longer than 0.5 minutes" in refused(client, source=bomb)
    assert "bomb.flac: longer than 0.5 minutes" in refused(client, references=(bomb,))
    assert "sample rate of 2 Hz" in refused(client, source=slow)


def test_a_file_that_is_too_large_is_not_even_stored(
    served: Served, client: Client, tmp_path: Path
) -> None:
    large = tmp_path / "large.wav"
    soundfile.write(large, np.random.default_rng(0).normal(0, 0.1, 2_000_000), 16_000)
    with pytest.raises(Exception, match=r"413|size"):
        convert(client, source=large)
    assert not list(served.folder.rglob("large.wav"))


@pytest.mark.parametrize("name", ["../../etc/pässwörd 🎤.flac", "a;rm -rf ~ $(x) `y`'.flac", "…"])
def test_odd_names_are_harmless(client: Client, served: Served, tmp_path: Path, name: str) -> None:
    odd = tmp_path / Path(name).name
    shutil.copyfile(SOURCE, odd)
    result = convert(client, source=odd)
    assert read_audio(result).duration_s == read_audio(SOURCE).duration_s
    assert all(path.is_relative_to(served.folder) for path in served.files())
    kept = safe_name(name)
    assert "/" not in kept and ".." not in kept and kept.strip(". ")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["phone.m4a", "browser.webm"])
def test_what_phones_and_browsers_record_is_read(client: Client, tmp_path: Path, name: str) -> None:
    clip = tmp_path / name
    subprocess.run(["ffmpeg", "-v", "error", "-i", SOURCE, clip], check=True)
    assert read_audio(convert(client, source=clip, references=(clip,))).duration_s > 6


def test_without_ffmpeg_the_message_names_it(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "browser.webm"
    clip.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(500))
    monkeypatch.setenv("PATH", "")
    assert "browser.webm: WebM, M4A and MP4" in refused(client, source=clip)


def test_a_file_of_the_server_cannot_be_named_as_a_clip(served: Served) -> None:
    # not through gradio_client, which would upload the file
    address = f"{served.url}gradio_api/call/convert"

    def answer(name: str) -> str:
        path = {"path": name, "meta": {"_type": "gradio.FileData"}}
        data = [path, [path], "Match the reference", 0, 100, False, True]
        event = httpx.post(address, json={"data": data}, timeout=60).json()["event_id"]
        return httpx.get(f"{address}/{event}", timeout=60).text

    refused = answer(str(REFERENCE))
    assert "event: error" in refused
    assert str(EXAMPLES) not in refused
    clip = {"files": REFERENCE.open("rb")}
    (uploaded,) = httpx.post(f"{served.url}gradio_api/upload", files=clip, timeout=60).json()
    assert "event: complete" in answer(uploaded)


@pytest.mark.parametrize("kind", ["application/json", "application/more+json; charset=utf-8"])
@pytest.mark.parametrize("endpoint", ["call", "run"])
def test_an_address_is_no_clip_and_nothing_is_fetched_from_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, endpoint: str, kind: str
) -> None:
    fetched: list[str] = []

    async def fetch(address: str, cache_dir: str) -> str:
        fetched.append(address)
        return str(REFERENCE)

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    clip = {"path": "https://example.com/clip.flac", "meta": {"_type": "gradio.FileData"}}
    answer = httpx.post(
        f"{served.url}gradio_api/{endpoint}/check_source",
        content=json.dumps({"data": [clip]}).replace("https", r"\u0068ttps").encode(),
        headers={"content-type": kind},
        timeout=60,
    )
    if answer.is_success and endpoint == "call":
        httpx.get(f"{answer.url}/{answer.json()['event_id']}", timeout=60)
    assert fetched == []
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("A clip must be a file")


@pytest.mark.parametrize("address", ["https://example.com/a.flac", "http%3A%2F%2Fexample.com/a"])
@pytest.mark.parametrize("route", ["file=", "file/", "proxy="])
def test_nothing_from_elsewhere_is_passed_on(served: Served, route: str, address: str) -> None:
    answer = httpx.get(f"{served.url}gradio_api/{route}{address}", timeout=60)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("Only files of this page are served")


def test_a_program_that_gives_an_address_is_told_what_to_do(client: Client) -> None:
    with pytest.raises(ValidationError, match="download it and give the file"):
        client.predict(handle_file("https://example.com/clip.flac"), api_name="/check_source")


def test_problems_of_clips_are_told_before_converting(client: Client, tmp_path: Path) -> None:
    assert "sounds fine" in client.predict(handle_file(SOURCE), api_name="/check_source")
    silent = tmp_path / "silent <b>.wav"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    report = client.predict(
        [handle_file(silent), handle_file(SOURCE)], api_name="/check_references"
    )
    assert "is silent" in report
    assert "<b>.wav" not in report


def test_a_blend_is_kept_in_a_file_and_used_again(
    client: Client, tiny: Converter, tmp_path: Path
) -> None:
    files = [handle_file(SOURCE), handle_file(REFERENCE)]
    kept, spoken, *_ = client.predict(files, "Ann é", True, 25, 75, 50, 50, api_name="/make_voice")
    voice = load_voice(kept, tiny.model_sha256)
    assert voice.name == "Ann é"
    low, high = tiny.voice(SOURCE).pitch, tiny.voice(REFERENCE).pitch
    assert low and high and voice.pitch
    assert voice.pitch.median == pytest.approx(0.25 * low.median + 0.75 * high.median)
    assert read_audio(spoken).duration_s > 6
    assert read_audio(convert(client, references=(Path(kept),))).duration_s > 6
    damaged = tmp_path / "damaged.voice"
    damaged.write_bytes(Path(kept).read_bytes()[:-9])
    assert "damaged.voice" in refused(client, references=(damaged,))


def test_a_voice_that_does_not_fit_the_model_is_refused_at_once(
    client: Client, tiny: Converter, tmp_path: Path
) -> None:
    voice, wrong = tiny.voice(REFERENCE, learn=False), tmp_path / "wrong.voice"
    short = replace(voice, speaker_embedding=voice.speaker_embedding[:-1])
    save_voice(wrong, short, tiny.model_sha256)
    assert load_voice(wrong, tiny.model_sha256)  # its checksum is right
    report = client.predict([handle_file(wrong)], api_name="/check_references")
    assert "damaged" in report and "A voice that was kept" not in report
    assert "wrong.voice: damaged" in refused(client, references=(wrong,))


def test_an_invented_voice_is_used_like_a_kept_one(client: Client) -> None:
    kept, spoken, *_ = client.predict(7, "Nobody", api_name="/new_voice")
    assert Path(kept).name == "Nobody.voice"
    assert read_audio(spoken).duration_s > 6
    assert read_audio(convert(client, references=(Path(kept),), denoise=True)).duration_s > 6


def test_a_batch_reports_each_file_and_ends_with_a_zip(client: Client, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no")
    sources = [handle_file(path) for path in (SOURCE, bad, SOURCE)]
    table, archive = client.predict(
        sources,
        [handle_file(REFERENCE)],
        "Keep the source's",
        0,
        100,
        False,
        True,
        api_name="/convert_batch",
    )
    rows = table["data"]
    assert [row[0] for row in rows] == ["source.flac", "bad.wav", "source.flac"]
    assert ["done" in row[1] for row in rows] == [True, False, True]
    assert "not audio" in rows[1][2]
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == ["source converted 2.wav", "source converted.wav"]


def test_pictures_show_all_three_clips(client: Client) -> None:
    clip = handle_file(SOURCE)
    pictures = client.predict(clip, [handle_file(REFERENCE)], clip, api_name="/look")
    for role in ("source", "reference", "result"):
        assert f"Mel-spectrogram of the {role}" in pictures
    assert pictures.count("<path") == 3
    assert "<h2" in pictures and "<h3" not in pictures  # beneath the page's h1


def test_pictures_show_what_is_too_short_for_a_reference_and_the_first_minute_of_a_long_clip(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.studio._LOOKED_AT_S", 2)
    short = tmp_path / "short.wav"
    write_audio(short, Audio(make_voice(seconds=0.35), 16_000))
    heard: list[float] = []
    plain = studio.converter.reference_waveform

    def listened(audio: Audio) -> Waveform:
        heard.append(audio.duration_s)
        return plain(audio)

    monkeypatch.setattr(studio.converter, "reference_waveform", listened)
    clips = studio.heard("a", str(short), [str(REFERENCE)], None)
    assert heard == pytest.approx([0.35, 2.0])
    pictures = look(clips, None)
    assert "Reference, first minute" in pictures and "Source, first minute" not in pictures


def test_twenty_clients_at_once_are_all_served_two_at_a_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = 0, 0
    plain = served.studio.converter.convert

    def counted(*arguments: object, **named: object) -> object:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return plain(*arguments, **named)  # type: ignore[arg-type]
        finally:
            running -= 1

    monkeypatch.setattr(served.studio.converter, "convert", counted)
    clients = [Client(served.url, verbose=False, analytics_enabled=False) for _ in range(20)]
    try:
        jobs = [
            client.submit(
                handle_file(SOURCE),
                [handle_file(REFERENCE)],
                "Match the reference",
                0,
                100,
                False,
                True,
                api_name="/convert",
            )
            for client in clients
        ]
        places = set()
        while not all(job.done() for job in jobs):
            places |= {job.status().rank for job in jobs}
            time.sleep(0.05)
        for job in jobs:
            assert read_audio(job.result()).duration_s > 6
        assert most <= 2
        assert {place for place in places if place is not None}  # they were told their place
    finally:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda client: client.close(), clients))


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return condition()


def test_nothing_of_a_visit_stays_when_it_ends(tiny: Converter, tmp_path: Path) -> None:
    with serving(tiny, tmp_path / "files") as served:
        staying = Client(served.url, verbose=False, download_files=str(tmp_path / "staying"))
        leaving = Client(served.url, verbose=False, download_files=str(tmp_path / "leaving"))
        for client in (staying, leaving):
            convert(client)
        assert len(served.files()) == 4  # both brought the same two clips
        served.studio.visits.end(leaving.session_hash)
        assert len(served.files()) == 3
        assert read_audio(convert(staying)).duration_s > 6
        served.studio.visits.end(staying.session_hash)
        assert served.files() == []
        staying.close()
        leaving.close()


def test_what_is_made_for_a_visit_that_ended_meanwhile_is_deleted(studio: Studio) -> None:
    source, references = studio.examples("a")
    with pytest.raises(VCError, match="has ended meanwhile"):
        # its page is closed while it waits for the conversion
        studio.convert(
            "a", source, references, "match", 1.0, False, lambda _: studio.visits.end("a")
        )
    studio.visits.add("a", [source])  # a check that comes late
    with pytest.raises(VCError, match="has ended meanwhile"):
        studio.visits.new_file("a", "late.wav", lambda path: path.write_text("x"))
    source, references = studio.examples("b")
    with pytest.raises(VCError, match="has ended meanwhile"):
        for rows, _ in studio.convert_batch("b", [source] * 2, references, "match", 1.0, False):
            if rows[0].state == "done":
                studio.visits.end("b")
    assert list(studio.folder.rglob("*")) == []


def test_what_is_only_looked_at_goes_with_the_visit_too(studio: Studio, tmp_path: Path) -> None:
    clip = tmp_path / "clip.flac"
    shutil.copyfile(SOURCE, clip)
    studio.heard("a", str(clip), None, None)
    studio.visits.end("a")
    assert not clip.exists()


def test_a_visit_that_ends_takes_only_its_own_voices_with_it(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Converter, "lesson", lambda *_: None)
    monkeypatch.setattr(Converter, "learn", lambda self, voice, lessons, progress: voice)
    converter = load(tiny_checkpoint)
    studio = Studio(converter, DemoSettings(), tmp_path)
    own, (shared,) = studio.examples("a")
    studio.blend("a", [own, shared], [1, 1], "Both")
    studio.blend("b", studio.examples("b")[1], [1], "Example")
    assert len(converter._learnt) == 2
    studio.visits.end("a")
    assert list(converter._learnt) == [voice_key([read_audio(REFERENCE)])]
    source, references = studio.examples("b")
    with pytest.raises(VCError, match="has ended meanwhile"):  # while its voice is learnt
        studio.convert(
            "b", source, references, "match", 1.0, False, lambda _: studio.visits.end("b")
        )
    assert not converter._learnt


def test_a_visit_whose_connection_is_lost_ends_unless_its_page_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.visits.GRACE_S", 0.4)
    ended: list[str] = []
    visits = Visits(tmp_path, ended=ended.append)
    clip = tmp_path / "clip.wav"
    (tmp_path / "other").write_text("x")  # so that the folder stays
    for _ in range(2):  # it may begin anew, and has no connection then either
        clip.write_text("x")
        visits.add("a", [clip])
        if not ended:
            visits.lose("a")
        for _ in range(12):
            time.sleep(0.05)
            visits.hear("a")
        assert clip.exists()
        assert wait_until(lambda: not clip.exists(), 5)
    assert ended == ["a", "a"]
    clip.write_text("x")
    visits.add("b", [clip])  # has a connection
    time.sleep(0.6)
    assert clip.exists()


def test_a_page_says_that_it_goes_on_and_that_it_leaves(served: Served, tmp_path: Path) -> None:
    visits, address = served.studio.visits, f"{served.url}visit/somebody"
    visits.add("somebody")
    clip = visits.new_file("somebody", "clip.wav", lambda path: path.write_text("x"))
    heard = visits._heard["somebody"]
    assert httpx.post(address).status_code == 204
    assert visits._heard["somebody"] > heard
    assert httpx.delete(address).status_code == 204
    assert not clip.exists()
    assert httpx.post(address).status_code == 204
    assert "somebody" not in visits._heard


def test_uploads_are_kept_only_where_the_server_was_told_to(
    tiny: Converter, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    with serving(tiny, kept, DemoSettings(keep_uploads=kept)) as served:
        client = Client(served.url, verbose=False, download_files=str(tmp_path / "down"))
        convert(client)
        served.studio.visits.end(client.session_hash)
        assert len(served.files()) == 3
        about = [
            c for c in client.config["components"] if c["props"].get("elem_id") == "about-files"
        ]
        assert "keeps what you upload" in about[0]["props"]["value"]
        client.close()


def test_the_owners_files_beside_what_is_kept_are_neither_served_nor_deleted(
    tiny: Converter, tmp_path: Path
) -> None:
    own, empty = tmp_path / "payroll.txt", tmp_path / "tmp-own"
    own.write_text("secret")
    empty.touch()
    os.utime(empty, (0, 0))
    settings = DemoSettings(keep_uploads=tmp_path)
    with demo_folder(settings) as folder, serving(tiny, folder, settings) as served:
        served.studio.visits.add("a")
        for place in (f"{ALIAS}/payroll.txt", f"{ALIAS}/%2e%2e/payroll.txt", str(own)):
            answer = httpx.get(f"{served.url}gradio_api/file={place}", timeout=60)
            assert answer.status_code in (403, 404) and "secret" not in answer.text
    assert empty.exists()


@pytest.mark.parametrize(
    ("kept", "name"), [(None, "Delete them now"), (Path("kept"), "Clear the list")]
)
def test_a_list_of_what_is_kept_is_cleared_and_nothing_more_is_promised(
    tiny: Converter, tmp_path: Path, kept: Path | None, name: str
) -> None:
    page = build_page(Studio(tiny, DemoSettings(keep_uploads=kept), tmp_path))
    buttons = [b for b in page.blocks.values() if getattr(b, "elem_id", None) == "clear-history"]
    assert [button.value for button in buttons] == [name]


def test_nothing_shows_what_the_history_has_deleted(studio: Studio) -> None:
    page = build_page(studio)
    named = {getattr(block, "elem_id", None): block for block in page.blocks.values()}
    clear = named["clear-history"]
    (forget,) = [fn for fn in page.fns.values() if (clear._id, "click") in fn.targets]
    (convert,) = [fn for fn in page.fns.values() if fn.api_name == "convert"]
    shown = dict(zip(forget.outputs, forget.fn([], SimpleNamespace(session_hash="a")), strict=True))
    assert "appear" in shown[named["look"]] and "appear" in shown[named["compare"]]
    assert [shown[made] for made in convert.outputs] == [None, None]


def test_what_a_screen_reader_hears_is_a_list_and_no_clock(studio: Studio) -> None:
    assert "<output" not in compare_panel({"result": "x.wav"})
    report = studio.clips.report([str(SOURCE)], "source")
    assert report.startswith('<div role="status"><ul class="vc-status"><li')


def test_a_visit_never_deletes_what_lies_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside.wav"
    outside.write_text("x")
    visits = Visits(tmp_path / "demo")
    visits.add("a", [outside, tmp_path / "demo" / ".." / "outside.wav"])
    visits.end("a")
    assert outside.exists()


def test_visits_whose_end_nobody_told_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.visits.MAX_VISITS", 2)
    visits = Visits(tmp_path)
    files = {}
    for name in "abc":
        visits.add(name)
        files[name] = visits.new_file(name, "clip.wav", lambda path: path.write_text("x"))
    visits.add("b", [])
    assert [path.exists() for path in files.values()] == [False, True, True]
    later = time.time() + FORGOTTEN_AFTER_S + 1
    monkeypatch.setattr("demo.visits.time.time", lambda: later)
    visits.add("c", [])
    assert [path.exists() for path in files.values()] == [False, False, True]


def test_empty_files_that_gradio_leaves_go_but_not_an_upload_that_begins(tmp_path: Path) -> None:
    left, beginning, full = (tmp_path / name for name in ("tmpleft", "tmpnew", "tmpfull"))
    for path in (left, beginning, full):
        path.write_text("x" if path is full else "")
    for path in (left, full):
        os.utime(path, (0, 0))
    Visits(tmp_path, keep=True).add("a", [])
    assert [path.exists() for path in (left, beginning, full)] == [False, True, True]


def test_a_password_is_asked_for_where_one_is_set(tiny: Converter, tmp_path: Path) -> None:
    settings = DemoSettings(user="ann", password="secret")
    with serving(tiny, tmp_path, settings) as served:
        with pytest.raises(Exception, match=r"401|[Aa]uth|[Cc]redentials"):
            convert(Client(served.url, verbose=False))
        client = Client(served.url, verbose=False, auth=("ann", "secret"))
        assert read_audio(convert(client)).duration_s > 6
        client.close()


def test_the_api_is_documented_with_names_and_types(client: Client) -> None:
    described = client.view_api(return_format="dict")
    assert described is not None
    endpoints = described["named_endpoints"]
    expected = {"/convert", "/check_source", "/check_references", "/make_voice", "/look"}
    expected |= {"/convert_batch", "/new_voice"}
    expected |= {"/write_units", "/speak_units", "/compress", "/decompress"}
    assert set(endpoints) == expected
    for name, endpoint in endpoints.items():
        for parameter in endpoint["parameters"]:
            assert parameter["python_type"]["type"], (name, parameter)


def test_the_map_of_voices_belongs_to_the_shipped_model(shipped: Converter) -> None:
    known = load_known_voices(shipped.model_sha256)
    assert known is not None, "run recipes/shipped/known_voices.py: the weights have changed"
    assert len(known.points) >= 100
    assert load_known_voices("0" * 64) is None
