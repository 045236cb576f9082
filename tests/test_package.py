"""The package as a whole: what depends on what, what an import costs, what is compiled when, what a wheel holds."""

from __future__ import annotations

import ast
import email
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmlp

PACKAGE = Path(fastmlp.__file__).parent
ROOT = PACKAGE.parent
KERNELS = sorted((PACKAGE / "kernels").glob("*.py"))
FOLDERS = ("callbacks", "datasets", "sklearn")
MODULES = sorted([*PACKAGE.glob("*.py"), *(path for name in FOLDERS for path in (PACKAGE / name).glob("*.py"))])

# What stands on top of the rest: nothing else may import it.
FRONT = {"fastmlp.cli", "fastmlp.mnist", "fastmlp.__main__", "bench"}
OPTIONAL = {"sklearn", "torch", "jax", "matplotlib", "pandas", "onnx", "mpi4py", "IPython"}
LATE = {"tqdm", "safetensors"}  # needed, but only when they are used

in_the_repository = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in the repository")


def run_code(code: str) -> str:
    """Run Python code in a process of its own and return what it prints."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- dependencies point one way


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(tree: ast.AST, everywhere: bool) -> Iterator[ast.AST]:
    """All statements; unless `everywhere`, only those that run on import."""
    for node in ast.iter_child_nodes(tree):
        if not everywhere and (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                               or is_type_checking(node)):
            continue
        yield node
        yield from statements(node, everywhere)


def imports_of(path: Path, everywhere: bool = True) -> set[str]:
    """Full names of the modules that a file imports."""
    module = name_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text("utf-8")), everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - (node.level - 1)]
                origin = ".".join([*base, *filter(None, [node.module])])
            # A name may be a module or something in one.
            found |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_finder_of_imports_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = tmp_path / "a" / "b" / "c.py"
    path.write_text("from __future__ import annotations\nimport x.y\nfrom . import d\nfrom ..e import f\n"
                    "try:\n    import g\nexcept ImportError:\n    pass\n"
                    "if TYPE_CHECKING:\n    import h\ndef z():\n    import i\n    from .j import k\n"
                    "class C:\n    import l\n")
    at_the_top = imports_of(path, everywhere=False)
    assert {"x.y", "a.b.d", "a.e", "a.e.f", "g", "l"} <= at_the_top
    assert not {"h", "i", "a.b.j"} & at_the_top
    assert {"h", "i", "a.b.j", "a.b.j.k"} <= imports_of(path)


def test_there_is_something_to_look_at() -> None:
    assert {"epoch.py", "layout.py", "simd.py"} <= {path.name for path in KERNELS}
    assert {"model.py", "trainer.py", "engine.py"} <= {path.name for path in MODULES}
    assert "fastmlp.engine" in imports_of(PACKAGE / "trainer.py")
    assert "fastmlp.kernels.layout" in imports_of(PACKAGE / "engine.py")


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_know_nothing_of_what_is_above_them(path: Path) -> None:
    known = {"numpy", "numba", "llvmlite", "tqdm", *sys.stdlib_module_names}
    for name in imports_of(path):
        if within(name, {"fastmlp"}):
            assert within(name, {"fastmlp.kernels"}), f"{path.name} imports {name}"
        else:
            assert within(name, known), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) not in FRONT], ids=name_of)
def test_the_core_knows_nothing_of_what_stands_on_it(path: Path) -> None:
    bridges = {f"fastmlp.{library}" for library in OPTIONAL}
    for name in imports_of(path):
        assert not within(name, FRONT), f"{path.name} imports {name}"
        if not within(name_of(path), bridges):
            assert not within(name, bridges), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_optional_packages_are_imported_on_demand(path: Path) -> None:
    """A file or folder that is named after a library is the bridge to it, and may import it."""
    for name in imports_of(path, everywhere=False):
        library = name.split(".")[0]
        assert library not in LATE, f"{path.name} imports {name}"
        assert library not in OPTIONAL or within(name_of(path), {f"fastmlp.{library}"}), f"{path.name} imports {name}"


# ---- what an import costs

COUNTER = """
import sys
import numba
from numba.core import event

class Counter(event.Listener):
    def __init__(self):
        self.count = 0
    def on_start(self, event):
        self.count += 1
    def on_end(self, event):
        pass

passes, locks = Counter(), Counter()  # of the compiler: each run of a pass; each time it is entered
event.register("numba:run_pass", passes)
event.register("numba:compiler_lock", locks)
"""


def test_an_import_loads_no_optional_package_and_compiles_nothing() -> None:
    code = f"""
import fastmlp
from fastmlp import *
wanted = {sorted(OPTIONAL | LATE)}
print("loaded:", [name for name in wanted if name in sys.modules])
print("compiled:", passes.count)
"""
    assert run_code(COUNTER + code) == "loaded: []\ncompiled: 0\n"


def test_training_and_prediction_load_no_optional_package() -> None:
    printed = run_code(f"""
import sys
import numpy as np
from fastmlp import MLP, Trainer
trainer = Trainer(MLP([4, 5, 3]))
trainer.fit(np.zeros((9, 4)), np.zeros(9, int), epochs=1, progress=False)
trainer.model.predict(np.zeros((9, 4)))
print([name for name in {sorted(OPTIONAL | LATE)} if name in sys.modules])
""")
    assert printed == "[]\n"


# ---- what is compiled when


def test_nothing_is_compiled_anew_for_another_network_or_way_of_training() -> None:
    """One fit and one prediction compile all there is for a dtype; the other dtype needs its own kernels only.

    What not everybody uses is compiled when it is first used, and then serves every network, too.
    """
    printed = run_code(COUNTER + """
import numpy as np
from fastmlp import MLP, Adam, Augmentation, CrossEntropy, Dense, Huber, Maxout, RMSprop, Trainer
from fastmlp import engine, get_num_threads, set_num_threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.kernels import augmentation, deferred, epoch, noise, special
from fastmlp.kernels.linking import KERNELS, Kernel
from fastmlp.losses import LOSSES
from fastmlp.optimizers import OPTIMIZERS

made = []
original = Kernel.address
def address(kernel, dtype):
    made.append((kernel, str(dtype)))
    return original(kernel, dtype)
Kernel.address = address
engine.LEAST_PARALLEL_WORK = 0
set_num_threads(min(2, get_num_threads()))

def use(sizes, dtype="float32", rows=40, loss="cross_entropy", X_type=np.float32, weights=None, **settings):
    options = {name: settings.pop(name) for name in ("activation", "output", "input_mean", "input_std")
               if name in settings}
    model = MLP(sizes, dtype=dtype, **options)
    X = np.ones((rows, model.inputs), X_type)
    y = np.ones((rows, model.outputs)) if model.output != "softmax" else np.zeros(rows, int)
    trainer = Trainer(model, loss, **settings)
    trainer.fit(X, y, epochs=1, progress=False, sample_weight=weights)
    model.predict(X)
    return trainer, X, y

use([4, 5, 3])
everybodys = {kernel for kernel in KERNELS if not kernel.on_demand} | {*epoch.TRAINING, *epoch.PREDICTION}
assert len(everybodys) < len(KERNELS)
assert len(made) == len(everybodys) and {kernel for kernel, _ in made} == everybodys
assert len(epoch.run.signatures) == 1
before = passes.count, locks.count, len(made)

for depth in range(6):
    use([7, *[9] * depth, 2])
for width in (1, 16, 17, 100, 300):
    use([width, width, width], output="softmax")
for activation in ACTIVATIONS:
    use([4, 5, 3], activation=activation)
    if activation != "softmax":
        use([4, 3], loss="mean_squared_error", output=activation)
use([4, Dense(6, "elu", 0.3), Dense(5, "leaky_relu", 0.2), Dense(7, "prelu", shared=True), 3])
for optimizer in (*OPTIMIZERS, Adam(beta_1=0.5), RMSprop(momentum=0.5)):
    use([4, 5, 3], optimizer=optimizer, l2=0.1)
for name, loss in LOSSES.items():
    use([4, 5, 3], loss=name, output=loss().output or "identity")
use([4, 5, 3], loss=Huber(0.5), output="tanh")
use([4, 5, 3], loss=CrossEntropy(0.1), weights=np.ones(40))
use([4, 5, 3], rows=2000, batch_size=600)
use([4, 5, 3], batch_size=1, schedule="one_cycle")
use([4, 5, 3], batch_size=4, accumulation=5)
use([4, 5, 3], l1=0.1, weight_decay=0.1, clip_norm=0.5, clip_value=0.5, regularise_biases=True, metrics=["f1"])
use([4, 5, 3], input_mean=1.0, input_std=2.0)
for X_type in (np.uint8, np.float64, np.int32):
    trainer, X, y = use([4, 5, 3], X_type=X_type)
    trainer.step(X, y)
    trainer.evaluate(X, y)
    trainer.model.loss_and_gradients(X, y)
    trainer.evaluate(X, np.eye(3)[y])
    trainer.forward(X)
    trainer.compute_loss(y)
    trainer.backward()
    trainer.update()
set_num_threads(1)
use([4, 5, 3])
assert (passes.count, locks.count, len(made)) == before, (before, passes.count, locks.count, len(made))
assert len(epoch.run.signatures) == 1

def use_feature(kernels, layers, others, **settings):
    for dtype in ("float32", "float64"):
        first = len(made)
        use(layers, dtype, **settings)
        loaded = [kernel for kernel, _ in made[first:]]
        assert len(loaded) == len(kernels) and {*loaded} == kernels, loaded
        before = passes.count, locks.count, len(made)
        for layers_of_another in (layers, others):
            for rows in (7, 600):
                use(layers_of_another, dtype, rows=rows, batch_size=300, optimizer="nadam", **settings)
        assert (passes.count, locks.count, len(made)) == before

# The other dtype.
use([4, 5, 3], dtype="float64")
assert len(made) == 2 * len(everybodys) == len(set(made))
before = passes.count, locks.count
use([9, 20, 20, 2], dtype="float64", activation="tanh", optimizer="sgd", rows=1000, batch_size=500)
assert (passes.count, locks.count) == before

# What has kernels of its own.
use_feature({noise.drop}, [4, Dense(5, dropout=0.5), 3], [4, Dense(9, "prelu", dropout=0.3), 3])
use_feature({special.maxout, special.maxout_backward}, [4, Maxout(5), 3], [4, Maxout(50, 3, dropout=0.5), 3])
use_feature({deferred.limit_norms}, [4, Dense(5, max_norm=0.5), 3], [4, 5, Maxout(5, max_norm=0.1), 3])
use_feature({noise.add_noise}, [4, 5, 3], [40, 3], input_noise=0.5, input_dropout=0.5)
use_feature({augmentation.augment_rows}, [4, 5, 3], [4, Maxout(3), 3], augmentation=Augmentation((2, 2), 1, noise=1))
assert len(epoch.run.signatures) == 1
assert len(made) == len(set(made))
print("right")
""")
    assert printed == "right\n"


# ---- public names


def test_public_names_exist_and_are_documented() -> None:
    assert fastmlp.__doc__
    assert len(set(fastmlp.__all__)) == len(fastmlp.__all__)
    for name in fastmlp.__all__:
        item = getattr(fastmlp, name)
        assert inspect.getdoc(item), f"{name} has no docstring"
        if inspect.isclass(item):
            assert item.__doc__, f"{name} has no docstring of its own"


@pytest.mark.parametrize("name", [name for name in fastmlp.__all__ if inspect.isclass(getattr(fastmlp, name))])
def test_public_methods_are_documented(name: str) -> None:
    for attribute, value in vars(getattr(fastmlp, name)).items():
        if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, (classmethod, property))):
            assert inspect.getdoc(value), f"{name}.{attribute} has no docstring"


@pytest.mark.parametrize("path", [*MODULES, *KERNELS], ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), f"{path.name} has no docstring"


def test_the_names_of_the_design_are_there() -> None:
    assert {"MLP", "Dense", "Trainer", "SGD", "Momentum", "Nesterov", "Adam", "Callback", "EarlyStopping", "History",
            "ModelFileError", "DivergenceWarning", "get_num_threads", "set_num_threads"} <= set(fastmlp.__all__)


def test_names_that_are_imported_on_demand_are_listed() -> None:
    assert {"MLPClassifier", "MLPRegressor", *fastmlp.__all__} <= set(dir(fastmlp))


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev|\.post)\d+)?", fastmlp.__version__)


# ---- the wheel


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, links as links, without what is not part of it."""
    for tool in ("build", "hatchling"):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed")
    copy = tmp_path_factory.mktemp("checkout") / "fastmlp"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(
        ".git", "__pycache__", "*.nbi", "*.nbc", ".venv", "venv", "dist", "build", ".*_cache", ".hypothesis"))
    return copy


def build(checkout: Path, target: Path, *options: str) -> list[str]:
    done = subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), *options, "."],
                          cwd=checkout, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return sorted(path.name for path in target.iterdir())


@in_the_repository
@pytest.mark.parametrize("way", ["straight", "by way of the sdist"])
def test_a_wheel_holds_one_package_and_all_of_it(way: str, checkout: Path, tmp_path: Path) -> None:
    built = build(checkout, tmp_path, *(["--wheel"] if way == "straight" else []))
    wheels = [name for name in built if name.endswith(".whl")]
    assert wheels == [f"fastmlp-{fastmlp.__version__}-py3-none-any.whl"]
    with zipfile.ZipFile(tmp_path / wheels[0]) as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(wheel.read(f"fastmlp-{fastmlp.__version__}.dist-info/METADATA"))
        entry_points = wheel.read(f"fastmlp-{fastmlp.__version__}.dist-info/entry_points.txt").decode()
        wheel.extractall(tmp_path / "installed")
    assert len(set(names)) == len(names)
    assert {name.split("/")[0] for name in names} == {"fastmlp", f"fastmlp-{fastmlp.__version__}.dist-info"}
    expected = {path.relative_to(checkout).as_posix() for path in (checkout / "fastmlp").glob("**/*.py")}
    expected |= {f"fastmlp/kernels/{path.name}" for path in (checkout / "kernels").glob("*.py")}
    assert {"fastmlp/kernels/epoch.py", "fastmlp/model.py", "fastmlp/datasets/digits.py"} <= expected
    assert {"fastmlp/py.typed", "fastmlp/datasets/digits.npz"} <= set(names)
    assert {name for name in names if name.endswith(".py")} == expected
    assert not [name for name in names if "__pycache__" in name or name.endswith((".nbi", ".nbc", ".pyc"))]

    assert metadata["Name"] == "fastmlp"
    assert metadata["Version"] == fastmlp.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[ <>=~!;]", line)[0] for line in required} == {"numpy", "numba", "safetensors", "tqdm"}
    assert "fastmlp = fastmlp.cli:main" in entry_points

    # What was built can be imported, from the wheel and not from here.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "installed"), *(path for path in others
                                                                                if path and Path(path) != ROOT)])
    code = """
from fastmlp.datasets import load_digits
from fastmlp.kernels import epoch
load_digits()
print(epoch.__file__)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "installed" / "fastmlp" / "kernels" / "epoch.py"


@in_the_repository
def test_the_kernels_are_one_folder_seen_from_two_places() -> None:
    link = ROOT / "fastmlp" / "kernels"
    assert link.is_symlink()
    assert os.readlink(link) == os.path.join("..", "kernels")
    assert link.resolve() == (ROOT / "kernels").resolve()
