"""Live conversion in the browser: its own microphone through a WebSocket, or the devices of this machine.

    browser    microphone ─▶ 16-bit PCM ─▶ WebSocket ─▶ engine's process
               speakers ◀─ jitter buffer ◀─ WebSocket ◀─

The first message of a browser is a table: voice, preset and options, and either `sample_rate` or the names of
`input` and `output`. Later texts are tables of changes; the server sends its status as tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.controls import effect_label, label_and_help
from rvc_lightning.app.labels import in_words
from rvc_lightning.app.texts import Texts
from rvc_lightning.cli.resolvers import ASSETS
from rvc_lightning.config.options import OptionField, Settings, option, option_fields
from rvc_lightning.conversion.effects import EFFECTS, PitchShift
from rvc_lightning.conversion.lengths import PRESETS
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.streaming import UNSUPPORTED_OPTIONS
from rvc_lightning.errors import BusyError, ConfigurationError, RVCError, unknown_choice
from rvc_lightning.live.build import build_engine
from rvc_lightning.live.device_settings import DeviceSettings
from rvc_lightning.live.devices import Device, devices, refresh
from rvc_lightning.live.engine import Status
from rvc_lightning.live.options import LiveOptions
from rvc_lightning.live.process import EngineProcess
from rvc_lightning.live.session import Session

_FULL_SCALE = 32767
_STATUS_SECONDS = 0.2
_PATIENCE_SECONDS = 10.0
"""Time to wait for the engine of the visitor before, who may be the same one after a reload, to end."""
_MAX_WAITING = 250
"""Pieces of output that wait for a slow connection; older ones are dropped."""
_OTHER_CONTROLS = ("bypass", "mute", "effects", "speaker", "output_sample_rate", *UNSUPPORTED_OPTIONS)
"""Options that the page shows in another way or not at all."""
_PROMINENT = ("transpose_semitones", "formant_semitones", "index_rate", "gate_db", "input_gain_db", "output_gain_db")
"""Options that are always visible on the page; the others are in a collapsed section."""


@dataclass(frozen=True, kw_only=True)
class Request(Settings):
    """First message of a browser, without the options."""

    voice: str = option(help="a voice of the page")
    preset: str = option("balanced", choices=tuple(PRESETS))
    sample_rate: int | None = option(None, "rate of the browser's audio", unit="Hz", min=8000, max=192000)
    input: str | None = None
    output: str | None = None


class LivePage:
    """Page and WebSocket of live conversion; one visitor speaks at a time."""

    def __init__(self, catalog: VoiceCatalog, settings: Mapping[str, Any], local: bool, text: Texts) -> None:
        """Initialize the page.

        Args:
            catalog: Voices of the page.
            settings: Settings of the command: pitch, trainer, precision, platform and content_path.
            local: Whether only this machine can reach the page, so that visitors may use its devices.
            text: Texts of the page.
        """
        self._catalog, self._settings, self._local, self._text = catalog, settings, local, text
        self._busy = asyncio.Lock()

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        app.add_api_route("/live/choices", self._choices, include_in_schema=False)
        app.add_api_route("/live/voice", self._describe_voice, include_in_schema=False)
        app.add_api_websocket_route("/live/stream", self.converse)
        app.mount("/live", StaticFiles(directory=ASSETS / "live", html=True))

    async def _choices(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._describe, await self._devices())

    async def _devices(self) -> list[Device]:
        """List the devices of this machine, including new ones unless a visitor is live."""
        if not self._local:
            return []
        if self._busy.locked():
            return await asyncio.to_thread(_list_devices)
        async with self._busy:
            return await asyncio.to_thread(_list_devices, with_new=True)

    def _describe(self, found: list[Device]) -> dict[str, Any]:
        self._catalog.refresh()
        return {
            "voices": self._catalog.names,
            "presets": [{"value": name, "label": self._text(f"live.presets.{name}")} for name in PRESETS],
            "controls": [_control(field, self._text) for field in _controlled()],
            "effects": [{"name": name, "label": effect_label(name, self._text)} for name in _effects()],
            "language": self._text.language,
            "texts": self._text.of_group("live"),
            "inputs": [device.name for device in found if device.inputs],
            "outputs": [device.name for device in found if device.outputs],
        }

    def _describe_voice(self, name: str) -> dict[str, Any]:
        """List the controls without effect on a voice; none for a voice that cannot be read."""
        unused: set[str] = set()
        with contextlib.suppress(RVCError, OSError):
            unused = self._catalog.unused_options(name)
        return {"without_effect": sorted(unused & {field.name for field in _controlled()})}

    async def converse(self, socket: WebSocket) -> None:
        """Convert for one browser until it leaves."""
        await socket.accept()
        try:
            first = await socket.receive_json()
            async with self._turn():
                await self._converse(socket, first)
        except (RVCError, ValueError, KeyError) as error:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.send_json({"error": self._in_words(str(error))})
                await socket.close()
        except WebSocketDisconnect:
            pass

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until no other visitor is live. Raises BusyError after some time."""
        try:
            await asyncio.wait_for(self._busy.acquire(), _PATIENCE_SECONDS)
        except asyncio.TimeoutError:
            raise BusyError("another visitor is live; try again later") from None
        try:
            yield
        finally:
            self._busy.release()

    async def _converse(self, socket: WebSocket, first: dict[str, Any]) -> None:
        request = Request.from_config(first)
        values = self._changes({name: value for name, value in first.items() if name not in vars(request)})
        make = partial(build_engine, self._engine_settings(request), values=values)
        build: Callable[[], _Conversation]
        if request.sample_rate is not None:
            build = partial(_BrowserConversation, socket, asyncio.get_running_loop(), make, request.sample_rate)
        elif self._local:
            build = partial(_DeviceConversation, make, DeviceSettings(input=request.input, output=request.output))
        else:
            raise ConfigurationError("the devices of this machine are for its own browsers only")
        conversation = await asyncio.to_thread(build)
        try:
            await socket.send_json({"ready": True})
            await self._exchange(socket, conversation)
        finally:
            # A second cancellation must not prevent the closing of devices.
            await asyncio.shield(asyncio.to_thread(conversation.close))

    async def _exchange(self, socket: WebSocket, conversation: _Conversation) -> None:
        """Pass messages in both directions until the browser leaves or the engine ends."""
        problem = ""

        async def report() -> None:
            while True:
                # It may open devices.
                status = await asyncio.to_thread(conversation.report)
                message = self._in_words(problem or status.get("message", ""))
                await socket.send_json(status | {"message": message})
                await asyncio.sleep(_STATUS_SECONDS)

        async def listen() -> None:
            nonlocal problem
            while (message := await socket.receive())["type"] != "websocket.disconnect":
                if message.get("bytes"):
                    conversation.push(np.frombuffer(message["bytes"], "<i2").astype(np.float32) / _FULL_SCALE)
                elif message.get("text"):
                    problem = self._try_change(conversation, json.loads(message["text"]))

        tasks = [asyncio.ensure_future(work) for work in (report(), listen(), conversation.play())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def _try_change(self, conversation: _Conversation, values: dict[str, Any]) -> str:
        """Change options; return the error, or an empty text."""
        try:
            conversation.change(self._changes(values))
        except RVCError as error:
            return str(error)
        return ""

    def _in_words(self, message: str) -> str:
        """Return a message with the labels of the page, and with the names of voices in place of their paths."""
        return in_words(message.replace(f"{self._catalog.folder}{os.sep}", ""), self._text)

    def _engine_settings(self, request: Request) -> dict[str, Any]:
        voice = {"voice": self._voice(request.voice), "index": None, "record_input": None, "record_output": None}
        return {**self._settings, **voice, "preset": request.preset, "stream": {}}

    def _voice(self, name: Any) -> str:
        if name not in self._catalog.names:
            raise unknown_choice("voice", name, self._catalog.names)
        return str(self._catalog.path(name))

    def _changes(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return changes with the file of a voice; browsers name no files."""
        if names := [name for name in values if name.startswith("record_") or name == "f0_file"]:
            raise ConfigurationError(f"{', '.join(names)}: not in a browser")
        return {name: self._voice(value) if name == "voice" else value for name, value in values.items()}


class _Conversation(ABC):
    """Engine of one visitor, which loads the voice when it is built."""

    @abstractmethod
    def change(self, values: dict[str, Any]) -> None:
        """Change options."""

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """Return the status. Raises RVCError if the engine has ended."""

    @abstractmethod
    def close(self) -> None:
        """End the engine."""

    @abstractmethod
    def push(self, audio: np.ndarray) -> None:
        """Take audio of the browser, float32 [N]."""

    async def play(self) -> None:
        """Send audio to the browser, until cancelled; nothing if devices of this machine are used."""
        await asyncio.Event().wait()


class _BrowserConversation(_Conversation):
    """Microphone and speakers of the browser."""

    def __init__(
        self, socket: WebSocket, loop: asyncio.AbstractEventLoop, make: Callable[..., Any], sample_rate: int
    ) -> None:
        self._socket, self._loop, self._waiting = socket, loop, asyncio.Queue[np.ndarray](_MAX_WAITING)
        self._process = EngineProcess(partial(make, input_rate=sample_rate, output_rate=sample_rate), self._receive)

    def _receive(self, audio: np.ndarray) -> None:
        # The loop may have ended.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._keep, audio)

    def _keep(self, audio: np.ndarray) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(audio)

    def push(self, audio: np.ndarray) -> None:
        self._process.push(audio)

    def change(self, values: dict[str, Any]) -> None:
        self._process.change(values)

    def report(self) -> dict[str, Any]:
        if self._process.error:
            raise self._process.error
        return _table(self._process.status)

    async def play(self) -> None:
        while True:
            audio = await self._waiting.get()
            await self._socket.send_bytes(np.round(audio * _FULL_SCALE).astype("<i2").tobytes())

    def close(self) -> None:
        self._process.close()


class _DeviceConversation(_Conversation):
    """Devices of this machine, which the browser controls."""

    def __init__(self, make: Callable[..., Any], settings: DeviceSettings) -> None:
        self._session = Session(settings, make)
        # A report may still open devices in its thread when the connection ends.
        self._lock, self._is_closed = Lock(), False
        with contextlib.ExitStack() as undo:
            undo.callback(self._session.close)
            self._session.start()
            undo.pop_all()

    def push(self, audio: np.ndarray) -> None:
        """Ignore it: the microphone is a device of this machine."""

    def change(self, values: dict[str, Any]) -> None:
        self._session.change(values)

    def report(self) -> dict[str, Any]:
        with self._lock:
            if not self._is_closed:
                self._session.watch()
        status = self._session.status
        if status is None:
            return _table(None)
        waiting = {"message": "a device has been disconnected; waiting for it"} if status.is_waiting else {}
        others = {"total_seconds": status.total_seconds, "underruns": status.underruns}
        return _table(status.engine) | others | waiting

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._session.close()


def _list_devices(*, with_new: bool = False) -> list[Device]:
    """List the devices, with those connected since the last listing; none without PortAudio."""
    with contextlib.suppress(ConfigurationError):
        if with_new:
            refresh()
        return devices()
    return []


def _controlled() -> list[OptionField]:
    """Return the options that have a control."""
    fields = [*option_fields(ConversionOptions), *option_fields(LiveOptions)]
    return [field for field in fields if field.name not in _OTHER_CONTROLS]


def _control(field: OptionField, text: Texts) -> dict[str, Any]:
    """Return the description of a control, as the page builds it."""
    label, help_text = label_and_help(field, text)
    return {
        "name": field.name,
        "label": label,
        "help": help_text,
        "default": field.default,
        "min": field.min,
        "max": field.max,
        "kind": "switch" if bool in field.kinds else "whole" if float not in field.kinds else "number",
        "prominent": field.name in _PROMINENT,
    }


def _effects() -> list[str]:
    """Return the names of the effects that a stream supports."""
    return [name for name, effect in EFFECTS.items() if effect is not PitchShift]


def _table(status: Status | None) -> dict[str, Any]:
    """Return the status as a browser gets it, without paths of this machine."""
    return {} if status is None else asdict(status) | {"voice": Path(status.voice).name}
