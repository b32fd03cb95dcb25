"""Requests and answers of the HTTP API.

Each field of a request is one setting of a command, with its type and range. Requests set nothing else, and name no
file outside of the folders of the server.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from rvc_lightning.app.commands import EXPERIMENTS, group_choices
from rvc_lightning.config.options import OptionField, option_fields
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.data.selection import SPEAKER_RULES
from rvc_lightning.jobs.job import Job, JobProgress, State

NOT_IN_FORM = ("effects", "f0_file", "write_f0")
"""Options that are files, or that a form expresses differently."""

Name = Annotated[str, StringConstraints(pattern=r"^\w[\w .-]*$", max_length=100)]
"""Name of a voice, dataset or folder: no path."""
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=200)]

_FORBID = ConfigDict(extra="forbid", populate_by_name=True)


class Voice(BaseModel):
    """A voice of the list."""

    name: str = Field(description="Path below the folder of the voices")


class VoiceFacts(BaseModel):
    """What a voice file contains."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    author: str | None
    generator: str
    sample_rate: int = Field(description="In Hz")
    pitch_guided: bool
    pitch_extractor: str | None
    median_f0_hz: float | None
    content_encoder: str
    speakers: int
    speaker_names: list[str]
    epoch: int | None
    step: int | None
    creation_date: str | None
    dataset_length: str | None
    size_bytes: int
    content_hash: str = Field(description="SHA-256 of names and values of the weights")
    index: str | None = Field(description="The index beside it, path below the folder of the voices")


class Recordings(BaseModel):
    """A folder of recordings, for `audio` of `prepare` and `train`."""

    name: str
    files: list[str]


class RecordingsForm(BaseModel):
    """Recordings for a folder, which is created if missing, as a form (`multipart/form-data`)."""

    model_config = _FORBID

    name: Name
    files: list[UploadFile] = Field(description="Audio in any format")


class Dataset(BaseModel):
    """A prepared dataset."""

    name: str
    sample_rate: int = Field(description="In Hz")
    slices: int | None
    speakers: list[str]


class Progress(BaseModel):
    """Position of a running command."""

    model_config = ConfigDict(from_attributes=True)

    stage: str = Field(description="Name of the current work; empty before the first")
    share: float | None = Field(description="Share of this work that is done, 0 to 1")
    seconds_left: float | None = Field(description="Estimated time to the end of this work")


class JobStatus(BaseModel):
    """A job: one command, from its submission to its end."""

    id: str
    command: str
    title: str
    device: str
    state: State
    created: datetime
    started: datetime | None
    ended: datetime | None
    exit_status: int | None = Field(description="Negative for a signal; null if it has not ended or is unknown")
    error: str | None
    shell_command: str = Field(description="The command that does the same in a terminal")
    progress: Progress

    @classmethod
    def of(cls, job: Job, progress: JobProgress, shell_command: str) -> JobStatus:
        """Describe a job."""
        return cls(
            id=job.id,
            command=job.command,
            title=job.title,
            device=job.device,
            state=job.state,
            created=_date(job.created),
            started=None if job.started is None else _date(job.started),
            ended=None if job.ended is None else _date(job.ended),
            exit_status=job.exit_status,
            error=job.error,
            shell_command=shell_command,
            progress=Progress.model_validate(progress),
        )


if TYPE_CHECKING:
    _Content: TypeAlias = str
    _Experiment: TypeAlias = str
    _Generator: TypeAlias = str
    _Pitch: TypeAlias = str
    _Precision: TypeAlias = str
    _Pretrained: TypeAlias = str
    _SampleRate: TypeAlias = str
    _Slicing: TypeAlias = str
    _Speakers: TypeAlias = str
else:
    _Content = Literal[group_choices("content")]
    _Experiment = Literal[EXPERIMENTS]
    _Generator = Literal[group_choices("generator")]
    _Pitch = Literal[group_choices("pitch")]
    _Precision = Literal[group_choices("precision")]
    _Pretrained = Literal[group_choices("pretrained")]
    _SampleRate = Literal[group_choices("sample_rate")]
    _Slicing = Literal[group_choices("slicing")]
    _Speakers = Literal[SPEAKER_RULES]


class _Recordings(BaseModel):
    """Settings of the recordings, which `prepare` and `train` share."""

    model_config = _FORBID

    audio: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = Field(
        None, description="Folder or file below the folder of the recordings"
    )
    name: Name | None = Field(None, description="Name of the dataset and the voice; by default that of the folder")
    speakers: _Speakers | None = None
    sample_rate: _SampleRate | None = None
    content: _Content | None = None
    pitch: _Pitch | None = None
    slicing: _Slicing | None = None
    noise_reduction: float | None = Field(None, alias="slicing.noise_reduction", ge=0, le=1)


class PrepareRequest(_Recordings):
    """Settings of `prepare`."""

    audio: Annotated[str, StringConstraints(min_length=1, max_length=1000)] = Field(
        description="Folder or file below the folder of the recordings"
    )


class TrainRequest(_Recordings):
    """Settings of `train`, with recordings or the name of a prepared dataset."""

    experiment: _Experiment | None = None
    author: Text | None = None
    seed: int | None = Field(None, ge=0, le=2**31)
    max_epochs: int | None = Field(None, alias="trainer.max_epochs", ge=1, le=10**6)
    max_steps: int | None = Field(None, alias="trainer.max_steps", ge=1, le=10**9)
    max_time: Annotated[str, StringConstraints(pattern=r"^\d\d:\d\d:\d\d:\d\d$")] | None = Field(
        None, alias="trainer.max_time", description="DD:HH:MM:SS"
    )
    batch_size: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] | None = Field(None, alias="data.batch_size")
    step_slices: int | None = Field(None, alias="data.step_slices", ge=1, le=2**20)
    accumulate_grad_batches: int | None = Field(None, alias="model.accumulate_grad_batches", ge=1, le=1024)
    learning_rate: float | None = Field(None, alias="optimizer.lr", gt=0, le=1)
    precision: _Precision | None = None
    generator: _Generator | None = None
    pretrained: _Pretrained | None = None
    overtraining: Literal["warn", "stop"] | None = Field(None, alias="callbacks.overtraining.action")


def _option(field: OptionField) -> tuple[Any, Any]:
    """Return type and description of an option of a conversion for pydantic."""
    kind: Any = Literal[field.choices] if field.choices else None
    for one in () if field.choices else field.kinds:
        kind = one if kind is None else kind | one
    bounds: dict[str, Any] = {"ge": field.min, "le": field.max}
    if not field.optional:
        return kind, Field(field.default, description=field.help, **bounds)
    return kind | None, Field(field.default, description=field.help, **({} if str in field.kinds else bounds))


if TYPE_CHECKING:
    _Options = BaseModel
else:
    _Options = create_model(
        "_Options",
        __config__=_FORBID,
        **{field.name: _option(field) for field in option_fields(ConversionOptions) if field.name not in NOT_IN_FORM},
    )


class ConvertForm(_Options):
    """A recording and the options of its conversion, as a form (`multipart/form-data`)."""

    voice: str = Field(description="Name of a voice of the list")
    recording: UploadFile = Field(description="Audio in any format")
    effects: list[str] = Field([], description='Each the name of an effect, or JSON: {"name": "gain", "gain_db": 3}')
    f0_file: UploadFile | None = Field(None, description="Lines 'seconds,Hz' that replace the pitch; 0 is unvoiced")
    as_job: bool = Field(False, description="Convert in the background, and answer with the job")


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
