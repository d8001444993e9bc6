"""The script for GPUs, on the CPU with small networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu
import pytest
import torch
from gpu import SECTIONS, main, method_names

from ncbench.backbones.registry import BACKBONES, ENSEMBLES
from ncbench.method.registry import GROUP
from ncbench.plugins.discovery import plugin_names

BLOCKER = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"lazy_loader", "msgspec", "scipy", "ot", "pandas", "click", "safetensors"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def run(tmp_path: Path, *words: str) -> dict[str, Any]:
    main([*words, "--device", "cpu", "--tiny", "--json", str(tmp_path / "found.json")])
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    return found


def test_sections_of_networks(tmp_path: Path) -> None:
    found = run(tmp_path, "backbones", "steps", "evaluation", "transport", "reading")
    assert set(found) == {"facts", "left_out", "backbones", "steps", "evaluation", "transport", "reading"}
    assert found["left_out"] == []
    assert set(found["backbones"]) == set(BACKBONES) - set(ENSEMBLES)
    for line in found["backbones"].values():  # the CPU beside itself
        assert line == {"finite": True, "difference_of_scores": 0.0, "difference_of_gradients": 0.0}
    assert all(line["seconds"] > 0 for line in found["steps"].values())
    assert {"sgr, published", "sgr, float32", "sgr, bf16"} <= set(found["steps"])
    assert 0 < found["transport"]["plan"]["share_of_step"] < 1
    assert 0 <= found["reading"]["beside steps of sgr"]["share_waited"] < 1


def test_every_method_trains_and_resumes(tmp_path: Path) -> None:
    found = run(tmp_path, "methods")["methods"]
    assert set(found) == set(method_names()) == set(plugin_names(GROUP))
    for name, line in found.items():
        assert line["finite"], name
        assert line["updates"] == line["resumed_updates"] > gpu.UPDATES_BEFORE, name
        assert line["difference_from_cpu"] == line["difference_after_resuming"] == 0, name


def test_time_that_is_over_is_told(tmp_path: Path) -> None:
    found = run(tmp_path, "products", "backbones", "--minutes", "0")
    assert found["left_out"] == ["products: out of time", "backbones: out of time"]


def test_schedules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "method_names", lambda: ["l2rm", "triplet"])
    found = run(tmp_path, "schedules")["schedules"]
    line = found["l2rm"]
    assert line["epochs"] == 40
    assert line["hours"] == pytest.approx(line["seconds"] / line["pairs"] * 145_000 * 40 / 3600)


def test_it_runs_with_torch_and_numpy_alone(tmp_path: Path) -> None:
    script, found = Path(gpu.__file__), tmp_path / "found.json"
    words = ["gpu.py", "backbones", "methods", "transport", "--device", "cpu", "--tiny", "--json", str(found)]
    code = f"{BLOCKER}\nsys.argv = {words!r}\nimport runpy\nsys.path.insert(0, {str(script.parent)!r})\n"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    content = json.loads(found.read_text())
    assert all(line["finite"] for line in content["backbones"].values())
    assert set(content["methods"]) == set(method_names())
    assert all(set(line) == {"left_out"} for line in content["methods"].values())
    assert content["transport"]["plan"]["left_out"] == "No module named 'ot'"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_cuda_it_says_how_to_try_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--json", str(tmp_path / "found.json"), "--device", "cuda"])
    assert ended.value.code == 2
    assert "--device cpu --tiny tries the script" in capsys.readouterr().err


def test_every_section_is_described() -> None:
    assert gpu.__doc__ is not None
    assert all(f"\n  {name} " in gpu.__doc__ for name in SECTIONS)
