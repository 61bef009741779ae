"""Clips that people bring: read within the limits, and told in plain words what is wrong."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Literal

import gradio as gr

from demo.settings import DemoSettings
from vc.audio import Audio, read_audio
from vc.clip_check import Problem, check_clip
from vc.convert import Converter, Reference
from vc.errors import AudioError, VCError
from vc.voice import is_voice_file

Role = Literal["source", "reference"]
MAX_REFERENCES = 20


class Clips:
    """Reads what was uploaded.

    Args:
        converter: whose voices and features are meant.
        settings: the limits.
    """

    def __init__(self, converter: Converter, settings: DemoSettings) -> None:
        self.converter = converter
        self.settings = settings

    def read(self, path: str | Path) -> Audio:
        """Read a clip within the limits.

        Raises:
            AudioError: it cannot be read, or is beyond the limits.
        """
        path = Path(path)
        if not path.is_file():
            raise AudioError(f"{path}: is no longer here (the visit had ended); choose it again")
        if path.stat().st_size > self.settings.max_mb * 1e6:
            raise AudioError(f"{path}: larger than {self.settings.max_mb:g} MB; cut it shorter")
        return read_audio(path, 60 * self.settings.max_minutes)

    def read_reference(self, path: str | Path) -> Reference:
        """Read a clip, or a voice that was kept."""
        if is_voice_file(path):
            return self.converter.read_voice(path)
        return self.read(path)

    def read_references(self, paths: list[str] | None) -> list[Reference]:
        """Read the clips and kept voices of one speaker.

        Raises:
            VCError: none, too many, or one that cannot be used; which one is named.
        """
        if not paths:
            raise VCError("Add at least one clip of the voice you want.")
        if len(paths) > MAX_REFERENCES:
            raise VCError(f"{len(paths)} reference clips; {MAX_REFERENCES} are the most at once.")
        references = []
        for path in paths:
            reference = self.read_reference(path)
            if isinstance(reference, Audio):
                self.refuse(reference, path, "reference")
            references.append(reference)
        return references

    def read_source(self, path: str | None) -> Audio:
        """Read the clip whose words are kept.

        Raises:
            VCError: none, or one that cannot be used.
        """
        if not path:
            raise VCError("Record or upload a source clip first.")
        audio = self.read(path)
        self.refuse(audio, path, "source")
        return audio

    def refuse(self, audio: Audio, path: str, role: str) -> None:
        """Raise the first problem that makes conversion impossible."""
        for problem in check_clip(audio, role, self.converter.features):
            if problem.blocking:
                raise AudioError(f"{Path(path).name}: {problem.message}")

    def problems(self, path: str, role: Role) -> list[Problem]:
        """What is wrong with a file; empty if nothing is."""
        try:
            reference = self.read_reference(path) if role == "reference" else self.read(path)
        except VCError as error:
            return [Problem(plain(error), blocking=True)]
        if not isinstance(reference, Audio):
            return []
        return self.converter.check(reference, role).problems

    def report(self, paths: list[str], role: Role) -> str:
        """The problems of several files as HTML; says so when there are none."""
        lines = []
        for path in paths:
            name = html.escape(Path(path).name)
            for problem in self.problems(path, role):
                kind, mark = ("bad", "✕") if problem.blocking else ("warn", "!")
                message = html.escape(problem.message.removeprefix(f"{Path(path).name}: "))
                label = f"<b>{name}</b>: " if len(paths) > 1 or problem.blocking else ""
                lines.append(f'<li class="{kind}"><i aria-hidden="true">{mark}</i>{label}{message}')
        if not paths:
            return ""
        if not lines:
            good = "This clip sounds" if len(paths) == 1 else "These clips sound"
            if all(is_voice_file(path) for path in paths):
                return _status('<li class="good"><i aria-hidden="true">✓</i>A voice that was kept.')
            return _status(f'<li class="good"><i aria-hidden="true">✓</i>{good} fine.')
        return _status("".join(lines))


def _status(items: str) -> str:
    return f'<div role="status"><ul class="vc-status">{items}</ul></div>'


def plain(error: VCError) -> str:
    """A message without the server's folders: only the file's name, which stands before ": "."""
    place, colon, reason = str(error).partition(": ")
    return (re.sub(r"/.*/", "", place) if colon else place) + colon + reason


def show(error: VCError) -> gr.Error:
    """The error that the page shows."""
    return gr.Error(plain(error), title="That did not work", print_exception=False)
