"""Build both distributions as a release would, and use them in empty environments.

    make release-check          leaves wheels, source distributions, bills of materials and SHA256SUMS in dist/

Each is built twice, in different folders, and must be the same bytes, and so must a wheel that is built from the
source distribution. A wheel holds the package's files in git and no others. The wheels are installed where nothing
else is: `ganomaly-inference` by pip; `ganomaly` with links to what its metadata names, so that PyTorch is not
installed again, and nothing else can be imported.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from email import message_from_string
from importlib.metadata import Distribution
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image
from sbom import closure, write_sbom

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
DISTRIBUTIONS = {"ganomaly": ".", "ganomaly-inference": "inference"}
MODELS = ROOT / "tests/prediction/models"


def run(*command: object, cwd: Path = ROOT) -> str:
    """Run a command, and end with what it said if it fails."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(condition: bool, sentence: str) -> None:
    """End with a sentence unless the condition holds."""
    if not condition:
        sys.exit(sentence)


def files_in_git() -> list[str]:
    """List what is in git, or would be after `git add`."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    return sorted(name for name in set(listed) if (ROOT / name).is_file())


def copy_of_checkout(folder: Path) -> Path:
    """Copy what is in git; copies are newer than their originals."""
    for name in files_in_git():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def build(project: Path, out: Path, *what: str) -> None:
    """Build with the pinned build backend, so that nothing but the sources decides."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, *what, project)


def same(first: Path, second: Path) -> None:
    """Two builds must have the same files with the same bytes."""
    names = sorted(path.name for path in first.iterdir())
    check(names == sorted(path.name for path in second.iterdir()), f"{first} and {second} differ in names")
    for name in names:
        check((first / name).read_bytes() == (second / name).read_bytes(), f"two builds of {name} differ")


def build_twice(work: Path, dist: Path) -> None:
    """Build all distributions in two copies of the checkout, and wheels from source distributions too."""
    outs = [work / "out", work / "elsewhere" / "out"]
    first = copy_of_checkout(work / "checkout")
    for out, checkout in zip(outs, (first, work / "elsewhere" / "checkout"), strict=True):
        if checkout != first:
            shutil.copytree(first, checkout, copy_function=shutil.copyfile)
        for folder in DISTRIBUTIONS.values():
            build(checkout / folder, out, "--sdist", "--wheel")
    same(*outs)
    for source in outs[0].glob("*.tar.gz"):
        with tarfile.open(source) as archive:
            archive.extractall(work / "unpacked", filter="data")
        build(work / "unpacked" / source.name.removesuffix(".tar.gz"), work / "from_source", "--wheel")
    for wheel in (work / "from_source").iterdir():
        check(
            wheel.read_bytes() == (outs[0] / wheel.name).read_bytes(),
            f"{wheel.name} from the source distribution differs from the one of the checkout",
        )
    dist.mkdir(exist_ok=True)
    for path in outs[0].iterdir():
        shutil.copyfile(path, dist / path.name)
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(outs[0].iterdir()))


def wheel_of(name: str, dist: Path) -> Path:
    """Find the only wheel of a distribution."""
    (wheel,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """A wheel has the package's files in git, the licence, and no others."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        licences = [archive.read(name) for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    check(licences == [(ROOT / "LICENSE").read_bytes()], f"{wheel.name} is without the project's LICENSE")
    packed = {name for name in names if ".dist-info/" not in name}
    in_git = {name.removeprefix("src/") for name in files_in_git() if name.startswith("src/ganomaly/")}
    check(packed == in_git, f"{wheel.name} and git differ in {sorted(packed ^ in_git)[:5]}")


def empty_environment(folder: Path) -> Path:
    """Make a virtual environment; return the folder of its programs."""
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin"


def link(packages: Iterable[Distribution], programs: Path) -> None:
    """Make installed distributions importable in an environment, and no others."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = Path(run(programs / "python", "-c", code).strip())
    for package in packages:
        for top in {path.parts[0] for path in package.files or ()} - {"..", "__pycache__"}:
            if not (target / top).exists():
                (target / top).symlink_to(str(package.locate_file(top)))


def check_program(programs: Path, version: str) -> Path:
    """`ganomaly --version` and `--help` work; return the program."""
    program = programs / "ganomaly"
    printed = run(program, "--version", cwd=programs)
    check(version in printed, f"{program} --version says {printed}, not {version}")
    check("score" in run(program, "--help", cwd=programs), f"{program} --help does not name score")
    return program


def check_scores(program: Path, model: Path, work: Path) -> None:
    """Scores of a model are those that are kept beside it."""
    kept = np.load(MODELS / "predictions.npz", allow_pickle=False)
    images = work / "images"
    images.mkdir(exist_ok=True)
    for index, image in enumerate(kept["images"]):
        Image.fromarray(image).save(images / f"{index}.png")
    table = work / f"{model.stem}{model.suffix}.csv"
    run(program, "score", model, images, "--out", table, cwd=work)
    rows = table.read_text(encoding="utf-8").splitlines()[1:]
    scores = [float(row.split(",")[1]) for row in rows]
    np.testing.assert_allclose(scores, kept[f"{model.stem}.scores"], rtol=1e-4)


def check_fit(program: Path, work: Path) -> None:
    """A model is fitted and scores the images that it was fitted with."""
    normal = work / "normal"
    normal.mkdir()
    random = np.random.default_rng(0)
    for index in range(40):
        Image.fromarray(random.integers(90, 120, (32, 32), dtype=np.uint8)).save(normal / f"{index}.png")
    model, table = work / "model.safetensors", work / "fitted.csv"
    run(program, "fit", normal, "--model", model, "--preset", "paper", "--epochs", 1, cwd=work)
    run(program, "score", model, normal, "--out", table, cwd=work)
    check(
        len(table.read_text(encoding="utf-8").splitlines()) == 41, f"{table} has not one row for each image"
    )


def main() -> None:
    """Check all, in order."""
    os.environ["SOURCE_DATE_EPOCH"] = run("git", "log", "-1", "--format=%ct").strip()
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build_twice(work, dist)
        print("built twice, the same bytes; twine check passed")
        for name in DISTRIBUTIONS:
            wheel = wheel_of(name, dist)
            check_contents(wheel)
            write_sbom(wheel, CONSTRAINTS)
        sums = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(dist.iterdir())
        ]
        (dist / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")

        small = wheel_of("ganomaly-inference", dist)
        version = small.name.split("-")[1]
        programs = empty_environment(work / "inference")
        run(programs / "python", "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS, small)
        check_scores(check_program(programs, version), MODELS / "paper.onnx", work)
        print(f"{small.name} predicts in an empty environment")

        full = wheel_of("ganomaly", dist)
        programs = empty_environment(work / "full")
        run(programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", full)
        with ZipFile(full) as archive:
            metadata = message_from_string(archive.read(f"ganomaly-{version}.dist-info/METADATA").decode())
        link(closure(metadata.get_all("Requires-Dist") or [])[0].values(), programs)
        program = check_program(programs, version)
        check_scores(program, MODELS / "paper.safetensors", work)
        check_fit(program, work)
        print(f"{full.name} fits and predicts with the packages that it names")


if __name__ == "__main__":
    main()
