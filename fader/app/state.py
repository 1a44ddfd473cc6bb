"""What a server keeps while it runs."""

from __future__ import annotations

from fader.app.catalogue import Catalogue
from fader.app.generators import Generators
from fader.app.jobs import Jobs
from fader.app.photos import Photos
from fader.app.settings import Settings
from fader.app.uploads import Uploads
from fader.app.work import Work


class State:
    """Models, generators, open photos, folder jobs, and threads for the work."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models = Catalogue(settings)
        self.generators = Generators(
            settings.generators, "cpu" if settings.device == "auto" else settings.device
        )
        self.photos = Photos(settings.memory, settings.idle)
        self.jobs = Jobs(settings.idle)
        self.uploads = Uploads(settings.max_upload, settings.memory)
        self.work = Work()

    def sweep(self) -> None:
        """Forget what nobody asks for any more."""
        self.photos.sweep()
        self.jobs.sweep()

    def close(self) -> None:
        """Cancel the jobs and begin nothing more."""
        self.work.close()
        self.jobs.close()
