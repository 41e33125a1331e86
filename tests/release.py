"""All of a release, tried and not published: wheel and sdist in a clean environment, the chart, and
the two images where this machine can build them. ``make release-check`` builds the site before.

What cannot be tried is named as skipped; with ``CI=true`` that is a failure. Artefacts are left in
build/release.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from tests.builds import Impossible
from tests.cluster import base_image, buildah, images, programs
from tests.cluster.commands import CommandFailed, run

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build" / "release"
STUDY = "examples/digits/grid.yaml"
IMPORTS = "import hippo.client, hippo.engine, stage_runner; stage_runner.Trainer"


class Wrong(Exception):
    """What a release must not have; one line."""


def main() -> int:
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    steps: list[Callable[[], str]] = [
        check_versions,
        check_distributions,
        check_chart,
        check_images,
    ]
    is_good = True
    for step in steps:
        name = step.__name__.removeprefix("check_")
        try:
            outcome, text = "ok", step()
        except Impossible as reason:
            outcome, text = "skipped", str(reason)
            is_good &= os.environ.get("CI") != "true"
        except (Wrong, CommandFailed) as reason:
            outcome, text = "FAILED", str(reason)
            is_good = False
        print(f"{outcome:<8} {name:<14} {text}", flush=True)
    return 0 if is_good else 1


def read_version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def check_versions() -> str:
    version = read_version()
    chart = YAML(typ="safe").load(ROOT / "charts" / "hippo" / "Chart.yaml")
    cited = YAML(typ="safe").load(ROOT / "CITATION.cff")
    found = {str(chart["version"]), str(chart["appVersion"]), str(cited["version"])}
    if found != {version}:
        raise Wrong(f"pyproject.toml has {version}, Chart.yaml and CITATION.cff {sorted(found)}")
    return version


def check_distributions() -> str:
    """The wheel is the one that the sdist gives, and serves where nothing else is installed."""
    run([sys.executable, "-m", "hatchling", "build", "-d", TARGET])
    wheel, sdist = _only("*.whl"), _only("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.unpack_archive(sdist, work, filter="data")
        (source,) = work.iterdir()
        again = work / "again"
        _run_in(source, [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", again])
        (rebuilt,) = again.iterdir()
        if _read_names(rebuilt) != _read_names(wheel):
            raise Wrong("the sdist does not give the same wheel")
        _try_wheel(wheel, work / "environment", work)
    count = len(_read_names(wheel))
    return f"{wheel.name} ({count} files), {sdist.name} ({sdist.stat().st_size / 2**20:.1f} MiB)"


def _read_names(wheel: Path) -> dict[str, int]:
    """Checksums by name."""
    with zipfile.ZipFile(wheel) as archive:
        found = {info.filename: info.CRC for info in archive.infolist()}
    tops = {name.partition("/")[0] for name in found if ".dist-info/" not in name}
    if tops != {"hippo", "stage_runner"}:
        raise Wrong(f"the wheel holds {sorted(tops)}")
    if not any(name.endswith("licenses/LICENSE") for name in found):
        raise Wrong("the wheel holds no licence")
    return found


def _try_wheel(wheel: Path, environment: Path, work: Path) -> None:
    venv.create(environment, with_pip=True, symlinks=True)
    python = environment / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    asked = work / "asked.txt"
    for words in (["--pinned", "pip"], ["project"]):
        asked.write_text(run([sys.executable, ROOT / "requirements.py", *words]))
        pinned = [] if "--pinned" in words else ["-c", ROOT / "constraints.txt"]
        run([*pip, "--require-hashes", *pinned, "-r", asked])
    run([*pip, "--no-index", "--no-deps", wheel])
    run([python, "-m", "pip", "check"])
    _run_in(work, [python, "-c", IMPORTS])
    told = json.loads(
        _run_in(work, [environment / "bin" / "hippo", "plan", ROOT / STUDY, "-o", "json"])
    )
    if (told["stepsRequested"], told["stepsUnique"]) != (5760, 2012):
        raise Wrong(f"the installed hippo plans {STUDY} with {told['stepsUnique']} steps")


def check_chart() -> str:
    helm = programs.HELM.build() / "helm"
    chart = ROOT / "charts" / "hippo"
    settings = chart / "ci" / "everything-values.yaml"
    run([helm, "lint", "--strict", chart, "--values", settings])
    run([helm, "package", chart, "--destination", TARGET])
    package = _only("hippo-*.tgz")
    if package.name != f"hippo-{read_version()}.tgz":
        raise Wrong(f"the chart is packaged as {package.name}")
    run([helm, "template", "hippo", package, "--values", settings])
    return package.name


def check_images() -> str:
    if shutil.which("buildah") is None or os.geteuid() != 0:
        raise Impossible("images are built by buildah, as root")
    if not buildah.has(base_image.NAME):
        raise Impossible("no base image is here: make cluster-up builds one")
    names = images.name_images()
    for image, program in (
        (names.operator, ["hippo", "--version"]),
        (names.trainer, ["python", "-c", IMPORTS]),
    ):
        images.build(image, names)
        container = buildah.buildah("from", image).strip()
        try:
            buildah.buildah("run", "--isolation", "chroot", container, "--", *program)
        finally:
            buildah.buildah("rm", container, check=False)
    return f"{names.operator}, {names.trainer}"


def _only(pattern: str) -> Path:
    found = list(TARGET.glob(pattern))
    if len(found) != 1:
        raise Wrong(f"{len(found)} files are {pattern} in {TARGET.relative_to(ROOT)}")
    return found[0]


def _run_in(folder: Path, command: list[str | Path]) -> str:
    """Outside of the repository, and without its sources on the path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=kept, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise CommandFailed(f"{' '.join(words)}: {done.stderr.strip()[-1000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
