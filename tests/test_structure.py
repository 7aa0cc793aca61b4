"""The layout of src: a thin core in one order, wings above it, sizes that a reader can bear."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.files import ROOT

# A core file imports only core files that stand before it here
CORE = [
    "files", "device", "unet", "images", "noise", "metrics", "losses", "optim", "config", "distributed",
    "loop", "checkpoint", "evaluation", "train", "plots",
]  # fmt: skip
TOOLS = ["run", "export"]  # commands beside the core, outside its line count; nothing imports them
WINGS = {  # and what each may import besides the core and itself
    "networks": [],
    "datasets": ["networks"],
    "photos": ["networks", "datasets"],
    "studies": ["networks", "datasets", "photos"],
}
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere in it, by name below src: "unet", "photos.denoiser"."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name.split(".")[0] == "src"}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import, expected one by the full name"
            if node.module == "src":
                modules |= {f"src.{alias.name}" for alias in node.names}
            elif node.module.startswith("src."):
                modules.add(node.module)
    return {module.removeprefix("src").removeprefix(".") for module in modules}


def part_of(path: Path) -> str:
    """The core file, tool or wing that a source file belongs to; "" for src/__init__.py."""
    first = path.relative_to(ROOT / "src").parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def code_lines(node: ast.FunctionDef, lines: list[str]) -> int:
    """Lines of a function without its docstring, comments and blank lines."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    code = lines[body[0].lineno - 1 : node.end_lineno]
    return sum(1 for line in code if line.strip() and not line.strip().startswith("#"))


def tracked(folder: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git clone")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_every_part_is_known():
    assert {part_of(path) for path in SOURCES} <= {"", *CORE, *TOOLS, *WINGS}


def test_the_core_imports_only_what_stands_before_it():
    wrong = []
    for path in SOURCES:
        part = part_of(path)
        if part in WINGS:
            continue
        allowed = CORE[: CORE.index(part)] if part in CORE else CORE
        for module in imports_of(path):
            if module.split(".")[0] not in {*allowed, part}:
                wrong.append(f"{path.relative_to(ROOT)} imports src.{module}")
    assert not wrong, "\n".join(wrong)


def test_wings_import_the_core_and_wings_below_them():
    wrong = []
    for path in SOURCES:
        wing = part_of(path)
        for module in imports_of(path) if wing in WINGS else ():
            first = module.split(".")[0]
            if first not in {wing, *CORE, *WINGS[wing]} and not hasattr(__import__("src"), first):
                wrong.append(f"{path.relative_to(ROOT)} imports src.{module}")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_notebooks():
    assert not [path for path in SOURCES if re.search(r"^\s*(from|import) notebooks", path.read_text("utf-8"), re.M)]
    assert not list((ROOT / "notebooks").glob("*.py"))


def test_the_unet_brings_nothing_else_of_ours():
    code = "import sys, src.unet; print(*sorted(name for name in sys.modules if name.split('.')[0] == 'src'))"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split()
    assert loaded == ["src", "src.files", "src.unet"]


def test_the_core_is_read_in_an_hour():
    lines = {path.stem: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "src").glob("*.py")}
    tools = {name: lines.pop(name) for name in TOOLS if name in lines}
    assert sum(lines.values()) <= 1600, f"{sum(lines.values())} lines"
    limits = dict.fromkeys(lines, 200) | dict.fromkeys(tools, 250) | dict(unet=99)
    long = [f"{name}.py: {count} lines, not {limits[name]}" for name, count in (lines | tools).items()
            if count > limits[name]]  # fmt: skip
    assert not long, "\n".join(long)


def test_wings_are_one_concept_a_file():
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in SOURCES}
    long = [f"{path.relative_to(ROOT)}: {count} lines" for path, count in lines.items() if count > 320]
    assert not long, "\n".join(long)


def test_no_function_is_over_40_lines_of_code():
    long = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for node in [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]:
            count = code_lines(node, text.splitlines())
            if count > 40:
                long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {count}")
    assert not long, "\n".join(long)


def test_no_public_name_hides_a_module():
    """`src.train` is the module, not a function that the package exports under the same name."""
    import src

    hidden = []
    for package in ["src", *(f"src.{wing}" for wing in WINGS)]:
        folder = ROOT / package.replace(".", "/")
        modules = {path.stem for path in folder.glob("*.py")} | {
            path.parent.name for path in folder.glob("*/__init__.py")
        }
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        imported = {
            alias.asname or alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names
        }
        names = imported | (set(src.__all__) if package == "src" else set())
        hidden += [f"{package}.{name}" for name in sorted(modules & names)]
    assert not hidden, "\n".join(hidden)


def test_few_files_are_published():
    files = tracked("checkpoints")
    assert len(files) <= 60, f"{len(files)} files"
    assert not [path for path in files if path.stat().st_size > 20_000_000]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_shows_ideas_not_code(path):
    """No def or class; at most 40 lines of code beside the imports, the parameters and the first cell for Colab."""
    count = 0
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or {"parameters", "colab"} & set(cell["metadata"].get("tags", [])):
            continue
        nodes = list(ast.walk(ast.parse(source)))
        assert not [n for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))], source
        lines = source.splitlines()
        imports = [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
        skipped = {number for n in imports for number in range(n.lineno, n.end_lineno + 1)}
        count += sum(1 for number, line in enumerate(lines, 1) if line.split("#")[0].strip() and number not in skipped)
    assert count <= 40, f"{count} lines of code"


def test_readme_blocks_can_be_pasted():
    """The shell reads each block without a word, explanations start with `#`, and lines fit into 80."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    for language, block in blocks:
        long = [line for line in block.splitlines() if len(line) > 80]
        assert not long, "\n".join(long)
        if language == "python":
            ast.parse(block)
        elif language in ("", "bash", "sh"):
            done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            commands = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
            assert not [line for line in commands if re.search(r"\S {3,}(?!#)\w", line)], commands
