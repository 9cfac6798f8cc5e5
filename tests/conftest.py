"""Puts this folder on the path, so that tests share their tools by plain import."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
