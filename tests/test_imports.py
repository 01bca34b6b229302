"""The floors of the package: imports run one way, and files and figures stay at the edge.

Read from the source, so imports inside functions count too. Whoever adds a part gives it a floor.
"""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import gradsplinter

PACKAGE = Path(gradsplinter.__file__).parent

FLOORS = [  # from the top down
    {"cli"},
    {"studies", "plot"},
    {"extraction"},
    {"page"},
    {"store", "graph_export"},
    {"graph_attribution", "graph_layout"},
    {"graph_choice"},
    {"graph_view", "communities"},
    {"graph"},
    {"trie", "store_index", "distinct"},
    {"embedder_training", "embedding"},
    {"embedder", "zoo_training"},
    {"tokens", "zoo", "known_tasks"},
    {"table", "field", "region_statistics"},
    {
        "splinters",
        "regions",
        "region_results",
        "clusters",
        "merged",
        "train",
        "batches",
        "ids",
        "modes",
        "relevance",
    },
    {
        "ops",
        "network",
        "traced",
        "tracing",
        "readiness",
        "agreement",
        "backward",
        "lowering",
        "transposes",
        "outline",
        "pooling",
        "operations",
        "sites",
        "units",
        "tasks",
        "families",
        "formula",
        "data",
        "reference",
        "scores",
        "modularity",
        "_stack",
    },
    {
        "_library",
        "threads",
        "modules",
        "patterns",
        "checks",
        "wording",
        "draws",
        "io",
        "data_files",
        "_C",
    },
]
FLOOR_OF = {part: -depth for depth, floor in enumerate(FLOORS) for part in floor}
NOT_IN_INIT = {"cli", "studies", "plot"}  # import gradsplinter shall not load them

FILES = {
    *("open", "mkdir", "rmdir", "unlink", "rename", "touch", "symlink_to", "iterdir", "glob"),
    *("read_text", "read_bytes", "write_text", "write_bytes", "savefig", "imsave"),
    *("memmap", "fromfile", "tofile", "genfromtxt", "loadtxt", "savetxt"),
    *("save_file", "load_file", "safe_open"),
}
FILE_CALLS = {"torch.save", "torch.load", "np.save", "np.savez", "np.load"}
FILE_MODULES = {"shutil", "tempfile", "safetensors"}
MAY_TOUCH_FILES = {
    "cli": FILES | FILE_CALLS | FILE_MODULES,
    "data_files": {"open"},
    "embedder": {"safetensors"},
    "embedder_training": {"safetensors"},
    "io": FILES | FILE_CALLS | FILE_MODULES,
    "network": {"open", "safe_open", "safetensors"},  # the file of one network
    "page": {"read_text"},  # its own parts
    "plot": {"savefig", "mkdir"},
    "store": {"safetensors", "iterdir", "mkdir", "read_bytes"},
    "store_index": {"safetensors", "read_bytes"},
    "zoo": {"safetensors"},
    "zoo_training": {"safetensors"},
}


def modules_of(package: Path) -> dict[str, Path]:
    """'plot.style' → its file, for each module; a folder is its __init__."""
    found = {}
    for path in sorted([*package.rglob("*.py"), *package.glob("_C.pyi")]):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts if parts[-1] != "__init__" else parts[:-1])] = path
    return found


def imported(name: str, tree: ast.AST, modules: dict[str, Path]) -> set[str]:
    """Full names of what a module imports; modules of the package as '.plot.style'."""
    here = name.split(".") if name else []
    if modules[name].name != "__init__.py":
        here = here[:-1]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {own(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = own(node.module or "")
            if node.level:
                base = here[: len(here) - node.level + 1]
                origin = "." + ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                inner = f"{origin.rstrip('.')}.{alias.name}"
                names.add(inner if inner[1:] in modules else origin)
    return names


def own(name: str) -> str:
    """'gradsplinter.plot' → '.plot'; others as they are."""
    head, _, rest = name.partition(".")
    return f".{rest}" if head == "gradsplinter" else name


def files_touched(tree: ast.AST) -> set[str]:
    """Names of calls that touch files."""
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return ({call.rpartition(".")[2] for call in calls} & FILES) | (calls & FILE_CALLS)


def import_fault(name: str, other: str) -> str | None:
    """What is wrong with module `name` importing `other`; '' is the package's __init__."""
    part, other_part = name.partition(".")[0], other.partition(".")[0]
    if not name:
        return f"__init__: imports {other}" if other_part in NOT_IN_INIT else None
    if not other:
        fault = f"{name}: imports from the package, not from the file"
        return None if part in NOT_IN_INIT else fault
    if other_part not in FLOOR_OF:
        return f"{name}: imports {other}, which has no floor"
    above = FLOOR_OF[other_part] > FLOOR_OF[part]
    return f"{name}: imports {other} of a floor above" if above else None


def violations(package: Path) -> list[str]:
    modules = modules_of(package)
    edges: dict[str, set[str]] = {}
    found = []
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        part = name.split(".")[0]
        if part and part not in FLOOR_OF:
            found.append(f"{name}: has no floor; add it to FLOORS")
            continue
        names = imported(name, tree, modules)
        edges[name] = {n[1:] for n in names if n.startswith(".")} - {name}
        found += filter(None, (import_fault(name, other) for other in edges[name]))
        roots = {n.split(".")[0] for n in names if not n.startswith(".")}
        if part != "plot" and roots & {"matplotlib", "mpl_toolkits", "pylab"}:
            found.append(f"{name}: imports matplotlib")
        files = files_touched(tree) | (roots & FILE_MODULES)
        found += [f"{name}: touches files ({f})" for f in files - MAY_TOUCH_FILES.get(part, set())]
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        found.append(f"circle: {' → '.join(error.args[1])}")
    return sorted(found)


def test_the_package():
    assert violations(PACKAGE) == []
    assert {"ops", "network", "splinters", "_C", ""} <= set(modules_of(PACKAGE))


GOOD = {
    "__init__.py": "from gradsplinter.splinters import splinter\n",
    "splinters.py": "from gradsplinter import ops\nimport torch\n",
    "ops.py": "from gradsplinter.network import Net\nfrom gradsplinter import _C\n",
    "network.py": "from safetensors import safe_open\nsafe_open('x')\n",
    "io.py": "import shutil\nfrom pathlib import Path\nPath('x').write_text('')\n",
    "plot/__init__.py": "",
    "plot/style.py": "import matplotlib.pyplot as plt\nfigure.savefig('x')\n",
    "plot/mixing.py": "from gradsplinter.plot.style import ink\nfrom . import style\n",
    "batches.py": "",
    "cli.py": "from gradsplinter.plot import mixing\nopen('x')\n",
    "_C.pyi": "",
}


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("ops.py", "", []),
        ("ops.py", "import gradsplinter.batches", ["ops: imports batches of a floor above"]),
        ("ops.py", "from gradsplinter import batches", ["ops: imports batches of a floor above"]),
        ("ops.py", "from .batches import batches", ["ops: imports batches of a floor above"]),
        (
            "ops.py",
            "def f():\n    from . import batches",
            ["ops: imports batches of a floor above"],
        ),
        (
            "plot/style.py",
            "from ..cli import main",
            ["circle: ", "plot.style: imports cli of a floor above"],
        ),
        (
            "plot/style.py",
            "from gradsplinter.plot.mixing import draw",
            ["circle: "],
        ),
        ("network.py", "from gradsplinter import ops", ["circle: "]),
        (
            "ops.py",
            "from gradsplinter import splinter",
            ["circle: ", "ops: imports from the package, not from the file"],
        ),
        ("cli.py", "import gradsplinter", []),
        ("io.py", "import gradsplinter", ["io: imports from the package, not from the file"]),
        ("__init__.py", "from gradsplinter import plot", ["__init__: imports plot"]),
        ("io.py", "from matplotlib.figure import Figure", ["io: imports matplotlib"]),
        ("splinters.py", "def f():\n    import matplotlib", ["splinters: imports matplotlib"]),
        ("splinters.py", "import tempfile", ["splinters: touches files (tempfile)"]),
        ("splinters.py", "open('x')", ["splinters: touches files (open)"]),
        ("splinters.py", "torch.save(1, 'x')", ["splinters: touches files (torch.save)"]),
        ("ops.py", "path.read_text()", ["ops: touches files (read_text)"]),
        ("plot/mixing.py", "path.unlink()", ["plot.mixing: touches files (unlink)"]),
        ("extra.py", "", ["extra: has no floor; add it to FLOORS"]),
        (
            "extra/deep.py",
            "",
            ["extra.deep: has no floor; add it to FLOORS"],
        ),
    ],
)
def test_the_checker_itself(tmp_path, file, line, expected):
    for name, content in (GOOD | {file: GOOD.get(file, "") + line + "\n"}).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    found = violations(tmp_path)
    assert len(found) == len(expected)
    for message, start in zip(found, expected, strict=True):
        assert message == start or (start == "circle: " and message.startswith(start))


def test_import_does_not_load_figures_or_the_command_line():
    script = (
        "import sys, gradsplinter, gradsplinter.reference, gradsplinter.train, gradsplinter.tasks\n"
        "print([m for m in ('matplotlib', 'tyro', 'rich', 'gradsplinter.cli') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
