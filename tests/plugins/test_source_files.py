"""Methods in files: given by path, found in folders, and invalid files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from places import ROOT
from sources import Source

from ncbench import UserError
from ncbench.cli import main
from ncbench.data.dataset import Dataset
from ncbench.method.registry import KIND, check_method, load_method, method_names
from ncbench.plugins.source_files import MAX_FILE_BYTES, find_files, load_module
from ncbench.records.table import load_runs

SHIPPED = ROOT / "methods"
TEXT = '''
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from ncbench import Method, Optimiser, losses, setting

class Mine(Method):
    """A method of one's own."""

    name = "mine"

    @dataclass(frozen=True)
    class Config:
        margin: float = setting(0.2, "margin", "here")

    def setup(self, task: Any) -> None:
        self.task, self.net = task, task.new_backbone()
        self.optimiser = Optimiser([self.net], task.budget, lr=1e-2)
        self.order = task.rng("order")

    def train_epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        for batch in self.task.data.batches(8, self.order):
            loss = losses.hinge_mean(self.net(*batch.inputs), self.config.margin)
            self.optimiser.step(loss)
            yield {"loss": loss.item()}
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file with the method `mine`, in a folder that is not searched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NCBENCH_PLUGINS", raising=False)
    path = tmp_path / "somewhere" / "mine.py"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


@pytest.fixture
def run(register: Callable[..., None], tiny: Dataset, tmp_path: Path) -> Callable[..., Result]:
    """Return a function that calls `ncbench` with arguments; the dataset `tiny` is registered."""
    register("ncbench.datasets", "tiny", Source(tiny))

    def call(*words: object) -> Result:
        common = ["--dataset", "tiny", "--backbone", "vse", "--budget", "0.5", "--noise", "0.4", "--jobs", "1"]
        return CliRunner().invoke(main, ["run", *common, "--out", str(tmp_path / "runs"), *map(str, words)])

    return call


def test_a_path_is_a_method(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = load_method(str(file))
    assert method.name == "mine"
    assert len(method.source) == 12
    monkeypatch.chdir(file.parent)
    assert load_method("mine.py") is method  # not run twice
    assert load_method("./mine.py") is method
    assert "mine" not in method_names()


def test_files_are_found_where_users_keep_them(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NCBENCH_PLUGINS", str(file))
    assert load_method("mine").name == "mine"
    monkeypatch.setenv("NCBENCH_PLUGINS", f"{tmp_path}:{file.parent}")
    assert [found.name for found in find_files(KIND)] == ["mine"]
    monkeypatch.delenv("NCBENCH_PLUGINS")
    assert find_files(KIND) == []
    (tmp_path / "methods").mkdir()
    for name in ("mine.py", "_hidden.py"):
        shutil.copy(file, tmp_path / "methods" / name)
    assert [found.path.name for found in find_files(KIND)] == ["mine.py"]
    assert "mine" in method_names()


def test_looking_runs_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('raise SystemExit("run")\nclass A:\n    name = "danger"\nclass B:\n    name: str = "more"\n')
    monkeypatch.setenv("NCBENCH_PLUGINS", str(file))
    assert [found.name for found in find_files(KIND)] == ["danger", "more"]
    check_method("danger")
    file.write_text("x = 1  # a helper\nclass A:\n    title = 'no name'\n    name = str(1)\n")
    assert find_files(KIND) == []
    file.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert find_files(KIND) == []


def test_a_changed_file_is_another_method(file: Path) -> None:
    before = load_method(str(file))
    file.write_text(TEXT.replace("0.2,", "0.3,"))
    after = load_method(str(file))
    assert before.source != after.source
    assert (before.Config().margin, after.Config().margin) == (0.2, 0.3)


def test_runs_of_a_changed_file_are_runs_of_their_own(file: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("--method", file, "--set", "mine.margin=0.1").exit_code == 0
    assert "already done" in run("--method", file, "--set", "mine.margin=0.1").stdout
    before = load_method(str(file)).source
    file.write_text(TEXT.replace("hinge_mean", "hinge_max"))
    result = run("--method", file, "--set", "mine.margin=0.1")
    assert (result.exit_code, "already done" in result.stdout) == (0, False)
    after = load_method(str(file)).source
    assert sorted(load_runs(tmp_path / "runs")["variant"]) == sorted(f"mine (source={s})" for s in (before, after))


def test_replay_wants_the_file_as_it_was(file: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("--method", file).exit_code == 0
    (folder,) = (tmp_path / "runs/tiny/mine").iterdir()

    def replay(*words: object) -> Result:
        return CliRunner().invoke(main, ["replay", str(folder), *map(str, words)])

    assert "unknown method 'mine'" in replay().stderr
    assert replay("--method-file", file).stdout.splitlines()[-1].startswith("identical")
    source = load_method(str(file)).source
    file.write_text(TEXT + "# changed\n")
    result = replay("--method-file", file)
    assert result.exit_code == 2
    assert f"recorded with method mine {source}, found mine {load_method(str(file)).source};" in result.stderr


def test_a_copy_of_what_is_installed_is_no_other_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "methods").mkdir()
    shutil.copy(SHIPPED / "triplet.py", tmp_path / "methods")
    assert load_method("triplet").source == ""
    with (tmp_path / "methods/triplet.py").open("a") as text:
        text.write("# changed\n")
    with pytest.raises(UserError, match=r"method 'triplet' is defined in an installed package and .*triplet.py; "):
        load_method("triplet")
    assert load_method("methods/triplet.py").source != ""


def test_two_files_of_one_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.with_name("other.py")
    shutil.copy(file, other)
    monkeypatch.setenv("NCBENCH_PLUGINS", str(file.parent))
    with pytest.raises(UserError, match=f"^method 'mine' is defined in {file} and {other}; rename one"):
        load_method("mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "must define one subclass of ncbench.Method with a name, found none"),
        (TEXT + TEXT.replace("Mine", "Yours").replace('"mine"', '"yours"'), "found mine, yours"),
        ("import nothing_like_it", "cannot be loaded: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("def broken(:", "cannot be loaded: SyntaxError: invalid syntax"),
        (TEXT.replace('"mine"', '"../mine"'), "'../mine' is not a valid name. Use letters, digits, '.', '_' and '-'."),
    ],
)
def test_files_that_hold_no_method(text: str, message: str, file: Path, run: Callable[..., Result]) -> None:
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_method(str(file))
    assert str(caught.value).startswith(f"method file {file}")
    assert message in str(caught.value)
    result = run("--method", file)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def test_files_that_are_not_there(file: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("--method", "no/such.py")
    message = "Error: method file no/such.py: file not found.\n"
    assert (result.exit_code, result.stderr) == (2, message)
    with pytest.raises(UserError, match="No such file or directory"):
        load_module(Path("no/such.py"), "method")
    monkeypatch.setenv("NCBENCH_PLUGINS", "/no/such/folder")
    result = run("--method", "triplet")
    message = "Error: NCBENCH_PLUGINS: /no/such/folder does not exist; correct or unset the variable.\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_two_methods_of_one_name_in_a_sweep(file: Path, run: Callable[..., Result]) -> None:
    other = file.with_name("other.py")
    other.write_text(TEXT + "# other\n")
    result = run("--method", f"{file},{other}")
    message = "Error: --method: two methods are named 'mine'; rename one.\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_a_broken_file_does_not_hide_the_others(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.with_name("broken.py").write_text("def broken(:")
    monkeypatch.setenv("NCBENCH_PLUGINS", str(file.parent))
    result = CliRunner().invoke(main, ["methods", "list"])
    assert result.exit_code == 0
    assert "A method of one's own." in result.stdout
    assert "triplet" in result.stdout
    assert " broken " not in result.stdout
    warning = f"Warning: method file {file.with_name('broken.py')} cannot be parsed: SyntaxError: invalid syntax"
    assert result.stderr.startswith(warning)


def test_settings_of_a_file_are_shown(file: Path) -> None:
    result: Any = CliRunner().invoke(main, ["methods", "show", str(file)])
    assert result.exit_code == 0
    assert "margin" in result.stdout
