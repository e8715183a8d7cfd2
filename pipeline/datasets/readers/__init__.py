"""The readers of the data sets of appendix B. A new one is a class with the members of `base.Reader`, a row in READERS
and one in pipeline/experiment/other_sets.py.
"""

from __future__ import annotations

from pipeline.datasets.readers.actions import Actions
from pipeline.datasets.readers.base import Reader
from pipeline.datasets.readers.boxed import Boxed
from pipeline.datasets.readers.caltech import Caltech101, Caltech256
from pipeline.datasets.readers.few_shot import FewShot
from pipeline.datasets.readers.scenes import Scenes
from pipeline.datasets.readers.voc import Voc2007, Voc2012

READERS: dict[str, type[Reader]] = {
    reader.name: reader for reader in (Scenes, FewShot, Boxed, Voc2007, Voc2012, Caltech101, Caltech256, Actions)
}
