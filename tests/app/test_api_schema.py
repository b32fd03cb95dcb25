"""Requests that schemathesis makes from the schema of the HTTP API: no defect, and only documented answers."""

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sites import LIMITS, make_api
from stubs import StubPitch, cpu_trainer

from rvc_lightning import Voice, VoiceConverter
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.problems import API
from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.storage import visitor_files
from rvc_lightning.jobs.store import JobStore

OPERATIONS = (
    ("GET", "/voices"),
    ("GET", "/voices/{name}"),
    ("GET", "/recordings"),
    ("POST", "/recordings"),
    ("GET", "/datasets"),
    ("DELETE", "/datasets/{name}"),
    ("POST", "/convert"),
    ("POST", "/prepare"),
    ("POST", "/train"),
    ("GET", "/jobs"),
    ("GET", "/jobs/{job_id}"),
    ("DELETE", "/jobs/{job_id}"),
    ("POST", "/jobs/{job_id}/cancel"),
    ("POST", "/jobs/{job_id}/resume"),
    ("GET", "/jobs/{job_id}/log"),
    ("GET", "/jobs/{job_id}/events"),
    ("GET", "/jobs/{job_id}/result"),
)
BOUNDED = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def schema(tmp_path_factory, write_voice):
    """The schema of a server whose jobs never start."""
    folder = tmp_path_factory.mktemp("api")
    write_voice(folder / "voices" / "anna.pth")
    (folder / "recordings" / "anna").mkdir(parents=True)

    def make_converter(voice, index):
        return VoiceConverter(Voice.load(voice), index, pitch=StubPitch(), trainer=cpu_trainer())

    service = ConversionService(VoiceCatalog(folder / "voices"), make_converter, LIMITS)
    with pytest.MonkeyPatch.context() as patch, visitor_files(max_bytes=10**8, keep_seconds=60) as files:
        patch.setattr(JobStore, "wake", lambda self: None)
        application = make_api(service, files, folder)
        yield schemathesis.openapi.from_asgi(f"{API}/openapi.json", application, headers={"host": "127.0.0.1"})


def test_every_operation_is_tested(schema):
    found = {(result.ok().method.upper(), result.ok().path) for result in schema.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_follow_the_schema(schema, method, path):
    @BOUNDED
    @given(case=schema[path][method].as_strategy())
    def check(case):
        # Valid requests are rejected as well: for recordings that do not exist, for example.
        case.call_and_validate(headers={"host": "127.0.0.1"}, excluded_checks=[positive_data_acceptance])

    check()
