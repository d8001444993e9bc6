"""Files to start a backbone from: a module with its test."""

from __future__ import annotations

from ncbench.backbones.registry import SHORT_NAMES, backbone_names
from ncbench.plugins.scaffold import facts_of, filled


def backbone_files(name: str) -> dict[str, str]:
    """Return the files of a backbone called `name`, paths and texts. Raises UserError if the name is not valid."""
    facts = facts_of("backbone", name, [*backbone_names(), *SHORT_NAMES])
    return {
        f"{name}.py": filled("ncbench.backbones", "backbone.py", facts),
        f"test_{name}.py": filled("ncbench.backbones", "test_backbone.py", facts),
    }
