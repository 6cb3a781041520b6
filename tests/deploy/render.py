"""Writes what each overlay renders to into a folder, for tools that read files."""

import sys
from pathlib import Path

from manifests import OVERLAYS, rendered_text

for overlay in OVERLAYS:
    (Path(sys.argv[1]) / f"{overlay}.yaml").write_text(rendered_text(overlay))
