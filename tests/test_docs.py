"""The commands and options in the documentation exist and work."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import TINY, scene, succeed

from benchmarks.tables import required_ratios, tables
from facecade.cli import main
from facecade.commands.command import SAME
from facecade.inference import released
from facecade.recipe import StageRecipe
from facecade.recipe_file import parse, read_toml
from facecade.runs.run import CORRECTIONS, SAME_PERSON
from facecade.training.losses.age import AGE_LOSSES
from facecade.training.losses.classes import CLASS_LOSSES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCS = sorted((ROOT / "docs").glob("**/*.md"))
PAGES = {path.stem: path for path in (ROOT / "docs/commands").glob("*.md")}
COMMANDS = {name: main.get_command(click.Context(main), name) for name in main.list_commands(click.Context(main))}
GLOBAL_OPTIONS = {"--help", "--debug", "--version"}
"""Options of every command, or of the command line itself."""

PARSED_ONLY = {"serve", "compare", "tune", "export", "fit-stage", "fit-meta", "eda", "report", "audit", "weights"}
"""Commands that are not run from their pages: they never end, take long, or need downloaded files. The tutorial or their
own tests run them."""

ENDLESS = {"serve"}
TUTORIAL_COMMANDS = ["check", "eda", "fit-stage", "ls", "fit-meta", "infer", "evaluate", "report", "audit", "explain"]
"""The commands of the tutorial in order, before `serve`."""

WITHOUT_JSON = {"serve"}


def fenced(text: str) -> list[str]:
    """The lines of the fenced code blocks, without comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]


def commands(text: str) -> list[list[str]]:
    """The words of every `python cli.py …` in the fenced code blocks, in order, without these two words."""
    parts = [part for line in fenced(text) for part in line.split(" && ")]
    return [shlex.split(part)[2:] for part in parts if part.startswith("python cli.py ")]


def test_readme_commands_run_in_order(
    drawn: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written, in a temporary folder, with drawn data and short training."""
    lines = commands(README)
    assert [command[0] for command in lines] == [
        *["predict", "explain", "serve"],
        *["weights"] * 2,  # downloaded files, which other tests convert if they are there
        *["check", "fit-stage", "fit-meta", "infer", "evaluate"],
    ]
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "eval").symlink_to(drawn / "eval")
    monkeypatch.chdir(tmp_path)
    placeholders = {"DATA": str(drawn / "train"), "LABELS": "eval/eval_labels.csv"}
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.setattr(released, "RELEASED", exported)
    for command in lines[:2]:
        succeed(*command)
    for command in lines[5:]:
        filled = [placeholders.get(word, word) for word in command]
        if command[0] == "fit-stage":
            filled += [*TINY, "--weights", "none", "--set", "backbone=test_efficientnet", "--set", "backbone_args={}"]
            filled += ["--set", "face.detector=centre", "--set", "per_person=1"]
        succeed(*filled)
    assert (tmp_path / "output/submission.csv").exists() and (tmp_path / "output/evaluation.json").exists()


def test_readme_lists_every_command_and_recipe() -> None:
    listed = set(re.findall(r"^\| `([a-z-]+)[ `]", README, re.MULTILINE))
    assert set(COMMANDS) <= listed
    assert {path.name for path in (ROOT / "recipes").glob("*.toml")} == set(
        re.findall(r"`recipes/(\w+\.toml)` \|", README)
    )


def test_readme_lists_existing_keys_and_all_losses() -> None:
    rows = dict(re.findall(r"^\| (`[a-z_`, ]+`) \| (.*) \|$", README.partition("| key |")[2], re.MULTILINE))
    keys = {key for cell in rows for key in re.findall(r"`(\w+)`", cell)}
    assert "backbone" in keys and keys <= set(StageRecipe.model_fields)
    assert set(re.findall(r"`(\w+)`", rows["`loss`"])) == {*CLASS_LOSSES, *AGE_LOSSES}


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "recipes").glob("*.toml"), *(ROOT / "recipes/published").glob("*.toml")]),
    ids=lambda path: path.stem,
)
def test_every_recipe_parses_and_its_components_exist(path: Path) -> None:
    import timm

    import facecade.backbones  # noqa: F401 - registers its networks with timm
    from facecade.stages import make_stage
    from facecade.training.augment import build

    recipe = parse(read_toml(path), str(path))
    for transforms in recipe.augment.values():
        build(transforms, recipe.face.size)
    for name, stage in recipe.stages.items():
        assert timm.is_model(stage.backbone)
        make_stage(name, stage.loss, stage.auxiliary)


def test_files_named_in_the_documentation_exist() -> None:
    for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "artifacts/README.md"):
        for name in re.findall(
            r"`((?:facecade|stages|recipes|tests|benchmarks|docs)/[\w./-]+\.\w+)`",
            (ROOT / page).read_text(),
        ):
            assert (ROOT / name).exists(), f"{page} names {name}"


def mentioned_options(text: str, page: str) -> set[tuple[str, str]]:
    """(command, option) of every option in the code of a page.

    The command is the page's, unless the same code span names another.
    """
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = set()
    for piece in [*fenced(text), *re.findall(r"`([^`\n]+)`", prose)]:
        command = page
        for word in re.findall(r"--[a-z][a-z0-9-]*|[a-z][a-z-]*", piece):
            if word.startswith("--"):
                found.add((command, word))
            elif word in COMMANDS:
                command = word
    outside = re.sub(r"`[^`\n]+`", "", prose)
    assert "--" not in re.sub(r"\|[-|: ]+\|", "", outside), f"{page}: an option is not in a code span"
    return found


def options(command: str) -> set[str]:
    parameters = COMMANDS[command].params
    return {
        name
        for each in parameters
        if isinstance(each, click.Option)
        for name in [*each.opts, *each.secondary_opts]
        if name.startswith("--")
    }


def test_every_command_has_a_page_and_every_page_a_command() -> None:
    assert set(PAGES) == set(COMMANDS)
    index = (ROOT / "docs/README.md").read_text()
    assert set(re.findall(r"^\| \[([\w-]+)\]\(commands/\1\.md\) \| \w", index, re.MULTILINE)) == set(PAGES)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_documents_exactly_the_options_of_its_command(page: str) -> None:
    text = PAGES[page].read_text()
    assert text.startswith(f"# {page}\n")
    mentioned = mentioned_options(text, page)
    assert options(page) <= {option for command, option in mentioned if command == page}
    unknown = {(command, option) for command, option in mentioned if option not in options(command) | GLOBAL_OPTIONS}
    assert not unknown
    assert any(words[0] == page for words in commands(text)), "no example"
    assert "## Exit codes" in text and "## Options" in text


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_command_lines_in_the_documentation_parse(path: Path) -> None:
    """Every command line parses, and its recipes exist."""
    for words in commands(path.read_text()):
        rest = words[1:] if words[0] == "--debug" else words
        COMMANDS[SAME.get(rest[0], rest[0])].make_context(
            rest[0], list(rest[1:])
        )  # raises click.UsageError for a wrong command line
        for word in words:
            if word.startswith("recipes/"):
                assert (ROOT / word).exists(), f"{path.name}: {word}"


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCS], ids=lambda path: path.stem)
def test_link_targets_exist(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        assert "://" in target or (path.parent / target).exists(), f"{path.name} links to {target}"
    for name in re.findall(r"`((?:recipes|benchmarks|docs)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_results_page_shows_the_measurements_of_the_speed_pages() -> None:
    """`python benchmarks/speed.py` writes them."""
    shown = [table for table in tables((ROOT / "benchmarks/RESULTS.md").read_text()) if table.heading == "Speed"]
    measured = [
        row
        for page in ("INFERENCE", "TRAINING")
        for row in required_ratios((ROOT / f"benchmarks/{page}.md").read_text())
    ]
    assert [(row["of"], row["ratio"], row["measured"], row["required"]) for row in shown[0].rows] == measured
    assert {"(b) / bound", "(b) / (a)", "loop / forward and backward alone"} <= {what for _, what, _, _ in measured}


def test_numbers_quoted_from_a_benchmark_are_on_its_page() -> None:
    """In sentences that name a page: numbers with two or more decimals, in MiB or in %, possibly rounded."""
    sentences = re.split(r"\n\n|\n(?=[*|])|(?<=\.) ", (ROOT / "docs/recipes.md").read_text())
    missing, count = [], 0
    for sentence in sentences:
        pages = re.findall(r"`(benchmarks/\w+\.md)`", sentence)
        values = [float(number) for page in pages for number in re.findall(r"\d+(?:\.\d+)?", (ROOT / page).read_text())]
        for number in re.findall(r"\d+\.\d{2,}|\d+(?:\.\d)?(?= MiB| %)", sentence) if pages else ():
            count += 1
            if not any(round(value, len(number.partition(".")[2])) == float(number) for value in values):
                missing.append(f"{number}, of {' or '.join(pages)}")
    assert not missing and count > 20


@pytest.fixture(scope="module")
def workspace(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fitted run and its predictions."""
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(fitted, folder / "artifacts", ignore=shutil.ignore_patterns(".lock", "pseudo", "export"))
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "eval").symlink_to(drawn / "eval")
    words = ["--artifacts", folder / "artifacts", "--engine", "torch", "--output", folder / "output"]
    succeed("infer", drawn / "eval", *words)
    return folder


def placeholder_values(drawn: Path) -> dict[str, str]:
    image = sorted((drawn / "eval/images").iterdir())[0]
    return {"DATA": str(drawn / "train"), "LABELS": "eval/eval_labels.csv", "IMAGE": str(image)}


@pytest.mark.parametrize("page", sorted(set(PAGES) - PARSED_ONLY))
def test_examples_of_a_page_run(page: str, workspace: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    extra_options = {"infer": ["--engine", "torch"], "pseudo-label": ["--engine", "torch"]}
    for words in commands(PAGES[page].read_text()):
        if words[0] == page:
            filled = [placeholder_values(drawn).get(word, word) for word in words]
            succeed(*filled, *extra_options.get(page, []))


def test_tutorial_commands_run_in_order(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written, in a temporary folder, with drawn data and short training."""
    text = (ROOT / "docs/tutorial.md").read_text()
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "eval").symlink_to(drawn / "eval")
    monkeypatch.chdir(tmp_path)
    exports = [line.removeprefix("export ").split("=") for line in fenced(text) if line.startswith("export ")]
    assert {name for name, _ in exports} == {"FACECADE_ARTIFACTS", "FACECADE_OUTPUT"}
    for name, value in exports:
        monkeypatch.setenv(name, value)
    tiny_settings = ["epochs=1", "per_person=1", "size=[48,36]", "views=['plain']", "weights=none", "backbone_args={}"]
    tiny_settings += ["backbone=test_efficientnet", "face.size=[48,36]", "face.detector=centre"]
    extra_options = {"fit-stage": [*TINY, *[word for setting in tiny_settings for word in ("--set", setting)]]}
    extra_options["infer"] = ["--engine", "torch"]
    ran = []
    for command, *words in commands(text):
        if command not in ENDLESS:
            filled = [placeholder_values(drawn).get(word, word) for word in words]
            succeed(command, *filled, *extra_options.get(command, []))
            ran.append(command)
        if command == "audit":  # the reader keeps one of the corrections
            corrections = tmp_path / "output/quick/corrections.csv"
            corrections.write_text("".join(corrections.read_text().splitlines(keepends=True)[:2]))
    assert list(dict.fromkeys(ran)) == TUTORIAL_COMMANDS and ran.count("fit-stage") == 2


def test_the_tutorials_drawn_substitutes_exist(drawn: Path) -> None:
    """Every word that the commands leave open has a substitute for those without data, and its path exists."""
    text = (ROOT / "docs/tutorial.md").read_text()
    rows = re.findall(r"^\| `([\w./]+)` \|.*\| `([\w./]+)` \|$", text, re.MULTILINE)
    substitutes = dict(rows)
    assert set(substitutes) == {*placeholder_values(drawn), "eval/", "recipes/quick.toml"}
    for path in substitutes.values():
        base, _, rest = path.partition("/")
        assert ((drawn if base == "drawings" else ROOT / base) / rest).exists(), path


def test_the_picture_of_the_readme_is_small() -> None:
    assert "](docs/page.png)" in README
    assert (ROOT / "docs/page.png").stat().st_size < 200_000


def test_own_images_are_read_as_their_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its manifest, folders and classes are made, and every `check` of it finds nothing wrong."""
    text = (ROOT / "docs/own-images.md").read_text()
    blocks = dict(re.findall(r"^```(csv|text|toml)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    paths = [f"own/{line.partition(',')[0]}" for line in blocks["csv"].splitlines()[1:]]
    classes = blocks["text"].split()
    batches = [f"batches/{name}/{i}.png" for name in tomllib.loads(blocks["toml"])["classes"] for i in range(3)]
    for number, path in enumerate([*paths, *classes, *batches]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(tmp_path / path)
    (tmp_path / "own/manifest.csv").write_text(blocks["csv"])
    (tmp_path / "classes.toml").write_text(blocks["toml"])
    monkeypatch.chdir(tmp_path)
    outputs = [succeed(*words) for words in commands(text) if words[0] == "check"]
    assert len(outputs) == 4
    assert outputs[0].startswith("manifest: 5 images of 4 people") and "all three 4" in outputs[0]
    assert outputs[2].startswith("class folders: 6 images of 4 people") and "gender female, age 30-59" in outputs[2]
    assert outputs[3].startswith("class folders: 6 images of 6 people")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_works(shell: str) -> None:
    line = f"_FACECADE_COMPLETE={shell}_source facecade"
    assert line in (ROOT / "docs/README.md").read_text()
    assert read_toml(ROOT / "pyproject.toml")["project"]["scripts"]["facecade"] == "facecade.__main__:main"
    variable = {"_FACECADE_COMPLETE": f"{shell}_source"}
    result = CliRunner().invoke(main, [], prog_name="facecade", env=variable)
    assert result.exit_code == 0 and f"_FACECADE_COMPLETE={shell}_complete" in result.stdout
    request = {"_FACECADE_COMPLETE": "bash_complete", "COMP_WORDS": "facecade fit-", "COMP_CWORD": "1"}
    result = CliRunner().invoke(main, [], prog_name="facecade", env=request)
    assert result.stdout.split() == ["plain,fit-stage", "plain,fit-meta"]


def test_every_command_with_results_has_the_json_option() -> None:
    assert {name for name in COMMANDS if "--json" not in options(name)} == WITHOUT_JSON


def test_the_page_on_a_runs_folder_names_what_is_there(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """Every name is of a file that a fitted run has, or of one that other commands write to it."""
    run = tmp_path / "artifacts"
    shutil.copytree(fitted, run, ignore=shutil.ignore_patterns(".lock", "pseudo", "export"))
    succeed("infer", drawn / "eval", "--artifacts", run, "--engine", "onnx", "--output", tmp_path / "output")
    succeed("pseudo-label", drawn / "eval", "--artifacts", run, "--engine", "torch", "--confidence", 0.05)
    written_elsewhere = {CORRECTIONS, SAME_PERSON, "extra-data/", "stages/NAME/full/", "engine-*.json"}
    assert 'f"engine-{' in (ROOT / "facecade/inference/loading.py").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", (ROOT / "artifacts/README.md").read_text(), re.MULTILINE)
    assert len(rows) > 9
    for path, text in rows:
        if path in written_elsewhere:
            continue
        pattern = path.rstrip("/").replace("NAME", "*").replace("foldK", "fold*")
        places = list(run.glob(pattern))
        assert places, path
        for name in re.findall(r"`([\w*-]+\.(?:npz|json|jsonl|csv|safetensors))`", text):
            assert any(list(place.glob(name)) for place in places), f"{path} has no {name}"


def test_make_demo_ends_with_the_report_and_what_comes_next() -> None:
    """With what the demo installs."""
    lines = (ROOT / "Makefile").read_text().partition("\ndemo: .venv/.base\n")[2].partition("\n\n")[0].splitlines()
    ran = [line for line in lines if "cli.py" in line and "echo" not in line]
    assert ran[-1].partition("cli.py ")[2] == "report --artifacts $(DEMO)/artifacts --output $(DEMO)/output"
    shown = "\n".join(line for line in lines if "echo" in line)
    assert "cli.py predict docs/portrait.jpg --artifacts facecade/released" in ran[-2]
    assert "Open $(DEMO)/output/report.html" in shown and "serve --artifacts $(DEMO)/artifacts" in shown
    assert "--editable '.[weights,report]'" in (ROOT / "Makefile").read_text()
