"""README.md and docs/: links lead somewhere, commands parse, names exist, and runnable commands run."""

import ast
import configparser
import importlib
import inspect
import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess

import pytest

import keras_stm
import keras_stm_command
from keras_stm.commands import flags

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
# Commands of other programs, which these tests do not know.
OTHERS = {"cat", "curl", "docker", "export", "mkdocs", "npm"}
WITH_PATHS = {"embed", "predict", "push", "visualize"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, language, mark=""):
    """Returns the code blocks of a language; with a mark, only those that follow `<!-- mark -->`."""
    before = f"<!-- {mark} -->\n" if mark else ""
    return re.findall(rf"{before}```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def prose(page):
    """Returns a page without its code blocks."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def code_in(text):
    return re.findall(r"`([^`\n]+)`", text)


def anchors(page):
    """Returns the anchors of the headings of a page, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        # A site of docs/ alone must not lead out of it.
        assert page == README or file.is_relative_to(DOCS), target
        if anchor:
            assert anchor in anchors(file), target
        if file.parent.name == "pictures":
            assert file.stat().st_size <= 300_000, target


def test_every_page_is_in_the_indexes():
    pages = {page.name for page in PAGES if page.parent == DOCS} - {"index.md"}
    assert pages <= set(re.findall(r"\((\w+\.md)\)", (DOCS / "index.md").read_text()))
    assert pages <= set(re.findall(r"\(docs/(\w+\.md)\)", README.read_text()))
    assert pages <= set(re.findall(r": (\w+\.md)", (ROOT / "mkdocs.yml").read_text()))


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_badges_tell_the_versions_of_setup_cfg():
    badges = runpy.run_path(DOCS / "make_pictures.py")["make_badges"]()
    assert len(badges) == 3
    for name, text in badges.items():
        assert (DOCS / "pictures" / name).read_text() == text


def commands(script):
    """Returns the commands of a shell script as lists of words, without redirections and comments."""
    script = re.sub(r"<<'(\w+)'\n.*?\n\1\n", "\n", script, flags=re.DOTALL).replace("\\\n", " ")
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, "&&"]:
            if word in ("&&", "|", ";"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def check_command(words):
    """Raises, or exits like the command, if a command of this project does not parse."""
    words = list(words)
    while re.match(r"\w+=", words[0]):
        words.pop(0)
    # `srun` and the like start a command.
    own = [
        i
        for i, word in enumerate(words)
        if os.path.basename(word) in ("keras-stm", "python", "pip", "python3")
    ]
    if not own:
        assert os.path.basename(words[0]) in OTHERS, words
        return
    program, *arguments = words[own[0] :]
    program = os.path.basename(program)
    if program == "keras-stm":
        check_own(*arguments)
    elif program == "pip":
        check_pip(arguments)
    elif arguments[0] == "-m":
        assert arguments[1] in ("http.server", "pytest", "tests", "venv"), words
        files = [argument for argument in arguments[2:] if "/" in argument and argument[0] != "-"]
        assert all((ROOT / file).exists() for file in files), words
    else:
        check_script(*arguments)


def check_own(command, *arguments):
    if command == "--help":
        return
    assert command in keras_stm_command.COMMANDS, command
    module = importlib.import_module(f"keras_stm.commands.{command.replace('-', '_')}")
    parse(module, command, arguments)


def parse(module, command, arguments):
    if "--help" in arguments:
        return
    values, _ = flags.parse(module.define_flags, [command, *arguments], "", command in WITH_PATHS)
    if command == "fit" and not values.config:
        flags.read_settings(values)


def check_pip(arguments):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= set(config["options.extras_require"]), extras


def check_script(path, *arguments):
    if os.path.basename(path) in ("serve.py", "classify.py"):
        return  # A page or an export writes it.
    assert (ROOT / path).exists(), path
    name = pathlib.Path(path).stem
    if path == "tests/two_processes.py":
        check_own("fit", *arguments)
    elif path.startswith("training/"):
        if name.replace("_", "-") in keras_stm_command.COMMANDS:
            check_own(name.replace("_", "-"), *arguments)
        else:
            parse(importlib.import_module(name), name, arguments)


@each_page
def test_commands_parse(page):
    for block in blocks(page, "bash"):
        for words in commands(block):
            check_command(words)
    for code in code_in(prose(page)):
        if re.match(r"(\.venv/bin/)?(keras-stm|python|pip) ", code):
            for words in commands(code):
                check_command(words)


@pytest.mark.parametrize("command", keras_stm_command.COMMANDS)
def test_commands_in_help_parse(command):
    module = importlib.import_module(f"keras_stm.commands.{command.replace('-', '_')}")
    lines = re.findall(r"^  (keras-stm .+)$", module.__doc__, re.MULTILINE)
    assert lines
    for line in lines:
        for words in commands(line):
            check_command(words)


def test_the_check_of_commands_notices_errors():
    for wrong in (
        "keras-stm fit --preset=nothing",
        "keras-stm fit --learning_rat=1",
        "keras-stm train",
        "keras-stm evaluate folder",
        "python training/benchmark.py --what=nothing",
        "python training/nothing.py",
        'pip install -e ".[nothing]"',
        "srun --nodes=4 keras-stm fit --preset=nothing",
        "unknown",
    ):
        with pytest.raises((AssertionError, SystemExit)):
            check_command(next(commands(wrong)))


@each_page
def test_flags_exist(page):
    """Flags that the text names without their command belong to some command of this project."""
    scripts = {name: importlib.import_module(name) for name in ("benchmark", "reproduce")}
    modules = {
        command: importlib.import_module(f"keras_stm.commands.{command.replace('-', '_')}")
        for command in keras_stm_command.COMMANDS
    } | scripts
    for code in code_in(prose(page)):
        if re.match(r"--\w", code) and code != "--help" and "your_" not in code:
            assert any(accepts(module, name, code.split()) for name, module in modules.items()), code


def accepts(module, command, arguments):
    """Whether a command has flags, and accepts their values if there are any."""
    try:
        parse(module, command, arguments)
    except ValueError:
        return False
    except SystemExit as error:
        return "Missing value" in str(error)
    return True


@each_page
def test_names_in_python_blocks_exist(page):
    for block in blocks(page, "python"):
        check_python(block)


def check_python(source):
    """Raises if code uses a name or an argument that keras_stm does not have."""
    tree = ast.parse(source)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                alias.asname or alias.name: keras_stm for alias in node.names if alias.name == "keras_stm"
            }
        elif isinstance(node, ast.ImportFrom) and node.module == "keras_stm":
            names |= {alias.name: getattr(keras_stm, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            resolve(node, names)
        elif isinstance(node, ast.Call) and (function := resolve(node.func, names)):
            accepted = inspect.signature(function).parameters
            if not any(each.kind is each.VAR_KEYWORD for each in accepted.values()):
                assert {word.arg for word in node.keywords} <= {None, *accepted}, ast.unparse(node)


def resolve(node, names):
    """Returns the object of an expression such as `keras_stm.data.load_clip`; `None` for other libraries."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (parent := resolve(node.value, names)):
        return getattr(parent, node.attr)
    return None


def test_the_check_of_python_notices_errors():
    for wrong in (
        "keras_stm.nothing",
        "keras_stm.STMResNet50(clases=3)",
        "keras_stm.data.load_clip('a', frames=8)",
    ):
        with pytest.raises((AssertionError, AttributeError)):
            check_python(f"import keras_stm\n{wrong}")


@each_page
def test_names_and_files_in_the_text_exist(page):
    for code in code_in(prose(page)):
        if "your_" in code:
            continue  # To be written by the reader.
        if re.fullmatch(r"(keras_stm|tests|training|docs|notebooks)/[\w/.]*", code):
            assert (ROOT / code).exists(), code
        elif re.match(r"keras_stm\.\w", code):
            check_python(f"import keras_stm\n{code}")


@pytest.mark.acceptance
def test_runnable_commands_run(tmp_path):
    """Runs the blocks marked as runnable, the README's first, in a fresh clone with its own environment."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    data = tmp_path / "data"
    keras_stm.data.arrow_of_time.make_dataset(
        data, num_train=64, num_validation=8, num_test=8, progress=False
    )
    shutil.copytree(data / "train", clone / "clips")
    shutil.copy(data / "val" / "move_left" / "00000.mp4", clone / "clip.mp4")
    for page in PAGES:
        for block in blocks(clone / page.relative_to(ROOT), "bash", mark="runnable"):
            print(f"{page.name}:\n{block}", flush=True)
            subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=clone, check=True)
