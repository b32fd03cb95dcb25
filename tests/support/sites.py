"""The server of page and HTTP API for tests, without a process or a network."""

from rvc_lightning.app.access import Access
from rvc_lightning.app.folders import Folders
from rvc_lightning.app.server import Site, application, protect, routes
from rvc_lightning.app.service import Limits
from rvc_lightning.jobs.store import JobStore

LIMITS = Limits(
    max_seconds=3, max_megabytes=1, max_stored_megabytes=10, max_waiting=2, max_requests=4, max_voices=2, keep_minutes=1
)  # fmt: skip
LOCAL = Access(is_local=True)


def make_site(service, folder):
    """Return the objects of a server whose folders are below `folder`."""
    names = ("recordings", "datasets", "runs", "jobs")
    folders = Folders(voices=str(service.catalog.folder), **{name: str(folder / name) for name in names})
    return Site(service, JobStore(folders.jobs), folders, settings={})


def make_api(service, files, folder, access=LOCAL):
    """Return the application of such a server without the page, which takes seconds to build."""
    app = routes(make_site(service, folder), access)
    protect(app, service.limits, files, files.folder, access)
    return app


def make_application(service, files, folder, access=LOCAL):
    """Return the application of such a server."""
    return application(make_site(service, folder), files, access)
