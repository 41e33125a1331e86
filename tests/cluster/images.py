"""The images of the project, built from its own Dockerfiles.

A tag is the digest of all that goes into the image: an image that is there under its tag is the
right one.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests import minio_server
from tests.builds import digest_files
from tests.cluster import base_image, buildah, programs

PROJECT = Path(__file__).parents[2]
_DIGITS = PROJECT / "examples" / "digits"
_SOURCES = (
    ".dockerignore",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "constraints.txt",
    "operator",
    "pyproject.toml",
    "requirements.py",
    "stage_runner",
)
_LOCAL = "localhost/hippo"
_MINIO = ("USER 65532:65532", 'CMD ["server", "/tmp/data"]')


@dataclass(frozen=True)
class Images:
    """Their names, tags included."""

    operator: str
    trainer: str
    digits: str
    """The trainer image with the trainer of examples/digits."""
    minio: str
    pause: str

    @property
    def all(self) -> tuple[str, ...]:
        return (self.pause, self.minio, self.operator, self.trainer, self.digits)


def name_images(prefix: str = _LOCAL) -> Images:
    """For the sources as they are now."""
    project = digest_files(PROJECT, _SOURCES)
    base = "" if prefix != _LOCAL else base_image.NAME
    digits = digest_files(_DIGITS, ("Dockerfile", "trainer.py"))
    pause = programs.KUBERNETES.folder.name
    return Images(
        operator=f"{prefix}/operator:{_tag(project, base)}",
        trainer=f"{prefix}/trainer:{_tag(project, base)}",
        digits=f"{prefix}/digits:{_tag(project, base, digits)}",
        minio=f"{prefix}/minio:{_tag(minio_server.RECIPE.folder.name)}",
        pause=f"{prefix}/pause:{_tag(pause)}",
    )


@dataclass(frozen=True)
class Plan:
    """What a builder is told."""

    context: Path
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def open_plan(image: str, names: Images, base: str | None = None) -> Iterator[Plan]:
    """How one of the names is built; without a base, on the Dockerfile's own. Raises Impossible."""
    if image in (names.operator, names.trainer):
        target = "operator" if image == names.operator else "trainer"
        bases = {"BASE_IMAGE": base, "TRAINER_BASE_IMAGE": base} if base else {}
        yield Plan(PROJECT, target, bases)
    elif image == names.digits:
        yield Plan(_DIGITS, arguments={"TRAINER_IMAGE": names.trainer})
    elif image == names.minio:
        with _static(minio_server.RECIPE.build() / "minio", _MINIO) as context:
            yield Plan(context)
    else:
        with _static(programs.KUBERNETES.build() / "pause", ()) as context:
            yield Plan(context)


def build(image: str, names: Images) -> None:
    """One of the names, in buildah's store, with what it builds on. Raises Impossible."""
    if buildah.has(image):
        return
    if image == names.digits:
        build(names.trainer, names)
    needs_base = image in (names.operator, names.trainer)
    with open_plan(image, names, base_image.build() if needs_base else None) as plan:
        buildah.build(plan.context, image, target=plan.target, arguments=plan.arguments)


@contextlib.contextmanager
def _static(program: Path, more: Iterable[str]) -> Iterator[Path]:
    """A context with nothing but the program, and a folder for temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        root = context / "root"
        (root / "tmp").mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        shutil.copy2(program, root / program.name)
        lines = ["FROM scratch", "COPY root /", f'ENTRYPOINT ["/{program.name}"]', *more]
        (context / "Dockerfile").write_text("\n".join(lines))
        yield context


def _tag(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
