"""Parsing of --slurm options into submitit parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncbench import UserError
from ncbench.sweeps.launchers.slurm_options import minutes, parse_options, submitit_parameters


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("90", 90),
        (90, 90),
        ("90m", 90),
        ("2h", 120),
        ("1.5h", 90),
        ("1d", 1440),
        ("30s", 1),
        ("5:00", 5),
        ("2:00:00", 120),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("1-12:00:00", 2160),
    ],
)
def test_times_as_users_and_slurm_write_them(value: object, expected: int) -> None:
    assert minutes(value) == expected


@pytest.mark.parametrize("value", ["soon", "", "-5", "1:2:3:4", "2 weeks"])
def test_invalid_times(value: str) -> None:
    with pytest.raises(UserError, match=rf"^--slurm time={value}: not a valid time\. Use 90m, 2h, 1d or 1-12:00:00\.$"):
        minutes(value)


def test_no_time_at_all() -> None:
    with pytest.raises(UserError, match=r"^--slurm time=0: must be positive$"):
        minutes("0")


def test_options_between_commas() -> None:
    assert parse_options(["partition=gpu,time=2h", "nodelist=a,b, account = x"]) == {
        "partition": "gpu",
        "time": "2h",
        "nodelist": "a,b",
        "account": "x",
    }
    assert parse_options(["time=1h", "time=2h"]) == {"time": "2h"}
    assert parse_options([]) == {}


@pytest.mark.parametrize("text", ["gpu", "partition=", "=x", "partition=gpu,,time=2h,x"])
def test_invalid_options(text: str) -> None:
    if text == "partition=gpu,,time=2h,x":
        assert parse_options([text])["time"] == "2h,x"  # `minutes` rejects it
        return
    with pytest.raises(UserError, match=r"is not key=value. Use partition=gpu,time=2h,gpus=1 or the path of a \.toml"):
        parse_options([text])


def test_a_profile_and_further_options(tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    path.write_text('partition = "gpu"\ngpus = 1\nsetup = ["module load cuda"]\n[sbatch]\nlicenses = "x"\n')
    found = parse_options([str(path), "partition=big"])
    assert found == {"partition": "big", "gpus": 1, "setup": ["module load cuda"], "sbatch.licenses": "x"}


@pytest.mark.parametrize(
    ("content", "message"), [("x = ", r"not valid TOML: "), (None, r"No such file or directory; expected a TOML file")]
)
def test_profiles_that_cannot_be_read(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=rf"^--slurm {path}: {message}"):
        parse_options([str(path)])


def test_submitit_parameters() -> None:
    assert submitit_parameters({}) == {
        "time": 240,
        "job_name": "ncbench",
        "additional_parameters": {"requeue": True},
    }
    given = {"gpus": "a100:2", "cpus": "8", "time": "2h", "name": "mine", "signal_delay": 300, "exclusive": "true"}
    given |= {"setup": "module load cuda", "sbatch.licenses": "x", "python": "/opt/python"}
    assert submitit_parameters(given) == {
        "time": 120,
        "job_name": "mine",
        "gpus_per_node": "a100:2",
        "cpus_per_task": 8,
        "signal_delay_s": 300,
        "exclusive": True,
        "setup": ["module load cuda"],
        "additional_parameters": {"requeue": True, "licenses": "x"},
    }


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("partiton", "gpu", "unknown --slurm option 'partiton'. Did you mean 'partition'"),
        ("cpus", "many", "--slurm cpus=many: must be a positive integer"),
        ("cpus", 0, "--slurm cpus=0: must be a positive integer"),
        ("setup", [1], "--slurm setup: expected a list of shell commands, found [1]"),
        ("partition", ["a"], "--slurm partition: expected a string or a number, found ['a']"),
        ("sbatch.x", {}, "--slurm sbatch.x: expected a string or a number, found {}"),
    ],
)
def test_options_that_no_job_can_have(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        submitit_parameters({key: value})
    assert str(caught.value).startswith(message)


def test_submitit_knows_all_parameters() -> None:
    slurm = pytest.importorskip("submitit.slurm.slurm")
    from ncbench.sweeps.launchers.slurm_options import INTEGER_OPTIONS, TEXT_OPTIONS

    assert {*TEXT_OPTIONS, *INTEGER_OPTIONS, "time", "exclusive", "setup", "teardown", "additional_parameters"} <= set(
        slurm._get_default_parameters()
    )
